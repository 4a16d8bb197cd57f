"""The user's workspace: its folders, their indexes kept fresh, and the text of open documents.

One event loop uses it; indexes work on threads behind it. Knows no question, no chat and no model.
"""

import asyncio
import contextlib
import functools
import hashlib
import logging
import os
import time
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from pathlib import Path
from threading import Event as ThreadEvent
from typing import ParamSpec, TypeVar

from lsp_assist.codebase.documents import DocumentStore
from lsp_assist.codebase.embedding_thread import EmbeddingProgress, EmbeddingThread
from lsp_assist.codebase.ignore_files import GIT_IGNORE, OWN_IGNORE
from lsp_assist.codebase.index import Hit, Index, Passage, Progress, Refreshed
from lsp_assist.codebase.search import EVERYWHERE, Filter
from lsp_assist.codebase.store import StoredSymbol
from lsp_assist.codebase.uncommitted import uncommitted_diff
from lsp_assist.codebase.watching import Watcher
from lsp_assist.config import Settings
from lsp_assist.context.code import FileKey, ProjectFile
from lsp_assist.context.pick import Selection
from lsp_assist.errors import WorkspaceNotFound
from lsp_assist.llm import Embedder

__all__ = ["Filter", "Hit", "IndexStatus", "Progress", "Refreshed", "Workspace"]

logger = logging.getLogger(__name__)

LOOK_AGAIN_S = 2.0  # questions in a row share one look at the disk
MANY_FILES = 100  # changed at once, as by a branch switch: one look at the disk finds them sooner
CATCH_UP_S = 1.0  # that a question waits for such a look
PULL_AFTER_S = 0.2  # of rest, changed files are read though nobody asks, to be embedded

MAX_RANKED = 16
"""Rankings that are remembered: a warm-up asks for the same one at every key."""
Ranks = Mapping[FileKey, float]

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """One workspace folder and its index."""

    root: str
    state: str
    """"new" before the first refresh ended, then "ready"; "indexing" while one runs."""
    n_files: int
    n_lines: int
    n_symbols: int
    n_chunks: int
    n_done: int
    n_total: int
    """Of the running refresh, in files; 0 when none runs."""
    embedder: str
    """What makes the vectors; empty without one."""
    embedding: str
    """"off", "waiting" for its turn or another process, "embedding", "paused" or "ready"."""
    n_vectors: int
    n_waiting: int
    """Chunks without a vector, as far as they were counted."""
    n_bytes: int
    """What the index takes on disk, vectors included."""
    problems: tuple[str, ...] = ()
    """Files of which there is less than there could be, each with the reason."""


class Workspace:
    """Owns the indexes and the open documents of one server or command.

    Made on any thread, used on one event loop. `start` before anything else, `close` at the end.
    """

    def __init__(
        self,
        settings: Settings,
        roots: Sequence[Path],
        open_embedders: Callable[[], Sequence[Embedder]] | None = None,
    ) -> None:
        """With embedders, places are found by what they mean too. A thread opens them."""
        self.settings = settings
        self.documents = DocumentStore()
        self.watches_files = False
        """True if somebody calls `file_changed`; else questions look for changes by themselves."""
        self.keeps_ready = False
        """True if whoever made it stays: what a question may need is then found out beforehand."""
        self._watcher: Watcher | None = None
        self._pulling: asyncio.TimerHandle | None = None
        self._background: set[asyncio.Task[object]] = set()
        self._n_questions = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._must_look_again = False
        self.embeds = open_embedders is not None
        """Set it to False before `start` to have no vectors made, and none used."""
        self._roots = [_checked_root(root) for root in roots]
        self._indexes: dict[Path, Index] = {}
        self._opening = asyncio.Lock()
        self._ready: set[Path] = set()
        self._changed_files: set[Path] = set()
        self._overlaid: dict[str, Path] = {}
        self._digests: dict[FileKey, str] = {}
        self._edited: dict[FileKey, int] = {}
        self._n_edits = 0
        self._n_looks = 0
        """Raised whenever a look at the files finds something new."""
        self._ranked: dict[tuple[int, tuple[tuple[FileKey, float], ...]], Ranks] = {}
        self._refreshed_at = float("-inf")
        self._refreshing: asyncio.Task[Refreshed] | None = None
        self._reporters: list[Callable[[Progress], None]] = []
        self._n_waiting = 0
        self._stop = ThreadEvent()
        self._open_embedders = open_embedders
        self._embedding: EmbeddingThread | None = None
        self._embedding_reporters: list[Callable[[Progress], None]] = []
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="workspace")

    async def start(self) -> None:
        """Open what is on disk of every workspace folder. Reads no workspace file.

        Raises: IndexUnusable
        """
        if self.embeds and self._open_embedders is not None and self._embedding is None:
            loop = asyncio.get_running_loop()

            def report(progress: EmbeddingProgress) -> None:
                loop.call_soon_threadsafe(self._report_embedding, progress)

            self._embedding = EmbeddingThread(self._open_embedders, report)
        await self._open_indexes()

    async def close(self) -> None:
        """Stop what runs and keep what was indexed. Idempotent."""
        self._stop.set()
        if self._pulling is not None:
            self._pulling.cancel()
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        if self._watcher is not None:
            await self._on_thread(self._watcher.close)
            self._watcher = None
        if self._embedding is not None:
            await self._on_thread(self._embedding.close)
            self._embedding = None
        if self._refreshing is not None:
            await asyncio.gather(self._refreshing, return_exceptions=True)
        for index in self._indexes.values():
            await self._on_thread(index.close)
        self._indexes.clear()
        self._threads.shutdown(wait=False)

    # What there is

    @property
    def roots(self) -> tuple[Path, ...]:
        """The workspace folders, resolved."""
        return tuple(self._roots)

    @property
    def indexes(self) -> tuple[Index, ...]:
        """The indexes of the folders, as far as they are open."""
        return tuple(self._indexes.values())

    def add_root(self, root: Path) -> None:
        """Take in a workspace folder; the next refresh indexes it.

        Raises: WorkspaceNotFound
        """
        root = _checked_root(root)
        if root not in self._roots:
            self._roots.append(root)
            self._refreshed_at = float("-inf")

    def remove_root(self, root: Path) -> None:
        """Let a workspace folder go; its index stays on disk."""
        root = root.resolve()
        if root in self._roots:
            self._roots.remove(root)
        self._ready.discard(root)
        index = self._indexes.pop(root, None)
        if index is not None:
            if self._embedding is not None:
                self._embedding.remove(index)
            self._threads.submit(index.close)

    def document_changed(self, uri: str) -> None:
        """Note that an open document has another text, or was opened or closed. Returns at once."""
        document = self.documents.get(uri)
        if document is None:
            closed = self._overlaid.pop(uri, None)
            if closed is not None:
                self._overlay(closed, None)
                self.file_changed(closed)
        elif document.path is not None:
            self._overlaid[uri] = document.path
            self._overlay(document.path, document.text.content)
        self._wake()

    def file_changed(self, path: Path) -> None:
        """Note that a file was made, changed or deleted. Returns at once; a question reads it."""
        self._changed_files.add(path)
        if self._embedding is not None:
            self._pull_soon()

    async def watch(self) -> bool:
        """Watch the folders, where nobody else tells what changes; False if that cannot be done."""
        loop = asyncio.get_running_loop()

        def note(paths: Collection[Path]) -> None:
            for path in paths:
                self.file_changed(path)

        def tell(paths: Collection[Path]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(note, paths)

        before, self._watcher = self._watcher, Watcher(self._roots, tell)
        if before is not None:
            await self._on_thread(before.close)
        watcher = self._watcher
        begins = await self._on_thread(watcher.begins)
        if begins and watcher is self._watcher:
            self._look()  # at what changed before
        return begins

    async def refresh(self, report: Callable[[Progress], None] | None = None) -> Refreshed:
        """Bring all indexes up to date with the files on disk; calls while one runs share it.

        `report` is called on the loop. The work stops when everybody who waits for it was
        cancelled; what is done is kept.

        Raises: IndexUnusable
        """
        if self._refreshing is None or self._refreshing.done():
            self._look()
        task = self._refreshing
        assert task is not None
        if report is not None:
            self._reporters.append(report)
        self._n_waiting += 1
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if self._n_waiting == 1:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            raise
        finally:
            self._n_waiting -= 1
            if report is not None:
                self._reporters.remove(report)

    async def freshness(self) -> str:
        """Read what was marked, and say what a question is answered without; empty if nothing."""
        await self._open_indexes()
        changed, self._changed_files = self._changed_files, set()
        if len(changed) > MANY_FILES or any(map(_concerns_others, changed)):
            self._look()
            assert self._refreshing is not None
            await asyncio.wait({self._refreshing}, timeout=CATCH_UP_S)
        else:
            for path in changed:
                if place := self._place(path):
                    await self._on_thread(place[0].refresh_file, place[1])
        if changed and self._embedding is not None:
            self._embedding.wake_rested()
        running = self._refreshing is not None and not self._refreshing.done()
        is_watching = self._watcher is not None and self._watcher.is_watching
        age_s = time.monotonic() - self._refreshed_at
        if not (running or self.watches_files or is_watching) and age_s > LOOK_AGAIN_S:
            self._look()
        if not self._roots:
            return "No folder is open; answering from what is selected"
        if self._ready.issuperset(self._roots):
            return ""
        done = [index.progress for index in self._indexes.values() if index.progress]
        percent = 100 * sum(p.n_done for p in done) // max(1, sum(p.n_total for p in done))
        return f"The index is {percent} % done; answering from what is there"

    # Vectors

    @contextmanager
    def question(self) -> Iterator[None]:
        """While this is held a question runs, and the background gives way to it."""
        thread = self._embedding
        self._n_questions += 1
        self._quiet.clear()
        if thread is not None:
            thread.question_began()
        try:
            yield
        finally:
            if thread is not None:
                thread.question_ended()
            self._n_questions -= 1
            if not self._n_questions:
                self._quiet.set()

    async def embedded(self, report: Callable[[Progress], None] | None = None) -> bool:
        """Wait until every chunk has its vector; False if some lack one all the same.

        `report` is called on the loop. Who stops waiting does not stop the work.
        """
        if self._embedding is None:
            return True
        stop = ThreadEvent()
        if report is not None:
            self._embedding_reporters.append(report)
        try:
            return await self._on_thread(self._embedding.wait, stop.is_set)
        finally:
            stop.set()
            if report is not None:
                self._embedding_reporters.remove(report)

    async def pause(self, is_paused: bool) -> None:
        """Stop making vectors for these folders, in all processes, or go on with it.

        Raises: IndexUnusable
        """
        for index in list(self._indexes.values()):
            await self._on_thread(index.embedding.pause, is_paused)
        self._wake()

    async def clear(self) -> None:
        """Throw away what is indexed; the next refresh makes it anew.

        Raises: IndexUnusable
        """
        for index in list(self._indexes.values()):
            await self._on_thread(index.clear)
        self._ready.clear()

    # Finding places

    async def search(self, query: str, limit: int = 20, where: Filter = EVERYWHERE) -> list[Hit]:
        """The best places for a question or a name, best first.

        Raises: IndexUnusable
        """
        await self.freshness()
        return await self._on_thread(self._search, query, limit, where)

    async def symbols(self, query: str, limit: int) -> list[tuple[Path, StoredSymbol]]:
        """The symbols whose names fit what was typed, with their folders; the best of each first.

        Raises: IndexUnusable
        """
        await self.freshness()
        return await self._on_thread(self._symbols_like, query, limit)

    async def find(self, query: str, limit: int) -> list[Passage]:
        """The best places for a query, best first, with their text as it stands now."""
        return await self._on_thread(self._passages, query, limit)

    async def related(self, passage: Passage) -> Passage:
        """The passage with who calls its symbol and whom it calls."""
        index = self._indexes.get(passage.hit.root)
        return passage if index is None else await self._on_thread(index.related, passage)

    async def symbol_at(self, selection: Selection) -> Passage | None:
        """The symbol that a selection is about; None outside of all."""
        index = self._indexes.get(Path(selection.root)) if selection.root else None
        if index is None:
            return None
        lines = selection.start_line, selection.end_line
        return await self._on_thread(index.symbol_at, selection.path, *lines)

    # Reading code, as `context.code.Code`

    async def files(self) -> list[ProjectFile]:
        """Every file that may be shown, with what is known of how often it changes."""
        await self._open_indexes()
        found = await self._on_thread(self._files)
        self._notice(found)
        return [replace(file, edited=self._edited.get(file.key, 0)) for file in found]

    async def texts(self, keys: Sequence[FileKey]) -> Mapping[FileKey, str]:
        """Texts as they stand now, without those of files that are gone."""

        def read() -> dict[FileKey, str]:
            found = ((key, index.text_of(key.path)) for key, index in self._indexed(keys))
            return {key: text for key, text in found if text is not None}

        return await self._on_thread(read)

    async def outlines(self, keys: Sequence[FileKey]) -> Mapping[FileKey, Sequence[StoredSymbol]]:
        """Symbols in the order of the outlines."""

        def read() -> dict[FileKey, Sequence[StoredSymbol]]:
            found: dict[FileKey, Sequence[StoredSymbol]] = {}
            for root, index in self._indexes.items():
                own = [key.path for key in keys if key.root == str(root)]
                outlines = index.outlines(own) if own else {}
                found |= {FileKey(str(root), path): outlines[path] for path in outlines}
            return found

        return await self._on_thread(read)

    async def ranks(self, seeds: Mapping[FileKey, float]) -> Mapping[FileKey, float]:
        """How much each file matters, seen from the seeds; from everywhere without them."""
        key = self._n_looks, tuple(sorted(seeds.items()))
        if key not in self._ranked:
            while len(self._ranked) >= MAX_RANKED:
                self._ranked.pop(next(iter(self._ranked)))
            self._ranked[key] = await self._on_thread(self._ranks, seeds)
        return self._ranked[key]

    async def closure(self, key: FileKey, start_line: int, end_line: int) -> Sequence[Passage]:
        """Definitions of what is used between these lines, both included."""
        index = self._indexes.get(Path(key.root))
        if index is None:
            return ()
        return await self._on_thread(index.closure, key.path, start_line, end_line)

    async def uncommitted(self) -> str:
        """What git has not committed yet, of all folders."""
        diffs = [await self._on_thread(uncommitted_diff, root) for root in self._roots]
        return "\n".join(diff for diff in diffs if diff)

    def _files(self) -> list[ProjectFile]:
        found: list[ProjectFile] = []
        for root, index in sorted(self._indexes.items()):
            activity = index.activity()
            for file in index.files():
                key = FileKey(str(root), file.path)
                facts = file.language, file.digest, file.n_bytes, file.n_lines
                often = activity.get(file.path, 0.0)
                # Unsaved text was edited just now, also before anybody looked.
                edited = int(file.is_unsaved)
                found.append(ProjectFile(key, *facts, often, edited, file.is_open))
        return found

    def _notice(self, files: Sequence[ProjectFile]) -> None:
        """Note which files have another text than when they were looked at last."""
        for file in files:
            before = self._digests.get(file.key)
            is_new_edit = file.edited and file.key not in self._edited
            if is_new_edit or (before is not None and before != file.digest):
                self._n_edits += 1
                self._edited[file.key] = self._n_edits
        digests = {file.key: file.digest for file in files}
        self._n_looks += digests != self._digests
        self._digests = digests

    def _ranks(self, seeds: Mapping[FileKey, float]) -> dict[FileKey, float]:
        found: dict[FileKey, float] = {}
        for root, index in self._indexes.items():
            own = {key.path: weight for key, weight in seeds.items() if key.root == str(root)}
            if own or not seeds:
                ranks = index.file_ranks(own)
                found |= {FileKey(str(root), path): rank for path, rank in ranks.items()}
        return found

    def _indexed(self, keys: Sequence[FileKey]) -> Iterator[tuple[FileKey, Index]]:
        for key in keys:
            if (index := self._indexes.get(Path(key.root))) is not None:
                yield key, index

    async def status(self) -> tuple[IndexStatus, ...]:
        """The workspace folders and how their indexes are."""
        known = list(self._indexes.items())
        return tuple([await self._on_thread(self._index_status, *item) for item in known])

    # Below: how it is done.

    async def _open_indexes(self) -> None:
        async with self._opening:
            for root in [root for root in self._roots if root not in self._indexes]:
                path = self.settings.places.cache / "index" / _folder_name(root) / "index.sqlite3"
                index = await self._on_thread(Index, root, path, self.settings.index)
                n_files = (await self._on_thread(index.counts)).n_files
                if root not in self._roots:  # removed meanwhile
                    await self._on_thread(index.close)
                    continue
                self._indexes[root] = index
                if self._embedding is not None:
                    self._embedding.add(index)
                if n_files:
                    self._ready.add(root)
                for open_path in self._overlaid.values():
                    document = self.documents.by_path(open_path)
                    if document is not None:
                        self._overlay(open_path, document.text.content)

    def _look(self) -> None:
        """Look at the disk in the background; once more if a look is under way, never two."""
        if self._refreshing is not None and not self._refreshing.done():
            self._must_look_again = True
            return
        self._refreshing = asyncio.create_task(self._refresh())
        self._refreshing.add_done_callback(self._looked)

    def _looked(self, task: asyncio.Task[Refreshed]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.warning("The index could not be refreshed: %s", error)
        elif self.keeps_ready and not task.cancelled() and not self._stop.is_set():
            self._in_background(self._make_ready(), "Files cannot be ranked yet")
        if self._must_look_again and not self._stop.is_set():
            self._must_look_again = False
            self._look()

    def _pull_soon(self) -> None:
        """Read what was marked after a rest, so that its vectors are there when somebody asks."""

        def pull() -> None:
            self._in_background(self.freshness(), "Changed files could not be read")

        if self._pulling is not None:
            self._pulling.cancel()
        self._pulling = asyncio.get_running_loop().call_later(PULL_AFTER_S, pull)

    async def _make_ready(self) -> None:
        """Find out what ranking files needs, in the gaps that questions leave."""
        for index in list(self._indexes.values()):
            await self._quiet.wait()
            await self._on_thread(index.make_ready)

    def _in_background(self, work: Coroutine[object, object, object], failure: str) -> None:
        def ended(task: asyncio.Task[object]) -> None:
            self._background.discard(task)
            if not task.cancelled() and (error := task.exception()) is not None:
                logger.warning("%s: %s", failure, error)

        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(ended)

    async def _refresh(self) -> Refreshed:
        loop = asyncio.get_running_loop()
        stop = ThreadEvent()

        def should_stop() -> bool:
            return stop.is_set() or self._stop.is_set()

        def report(progress: Progress) -> None:
            for reporter in list(self._reporters):
                reporter(progress)

        def report_from_thread(progress: Progress) -> None:
            loop.call_soon_threadsafe(report, progress)

        await self._open_indexes()
        self._changed_files.clear()  # the walk sees them
        results: list[Refreshed] = []
        for root, index in list(self._indexes.items()):
            work = asyncio.ensure_future(
                self._on_thread(index.refresh, report_from_thread, should_stop)
            )
            try:
                results.append(await asyncio.shield(work))
            except asyncio.CancelledError:
                stop.set()
                await asyncio.gather(work, return_exceptions=True)
                raise
            if results[-1].is_complete and root in self._roots:
                self._ready.add(root)
            if results[-1].n_changed:
                self._wake()
        self._refreshed_at = time.monotonic()
        return Refreshed(
            n_files=sum(r.n_files for r in results),
            n_changed=sum(r.n_changed for r in results),
            n_removed=sum(r.n_removed for r in results),
            n_skipped=sum(r.n_skipped for r in results),
            is_complete=all(r.is_complete for r in results),
        )

    def _passages(self, query: str, limit: int) -> list[Passage]:
        indexes = dict(self._indexes)
        hits = (hit for hit in self._search(query, limit, EVERYWHERE) if hit.root in indexes)
        passages = (indexes[hit.root].passage(hit) for hit in hits)
        return [passage for passage in passages if passage is not None]

    def _search(self, query: str, limit: int, where: Filter) -> list[Hit]:
        indexes = list(self._indexes.values())
        hits = [hit for index in indexes for hit in index.search(query, limit, where)]
        return sorted(hits, key=lambda hit: -hit.score)[:limit]

    def _symbols_like(self, query: str, limit: int) -> list[tuple[Path, StoredSymbol]]:
        found = [
            [(root, symbol) for symbol in index.symbols_like(query, limit)]
            for root, index in list(self._indexes.items())
        ]
        in_turn = chain.from_iterable(zip_longest(*found))
        return [one for one in in_turn if one is not None][:limit]

    def _index_status(self, root: Path, index: Index) -> IndexStatus:
        counts, progress = index.counts(), index.progress
        states = index.embedding.states()
        n_waiting = sum(state.n_waiting for state in states)
        embedding = "off" if not states else "ready"
        if index.embedding.is_paused:
            embedding = "paused"
        elif n_waiting or not all(state.is_ready for state in states):
            embedding = "embedding" if n_waiting else "waiting"
        return IndexStatus(
            root=str(root),
            state="indexing" if progress else "ready" if root in self._ready else "new",
            n_files=counts.n_files,
            n_lines=counts.n_lines,
            n_symbols=counts.n_symbols,
            n_chunks=counts.n_chunks,
            n_done=progress.n_done if progress else 0,
            n_total=progress.n_total if progress else 0,
            embedder=", ".join(state.embedder for state in states),
            embedding=embedding,
            n_vectors=sum(state.n_vectors for state in states),
            n_waiting=n_waiting,
            n_bytes=index.n_bytes,
            problems=tuple(f"{path}: {problem}" for path, problem in index.problems().items()),
        )

    def _report_embedding(self, progress: EmbeddingProgress) -> None:
        told = Progress(progress.n_done, progress.n_total, "")
        for reporter in list(self._embedding_reporters):
            reporter(told)

    def _wake(self) -> None:
        if self._embedding is not None:
            self._embedding.wake()

    def _overlay(self, path: Path, text: str | None) -> None:
        if place := self._place(path):
            place[0].overlay(place[1], text)

    def _place(self, path: Path) -> tuple[Index, str] | None:
        """The index that a file belongs to, the innermost, and its path there."""
        for candidate in (path, path.resolve()):
            roots = [root for root in self._indexes if candidate.is_relative_to(root)]
            if roots:
                root = max(roots, key=lambda root: len(root.parts))
                return self._indexes[root], candidate.relative_to(root).as_posix()
        return None

    async def _on_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        run = functools.partial(work, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._threads, run)


def _checked_root(root: Path) -> Path:
    """The folder, resolved.

    Raises: WorkspaceNotFound
    """
    try:
        resolved = root.resolve(strict=True)
        if resolved.is_dir():
            return resolved
        problem = "is not a folder"
    except (OSError, ValueError, RuntimeError):  # RuntimeError: a loop of symbolic links
        problem = "does not exist or cannot be read"
    raise WorkspaceNotFound(f"{str(root)!r} {problem}; name the folder that holds your code.")


def _folder_name(root: Path) -> str:
    """A folder for the index of a workspace: readable, and unique by its path."""
    digest = hashlib.blake2b(os.fsencode(root), digest_size=8).hexdigest()
    return f"{root.name[:40]}-{digest}"


def _concerns_others(path: Path) -> bool:
    """Whether a change says something about other files too: a folder, or an ignore file."""
    return path.name in (GIT_IGNORE, OWN_IGNORE) or path.is_dir()
