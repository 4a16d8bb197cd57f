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
TOLERANCE = 1e-4  # of all rank together: the order of what matters has settled by then
MAX_ROUNDS = 50

Edge = tuple[int, int, float]
"""From, to, and a weight above zero."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """Where the weight of each node goes: the edges, normalised by what leaves a node."""

    n: int
    sources: "NDArray[np.intp]"
    """Of the edges, ordered by where they lead."""
    shares: "NDArray[np.float64]"
    targets: "NDArray[np.intp]"
    """The nodes that an edge leads to, in order, and beneath it where their edges start."""
    starts: "NDArray[np.intp]"
    is_dangling: "NDArray[np.bool_]"
    """Nodes that nothing leaves."""


def matrix(n: int, edges: Sequence[Edge]) -> Matrix:
    """The edges between `n` nodes, made ready for many rankings."""
    import numpy as np

    columns = np.array(edges, np.float64).reshape(-1, 3).T
    sources, targets, weights = columns[0].astype(np.intp), columns[1].astype(np.intp), columns[2]
    leaving = np.bincount(sources, weights, n)
    order = np.argsort(targets, kind="stable")
    reached, starts = np.unique(targets[order], return_index=True)
    shares = weights / leaving[sources]
    return Matrix(n, sources[order], shares[order], reached, starts, leaving == 0)


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
        moved = np.zeros(graph.n)
        if len(graph.sources):
            moved[graph.targets] = np.add.reduceat(at[graph.sources] * graph.shares, graph.starts)
        lost = at[graph.is_dangling].sum()
        after = DAMPING * (moved + lost * start) + (1 - DAMPING) * start
        is_settled = np.abs(after - at).sum() < TOLERANCE
        at = after
        if is_settled:
            break
    return at
