"""Unsaved text of open files, laid over what is saved: indexed alike, kept in memory only.

Another editor on the same folder must not see it, so it never reaches the store. Knows no store
and no ranking.
"""

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lsp_assist.codebase.parsers import Parsers
from lsp_assist.codebase.store import Candidate, IndexedFile

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
        """The candidate with these terms counted, which takes a tenth of the time."""
        words = [f" {term} " for term in query]
        counts: list[Mapping[str, int]] = []
        n_terms = 0
        for text in (candidate.name, candidate.body):
            spaced = text.replace(" ", "  ")  # so that each term has spaces of its own
            spaced = f" {spaced} "
            counts.append(dict(zip(query, map(spaced.count, words), strict=True)))
            n_terms += text.count(" ") + 1 if text else 0
        in_name, in_body = counts
        return cls(candidate, in_name, in_body, n_terms)


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

    def __init__(self, is_hidden: Callable[[str], bool], parsers: Parsers) -> None:
        """`is_hidden` says which files are not laid over, because they are not indexed either."""
        self._is_hidden = is_hidden
        self._parsers = parsers
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
        self._parsers.forget(path)

    def fresh(self) -> Mapping[str, Overlay]:
        """The overlays as of now, with those parsed that were marked. Never changes afterwards."""
        with self._lock:
            marked = dict(self._marked)
            parsed = self._parsed
        if not marked:
            return parsed
        made = {p: self._overlay(p, text) for p, text in marked.items() if not self._is_hidden(p)}
        with self._lock:
            # What was marked anew or removed meanwhile is left to the next reader.
            current = {path for path, text in marked.items() if self._marked.get(path) is text}
            for path in current:
                del self._marked[path]
            fresh = {path: made[path] for path in current if path in made}
            self._parsed = {**self._parsed, **fresh}
            return self._parsed

    def _overlay(self, path: str, text: str) -> Overlay:
        return _counted(self._parsers.text(path, text), text, self._parsed.get(path))


def _counted(file: IndexedFile, text: str, before: Overlay | None) -> Overlay:
    """The overlay of a file; counts only what was not counted in the one before."""
    counted = {c.candidate.hash: c for c in before.chunks} if before else {}
    chunks = []
    for chunk in file.chunks:
        known = counted.get(chunk.hash)  # names the text
        body = known.candidate.body if known else " ".join(chunk.body_terms)
        name = " ".join(chunk.name_terms)
        at = chunk.ordinal, chunk.start_line, chunk.end_line, chunk.hash
        candidate = Candidate(file.path, *at, name, body)
        if known is None:
            chunks.append(CountedChunk.of(candidate))
        elif known.candidate == candidate:
            chunks.append(known)
        else:
            n_terms = len(chunk.name_terms) + len(chunk.body_terms)
            chunks.append(CountedChunk(candidate, Counter(chunk.name_terms), known.body, n_terms))
    return Overlay(file, text, tuple(chunks))
