"""The rankings that are compared, all of them the product's own parts over one workspace.

Knows no question's answer.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from heapq import nlargest
from types import ModuleType

from lsp_assist.codebase import index, lexical, ranking, store
from lsp_assist.codebase.index import Index
from lsp_assist.codebase.ranking import Hit

__all__ = [
    "FILE_HITS",
    "PLAIN",
    "Ranker",
    "Weights",
    "current",
    "file_ranking",
    "rankers",
    "weighted",
]

Ranker = Callable[[str, int], Sequence[Hit]]
"""The best places for a question, best first."""
Weights = dict[str, float]

_HOMES: dict[str, tuple[ModuleType, ...]] = {
    "TEST_PRIOR": (ranking,),
    "PROSE_PRIOR": (ranking,),
    "VENDOR_PRIOR": (ranking,),
    "VALUE_PRIOR": (ranking,),
    "NO_SYMBOL_PRIOR": (ranking,),
    "NAMED_BONUS": (ranking,),
    "NAME_WEIGHT": (store, index),
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

CHUNKS_PER_FILE = 3
FILE_HITS = 200
"""Places that a file's worth is summed from."""


def rankers(opened: Index) -> dict[str, Ranker]:
    """What is compared, by name."""

    def plain(question: str, limit: int) -> Sequence[Hit]:
        with weighted(PLAIN):
            return opened.search(question, limit)

    return {"bm25": plain, "lexical": opened.search}


def file_ranking(hits: Iterable[Hit]) -> list[str]:
    """Files, best first: a file is worth its three best places together."""
    scores: defaultdict[str, list[float]] = defaultdict(list)
    for hit in hits:
        scores[hit.path].append(hit.score)
    worth = {path: sum(nlargest(CHUNKS_PER_FILE, each)) for path, each in scores.items()}
    return sorted(worth, key=lambda path: (-worth[path], path))


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
            setattr(home, name, value)
