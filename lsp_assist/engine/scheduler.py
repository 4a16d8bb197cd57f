"""Who is computed next: one thread owns a context, and many requests share it.

Every step puts together a batch of what is most urgent: the next token of each branch that decodes,
and a chunk of a prompt. A more urgent request ends a running step of less urgent ones. Knows no
model file, no template and no event loop.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from lsp_assist.engine.job import Ahead, Branch, Job
from lsp_assist.engine.kv import Tokens
from lsp_assist.engine.llama import Context
from lsp_assist.engine.pace import Pace
from lsp_assist.engine.pool import Pool
from lsp_assist.engine.requests import Priority
from lsp_assist.errors import AssistError, ContextTooLong, ModelError, ModelUnavailable

__all__ = ["Load", "Scheduler"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Load:
    """What a scheduler has to do and has done."""

    n_waiting: int = 0
    n_running: int = 0
    n_cells: int = 0
    """Tokens in the cache, those of shared prefixes counted once."""
    n_steps: int = 0
    n_preempted: int = 0
    n_cancelled: int = 0
    n_suspended: int = 0
    n_ahead: int = 0
    """Questions that were answered from what had been drawn ahead."""


class Scheduler:
    """Answers jobs: `submit` and `cancel` from any thread, `stop` at the end.

    Owns the context and the pool until its thread has ended; frees neither.
    """

    def __init__(
        self,
        name: str,
        context: Context,
        pool: Pool,
        *,
        n_ctx: int,
        use: Callable[[str], None] = lambda _key: None,
    ) -> None:
        """`n_ctx` is what prompt and reply of one request may have together. `use` is called on the
        thread before a step whose branches have another key than those before.
        """
        self._context = context
        self._pool = pool
        self._n_ctx = n_ctx
        self._use = use
        self._changed = threading.Condition()
        # Guarded by `_changed`:
        self._inbox: deque[Job] = deque()
        self._in_step: tuple[Branch, ...] = ()
        self._ahead: Ahead | None = None
        self._is_stopping = False
        self._saves = True
        self._looks: deque[tuple[Tokens, str, Future[int]]] = deque()
        self._n_submitted = self._n_preempted = self._n_cancelled = self._n_ahead = 0
        # Of the thread alone:
        self._jobs: list[Job] = []
        self._pace = Pace()
        self._key = ""
        self._n_steps = self._n_suspended = 0
        self._owed_s = 0.0
        self._has_unsaved = False
        self._idle_since = time.monotonic()
        self._thread = threading.Thread(target=self._run, name=f"lsp-assist {name}", daemon=True)
        self._thread.start()

    # ---- for any thread

    def submit(self, job: Job) -> None:
        """Takes a job; its events come from now on, some perhaps before this returns.

        Raises: ContextTooLong, ModelUnavailable after the end
        """
        if len(job.prompt) > self._n_ctx:
            job.end()
            raise ContextTooLong(len(job.prompt), self._n_ctx)
        if not len(job.prompt):
            job.end()
            raise ModelUnavailable("The prompt has no tokens; ask with some text.")
        with self._changed:
            if self._is_stopping:
                job.end()
                raise _closed_error()
            self._n_submitted += 1
            job.order = self._n_submitted
            ahead = self._ahead
            if ahead is not None and ahead.is_waiting and self._adopt(job) and job.is_ended:
                return
            self._inbox.append(job)
            if self._in_step and all(b.job.priority > job.priority for b in self._in_step):
                self._n_preempted += 1
                self._context.abort()
            self._changed.notify_all()

    def cancel(self, job: Job) -> None:
        """Takes a job back: out of the queue, or out of the running step. Its events end."""
        with self._changed:
            if job.is_ended or job.is_cancelled:
                return
            job.is_cancelled = True
            self._n_cancelled += 1
            # For one token of one of several, the others need not begin their step again.
            mine = [branch for branch in self._in_step if branch.job is job]
            if mine and (len(mine) == len(self._in_step) or not mine[0].is_decoding):
                self._context.abort()
            self._changed.notify_all()

    def n_warm(self, tokens: Tokens, key: str) -> "Future[int]":
        """How many of these tokens need not be computed; told between two steps, 0 at the end."""
        found: Future[int] = Future()
        with self._changed:
            if self._is_stopping:
                found.set_result(0)
            else:
                self._looks.append((tokens, key, found))
                self._changed.notify_all()
        return found

    def stop(self, *, saves: bool = True) -> None:
        """Ends the thread soon; requests fail with ModelUnavailable. `saves` what is cached."""
        with self._changed:
            self._is_stopping, self._saves = True, saves
            self._context.abort()
            self._changed.notify_all()

    def join(self, timeout_s: float | None = None) -> None:
        """Waits for the end of the thread."""
        self._thread.join(timeout_s)

    @property
    def is_stopping(self) -> bool:
        """Whether it takes no more: told to stop, or llama.cpp has failed."""
        return self._is_stopping

    def load(self) -> Load:
        """The figures of now."""
        with self._changed:
            # Who has heard the last event of a request finds it ended.
            jobs = [job for job in (*self._jobs, *self._inbox) if not job.is_ended]
            n_running = sum(any(b.seq >= 0 for b in job.branches) for job in jobs)
            return Load(
                n_waiting=len(jobs) - n_running,
                n_running=n_running,
                n_cells=self._pool.n_cells,
                n_steps=self._n_steps,
                n_preempted=self._n_preempted,
                n_cancelled=self._n_cancelled,
                n_suspended=self._n_suspended,
                n_ahead=self._n_ahead,
            )

    # ---- the thread

    def _run(self) -> None:
        error: Exception = _closed_error()
        is_sound = True
        try:
            while self._turn():
                pass
        except Exception as failure:
            is_sound = False
            if not isinstance(failure, ModelError):
                logger.exception("The model failed")
                failure = ModelUnavailable("The model failed; ask again, and see the log.")
            error = failure
        with self._changed:
            self._is_stopping = True
            self._take_inbox()
            for _, _, found in self._looks:
                found.set_result(0)
        for job in list(self._jobs):
            job.fail(error)
            self._leave(job)
        self._drop_ahead()
        if is_sound and self._saves:
            try:
                self._pool.save_all()
            except Exception:
                logger.exception("The KV cache cannot be kept")

    def _turn(self) -> bool:
        """Does what is due, waiting for it; False when it is time to stop."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._is_stopping or self._inbox or self._jobs or self._looks,
                timeout=self._patience_s(),
            )
            if self._is_stopping:
                return False
            self._take_inbox()
            looks = [self._looks.popleft() for _ in range(len(self._looks))]
        for tokens, key, found in looks:
            found.set_result(self._pool.n_warm(tokens, key))
        if not self._jobs:
            if self._patience_s() == 0:
                self._has_unsaved = self._pool.save_some()
            return True
        self._place_waiting()
        step = self._next_step()
        if step:
            self._compute(step)
        self._idle_since = time.monotonic()
        return True

    def _patience_s(self) -> float | None:
        """How long to wait for requests before the cache is saved; None where it is."""
        if not self._has_unsaved:
            return None
        return max(0.0, self._idle_since + _SAVE_AFTER_S - time.monotonic())

    def _take_inbox(self) -> None:
        """Takes over what was submitted and drops what was cancelled; under the lock."""
        while self._inbox:
            job = self._inbox.popleft()
            if job.branches[0].seq < 0:
                self._adopt(job)
            if not job.is_ended:
                self._jobs.append(job)
        for job in [job for job in self._jobs if job.is_cancelled]:
            job.end()
            self._leave(job)
        self._jobs.sort(key=lambda job: (job.priority, job.order))

    # ---- sequences for branches

    def _place_waiting(self) -> None:
        """Gives sequences to branches that wait for one, the most urgent first."""
        for job in list(self._jobs):
            if job not in self._jobs:
                continue  # it made way for another one
            if job.priority > self._jobs[0].priority:
                return  # it would only stand around
            for branch in job.open_branches:
                if branch.seq < 0 and (branch is job.branches[0] or job.is_prefilled):
                    if not self._place(branch):
                        return
                    if not branch.n_left:
                        self._reached(branch, -1)

    def _place(self, branch: Branch) -> bool:
        """Finds a sequence with as much of the branch as there is; False if it has to wait."""
        job = branch.job
        tokens = branch.tokens(0, branch.n_tokens)
        n_max = len(tokens) - 1 if job.wants_logits else len(tokens)
        if job.priority == Priority.QUESTION:
            self._drop_ahead(unless=job)  # another question was expected
        while True:
            found = self._pool.acquire(tokens, job.key, n_max, self._n_reserved(branch))
            if found is not None:
                break
            if not self._give_way(branch):
                return False
        branch.seq, branch.n_held = found
        job.placed(branch.n_held)
        return True

    def _n_reserved(self, branch: Branch) -> int:
        """Cells that those at work will need soon, beside those of this branch's tokens.

        A branch that works alone takes what there is.
        """
        others = self._placed()
        growing = sum(_growth(other) + other.n_left for other in others)
        return growing + _growth(branch) if others else 0

    def _give_way(self, branch: Branch) -> bool:
        """Takes a sequence from what is less urgent; False if nothing is."""
        if self._drop_ahead(unless=branch.job):
            return True
        lesser = [b for b in self._placed() if b.job.priority > branch.job.priority]
        if lesser:
            self._suspend(lesser[-1])
        return bool(lesser)

    def _suspend(self, branch: Branch) -> None:
        """Lets a branch wait; what it holds is kept until its cells are needed."""
        logger.debug("A branch of %d tokens waits for cells", branch.n_tokens)
        self._pool.release(branch.seq, is_draft=branch.job.is_warm_up)
        branch.seq, branch.n_held = -1, 0
        self._n_suspended += 1

    def _catch_up(self, branch: Branch) -> None:
        """Skips what another branch has computed while this one waited."""
        job, tokens = branch.job, branch.tokens(0, branch.n_tokens)
        n_max = len(tokens) - 1 if job.wants_logits else len(tokens)
        n_before = branch.n_held
        if self._pool.n_ahead(tokens, job.key, n_max) < n_before + _MIN_AHEAD:
            return
        self._pool.release(branch.seq, is_draft=True)
        branch.seq, branch.n_held = -1, 0
        found = self._pool.acquire(tokens, job.key, n_max)
        if found is not None:
            branch.seq, branch.n_held = found
            job.n_cached += max(0, branch.n_held - n_before)

    def _leave(self, job: Job) -> None:
        """Takes a job off the list, and its sequences from it."""
        for branch in job.branches:
            self._release(branch)
        if job in self._jobs:
            self._jobs.remove(job)

    def _release(self, branch: Branch) -> None:
        if branch.seq >= 0:
            self._pool.release(branch.seq, is_draft=not branch.said)
            branch.seq = -1

    def _placed(self) -> list[Branch]:
        return [b for job in self._jobs for b in job.open_branches if b.seq >= 0]

    # ---- a step

    def _next_step(self) -> list[tuple[Branch, int]]:
        """Branches with how many tokens of each: the most urgent ones, of one key."""
        placed = self._placed()
        if not placed:
            for job in self._jobs[:1]:
                job.fail(ModelUnavailable("The KV cache has no room; ask with less context."))
                self._leave(job)
            return []
        urgent = [b for b in placed if b.job.priority == placed[0].job.priority]
        lead = min(urgent, key=lambda branch: branch.stepped_at)
        same = [branch for branch in urgent if branch.job.key == lead.job.key]
        decoding = sorted((b for b in same if b.is_decoding), key=lambda b: b.stepped_at)
        prefilling = [b for b in same if not b.is_decoding]
        if not prefilling or not decoding:
            self._owed_s = 0.0
        if decoding and (not prefilling or self._owed_s > 0):
            return [(branch, 1) for branch in decoding[: self._pace.group(len(decoding))]]
        n_free = self._context.n_batch // 2 if decoding else self._context.n_batch
        step = [(branch, 1) for branch in decoding[:n_free]]
        for branch in prefilling:
            if branch.stepped_at != self._n_steps:
                self._catch_up(branch)
                if branch.seq >= 0 and not branch.n_left:
                    self._reached(branch, -1)  # another one has computed all of a warm-up
                    continue
            n_tokens = min(n_free, self._pool.n_to_compute(branch.n_left))
            if branch.seq >= 0 and n_tokens:
                step.append((branch, n_tokens))
                n_free -= n_tokens
        return step

    def _compute(self, step: list[tuple[Branch, int]]) -> None:
        """Decodes one batch and does what follows from it."""
        context, pool = self._context, self._pool
        if not pool.make_room(sum(n for _, n in step)):
            self._relieve()
            return
        key = step[0][0].job.key
        if key != self._key and not self._change_key(key, step):
            return
        context.clear()
        parts, indexes = [], []
        for branch, n_tokens in step:
            part = branch.tokens(branch.n_held, branch.n_held + n_tokens)
            wants_logits = n_tokens == branch.n_left and branch.job.wants_logits
            indexes.append(
                context.add(part, seq=branch.seq, position=branch.n_held, wants_logits=wants_logits)
            )
            parts.append(part)
            if n_tokens > 1:
                pool.prepare(branch.seq)
        with self._changed:
            context.resume()
            urgency = step[0][0].job.priority
            if self._is_stopping or any(job.priority < urgency for job in self._inbox):
                return
            if any(branch.job.is_cancelled for branch, _ in step):
                return
            self._in_step = tuple(branch for branch, _ in step)
        started = time.perf_counter()
        outcome = context.decode()
        seconds = time.perf_counter() - started
        with self._changed:
            self._in_step = ()
        self._has_unsaved = True
        if outcome == "full":
            # The cells are in pieces that the ledger knows nothing of.
            if not pool.evict_one():
                self._relieve()
            return
        self._n_steps += 1
        if outcome == "aborted":
            for (branch, _), part in zip(step, parts, strict=True):
                branch.n_held = pool.settle(branch.seq, part)
                if not branch.n_held:
                    self._release(branch)  # to be placed anew, perhaps with more
            return
        self._note_time(step, seconds)
        for (branch, n_tokens), part in zip(step, parts, strict=True):
            pool.advance(branch.seq, part)
            branch.n_held += n_tokens
            branch.stepped_at = self._n_steps
        for (branch, _), index in zip(step, indexes, strict=True):
            if not branch.n_left:
                self._reached(branch, index)
            elif branch.n_left == 1 and not branch.said:
                pool.checkpoint(branch.seq)

    def _change_key(self, key: str, step: list[tuple[Branch, int]]) -> bool:
        """Makes the context ready for branches of another key; False if that failed, and they."""
        try:
            self._use(key)
        except AssistError as error:
            for branch, _ in step:
                branch.job.fail(error)
                self._leave(branch.job)
            return False
        self._key = key
        return True

    def _note_time(self, step: list[tuple[Branch, int]], seconds: float) -> None:
        """Keeps a third of the time for branches that decode while prompts are computed."""
        is_decoding = step[0][0].is_decoding
        if not is_decoding:
            return
        if all(branch.is_decoding for branch, _ in step):
            self._pace.measured(len(step), seconds)
            self._owed_s -= seconds
        else:
            self._owed_s = seconds / 2

    def _relieve(self) -> None:
        """Makes room where everything is in use: the least urgent branch waits, or ends."""
        placed = self._placed()
        if self._drop_ahead():
            return
        if len(placed) > 1:
            self._suspend(placed[-1])
        elif placed[0].said:
            placed[0].finish("length")
            self._settle_ends(placed[0])
        else:
            job = placed[0].job
            job.fail(ModelUnavailable("The KV cache is full; ask with less context."))
            self._leave(job)

    # ---- tokens

    def _reached(self, branch: Branch, index: int) -> None:
        """All that a branch has is computed; `index` has the logits after it."""
        job = branch.job
        if job.is_prefilled:
            self._draw(branch, index)
            return
        job.prefilled()
        if not job.is_warm_up:
            for other in job.open_branches[1:]:
                seq = self._pool.fork(branch.seq)
                if seq is None:
                    break  # it begins when there is a sequence again
                other.seq, other.n_held = seq, branch.n_held
            for other in job.open_branches:
                if other.seq >= 0:
                    self._draw(other, index)
            return
        branch.finish("length")
        if job.request.is_speculative:
            self._begin_ahead(branch, index)
        self._leave(job)

    def _draw(self, branch: Branch, index: int) -> None:
        """Draws a token, and ends what has ended."""
        try:
            branch.draw(self._context, index, self._n_ctx)
        except ModelError as error:
            branch.job.fail(error)
        self._settle_ends(branch)

    def _settle_ends(self, branch: Branch) -> None:
        if branch.is_ended:
            self._release(branch)
        if branch.job.is_ended:
            self._leave(branch.job)
        with self._changed:
            ahead = self._ahead
            if ahead is not None and ahead.is_far_enough:
                ahead.is_waiting = True
                if ahead.job in self._jobs:
                    self._jobs.remove(ahead.job)

    # ---- the question that is likely to come

    def _begin_ahead(self, branch: Branch, index: int) -> None:
        """Draws the first tokens after a warmed prompt, in the sequence that holds it."""
        self._drop_ahead()
        ahead = branch.job.ahead()
        first = ahead.job.branches[0]
        first.seq, first.n_held, branch.seq = branch.seq, branch.n_held, -1
        ahead.job.prefilled()
        with self._changed:
            self._ahead = ahead
        self._jobs.append(ahead.job)
        self._draw(first, index)

    def _adopt(self, job: Job) -> bool:
        """Answers a question from what was drawn ahead, if it is that question; under the lock."""
        ahead = self._ahead
        if ahead is None or not ahead.answers(job):
            return False
        self._ahead = None
        self._n_ahead += 1
        if ahead.job in self._jobs:
            self._jobs.remove(ahead.job)
        job.adopt(ahead)
        return True

    def _drop_ahead(self, unless: Job | None = None) -> bool:
        """Forgets what was drawn ahead; False if nothing was, or it is this job."""
        with self._changed:
            ahead = self._ahead
            if ahead is None or ahead.job is unless:
                return False
            self._ahead = None
        ahead.job.end()
        self._leave(ahead.job)
        return True


_SAVE_AFTER_S = 1.0
"""Of quiet, before the cache is written to disk: a question is worth more than a file."""


_MIN_AHEAD = 16
_GROWTH = 64
"""Tokens of a reply that there is room for when it begins; longer ones may have to wait."""


def _growth(branch: Branch) -> int:
    return min(_GROWTH, max(0, branch.job.max_tokens - len(branch.said)))


def _closed_error() -> ModelUnavailable:
    return ModelUnavailable("The model was put to sleep or closed; ask again.")
