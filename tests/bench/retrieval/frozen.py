"""A question with all that the store and the vectors could say of it, to be asked again and again.

Ranking it anew under other weights costs the ranking alone, and works when the workspace has moved
on to another commit. The ranking is the product's own; it meets these in place of its view and its
voices. Knows no weights.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np

from lsp_assist.codebase import lexical, search
from lsp_assist.codebase.embedding import Voice
from lsp_assist.codebase.index import Index
from lsp_assist.codebase.overlays import CountedChunk
from lsp_assist.codebase.ranking import Hit
from lsp_assist.codebase.store import NAME_WEIGHT, Candidate, Filter, StoredSymbol

if TYPE_CHECKING:
    from lsp_assist.codebase.view import View

__all__ = ["Frozen", "freeze"]

CANDIDATES_FOR_EACH = 2
"""Times the number that a search takes by default, so that larger numbers can be tried."""


@dataclass(frozen=True, slots=True)
class Frozen:
    """A question, and what answers it in place of an index."""

    index: Index
    text: str
    limit: int
    view: "_View"
    voices: Sequence["_Voice"]

    def ranked(self) -> list[Hit]:
        """What the product finds under the weights that it has now."""
        view, voices = cast("View", self.view), cast("Sequence[Voice]", self.voices)
        return search.search(self.index.root, view, voices, self.text, self.limit)


def freeze(index: Index, text: str, limit: int) -> Frozen:
    """Ask all voices of the index, which has to be up to date."""
    view, terms = index._view(), lexical.query_terms(text)
    n_candidates = max(limit * search.CANDIDATES_PER_HIT, search.MIN_CANDIDATES)
    chunks, corpus = view.candidates(terms, CANDIDATES_FOR_EACH * n_candidates, search.EVERYWHERE)
    hashes = {chunk.candidate.hash for chunk in chunks}
    live = view.hashes(search.EVERYWHERE)
    n_nearest = CANDIDATES_FOR_EACH * max(4 * limit, search.MIN_NEAREST)
    voices = [_voice(voice, text, live, hashes, n_nearest) for voice in index.embedding.heard()]
    new = {key for voice in voices for key, _ in voice.nearest}
    near: dict[str, list[CountedChunk]] = {}
    for chunk in view.chunks_with(sorted(new), terms, search.EVERYWHERE):
        near.setdefault(chunk.candidate.hash, []).append(_slim(chunk, terms))
    paths = {c.candidate.path for each in (chunks, *near.values()) for c in each}
    symbols = {path: view.symbols_of(path) for path in sorted(paths)}
    slim = [_slim(chunk, terms) for chunk in chunks]
    # The store tells which are the best, and not in which order.
    slim.sort(key=lambda chunk: -_words(chunk, terms, corpus))
    return Frozen(index, text, limit, _View(slim, corpus, near, symbols), voices)


@dataclass(frozen=True, slots=True)
class _View:
    chunks: Sequence[CountedChunk]
    corpus: lexical.Corpus
    near: Mapping[str, Sequence[CountedChunk]]
    symbols: Mapping[str, Sequence[StoredSymbol]]

    def candidates(
        self, _terms: Sequence[str], limit: int, _where: Filter
    ) -> tuple[Sequence[CountedChunk], lexical.Corpus]:
        return self.chunks[:limit], self.corpus

    def chunks_with(
        self, hashes: Sequence[str], _terms: Sequence[str], _where: Filter
    ) -> list[CountedChunk]:
        return [chunk for key in hashes for chunk in self.near.get(key, ())]

    def symbols_of(self, path: str) -> Sequence[StoredSymbol]:
        return self.symbols[path]


@dataclass(frozen=True, slots=True)
class _Voice:
    """A voice that was asked one question; it is its own vectors too."""

    noise: float
    deviation: float
    nearest: Sequence[tuple[str, float]]
    known: Mapping[str, float]

    @property
    def vectors(self) -> "_Voice":
        return self

    def query(self, text: str) -> str:
        return text

    def standing_out(
        self, _question: str, limit: int, n_deviations: float
    ) -> tuple[float, Sequence[tuple[str, float]]]:
        if n_deviations == float("-inf"):
            return 0.0, self.nearest[:limit]
        least = self.noise + n_deviations * self.deviation
        return self.noise, [(key, s) for key, s in self.nearest[:limit] if s > least]

    def similarities(self, keys: Sequence[str], _question: str) -> dict[str, float]:
        return {key: self.known[key] for key in keys if key in self.known}


def _voice(voice: Voice, text: str, live: set[str], candidates: set[str], n_nearest: int) -> _Voice:
    """What a voice says of a question; of chunks that are there now, not of former commits'."""
    question = voice.query(text)
    assert question is not None
    similarities = voice.vectors.similarities(live, question)
    values = np.array(list(similarities.values()))
    noise = float(np.median(values))
    deviation = 1.4826 * float(np.median(np.abs(values - noise)))
    ordered = sorted(similarities.items(), key=lambda item: (-item[1], item[0]))
    nearest = ordered[:n_nearest]
    kept = candidates.union(key for key, _ in nearest)
    return _Voice(noise, deviation, nearest, {k: s for k, s in ordered if k in kept})


def _words(chunk: CountedChunk, terms: Sequence[str], corpus: lexical.Corpus) -> float:
    columns = ((NAME_WEIGHT, chunk.name), (1, chunk.body))
    return lexical.bm25(terms, columns, chunk.n_terms, corpus)


_SHARED: dict[Candidate, Candidate] = {}


def _slim(chunk: CountedChunk, terms: Sequence[str]) -> CountedChunk:
    """The chunk with the counts of these terms alone, and one candidate for all questions."""
    bare = replace(chunk.candidate, name="", body="")
    name = {term: chunk.name[term] for term in terms if term in chunk.name}
    body = {term: chunk.body[term] for term in terms if term in chunk.body}
    return CountedChunk(_SHARED.setdefault(bare, bare), name, body, chunk.n_terms)
