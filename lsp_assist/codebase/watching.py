"""Which files of a folder change on disk, told by the operating system.

For editors that do not tell it themselves. Where the system refuses, for want of inotify watches or
on a network disk, it says so once and whoever asks looks at the disk as before. Knows no index.
"""

import logging
import os
import threading
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from lsp_assist.codebase.files import SKIPPED_FOLDERS

__all__ = ["Watcher", "n_watchable"]

logger = logging.getLogger(__name__)

GATHERED_MS = 400  # changes that come closer together are told together: a branch switch is one
STEP_MS = 100
_STARTED_S = 30.0
_LIMIT_FILE = Path("/proc/sys/fs/inotify/max_user_watches")


def n_watchable() -> int | None:
    """How many folders the system lets a user watch; None where it sets no such limit."""
    try:
        return int(_LIMIT_FILE.read_text("ascii"))
    except (OSError, ValueError):
        return None


class Watcher:
    """Owns a thread that watches some folders until it is closed."""

    def __init__(self, roots: Sequence[Path], changed: Callable[[Collection[Path]], None]) -> None:
        """`changed` is called on the thread with the paths, which may be gone."""
        self._roots = [str(root) for root in roots]
        self._changed = changed
        self._stop = threading.Event()
        self._is_over = threading.Event()
        self._has_begun = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watching files", daemon=True)
        self._thread.start()

    def begins(self) -> bool:
        """Wait until changes are seen; False if they never will be."""
        self._has_begun.wait(_STARTED_S)
        return self._has_begun.is_set() and not self._is_over.is_set()

    @property
    def is_watching(self) -> bool:
        """Whether changes are still told."""
        return self._has_begun.is_set() and not self._is_over.is_set()

    def close(self) -> None:
        """End the thread. Idempotent."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._watch()
        except Exception as error:  # noqa: BLE001  # whatever the system makes of a watch
            logger.warning(
                "Files are not watched (%s); each question looks at the disk instead. On Linux, "
                "raising fs.inotify.max_user_watches helps.",
                error,
            )
        finally:
            self._is_over.set()
            self._has_begun.set()

    def _watch(self) -> None:
        import watchfiles

        for root in self._roots:
            os.scandir(root).close()  # the library says nothing of one that is not there
        changes = watchfiles.watch(
            *self._roots,
            watch_filter=lambda _kind, path: _is_wanted(path),
            debounce=GATHERED_MS,
            step=STEP_MS,
            stop_event=self._stop,
            rust_timeout=1_000,
            yield_on_timeout=True,
            raise_interrupt=False,
            ignore_permission_denied=True,
        )
        for some in changes:
            self._has_begun.set()
            if some:
                self._changed({Path(path) for _kind, path in some})


def _is_wanted(path: str) -> bool:
    """Whether a change may be of the user's code. The index decides for good."""
    return SKIPPED_FOLDERS.isdisjoint(Path(path).parts)
