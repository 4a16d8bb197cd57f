"""Keeps the index equal to the user's code, and finds places in it.

What is saved lives in the store on disk; text that is open and unsaved is laid over it in memory,
ranked by the same score. A change only marks; the next search reads what was marked. Knows no
model, no prompt and no editor.
"""

import heapq
import logging
import math
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ParamSpec, TypedDict, TypeVar

from lsp_assist.codebase import (
    files,
    graph,
    history,
    ingest,
    ranking,
    reading,
    search,
    symbol_search,
)
from lsp_assist.codebase.chunks import text_hash
from lsp_assist.codebase.documents import split_lines
from lsp_assist.codebase.embedding import Embedding
from lsp_assist.codebase.files import FileEntry
from lsp_assist.codebase.ignore_files import user_ignore_file
from lsp_assist.codebase.links import Links
from lsp_assist.codebase.overlays import Overlay, Overlays
from lsp_assist.codebase.parsers import Parsers, Unchanged
from lsp_assist.codebase.ranking import ChunkRef, Hit
from lsp_assist.codebase.resolve import Target
from lsp_assist.codebase.store import (
    Counts,
    FileRecord,
    Filter,
    IndexedFile,
    Store,
    StoredSymbol,
)
from lsp_assist.codebase.vectors import folder_bytes
from lsp_assist.codebase.view import View
from lsp_assist.config import IndexSettings
from lsp_assist.errors import IndexUnusable
from lsp_assist.llm import Embedder

__all__ = ["FileSummary", "Hit", "Index", "Passage", "Progress", "Refreshed"]

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

BATCH_FILES = 50  # a transaction each: the work that a kill can lose, and the grain of progress
MAX_LIKE = 2_000
_WORD = re.compile(r"[\w$]+")


@dataclass(frozen=True, slots=True)
class Passage:
    """A hit with its text and what is known about its symbol."""

    hit: Hit
    language: str
    text: str
    """The hit's lines, and the comment above them where there is one."""
    text_line: int
    """The line that the text starts with."""
    signature: str = ""
    summary: str = ""
    callers: tuple[StoredSymbol, ...] = ()
    callees: tuple[StoredSymbol, ...] = ()
    """Both empty until `Index.related` was asked."""


@dataclass(frozen=True, slots=True)
class FileSummary:
    """A file that is in the index, without its text. Unsaved text counts."""

    path: str
    language: str
    digest: str
    """Names its text, see `ingest.text_digest`."""
    n_bytes: int
    n_lines: int
    is_open: bool = False
    is_unsaved: bool = False
    """Whether an editor has another text than the disk."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a refresh is."""

    n_done: int
    n_total: int
    path: str


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What a refresh did."""

    n_files: int
    n_changed: int
    n_removed: int
    n_skipped: int
    is_complete: bool
    """False if it was stopped, or if there are more files than `index.max_files`."""


class _Rules(TypedDict):
    """Which files are indexed, as `files.walk` and `files.find` take it."""

    max_file_bytes: int
    exclude: tuple[str, ...]
    user_ignore: Path | None
    is_wanted: Callable[[str], bool]


class Index:
    """The index of one workspace folder. Any thread may call; one refresh runs at a time."""

    def __init__(
        self,
        root: Path,
        store_path: Path,
        settings: IndexSettings,
        embedders: Sequence[Embedder] = (),
    ) -> None:
        """Each embedder adds its voice to the lexical ranking, once `embed` has worked."""
        self.root = root
        self._settings = settings
        self._store_path = store_path
        self._store = Store(store_path)
        self._rules = _Rules(
            max_file_bytes=settings.max_file_bytes,
            exclude=settings.exclude,
            user_ignore=user_ignore_file(),
            is_wanted=ingest.is_wanted,
        )
        self.vectors_folder = store_path.parent / "vectors"
        self._embedding = Embedding(
            self.root,
            self.vectors_folder,
            self._store,
            embedders,
            settings.max_file_bytes,
            settings.max_disk_bytes,
        )
        self._refresh_lock = threading.Lock()
        self._closing = threading.Event()
        self._parsers = Parsers(root, settings.max_file_bytes)
        self._overlays = Overlays(self._is_hidden, self._parsers)
        self._graph = graph.Graph()
        self._links = Links()
        self._history = history.HistoryStore(root, store_path.with_name("history.json"))
        self._ties_lock = threading.Lock()
        self._tied_at: tuple[str, object] | None = None
        self.progress: Progress | None = None
        """How far the running refresh is, None when none runs."""

    def close(self) -> None:
        """Stop a running refresh and close the store; whoever still asks finds nothing."""
        self._closing.set()
        self._parsers.close()
        self._history.stop()
        with self._refresh_lock:
            self._store.close()
        self._embedding.close()

    # Keeping it fresh

    def refresh(
        self,
        report: Callable[[Progress], None] = lambda _: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Refreshed:
        """Bring the store up to date with the files on disk.

        Looks at every file's size and time, reads those that differ, and keeps what is done when it
        is stopped: the next one goes on from there. Blocking; run it on a thread.

        Raises: IndexUnusable, WorkspaceNotFound
        """

        def is_over() -> bool:
            return self._closing.is_set() or should_stop()

        with self._refresh_lock:
            if self._closing.is_set():
                return Refreshed(0, 0, 0, 0, is_complete=False)
            try:
                return self._refresh(report, is_over)
            except IndexUnusable as error:
                if not error.is_damaged:
                    raise
                self._store.rebuild()
                self._embedding.mark_all()
                return self._refresh(report, is_over)
            finally:
                self.progress = None

    def _refresh(
        self, report: Callable[[Progress], None], should_stop: Callable[[], bool]
    ) -> Refreshed:
        listing = files.walk(
            self.root,
            max_files=self._settings.max_files,
            should_stop=should_stop,
            **self._rules,
        )
        if listing.outcome == "stopped":
            return Refreshed(len(listing.files), 0, 0, 0, is_complete=False)
        known = self._store.records()
        current = {entry.path for entry in listing.files}
        gone = [path for path in known if path not in current]
        if gone:
            self._store.remove(gone)
        changed = [
            entry
            for entry in listing.files
            if (record := known.get(entry.path)) is None
            or (record.size, record.mtime_ns) != (entry.size, entry.mtime_ns)
        ]
        n_done, n_skipped = self._keep(changed, known, report, should_stop)
        if not should_stop():
            self._history.refresh()
        if n_done > BATCH_FILES:
            self._store.compact()
        is_complete = n_done == len(changed) and listing.outcome == "complete"
        n_skipped += sum(listing.n_skipped.values())
        return Refreshed(len(listing.files), n_done, len(gone), n_skipped, is_complete)

    def refresh_file(self, path: str) -> None:
        """Bring the store up to date with one file, which may be gone.

        Raises: IndexUnusable
        """
        entry = files.find(self.root, path, **self._rules)
        if entry is None:
            self._store.remove(self._store.paths_within(path))  # it may have been a folder
        else:
            self._put([self._parsers.file(entry)])

    def overlay(self, path: str, text: str | None) -> None:
        """Lay unsaved text over a file, or take it away. Only marks; the next search parses it.

        A file that is not indexed when it is saved is not laid over either: a user who opens a
        `.env` has not asked for it to be shown to a model.
        """
        if text is None:
            self._overlays.remove(path)
        else:
            self._overlays.mark(path, text)

    def clear(self) -> None:
        """Throw away what is indexed, vectors included; a refresh makes it anew.

        Raises: IndexUnusable
        """
        with self._refresh_lock:
            self._store.clear()
        self._embedding.clear()

    @property
    def n_bytes(self) -> int:
        """What the index takes on disk."""
        return folder_bytes(self._store_path.parent)

    def problems(self) -> dict[str, str]:
        """Why there is less of a file than there could be, by path."""
        return self._store.problems()

    def counts(self) -> Counts:
        """How much of what is saved is in the index."""
        return self._store.counts()

    # Vectors

    @property
    def embedding(self) -> Embedding:
        """What keeps a vector for every chunk."""
        return self._embedding

    def chunk_hashes(self) -> list[str]:
        """What names the contents of the chunks that are saved: each should have a vector."""
        return self._store.chunk_hashes()

    def embed(
        self,
        should_stop: Callable[[], bool] = lambda: False,
        report: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> bool:
        """Make the vectors that are missing; False if some are left, see `Embedding.work`.

        Blocking; run it on one thread, which is not one that answers questions.

        Raises: IndexUnusable
        """
        return self._embedding.work(
            self._overlays.fresh, lambda: self._closing.is_set() or should_stop(), report
        )

    # Finding places

    def search(self, query: str, limit: int, where: Filter = search.EVERYWHERE) -> list[Hit]:
        """The best places for a question or some names, best first; one for each symbol."""
        return self._mended(self._search, query, limit, where)

    def _search(self, query: str, limit: int, where: Filter) -> list[Hit]:
        heard = self._embedding.heard()
        return search.search(self.root, self._view(), heard, query, limit, where)

    def passage(self, hit: Hit) -> Passage | None:
        """The hit's text as it stands now; None if it is gone, and then the file is read anew."""
        return self._mended(self._passage, hit)

    def _passage(self, hit: Hit) -> Passage | None:
        view = self._view()
        overlay = view.overlays.get(hit.path)
        if overlay is not None:
            text, language = overlay.text, overlay.file.language
        else:
            contents = reading.read(self.root / hit.path, self._settings.max_file_bytes)
            if isinstance(contents, reading.Skipped):
                self.refresh_file(hit.path)
                return None
            text, language = contents.text, ingest.language_name(hit.path)
        lines = split_lines(text)
        chunk = hit.chunk
        symbols = view.symbols_of(hit.path)
        about = symbols[chunk.ordinal].qualified_name if 0 <= chunk.ordinal < len(symbols) else ""
        if text_hash(about, lines[chunk.start_line : chunk.end_line + 1]) != chunk.hash:
            if overlay is None:
                self.refresh_file(hit.path)
            return None
        # The comment above a symbol belongs to its chunk, and says what a signature does not.
        is_own = hit.ordinal == chunk.ordinal
        start = min(hit.start_line, chunk.start_line) if is_own else hit.start_line
        while start < hit.end_line and not lines[start].strip():
            start += 1
        shown = "\n".join(lines[start : hit.end_line + 1])
        if not 0 <= hit.ordinal < len(symbols):
            return Passage(hit, language, shown, start)
        return _described(hit, language, shown, start, symbols[hit.ordinal])

    def symbol_at(self, path: str, start_line: int, end_line: int) -> Passage | None:
        """The symbol that a selection is about: the first within it, else the innermost around it.

        None outside of all. The passage has no text.
        """
        return self._mended(self._symbol_at, path, start_line, end_line)

    def _symbol_at(self, path: str, start_line: int, end_line: int) -> Passage | None:
        view = self._view()
        symbols = view.symbols_of(path)
        within = [s for s in symbols if ingest.is_within(s, start_line, end_line)]
        around = [s for s in symbols if s.start_line <= start_line and end_line <= s.end_line]
        if not within and not around:
            return None
        symbol = within[0] if within else around[-1]
        hit = search.hit_of(
            self.root, symbol, 0.0, ChunkRef(-1, symbol.start_line, symbol.end_line, "")
        )
        return _described(hit, ingest.language_name(path), "", start_line, symbol)

    def related(self, passage: Passage) -> Passage:
        """The passage with who calls its symbol and whom it calls.

        For readers that see no code: a name that is used everywhere costs seconds in a large
        repository.
        """
        view, hit = self._view(), passage.hit
        symbols = view.symbols_of(hit.path)
        if not 0 <= hit.ordinal < len(symbols):
            return passage
        moment, symbol = self._graph.at(view), symbols[hit.ordinal]
        return replace(
            passage,
            callers=tuple(target.symbol for target in graph.callers(moment, symbol)),
            callees=tuple(target.symbol for target in graph.callees(moment, symbol)),
        )

    # How the code hangs together

    def file_ranks(self, seeds: Mapping[str, float]) -> dict[str, float]:
        """How near each file is to the seeds, by references, imports and common changes.

        `seeds` are weights by path; without any, how central a file is. Sums to 1.
        """
        return self._mended(self._linked).ranks(seeds)

    @property
    def is_ready(self) -> bool:
        """Whether `make_ready` was done, and nothing changed since that somebody asked about."""
        return self._links.is_ready

    def make_ready(self) -> None:
        """Find out now what ranking files needs to know: the first who asks waits for it else.

        Blocking, for a second or more in a large workspace.
        """
        self.file_ranks({})

    def related_files(self, path: str, limit: int) -> list[tuple[str, float]]:
        """The files nearest to one, best first, with their shares of the rank left for others."""
        ranks = self.file_ranks({path: 1.0})
        ranks.pop(path, None)
        total = math.fsum(ranks.values()) or 1.0
        best = heapq.nsmallest(limit, ranks.items(), key=lambda item: (-item[1], item[0]))
        return [(other, rank / total) for other, rank in best if rank > 0]

    def importers(self, path: str) -> list[str]:
        """The files that import a file."""
        return self._mended(self._linked).importers(path)

    def activity(self) -> Mapping[str, float]:
        """How much each file is being worked on, as git knows it; a file it does not know has 0."""
        return history.activity(self._history.known())

    def closure(self, path: str, start_line: int, end_line: int, limit: int = 20) -> list[Passage]:
        """The definitions of what some lines use, with their text, the surest first."""
        return self._mended(self._closure, path, start_line, end_line, limit)

    def _closure(self, path: str, start_line: int, end_line: int, limit: int) -> list[Passage]:
        view = self._view()
        lines = self._lines_of(view, path)[start_line : end_line + 1]
        words = frozenset(_WORD.findall("\n".join(lines)))
        moment = self._graph.at(view)
        targets = graph.closure(moment, path, start_line, end_line, words)
        return self._passages(view, targets, limit)

    def tests_of(self, path: str, line: int, limit: int = 10) -> list[Passage]:
        """The tests of the innermost symbol around a line, with their text, the surest first."""
        return self._mended(self._tests_of, path, line, limit)

    def _tests_of(self, path: str, line: int, limit: int) -> list[Passage]:
        view = self._view()
        around = [s for s in view.symbols_of(path) if s.start_line <= line <= s.end_line]
        if not around:
            return []
        return self._passages(view, graph.tests_of(self._graph.at(view), around[-1]), limit)

    def symbols_like(self, query: str, limit: int) -> list[StoredSymbol]:
        """The symbols whose names fit what was typed, best first; the central files' before."""
        return self._mended(self._symbols_like, query, limit)

    def _symbols_like(self, query: str, limit: int) -> list[StoredSymbol]:
        view = self._view()
        scored = [
            (fit * ranking.prior(symbol.path, symbol.kind), symbol)
            for symbol in view.symbols_like(symbol_search.like_pattern(query), MAX_LIKE)
            if (fit := symbol_search.fit(query, symbol.name, symbol.qualified_name)) > 0
        ]
        scored.sort(key=lambda found: (-found[0], found[1].path, found[1].ordinal))
        return [symbol for _, symbol in scored[:limit]]

    def _mended(self, ask: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `ask` says, of a store that is made anew if reading it finds damage.

        Raises: IndexUnusable
        """
        try:
            return ask(*args, **kwargs)
        except IndexUnusable as error:
            if not error.is_damaged:
                raise
            self.refresh()  # finds the damage too, and mends it
            return ask(*args, **kwargs)

    def _linked(self) -> Links:
        moment = self._graph.at(self._view())
        self._links.update(moment)
        past = self._history.known()
        with self._ties_lock:
            if self._tied_at != (past.head, moment.modules):
                self._tied_at = past.head, moment.modules
                self._links.tie(history.cochanges(past, moment.versions))
        return self._links

    def _passages(self, view: View, targets: Sequence[Target], limit: int) -> list[Passage]:
        found = []
        for target in targets[:limit]:
            symbol = target.symbol
            lines = self._lines_of(view, symbol.path)[symbol.start_line : symbol.end_line + 1]
            at = ChunkRef(-1, symbol.start_line, symbol.end_line, "")
            hit = search.hit_of(self.root, symbol, target.confidence, at)
            language = ingest.language_name(symbol.path)
            if lines:
                found.append(
                    Passage(
                        hit,
                        language,
                        "\n".join(lines),
                        symbol.start_line,
                        symbol.signature,
                        symbol.summary,
                    )
                )
        return found

    def _lines_of(self, view: View, path: str) -> Sequence[str]:
        """The lines of a file as it stands now; none if it cannot be read."""
        if overlay := view.overlays.get(path):
            return split_lines(overlay.text)
        if path not in self._graph.at(view).versions:
            return ()
        contents = reading.read(self.root / path, self._settings.max_file_bytes)
        return () if isinstance(contents, reading.Skipped) else split_lines(contents.text)

    # Reading whole files, for whoever shows them

    def files(self) -> list[FileSummary]:
        """Every file that is in the index, by path. O(files); reads no text from disk."""
        overlays = self._overlays.fresh()
        files: dict[str, FileSummary] = {}
        for path, n_bytes, digest, language, n_lines in self._store.files():
            if path not in overlays:
                files[path] = FileSummary(path, language, digest, n_bytes, n_lines)
            else:
                files[path] = _open_file(overlays[path], digest)
        unsaved = overlays.keys() - files.keys()
        files |= {path: _open_file(overlays[path], "") for path in unsaved}
        return [files[path] for path in sorted(files)] if unsaved else list(files.values())

    def text_of(self, path: str) -> str | None:
        """A file's text as the user sees it; None for one that is gone or is not in the index."""
        overlay = self._overlays.fresh().get(path)
        if overlay is not None:
            return overlay.text
        contents = reading.read(self.root / path, self._settings.max_file_bytes)
        return None if isinstance(contents, reading.Skipped) else contents.text

    def outlines(self, paths: Sequence[str]) -> dict[str, Sequence[StoredSymbol]]:
        """The symbols of each file as the user sees it, in the order of its outline."""
        view = self._view()
        saved = view.store.symbols_of_each([p for p in paths if p not in view.overlays])
        return {p: view.symbols_of(p) if p in view.overlays else saved.get(p, ()) for p in paths}

    # Reading files

    def _keep(
        self,
        changed: Sequence[FileEntry],
        known: Mapping[str, FileRecord],
        report: Callable[[Progress], None],
        should_stop: Callable[[], bool],
    ) -> tuple[int, int]:
        """Put these files into the store; how many were done, and how many of them left out.

        A file whose text is as before is only noted, as after a branch switch and back.
        """
        n_done = n_skipped = 0
        waiting: list[IndexedFile | Unchanged] = []

        def put() -> None:
            nonlocal n_done, n_skipped
            n_skipped += self._put(waiting)
            n_done += len(waiting)
            waiting.clear()

        def tell(path: str) -> None:
            self.progress = Progress(n_done, len(changed), path)
            report(self.progress)

        if changed:
            tell(changed[0].path)
        hashes = {path: record.hash for path, record in known.items()}
        with closing(self._parsers.files(changed, hashes)) as parsed:
            for file in parsed:
                if file is not None:
                    waiting.append(file)
                if len(waiting) == BATCH_FILES:
                    path = waiting[-1].path
                    put()
                    tell(path)
                if should_stop():
                    break
        put()
        return n_done, n_skipped

    def _put(self, parsed: Sequence[IndexedFile | Unchanged]) -> int:
        """Put these files into the store; returns how many were left out."""
        changed = [file for file in parsed if isinstance(file, IndexedFile)]
        self._store.put(changed)
        self._store.note({f.path: f.record for f in parsed if isinstance(f, Unchanged)})
        self._embedding.mark(file.path for file in changed)
        return sum(not file.record.hash for file in changed)

    def _is_hidden(self, path: str) -> bool:
        rules = self._rules
        return files.is_hidden(
            self.root,
            path,
            exclude=rules["exclude"],
            user_ignore=rules["user_ignore"],
            is_wanted=rules["is_wanted"],
        )

    def _view(self) -> View:
        return View(self._store, self._overlays.fresh())


def _described(hit: Hit, language: str, text: str, text_line: int, symbol: StoredSymbol) -> Passage:
    return Passage(hit, language, text, text_line, symbol.signature, symbol.summary)


def _open_file(overlay: Overlay, saved_digest: str) -> FileSummary:
    file, digest = overlay.file, ingest.text_digest(overlay.text)
    return FileSummary(
        file.path,
        file.language,
        digest,
        len(overlay.text.encode("utf-8", "surrogatepass")),
        file.n_lines,
        is_open=True,
        is_unsaved=digest != saved_digest,
    )
