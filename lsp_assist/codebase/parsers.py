"""Parses in processes of their own, so that a grammar that hangs or crashes costs one file only.

One process, started when it is first needed, serves whoever waits: open files and a few others. A
long list of files gets processes of its own, up to one for each core, which end with the list. The
rule has no exceptions: this process never runs a grammar.

Knows no store and no index.
"""

import logging
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lsp_assist.codebase import ingest, reading
from lsp_assist.codebase.files import FileEntry
from lsp_assist.codebase.packing import unpacked
from lsp_assist.codebase.parser_worker import LIMITS, Limits, Worker, WorkerDied
from lsp_assist.codebase.store import FileRecord, IndexedFile
from lsp_assist.errors import IndexUnusable

__all__ = ["Parsers", "Unchanged"]

logger = logging.getLogger(__name__)

_FEW_FILES = 4  # less work than starting a process; questions get their turn in between
_FILE_WAITS = 5  # a saved file may wait longer than an open one, on a machine that is busy
_BYTES_PER_WORKER = 300_000  # what is parsed in about the time that another process takes to start
_MAX_WORKERS = 16
_AHEAD = 2  # jobs that a process has at hand, so that it never waits for the next one
_MAX_RESULTS = 64
_POLL_S = 0.1
_BACKGROUND = 10  # `nice`; somebody may be typing
_STRIKE_S = 30.0  # how long the grammar is spared an open file that it failed on
_NOTHING_TOLD: tuple[int, Mapping[str, tuple[str, ...]]] = (-1, {})


@dataclass(frozen=True, slots=True)
class Unchanged:
    """A file whose text is as before."""

    path: str
    record: FileRecord


class Parsers:
    """The processes that parse the files of one folder. Any thread may call."""

    def __init__(self, root: Path, max_file_bytes: int, limits: Limits = LIMITS) -> None:
        self._folder = _Folder(root, max_file_bytes)
        self._limits = limits
        self._front = _Front(limits)
        self._struck: dict[str, float] = {}
        """Until when the grammar is spared an open file."""
        self._told: dict[str, tuple[int, Mapping[str, tuple[str, ...]]]] = {}
        """The number of the last reply about an open file, and the terms that it told."""

    def close(self) -> None:
        """End the process that serves single files; idempotent."""
        self._front.close()

    def file(self, entry: FileEntry, known_hash: str = "") -> IndexedFile | Unchanged:
        """One file of the folder, read and parsed now; unchanged if its text has this hash.

        Raises: IndexUnusable
        """
        job = _Job(self._folder, entry, known_hash)
        while True:
            try:
                return job.result(self._front.ask(job.message, _FILE_WAITS * self._limits.wait_s))
            except WorkerDied as death:
                if job.problem:
                    return job.given_up()
                job = job.spared(str(death))

    def files(
        self, entries: Sequence[FileEntry], hashes: Mapping[str, str]
    ) -> Generator[IndexedFile | Unchanged | None]:
        """Files of the folder as they are done by all cores, about in order.

        `hashes` are those of the texts that paths had. Gives None now and then, for the
        caller to see whether to go on. Closing the iterator ends what runs.

        Raises: IndexUnusable
        """
        if len(entries) <= _FEW_FILES:
            for entry in entries:
                yield self.file(entry, hashes.get(entry.path, ""))
            return
        jobs = [_Job(self._folder, entry, hashes.get(entry.path, "")) for entry in entries]
        n_workers = 1 + sum(entry.size for entry in entries) // _BYTES_PER_WORKER
        n_workers = min(n_workers, len(jobs), _n_cores(), _MAX_WORKERS)
        with closing(_Line(jobs, n_workers, self._limits)) as line:
            yield from line.results()

    def text(self, path: str, text: str) -> IndexedFile:
        """An open file with this text, which need not be saved."""
        if time.monotonic() < self._struck.get(path, 0.0):
            return self._unparsed(path, text, "The parser failed on it a moment ago; no symbols")
        n_heard, told = self._told.get(path, _NOTHING_TOLD)
        try:
            n_heard, values = self._ask(("text", path, text, "", n_heard))
        except WorkerDied as death:
            logger.warning("%s: %s", path, death)
            self._struck[path] = time.monotonic() + _STRIKE_S
            return self._unparsed(path, text, str(death))
        except IndexUnusable as error:
            logger.warning("%s", error)
            return _empty(path, text, str(error))
        file = unpacked(values, told)
        self._told[path] = n_heard, {chunk.hash: chunk.body_terms for chunk in file.chunks}
        return file

    def forget(self, path: str) -> None:
        """Let go of a file that is no longer open."""
        self._struck.pop(path, None)
        self._told.pop(path, None)

    def _ask(self, message: tuple[Any, ...]) -> Any:
        return self._front.ask(message, self._limits.wait_s)

    def _unparsed(self, path: str, text: str, problem: str) -> IndexedFile:
        try:
            return unpacked(self._ask(("text", path, text, problem, 0))[1])
        except (WorkerDied, IndexUnusable):
            return _empty(path, text, problem)


@dataclass(frozen=True, slots=True)
class _Folder:
    root: Path
    max_file_bytes: int


@dataclass(frozen=True, slots=True)
class _Job:
    """A file to be read and parsed; with a problem, only to be cut into chunks."""

    folder: _Folder
    entry: FileEntry
    known_hash: str
    problem: str = ""

    @property
    def message(self) -> tuple[Any, ...]:
        """The job as it is sent."""
        entry, folder = self.entry, self.folder
        where = str(folder.root), entry.path, folder.max_file_bytes
        return "file", *where, entry.size, entry.mtime_ns, self.known_hash, self.problem

    def result(self, reply: Any) -> IndexedFile | Unchanged:  # as it was sent
        """What the reply says."""
        digest, values = reply
        if values is None:
            entry = self.entry
            return Unchanged(entry.path, FileRecord(entry.size, entry.mtime_ns, digest))
        return unpacked(values)

    def spared(self, problem: str) -> "_Job":
        """The job without the grammar, on which a process died."""
        logger.warning("%s: %s", self.entry.path, problem)
        return replace(self, known_hash="", problem=problem)

    def given_up(self) -> IndexedFile:
        """A file that cannot even be cut; kept by its hash, so that it is not tried each time."""
        entry = self.entry
        contents = reading.read(self.folder.root / entry.path, self.folder.max_file_bytes)
        record = FileRecord(entry.size, entry.mtime_ns, ingest.digest(contents))
        return IndexedFile(entry.path, record, "", 0, (), (), (), problem=self.problem)


def _empty(path: str, text: str, problem: str) -> IndexedFile:
    return IndexedFile(path, FileRecord(len(text), 0, ""), "", 0, (), (), (), problem=problem)


class _Front:
    """The process that serves whoever waits, one job at a time, and what waits for it."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._worker: Worker | None = None
        self._is_closed = False

    def ask(self, message: tuple[Any, ...], wait_s: float) -> Any:  # as it was sent
        """The reply, in bounded time whatever the process does.

        Raises: WorkerDied
        """
        with self._lock:
            if self._is_closed:
                raise WorkerDied("The index was closed")
            worker = self._worker = self._worker or Worker(self._limits, 0)
            why = f"Parsing took more than {wait_s:g} s"
            timer = threading.Timer(wait_s, worker.kill, (why,))
            timer.daemon = True
            timer.start()
            try:
                worker.send(message)
                return worker.receive()
            except WorkerDied:
                self._worker = None
                raise
            finally:
                timer.cancel()

    def close(self) -> None:
        """End the process, whatever it does."""
        self._is_closed = True
        if (busy := self._worker) is not None:
            busy.kill()
        with self._lock:
            if self._worker is not None:
                self._worker.close()
                self._worker = None


class _Line:
    """A list of jobs and the threads that have it done, each by a process of its own."""

    def __init__(self, jobs: Sequence[_Job], n_workers: int, limits: Limits) -> None:
        self._jobs = iter(jobs)
        self._limits = limits
        self._n_left = len(jobs)
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._workers: set[Worker] = set()
        self._results: queue.Queue[IndexedFile | Unchanged | BaseException] = queue.Queue(
            _MAX_RESULTS
        )
        self._threads = [
            threading.Thread(target=self._run, name=f"parser-{n}", daemon=True)
            for n in range(n_workers)
        ]
        for thread in self._threads:
            thread.start()

    def results(self) -> Iterator[IndexedFile | Unchanged | None]:
        """Each job's result as it comes, and None now and then."""
        while self._n_left:
            try:
                result = self._results.get(timeout=_POLL_S)
            except queue.Empty:
                yield None
                continue
            if isinstance(result, BaseException):
                raise result
            self._n_left -= 1
            yield result

    def close(self) -> None:
        """End the processes and the threads, whatever they do."""
        with self._lock:
            self._is_over.set()
            for worker in self._workers:
                worker.kill()
        for thread in self._threads:
            while thread.is_alive():  # it may wait for room
                with suppress(queue.Empty):
                    self._results.get(timeout=_POLL_S)

    def _run(self) -> None:
        try:
            for result in self._work():
                self._results.put(result)
        except BaseException as error:  # noqa: BLE001  # raised where the results are read
            self._results.put(error)

    def _work(self) -> Iterator[IndexedFile | Unchanged]:
        """The results of the jobs that this thread takes."""
        worker: Worker | None = None
        undone: deque[_Job] = deque()
        n_sent = 0  # of them
        try:
            while not self._is_over.is_set():
                while len(undone) < _AHEAD and (job := self._next()) is not None:
                    undone.append(job)
                if not undone:
                    return
                try:
                    if worker is None:
                        worker, n_sent = self._started(), 0
                    for job in list(undone)[n_sent:]:
                        worker.send(job.message)
                        n_sent += 1
                    reply = worker.receive()
                except WorkerDied as death:
                    worker = None
                    if self._is_over.is_set():
                        return
                    if undone[0].problem:
                        yield undone.popleft().given_up()
                    else:
                        undone[0] = undone[0].spared(str(death))
                    continue
                n_sent -= 1
                yield undone.popleft().result(reply)
        finally:
            if worker is not None:
                worker.close()

    def _next(self) -> _Job | None:
        with self._lock:
            return next(self._jobs, None)

    def _started(self) -> Worker:
        worker = Worker(self._limits, _BACKGROUND)
        with self._lock:
            self._workers.add(worker)
            if self._is_over.is_set():
                worker.kill()
        return worker


def _n_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
