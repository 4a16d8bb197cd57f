"""Keeps the index equal to the user's code, and finds places in it.

What is saved lives in the store on disk; text that is open and unsaved is laid over it in memory,
ranked by the same score. A change only marks; the next search reads what was marked. Knows no
model, no prompt and no editor.
"""

import logging
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

from lsp_assist.codebase import files, ingest, lexical, ranking, reading
from lsp_assist.codebase.chunks import text_hash
from lsp_assist.codebase.documents import split_lines
from lsp_assist.codebase.ignore_files import user_ignore_file
from lsp_assist.codebase.ranking import ChunkRef, Hit
from lsp_assist.codebase.store import (
    NAME_WEIGHT,
    Candidate,
    Counts,
    FileRecord,
    IndexedFile,
    Store,
    StoredSymbol,
    Use,
)
from lsp_assist.config import IndexSettings
from lsp_assist.errors import IndexUnusable

__all__ = ["Hit", "Index", "Passage", "Progress", "Refreshed"]

logger = logging.getLogger(__name__)

BATCH_FILES = 50  # a transaction each: the work that a kill can lose, and the grain of progress
# Chunks that are scored for each hit asked for, and at the least: the store's own order is rough.
CANDIDATES_PER_HIT = 6
MIN_CANDIDATES = 200
MAX_RELATED = 5

_NAME = re.compile(r"\w+")
_CALLABLE = frozenset({"function", "method", "constructor", "macro", "class", "struct"})


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


@dataclass(frozen=True, slots=True)
class _Overlay:
    """Unsaved text of one file, indexed like a saved one."""

    file: IndexedFile
    text: str
    chunks: tuple["_Scored", ...]


@dataclass(frozen=True, slots=True)
class _Scored:
    """A candidate and how often it has each term."""

    candidate: Candidate
    name: Counter[str]
    body: Counter[str]

    @classmethod
    def of(cls, candidate: Candidate) -> "_Scored":
        return cls(candidate, Counter(candidate.name.split()), Counter(candidate.body.split()))


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
        self._lock = threading.Lock()  # guards the two below
        self._unsaved: dict[str, str] = {}
        self._overlays: dict[str, _Overlay] = {}
        self.progress: Progress | None = None
        """How far the running refresh is, None when none runs."""

    def close(self) -> None:
        """Wait for a running refresh to stop, and close the store."""
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
        with self._refresh_lock:
            try:
                return self._refresh(report, should_stop)
            except IndexUnusable as error:
                if not error.is_damaged:
                    raise
                self._store.rebuild()
                return self._refresh(report, should_stop)
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
        n_done = n_skipped = 0
        for batch in _batches(changed, BATCH_FILES):
            if should_stop():
                break
            self.progress = Progress(n_done, len(changed), batch[0].path)
            report(self.progress)
            n_skipped += self._keep(batch, known)
            n_done += len(batch)
        report(Progress(n_done, len(changed), ""))
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
            self._keep([entry], {})

    def overlay(self, path: str, text: str | None) -> None:
        """Lay unsaved text over a file, or take it away. Only marks; the next search parses it.

        A file that is not indexed when it is saved is not laid over either: a user who opens a
        `.env` has not asked for it to be shown to a model.
        """
        with self._lock:
            if text is None:
                self._unsaved.pop(path, None)
                self._overlays.pop(path, None)
            else:
                self._unsaved[path] = text

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
        overlays = self._fresh_overlays()
        saved = self._store.search(query_terms, max(limit * CANDIDATES_PER_HIT, MIN_CANDIDATES))
        unsaved = [chunk for overlay in overlays.values() for chunk in overlay.chunks]
        found = [_Scored.of(c) for c in saved if c.path not in overlays] + unsaved
        corpus = lexical.merged_corpus(
            self._store.corpus(query_terms), (c.name + c.body for c in unsaved), query_terms
        )
        terms = frozenset(query_terms)
        spelled = lexical.spelled_names(query)
        symbols = {path: self._symbols_of(path) for path in {c.candidate.path for c in found}}
        hits = []
        for chunk in found:
            score = lexical.bm25(query_terms, ((NAME_WEIGHT, chunk.name), (1, chunk.body)), corpus)
            if score > 0:
                path = chunk.candidate.path
                hits.append(self._hit(chunk.candidate, score, symbols[path], terms, spelled))
        return ranking.best_of_each_symbol(hits)[:limit]

    def passage(self, hit: Hit) -> Passage | None:
        """The hit's text as it stands now; None if it is gone, and the file is marked by that."""
        overlay = self._fresh_overlays().get(hit.path)
        if overlay is not None:
            text, language = overlay.text, overlay.file.language
        else:
            contents = reading.read(self.root / hit.path, self._settings.max_file_bytes)
            if isinstance(contents, reading.Skipped):
                return None
            text, language = contents.text, ingest.language_name(hit.path)
        lines = split_lines(text)
        chunk = hit.chunk
        symbols = self._symbols_of(hit.path)
        about = symbols[chunk.ordinal].qualified_name if 0 <= chunk.ordinal < len(symbols) else ""
        if text_hash(about, lines[chunk.start_line : chunk.end_line + 1]) != chunk.hash:
            return None
        # The comment above a symbol belongs to its chunk, and says what a signature does not.
        is_own = hit.ordinal == chunk.ordinal
        start = min(hit.start_line, chunk.start_line) if is_own else hit.start_line
        while start < hit.end_line and not lines[start].strip():
            start += 1
        shown = "\n".join(lines[start : hit.end_line + 1])
        if not 0 <= hit.ordinal < len(symbols):
            return Passage(hit, language, shown, start)
        return self._described(hit, language, shown, start, symbols[hit.ordinal])

    def symbol_at(self, path: str, start_line: int, end_line: int) -> Passage | None:
        """The symbol that a selection is about: the first within it, else the innermost around it.

        None outside of all. The passage has no text.
        """
        self._fresh_overlays()
        symbols = self._symbols_of(path)
        within = [s for s in symbols if ingest.is_within(s, start_line, end_line)]
        around = [s for s in symbols if s.start_line <= start_line and end_line <= s.end_line]
        if not within and not around:
            return None
        symbol = within[0] if within else around[-1]
        hit = self._hit_of(symbol, 0.0, ChunkRef(-1, symbol.start_line, symbol.end_line, ""))
        return self._described(hit, ingest.language_name(path), "", start_line, symbol)

    def _described(
        self, hit: Hit, language: str, text: str, text_line: int, symbol: StoredSymbol
    ) -> Passage:
        return Passage(
            hit,
            language,
            text,
            text_line,
            symbol.signature,
            symbol.summary,
            tuple(self.callers(symbol)),
            tuple(self.callees(symbol)),
        )

    # What is known about a symbol

    def callers(self, symbol: StoredSymbol) -> list[StoredSymbol]:
        """Symbols that use this one by name, nearest first, as far as that can be believed.

        In its own file the name is enough. Elsewhere it must be the only one of its name, and a
        method's type must be named there too: `append` is called everywhere.
        """
        if symbol.kind not in _CALLABLE:
            return []
        is_shared = len(self._named(symbol.name)) > 1
        knowing = self._files_that_name(symbol)
        users = [
            user
            for user in self._users(symbol.name)
            if (user.path, user.ordinal) != (symbol.path, symbol.ordinal)
            and (user.path == symbol.path or (not is_shared and _knows(user.path, symbol, knowing)))
        ]
        users.sort(key=lambda user: (user.path != symbol.path, ranking.is_test(user.path)))
        return users[:MAX_RELATED]

    def callees(self, symbol: StoredSymbol) -> list[StoredSymbol]:
        """Symbols of this workspace that this one calls, in order, as far as can be believed."""
        found: dict[tuple[str, int], StoredSymbol] = {}
        for use in self._uses(symbol.path, symbol.ordinal):
            if use.kind != "call" or use.name in (symbol.name, "super"):
                continue
            named = self._named(use.name)
            candidates = [other for other in named if other.path == symbol.path] or named
            if len(candidates) != 1:
                continue
            target = candidates[0]
            if _knows(symbol.path, target, self._files_that_name(target)):
                found.setdefault((target.path, target.ordinal), target)
            if len(found) == MAX_RELATED:
                break
        return list(found.values())

    def _files_that_name(self, symbol: StoredSymbol) -> set[str] | None:
        """The files that name the type that a symbol belongs to; None where it belongs to none."""
        *_, owner, _ = ["", *_NAME.findall(symbol.qualified_name)]
        if not owner:
            return None
        saved = {path for path in self._store.files_using(owner) if path not in self._overlays}
        return saved | {
            path
            for path, overlay in self._overlays.items()
            if any(use.name == owner for use in overlay.file.uses)
        }

    def _symbols_of(self, path: str) -> Sequence[StoredSymbol]:
        overlay = self._overlays.get(path)
        return overlay.file.symbols if overlay else self._store.symbols_of(path)

    def _named(self, name: str) -> list[StoredSymbol]:
        overlays = self._overlays
        saved = [s for s in self._store.symbols_named(name) if s.path not in overlays]
        return saved + [s for o in overlays.values() for s in o.file.symbols if s.name == name]

    def _uses(self, path: str, ordinal: int) -> list[Use]:
        overlay = self._overlays.get(path)
        if overlay is None:
            return self._store.uses_in(path, ordinal)
        return [use for use in overlay.file.uses if use.ordinal == ordinal]

    def _users(self, name: str) -> list[StoredSymbol]:
        overlays = self._overlays
        users = [user for user, _ in self._store.users_of(name) if user.path not in overlays]
        for overlay in overlays.values():
            ordinals = {use.ordinal for use in overlay.file.uses if use.name == name}
            users += [s for s in overlay.file.symbols if s.ordinal in ordinals]
        return [user for user in users if user.ordinal >= 0]

    # Reading files

    def _keep(self, entries: Sequence[files.FileEntry], known: dict[str, FileRecord]) -> int:
        """Put these files into the store; returns how many were left out.

        A file whose text is as before is only noted, as after a branch switch and back.
        """
        changed: list[IndexedFile] = []
        same: dict[str, FileRecord] = {}
        for entry in entries:
            contents = reading.read(self.root / entry.path, self._settings.max_file_bytes)
            record = FileRecord(entry.size, entry.mtime_ns, ingest.digest(contents))
            before = known.get(entry.path)
            if before is not None and before.hash == record.hash:
                same[entry.path] = record
            elif isinstance(contents, reading.Skipped):
                logger.debug("Left out of the index: %s", contents.reason)
                changed.append(ingest.left_out(entry.path, record))
            else:
                changed.append(ingest.indexed(entry.path, contents.text, record))
        self._store.put(changed)
        self._store.note(same)
        return sum(not file.record.hash for file in changed)

    # Unsaved text

    def _fresh_overlays(self) -> dict[str, _Overlay]:
        """The overlays, with those parsed that changed since the last look."""
        with self._lock:
            unsaved, self._unsaved = self._unsaved, {}
            if unsaved:
                overlays = dict(self._overlays)
                for path, text in unsaved.items():
                    if not self._is_hidden(path):
                        overlays[path] = _overlay(path, text)
                self._overlays = overlays
            return self._overlays

    def _is_hidden(self, path: str) -> bool:
        rules = self._rules
        return files.is_hidden(
            self.root,
            path,
            exclude=rules["exclude"],
            user_ignore=rules["user_ignore"],
            is_wanted=rules["is_wanted"],
        )

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


def _knows(path: str, symbol: StoredSymbol, knowing: set[str] | None) -> bool:
    """Whether code of a file can mean this symbol: its own, or one of whose type it speaks."""
    if path == symbol.path:
        return True
    return ingest.may_refer(path, symbol.path) and (knowing is None or path in knowing)


def _no_symbol(chunk: Candidate) -> StoredSymbol:
    """What stands for a symbol where a chunk is about none."""
    return StoredSymbol(chunk.path, -1, "", "", ranking.NO_SYMBOL, chunk.start_line, chunk.end_line)


def _overlay(path: str, text: str) -> _Overlay:
    file = ingest.indexed(path, text, FileRecord(len(text), 0, "unsaved"))
    candidates = (
        Candidate(
            path,
            chunk.ordinal,
            chunk.start_line,
            chunk.end_line,
            chunk.hash,
            " ".join(chunk.name_terms),
            " ".join(chunk.body_terms),
        )
        for chunk in file.chunks
    )
    return _Overlay(file, text, tuple(map(_Scored.of, candidates)))


def _batches(entries: Sequence[files.FileEntry], size: int) -> Iterator[Sequence[files.FileEntry]]:
    for start in range(0, len(entries), size):
        yield entries[start : start + size]
