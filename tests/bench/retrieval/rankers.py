"""The rankings that are compared, all of them the product's own parts over one workspace.

Knows no question's answer.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from heapq import nlargest
from types import ModuleType

from lsp_assist.codebase import lexical, ranking, store
from lsp_assist.codebase.index import Index
from lsp_assist.codebase.ranking import Hit

__all__ = ["PLAIN", "Ranker", "Weights", "file_ranking", "rankers", "weighted"]

Ranker = Callable[[str, int], Sequence[Hit]]
"""The best places for a question, best first."""
Weights = dict[str, float]

_HOMES: dict[str, ModuleType] = {
    "TEST_PRIOR": ranking,
    "PROSE_PRIOR": ranking,
    "VENDOR_PRIOR": ranking,
    "VALUE_PRIOR": ranking,
    "NO_SYMBOL_PRIOR": ranking,
    "NAMED_BONUS": ranking,
    "NAME_WEIGHT": store,
    "K1": lexical,
    "B": lexical,
}

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


def rankers(index: Index) -> dict[str, Ranker]:
    """What is compared, by name."""

    def plain(question: str, limit: int) -> Sequence[Hit]:
        with weighted(PLAIN):
            return index.search(question, limit)

    return {"bm25": plain, "lexical": index.search}


def file_ranking(hits: Iterable[Hit]) -> list[str]:
    """Files, best first: a file is worth its three best places together."""
    scores: defaultdict[str, list[float]] = defaultdict(list)
    for hit in hits:
        scores[hit.path].append(hit.score)
    worth = {path: sum(nlargest(CHUNKS_PER_FILE, each)) for path, each in scores.items()}
    return sorted(worth, key=lambda path: (-worth[path], path))


@contextmanager
def weighted(weights: Weights) -> Iterator[None]:
    """The product with other weights than its own, for as long as this lasts."""
    before = {name: getattr(_HOMES[name], name) for name in weights}
    try:
        for name, value in weights.items():
            setattr(_HOMES[name], name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(_HOMES[name], name, value)
