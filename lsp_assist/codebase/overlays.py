"""Unsaved text of open files, laid over what is saved: indexed alike, kept in memory only.

Another editor on the same folder must not see it, so it never reaches the store. Knows no store
and no ranking.
"""

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lsp_assist.codebase import ingest
from lsp_assist.codebase.store import Candidate, FileRecord, IndexedFile

__all__ = ["CountedChunk", "Overlay", "Overlays"]


@dataclass(frozen=True, slots=True)
class CountedChunk:
    """A candidate and how often it has each term, or each that is asked for."""

    candidate: Candidate
    name: Mapping[str, int]
    body: Mapping[str, int]
    n_terms: int
    """Of all, whatever was counted."""

    @classmethod
    def of(cls, candidate: Candidate) -> "CountedChunk":
        """The candidate with all of its terms counted."""
        name, body = candidate.name.split(), candidate.body.split()
        return cls(candidate, Counter(name), Counter(body), len(name) + len(body))

    @classmethod
    def for_query(cls, candidate: Candidate, query: Sequence[str]) -> "CountedChunk":
        """The candidate with these terms counted, which takes a third of the time."""
        name, body = candidate.name.split(), candidate.body.split()
        in_name = {term: name.count(term) for term in query}
        in_body = {term: body.count(term) for term in query}
        return cls(candidate, in_name, in_body, len(name) + len(body))


@dataclass(frozen=True, slots=True)
class Overlay:
    """Unsaved text of one file, indexed like a saved one."""

    file: IndexedFile
    text: str
    chunks: tuple[CountedChunk, ...]


class Overlays:
    """The overlays by path. A change only marks; whoever reads next has it parsed.

    Any thread may call; none waits for another one's parsing.
    """

    def __init__(self, is_hidden: Callable[[str], bool]) -> None:
        """`is_hidden` says which files are not laid over, because they are not indexed either."""
        self._is_hidden = is_hidden
        self._lock = threading.Lock()
        self._marked: dict[str, str] = {}
        self._parsed: Mapping[str, Overlay] = {}

    def mark(self, path: str, text: str) -> None:
        """Note the text that a file has in the editor."""
        with self._lock:
            self._marked[path] = text

    def remove(self, path: str) -> None:
        """Let what is saved count again."""
        with self._lock:
            self._marked.pop(path, None)
            if path in self._parsed:
                self._parsed = {p: o for p, o in self._parsed.items() if p != path}

    def fresh(self) -> Mapping[str, Overlay]:
        """The overlays as of now, with those parsed that were marked. Never changes afterwards."""
        with self._lock:
            marked = dict(self._marked)
            parsed = self._parsed
        if not marked:
            return parsed
        made = {p: _overlay(p, text) for p, text in marked.items() if not self._is_hidden(p)}
        with self._lock:
            # What was marked anew or removed meanwhile is left to the next reader.
            current = {path for path, text in marked.items() if self._marked.get(path) is text}
            for path in current:
                del self._marked[path]
            fresh = {path: made[path] for path in current if path in made}
            self._parsed = {**self._parsed, **fresh}
            return self._parsed


def _overlay(path: str, text: str) -> Overlay:
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
    return Overlay(file, text, tuple(map(CountedChunk.of, candidates)))
