"""Keeps the index equal to the user's code, and finds places in it.

What is saved lives in the store on disk; text that is open and unsaved is laid over it in memory,
ranked by the same score. A change only marks; the next search reads what was marked. Knows no
model, no prompt and no editor.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

from lsp_assist.codebase import files, graph, ingest, lexical, ranking, reading
from lsp_assist.codebase.chunks import text_hash
from lsp_assist.codebase.documents import split_lines
from lsp_assist.codebase.ignore_files import user_ignore_file
from lsp_assist.codebase.overlays import Overlays
from lsp_assist.codebase.parsers import Parsers, Unchanged
from lsp_assist.codebase.ranking import ChunkRef, Hit
from lsp_assist.codebase.store import (
    NAME_WEIGHT,
    Candidate,
    Counts,
    FileRecord,
    IndexedFile,
    Store,
    StoredSymbol,
)
from lsp_assist.codebase.view import View
from lsp_assist.config import IndexSettings
from lsp_assist.errors import IndexUnusable

__all__ = ["Hit", "Index", "Passage", "Progress", "Refreshed"]

logger = logging.getLogger(__name__)

BATCH_FILES = 50  # a transaction each: the work that a kill can lose, and the grain of progress
# Chunks that are scored for each hit asked for, and at the least: the store's own order is rough.
CANDIDATES_PER_HIT = 6
MIN_CANDIDATES = 200


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

    def __init__(self, root: Path, store_path: Path, settings: IndexSettings) -> None:
        self.root = root
        self._settings = settings
        self._store = Store(store_path)
        self._rules = _Rules(
            max_file_bytes=settings.max_file_bytes,
            exclude=settings.exclude,
            user_ignore=user_ignore_file(),
            is_wanted=ingest.is_wanted,
        )
        self._refresh_lock = threading.Lock()
        self._closing = threading.Event()
        self._parsers = Parsers(root, settings.max_file_bytes)
        self._overlays = Overlays(self._is_hidden, self._parsers)
        self.progress: Progress | None = None
        """How far the running refresh is, None when none runs."""

    def close(self) -> None:
        """Stop a running refresh and close the store; whoever still asks finds nothing."""
        self._closing.set()
        self._parsers.close()
        with self._refresh_lock:
            self._store.close()

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
            self._store.remove([path])
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

    def problems(self) -> dict[str, str]:
        """Why there is less of a file than there could be, by path."""
        return self._store.problems()

    def counts(self) -> Counts:
        """How much of what is saved is in the index."""
        return self._store.counts()

    # Finding places

    def search(self, query: str, limit: int) -> list[Hit]:
        """The best places for a question or some names, best first; one for each symbol."""
        query_terms = lexical.query_terms(query)
        if not query_terms or limit < 1:
            return []
        try:
            return self._search(query, query_terms, limit)
        except IndexUnusable as error:
            if not error.is_damaged:
                raise
            self.refresh()  # finds the damage too, and mends it
            return self._search(query, query_terms, limit)

    def _search(self, query: str, query_terms: Sequence[str], limit: int) -> list[Hit]:
        view = self._view()
        n_candidates = max(limit * CANDIDATES_PER_HIT, MIN_CANDIDATES)
        chunks, corpus = view.candidates(query_terms, n_candidates)
        terms = frozenset(query_terms)
        spelled = lexical.spelled_names(query)
        symbols = {path: view.symbols_of(path) for path in {c.candidate.path for c in chunks}}
        hits = []
        for chunk in chunks:
            score = lexical.bm25(query_terms, ((NAME_WEIGHT, chunk.name), (1, chunk.body)), corpus)
            if score > 0:
                found = chunk.candidate
                hits.append(self._hit(found, score, symbols[found.path], terms, spelled))
        return ranking.best_of_each_symbol(hits)[:limit]

    def passage(self, hit: Hit) -> Passage | None:
        """The hit's text as it stands now; None if it is gone, and then the file is read anew."""
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
        return _described(view, hit, language, shown, start, symbols[hit.ordinal])

    def symbol_at(self, path: str, start_line: int, end_line: int) -> Passage | None:
        """The symbol that a selection is about: the first within it, else the innermost around it.

        None outside of all. The passage has no text.
        """
        view = self._view()
        symbols = view.symbols_of(path)
        within = [s for s in symbols if ingest.is_within(s, start_line, end_line)]
        around = [s for s in symbols if s.start_line <= start_line and end_line <= s.end_line]
        if not within and not around:
            return None
        symbol = within[0] if within else around[-1]
        hit = self._hit_of(symbol, 0.0, ChunkRef(-1, symbol.start_line, symbol.end_line, ""))
        return _described(view, hit, ingest.language_name(path), "", start_line, symbol)

    # Reading files

    def _keep(
        self,
        changed: Sequence[files.FileEntry],
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

    # Ranking

    def _hit(
        self,
        chunk: Candidate,
        score: float,
        symbols: Sequence[StoredSymbol],
        query_terms: frozenset[str],
        spelled: frozenset[str],
    ) -> Hit:
        """The hit in a chunk: of what it defines, what the query names best; else what it is of."""
        named, best = None, 0
        for symbol in symbols:
            if ingest.is_within(symbol, chunk.start_line, chunk.end_line):
                n_named = len(query_terms.intersection(lexical.terms(symbol.name)))
                n_named += symbol.name.lower() in spelled
                if n_named > best:
                    named, best = symbol, n_named
        own = symbols[chunk.ordinal] if 0 <= chunk.ordinal < len(symbols) else None
        found = named or own or _no_symbol(chunk)
        score *= ranking.prior(chunk.path, found.kind)
        if found.name.lower() in spelled:
            score *= ranking.NAMED_BONUS
        at = ChunkRef(chunk.ordinal, chunk.start_line, chunk.end_line, chunk.hash)
        hit = self._hit_of(found, score, at)
        if ingest.is_within(found, chunk.start_line, chunk.end_line):
            return hit
        # A part of something larger: the place is the part.
        return replace(hit, start_line=chunk.start_line, end_line=chunk.end_line)

    def _hit_of(self, symbol: StoredSymbol, score: float, chunk: ChunkRef) -> Hit:
        return Hit(
            self.root,
            symbol.path,
            symbol.start_line,
            symbol.end_line,
            symbol.qualified_name,
            symbol.kind,
            score,
            symbol.ordinal,
            chunk,
        )


def _described(
    view: View, hit: Hit, language: str, text: str, text_line: int, symbol: StoredSymbol
) -> Passage:
    return Passage(
        hit,
        language,
        text,
        text_line,
        symbol.signature,
        symbol.summary,
        tuple(graph.callers(view, symbol)),
        tuple(graph.callees(view, symbol)),
    )


def _no_symbol(chunk: Candidate) -> StoredSymbol:
    """What stands for a symbol where a chunk is about none."""
    return StoredSymbol(chunk.path, -1, "", "", ranking.NO_SYMBOL, chunk.start_line, chunk.end_line)
