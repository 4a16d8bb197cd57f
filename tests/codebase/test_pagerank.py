from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsp_assist.codebase.pagerank import DAMPING, matrix, ranks

NODES = 8
edges = st.lists(
    st.tuples(st.integers(0, NODES - 1), st.integers(0, NODES - 1), st.floats(0.01, 10)),
    max_size=30,
)
seeds = st.dictionaries(st.integers(0, NODES - 1), st.floats(0, 5), max_size=4)


def dense(found: list[tuple[int, int, float]], start: dict[int, float]) -> list[float]:
    """The stationary distribution by many rounds of the plain definition."""
    total = sum(start.values())
    jump = [start.get(n, 0.0) / total if total else 1 / NODES for n in range(NODES)]
    leaving: dict[int, float] = defaultdict(float)
    for source, _, weight in found:
        leaving[source] += weight
    at = jump
    for _ in range(200):
        after = [(1 - DAMPING) * share for share in jump]
        for source, target, weight in found:
            after[target] += DAMPING * at[source] * weight / leaving[source]
        lost = sum(at[n] for n in range(NODES) if not leaving[n])
        at = [here + DAMPING * lost * share for here, share in zip(after, jump, strict=True)]
    return at


@given(edges, seeds)
def test_ranks_are_those_of_the_definition(
    found: list[tuple[int, int, float]], start: dict[int, float]
) -> None:
    ranked = ranks(matrix(NODES, found), start).tolist()
    assert sum(ranked) == pytest.approx(1)
    assert ranked == pytest.approx(dense(found, start), abs=1e-3)


def test_nothing_has_no_ranks() -> None:
    assert ranks(matrix(0, []), {}).tolist() == []


def test_rank_gathers_near_the_seed() -> None:
    chain = [(n, n + 1, 1.0) for n in range(5)]
    ranked = ranks(matrix(6, chain), {0: 1.0}).tolist()
    assert ranked == sorted(ranked, reverse=True)
