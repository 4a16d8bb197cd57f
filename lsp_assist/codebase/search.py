"""The places that answer a question: found by words and by meaning, scored together.

Each voice names candidates, and every candidate is judged by all of them. Knows no file, no model
and nothing of how the voices know what they know.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lsp_assist.codebase import ingest, lexical, ranking
from lsp_assist.codebase.embedding import Voice
from lsp_assist.codebase.overlays import CountedChunk
from lsp_assist.codebase.ranking import ChunkRef, Hit
from lsp_assist.codebase.store import NAME_WEIGHT, Candidate, Filter, StoredSymbol
from lsp_assist.codebase.view import View

__all__ = ["EVERYWHERE", "LEXICAL_WEIGHT", "Filter", "fuse", "hit_of", "search"]

EVERYWHERE = Filter()

# Source: LOG.md, 2026-11: BM25 with the packaged embedding by normalised scores, which beat either
# and reciprocal ranks, nearly equal weights found most; with a second embedder .4/.3/.3.
LEXICAL_WEIGHT = 0.55
LEXICAL_WEIGHT_OF_MANY = 0.4

# Chunks that are scored for each hit asked for, and at the least: the store's own order is rough.
CANDIDATES_PER_HIT = 6
MIN_CANDIDATES = 160
MIN_NEAREST = 100
NOISE_RANK = 100  # the similarity from which on a voice says nothing: that of so far a chunk
# The best of them, of which it is looked up what they define: that moves none by more than this.
RESOLVED_PER_HIT = 2
MIN_RESOLVED = 40
STANDING_OUT = 2.0  # standard deviations, for a chunk without any word of the question
MAX_FILTERED = 5_000  # chunks that pass a filter, to be compared one by one


def search(
    root: Path,
    view: View,
    voices: Sequence[Voice],
    query: str,
    limit: int,
    where: Filter = EVERYWHERE,
) -> list[Hit]:
    """The best places for a question or some names, best first; one for each symbol."""
    query_terms = lexical.query_terms(query)
    if not query_terms or limit < 1:
        return []
    n_candidates = max(limit * CANDIDATES_PER_HIT, MIN_CANDIDATES)
    chunks, corpus = view.candidates(query_terms, n_candidates, where)
    heard = _heard(view, voices, query, max(4 * limit, MIN_NEAREST), where)
    known = {chunk.candidate.hash for chunk in chunks}
    new = [key for nearest in heard for key in nearest.similarities if key not in known]
    chunks = [*chunks, *view.chunks_with(list(dict.fromkeys(new)), query_terms, where)]

    scored = _scored(chunks, heard, query_terms, corpus)
    scored.sort(key=lambda item: (-item[0] * ranking.prior(item[1].path), item[1].path))
    kept = scored[: max(limit * RESOLVED_PER_HIT, MIN_RESOLVED)]
    stretches: dict[str, list[tuple[int, int, int]]] = {}
    for _, chunk in kept:
        stretch = chunk.ordinal, chunk.start_line, chunk.end_line
        stretches.setdefault(chunk.path, []).append(stretch)
    symbols = {path: view.symbols_in(path, wanted) for path, wanted in stretches.items()}
    terms, spelled = frozenset(query_terms), lexical.spelled_names(query)
    hits = (
        _hit(root, chunk, score, symbols[chunk.path], terms, spelled)
        for score, chunk in kept
        if score > 0
    )
    return ranking.best_of_each_symbol(hits)[:limit]


def fuse(
    lexical_scores: Sequence[float],
    others: Sequence[Sequence[float | None]],
    weights: Sequence[float],
) -> list[float]:
    """One score for each candidate, from 0 to 1: the weighted mean of its normalised scores.

    A voice's scores count from 0, which says nothing, to its highest. `others` has the scores of
    each further voice in the order of the candidates; None where it does not know one, which then
    counts there as the lexical score does. `weights` are of the lexical scores and of the others.
    Pure.
    """
    words = _normalised(lexical_scores)
    fused = [weights[0] * score for score in words]
    for scores, weight in zip(others, weights[1:], strict=True):
        known = [score for score in scores if score is not None]
        normalised = iter(_normalised(known))
        for place, score in enumerate(scores):
            fused[place] += weight * (words[place] if score is None else next(normalised))
    return [score / sum(weights) for score in fused]


def weights_of(n_voices: int) -> list[float]:
    """The weight of the lexical scores, and of so many embedders'."""
    if not n_voices:
        return [1.0]
    own = LEXICAL_WEIGHT if n_voices == 1 else LEXICAL_WEIGHT_OF_MANY
    return [own, *[(1 - own) / n_voices] * n_voices]


def hit_of(root: Path, symbol: StoredSymbol, score: float, chunk: ChunkRef) -> Hit:
    """The hit that is this symbol."""
    return Hit(
        root,
        symbol.path,
        symbol.start_line,
        symbol.end_line,
        symbol.qualified_name,
        symbol.kind,
        score,
        symbol.ordinal,
        chunk,
    )


@dataclass(frozen=True, slots=True)
class _Heard:
    """What a voice said: a question as it reads it, and the chunks that are most like it."""

    voice: Voice
    question: object
    similarities: Mapping[str, float]
    noise: float
    """How similar chunks are that it says nothing of."""

    def of(self, hashes: Sequence[str]) -> dict[str, float]:
        """How much more similar these chunks are than that, where it knows them."""
        others = [key for key in hashes if key not in self.similarities]
        found = self.voice.vectors.similarities(others, self.question)  # type: ignore[arg-type]  # numpy's, which is not imported here
        return {
            key: similarity - self.noise
            for known in (found, self.similarities)
            for key, similarity in known.items()
        }


def _heard(
    view: View, voices: Sequence[Voice], query: str, n_candidates: int, where: Filter
) -> list[_Heard]:
    heard: list[_Heard] = []
    among = None if where == EVERYWHERE or not voices else view.hashes(where)
    for voice in voices:
        question = voice.query(query)
        if question is None:
            continue
        noise = 0.0
        if among is None:
            noise, found = voice.vectors.standing_out(question, n_candidates, STANDING_OUT)
            nearest = dict(found)
        elif len(among) <= MAX_FILTERED:
            nearest = voice.vectors.similarities(among, question)
        else:
            wider = voice.vectors.nearest(question, 10 * n_candidates)
            nearest = {key: similarity for key, similarity in wider if key in among}
        best = sorted(nearest.items(), key=lambda item: -item[1])[:n_candidates]
        if len(best) >= NOISE_RANK:
            noise = best[NOISE_RANK - 1][1]
        heard.append(_Heard(voice, question, dict(best), noise))
    return heard


def _scored(
    chunks: Sequence[CountedChunk],
    heard: Sequence[_Heard],
    query_terms: Sequence[str],
    corpus: lexical.Corpus,
) -> list[tuple[float, Candidate]]:
    """The chunks with their scores, on the scale of BM25 so that folders can be compared."""
    words = [
        lexical.bm25(
            query_terms, ((NAME_WEIGHT, chunk.name), (1, chunk.body)), chunk.n_terms, corpus
        )
        for chunk in chunks
    ]
    candidates = [chunk.candidate for chunk in chunks]
    if not heard or not chunks:
        return list(zip(words, candidates, strict=True))
    hashes = list({candidate.hash for candidate in candidates})
    similarities = [nearest.of(hashes) for nearest in heard]
    others = [[known.get(c.hash) for c in candidates] for known in similarities]
    scale = max(words) or 1.0
    fused = fuse(words, others, weights_of(len(heard)))
    return [(scale * score, c) for score, c in zip(fused, candidates, strict=True)]


def _normalised(scores: Sequence[float]) -> list[float]:
    """The scores from 0, for what is not above it, to 1 for the highest."""
    highest = max(scores, default=0.0)
    return [max(0.0, score) / highest if highest > 0 else 0.0 for score in scores]


def _hit(
    root: Path,
    chunk: Candidate,
    score: float,
    symbols: Sequence[StoredSymbol],
    query_terms: frozenset[str],
    spelled: frozenset[str],
) -> Hit:
    """The hit in a chunk: of what it defines, what the query names best; else what it is of."""
    own = named = None
    best = 0
    for symbol in symbols:
        if symbol.ordinal == chunk.ordinal:
            own = symbol
        if ingest.is_within(symbol, chunk.start_line, chunk.end_line):
            n_named = len(query_terms.intersection(lexical.terms(symbol.name)))
            n_named += symbol.name.lower() in spelled
            if n_named > best:
                named, best = symbol, n_named
    found = named or own or _no_symbol(chunk)
    score *= ranking.prior(chunk.path, found.kind)
    if found.name.lower() in spelled:
        score *= ranking.NAMED_BONUS
    at = ChunkRef(chunk.ordinal, chunk.start_line, chunk.end_line, chunk.hash)
    hit = hit_of(root, found, score, at)
    if ingest.is_within(found, chunk.start_line, chunk.end_line):
        return hit
    # A part of something larger: the place is the part.
    return replace(hit, start_line=chunk.start_line, end_line=chunk.end_line)


def _no_symbol(chunk: Candidate) -> StoredSymbol:
    """What stands for a symbol where a chunk is about none."""
    return StoredSymbol(chunk.path, -1, "", "", ranking.NO_SYMBOL, chunk.start_line, chunk.end_line)
