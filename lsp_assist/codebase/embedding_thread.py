"""The thread that keeps the vectors of all folders up to date, in the gaps that questions leave.

It starts a moment after the last change, stops between two batches when it should, and merges what
it wrote when nothing else is to be done. Knows no table, and of the machine only whether it runs
on battery.
"""

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lsp_assist.codebase.index import Index
from lsp_assist.codebase.vectors import load_library
from lsp_assist.errors import AssistError
from lsp_assist.llm import Embedder

__all__ = ["EmbeddingProgress", "EmbeddingThread", "is_on_battery"]

logger = logging.getLogger(__name__)

REST_S = 0.2  # after the last change: typing is not embedded letter by letter
AT_LATEST_S = 1.0  # after the first change: typing without a rest is found too
RETRY_S = 2.0  # while another process embeds, or an embedder fails
MAX_RETRY_S = 60.0
BATTERY_CHUNKS = 500  # on battery, more than a few minutes' changes wait for the mains
_BATTERY_CHECK_S = 30.0
_CLOSE_S = 0.1  # until it is looked again whether the thread can be waited for
_NICENESS = 5  # not the lowest: it holds Python's lock for moments, and others wait for it then


@dataclass(frozen=True, slots=True)
class EmbeddingProgress:
    """How far the embedding of a folder is."""

    root: Path
    n_done: int
    n_total: int


class EmbeddingThread:
    """Owns the thread. Any thread may call; `close` waits for the batch that is under way."""

    def __init__(
        self,
        open_embedders: Callable[[], Sequence[Embedder]],
        report: Callable[[EmbeddingProgress], None] = lambda _: None,
    ) -> None:
        """Both are called on the thread: the first once, the second after each batch.

        What an embedder needs takes long to import, and nobody waits for it here.
        """
        self._open_embedders = open_embedders
        self._embedders: Sequence[Embedder] = ()
        self._report = report
        self._changed = threading.Condition()
        self._indexes: list[Index] = []
        self._first_at: float | None = 0.0  # of the changes that were not looked at
        self._last_at = 0.0
        self._n_questions = 0
        self._is_closing = False
        self._is_opening = True
        self._state: Literal["busy", "done", "stuck"] = "busy"
        self._retry_s = RETRY_S
        self._has_failed = False
        self._battery = (float("-inf"), False)
        self._thread = threading.Thread(target=self._run, name="embedding", daemon=True)
        self._thread.start()

    def add(self, index: Index) -> None:
        """Keep the vectors of this index up to date too."""
        with self._changed:
            self._indexes.append(index)
        self.wake()

    def remove(self, index: Index) -> None:
        """Leave this index alone from now on. Its work stops at the next batch."""
        with self._changed:
            if index in self._indexes:
                self._indexes.remove(index)

    def wake(self) -> None:
        """Note that something changed. Returns at once; the work starts after a rest."""
        self._note_change(time.monotonic())

    def wake_rested(self) -> None:
        """Note that something changed which has come to rest. The work starts at once."""
        self._note_change(time.monotonic() - REST_S)

    def _note_change(self, last_at: float) -> None:
        now = time.monotonic()
        with self._changed:
            self._state = "busy"
            self._last_at = max(self._last_at, last_at)
            if self._first_at is None:
                self._first_at = now
            self._changed.notify_all()

    def question_began(self) -> None:
        """Stop at the next batch until `question_ended` was called as often."""
        with self._changed:
            self._n_questions += 1

    def question_ended(self) -> None:
        """Go on, if no other question runs."""
        with self._changed:
            self._n_questions -= 1
            self._changed.notify_all()

    def wait(self, should_stop: Callable[[], bool] = lambda: False) -> bool:
        """Wait until there is nothing left to be done.

        False if it was stopped before, or if the rest cannot be done for now: another process is at
        it, the machine runs on battery, or the embedder fails.
        """
        with self._changed:
            while self._state == "busy" and not self._is_closing:
                if should_stop():
                    return False
                self._changed.wait(0.1)
            return self._state == "done"

    def close(self) -> None:
        """End the thread; what is embedded is kept. Idempotent.

        One that still imports what it needs cannot be told; it ends by itself, or with the process.
        """
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        while self._thread.is_alive() and not self._is_opening:
            self._thread.join(_CLOSE_S)

    # Below: the thread.

    def _run(self) -> None:
        _lower_priority()
        try:
            self._embedders = tuple(self._open_embedders())
            if self._embedders:
                load_library()
        except AssistError as error:
            logger.warning("%s Searching by words alone.", error)
        finally:
            self._is_opening = False
        while self._waited_for_rest():
            is_done = True
            for index in list(self._indexes):
                is_done &= self._embedded(index)
            if self._has_news():
                continue
            if is_done:
                self._tidy()
            with self._changed:
                if self._first_at is not None:
                    continue
                self._state = "done" if is_done else "stuck"
                self._changed.notify_all()
                if is_done:
                    self._retry_s = RETRY_S
                else:
                    self._changed.wait(self._retry_s)
                    self._retry_s = min(2 * self._retry_s, MAX_RETRY_S)
                    self._first_at = self._first_at or 0.0

    def _waited_for_rest(self) -> bool:
        """Wait for a change, then until the user rests; False when it is over."""
        with self._changed:
            while not self._is_closing:
                now = time.monotonic()
                if self._first_at is None or self._n_questions:
                    self._changed.wait()
                elif (left := min(self._last_at + REST_S, self._first_at + AT_LATEST_S) - now) > 0:
                    self._changed.wait(left)
                else:
                    self._first_at = None
                    return True
            return False

    def _has_news(self) -> bool:
        with self._changed:
            return self._first_at is not None or self._is_closing

    def _should_stop(self, index: Index) -> bool:
        return (
            self._is_closing
            or self._n_questions > 0
            or index not in self._indexes
            or index.embedding.is_paused
        )

    def _embedded(self, index: Index) -> bool:
        """Do what is to be done for one index; whether nothing is left that could be."""
        try:
            index.embedding.use(self._embedders)
        except AssistError as error:  # it cannot even be asked how long its vectors are
            log = logger.debug if self._has_failed else logger.warning
            log("%s", error)
            self._has_failed = True
            return False
        self._has_failed = False
        if index.embedding.is_paused:
            return True
        stopped_by_question = False

        def should_stop() -> bool:
            nonlocal stopped_by_question
            stopped_by_question |= self._n_questions > 0
            return self._should_stop(index) or self._saves_battery(index)

        def report(n_done: int, n_total: int) -> None:
            self._report(EmbeddingProgress(index.root, n_done, n_total))

        try:
            is_done = index.embed(should_stop, report)
        except AssistError as error:
            logger.warning("%s", error)
            return True
        except Exception:
            logger.exception("Embedding failed")
            return True
        if not is_done and stopped_by_question:
            with self._changed:  # goes on when the question has ended
                self._first_at = self._first_at or 0.0
        return is_done or index.embedding.is_paused

    def _tidy(self) -> None:
        for index in list(self._indexes):
            if self._has_news() or self._n_questions:
                return
            try:
                index.embedding.tidy()
            except AssistError as error:
                logger.warning("%s", error)

    def _saves_battery(self, index: Index) -> bool:
        if sum(state.n_waiting for state in index.embedding.states()) < BATTERY_CHUNKS:
            return False
        checked_at, is_on = self._battery
        if time.monotonic() - checked_at > _BATTERY_CHECK_S:
            is_on = is_on_battery()
            self._battery = time.monotonic(), is_on
        return is_on


def is_on_battery(supplies: Path = Path("/sys/class/power_supply")) -> bool:
    """Whether the machine runs on battery; False where the platform does not tell."""
    discharging = False
    with contextlib.suppress(OSError):
        for supply in supplies.iterdir():
            kind = _line(supply / "type")
            if kind in ("Mains", "USB") and _line(supply / "online") == "1":
                return False
            is_own = _line(supply / "scope") != "Device"  # not the one of a mouse
            discharging |= (
                kind == "Battery" and is_own and _line(supply / "status") == "Discharging"
            )
    return discharging


def _line(path: Path) -> str:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return path.read_text("ascii").strip()
    return ""


def _lower_priority() -> None:
    """Let others go first, where a thread can have a priority of its own."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
