"""Personalised PageRank over weighted edges.

Pure arithmetic. Knows no file; imports numpy when it is called.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Matrix", "matrix", "ranks"]

DAMPING = 0.85
TOLERANCE = 1e-6
MAX_ROUNDS = 50

Edge = tuple[int, int, float]
"""From, to, and a weight above zero."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """Where the weight of each node goes: the edges, normalised by what leaves a node."""

    n: int
    sources: "NDArray[np.int64]"
    targets: "NDArray[np.int64]"
    shares: "NDArray[np.float64]"
    is_dangling: "NDArray[np.bool_]"
    """Nodes that nothing leaves."""


def matrix(n: int, edges: Sequence[Edge]) -> Matrix:
    """The edges between `n` nodes, made ready for many rankings."""
    import numpy as np

    sources = np.fromiter((edge[0] for edge in edges), np.int64, len(edges))
    targets = np.fromiter((edge[1] for edge in edges), np.int64, len(edges))
    weights = np.fromiter((edge[2] for edge in edges), np.float64, len(edges))
    leaving = np.bincount(sources, weights, n)
    shares = weights / leaving[sources] if len(edges) else weights
    return Matrix(n, sources, targets, shares, leaving == 0)


def ranks(graph: Matrix, seeds: Mapping[int, float]) -> "NDArray[np.float64]":
    """How likely a walker is at each node that starts again at the seeds; sums to 1.

    `seeds` are weights by node; without any, the walker starts anywhere. From where no edge leaves
    it starts again too. O(rounds * edges).
    Source: Page, Brin, Motwani, Winograd: The PageRank Citation Ranking (1999), section 6.
    """
    import numpy as np

    start = np.zeros(graph.n)
    for node, weight in seeds.items():
        start[node] += max(weight, 0.0)
    total = start.sum()
    start = start / total if total > 0 else np.full(graph.n, 1.0 / max(graph.n, 1))
    at = start
    for _ in range(MAX_ROUNDS):
        moved = np.bincount(graph.targets, at[graph.sources] * graph.shares, graph.n)
        lost = at[graph.is_dangling].sum()
        after = DAMPING * (moved + lost * start) + (1 - DAMPING) * start
        is_settled = np.abs(after - at).sum() < TOLERANCE
        at = after
        if is_settled:
            break
    return at
