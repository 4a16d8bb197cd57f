"""The rankings that are compared, all of them the product's own parts over one workspace.

Knows no question's answer.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from heapq import nlargest
from types import ModuleType

from lsp_assist.codebase import lexical, ranking, search, store
from lsp_assist.codebase.embedding import Voice
from lsp_assist.codebase.index import Index
from lsp_assist.codebase.ranking import Hit

__all__ = [
    "FILE_HITS",
    "PLAIN",
    "Ranker",
    "Weights",
    "current",
    "file_rankers",
    "file_ranking",
    "rankers",
    "weighted",
]

Ranker = Callable[[str, int], Sequence[Hit]]
"""The best places for a question, best first."""
FileRanker = Callable[[str], list[str]]
Weights = dict[str, float]

_HOMES: dict[str, tuple[ModuleType, ...]] = {
    "TEST_PRIOR": (ranking,),
    "PROSE_PRIOR": (ranking,),
    "VENDOR_PRIOR": (ranking,),
    "VALUE_PRIOR": (ranking,),
    "NO_SYMBOL_PRIOR": (ranking,),
    "NAMED_BONUS": (ranking,),
    "NAME_WEIGHT": (store, search),
    "LEXICAL_WEIGHT": (search,),
    "LEXICAL_WEIGHT_OF_MANY": (search,),
    "STANDING_OUT": (search,),
    "MIN_CANDIDATES": (search,),
    "MIN_NEAREST": (search,),
    "K1": (lexical,),
    "B": (lexical,),
}
"""The modules that have a weight among their names."""

PLAIN: Weights = {
    "TEST_PRIOR": 1,
    "PROSE_PRIOR": 1,
    "VENDOR_PRIOR": 1,
    "VALUE_PRIOR": 1,
    "NO_SYMBOL_PRIOR": 1,
    "NAMED_BONUS": 1,
}
"""Under these a place is worth what BM25 says and nothing else."""

ALONE: Weights = {"LEXICAL_WEIGHT": 0, "LEXICAL_WEIGHT_OF_MANY": 0, "STANDING_OUT": -math.inf}
"""Under these the words of a question count nothing beside what embedders say."""

CHUNKS_PER_FILE = 3
FILE_HITS = 200
"""Places that a file's worth is summed from."""
N_SEEDS = 5
GRAPH_WEIGHT = 0.2


def rankers(opened: Index) -> dict[str, Ranker]:
    """What is compared, by name: words alone, each embedder alone, and what they are together.

    The embedders are those that the index has embedded with: the packaged one first, and
    perhaps all-MiniLM-L6-v2.
    """
    voices = opened.embedding.heard()
    found = {
        "bm25": _ranker(opened, [], PLAIN),
        "lexical": _ranker(opened, []),
        "static": _ranker(opened, voices[:1], ALONE),
        "hybrid": _ranker(opened, voices[:1]),
    }
    if len(voices) > 1:
        found["minilm"] = _ranker(opened, voices[1:], ALONE)
        found["hybrid_minilm"] = _ranker(opened, voices)
    return found


def _ranker(opened: Index, voices: Sequence[Voice], weights: Weights | None = None) -> Ranker:
    """The product's search with these voices, under these weights."""

    def ask(question: str, limit: int) -> Sequence[Hit]:
        with weighted(weights or {}):
            return search.search(opened.root, opened._view(), voices, question, limit)

    return ask


def file_rankers(opened: Index) -> dict[str, FileRanker]:
    """The same for files, and beside the hybrid what the graph adds to it."""
    found = {name: _of_files(ranker) for name, ranker in rankers(opened).items()}
    hybrid = rankers(opened)["hybrid"]

    def with_graph(question: str) -> list[str]:
        worths = file_worths(hybrid(question, FILE_HITS))
        return _ordered(with_neighbours(worths, opened.file_ranks(seeds(worths))))

    return found | {"hybrid_graph": with_graph}


def file_ranking(hits: Iterable[Hit]) -> list[str]:
    """Files, best first: a file is worth its three best places together."""
    return _ordered(file_worths(hits))


def file_worths(hits: Iterable[Hit]) -> dict[str, float]:
    """What each file is worth: its best places together."""
    scores: defaultdict[str, list[float]] = defaultdict(list)
    for hit in hits:
        scores[hit.path].append(hit.score)
    return {path: sum(nlargest(CHUNKS_PER_FILE, each)) for path, each in scores.items()}


def seeds(worths: Mapping[str, float]) -> dict[str, float]:
    """The best files with their worths, for the graph to start from."""
    return {path: worths[path] for path in _ordered(worths)[:N_SEEDS]}


def with_neighbours(worths: Mapping[str, float], ranks: Mapping[str, float]) -> dict[str, float]:
    """The worths with a share of what the graph says, both counted from 0 to the highest."""
    highest, top = max(worths.values(), default=1.0), max(ranks.values(), default=1.0)
    return {
        path: (1 - GRAPH_WEIGHT) * worths.get(path, 0.0) / highest
        + GRAPH_WEIGHT * ranks.get(path, 0.0) / top
        for path in worths.keys() | ranks.keys()
    }


def _ordered(worths: Mapping[str, float]) -> list[str]:
    return sorted(worths, key=lambda path: (-worths[path], path))


def _of_files(ranker: Ranker) -> FileRanker:
    return lambda question: file_ranking(ranker(question, FILE_HITS))


def current() -> Weights:
    """The product's weights as they are."""
    return {name: float(getattr(homes[0], name)) for name, homes in _HOMES.items()}


@contextmanager
def weighted(weights: Weights) -> Iterator[None]:
    """The product with other weights than its own, for as long as this lasts."""
    before = current()
    try:
        _set(weights)
        yield
    finally:
        _set(before)


def _set(weights: Weights) -> None:
    for name, value in weights.items():
        for home in _HOMES[name]:
            kind = type(getattr(home, name))
            setattr(home, name, kind(value))
