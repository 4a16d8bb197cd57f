"""How much a bench run does: all of it, or a little of everything for development."""

from dataclasses import dataclass

__all__ = ["FULL", "QUICK", "Sizes"]


@dataclass(frozen=True, slots=True)
class Sizes:
    """Lines, chunks and numbers of runs."""

    tree_lines: int
    tree_runs: int
    file_lines: int
    changes: int
    day_lines: int
    day_changes: int
    chunks: tuple[int, ...]
    searches: int
    random_edits: int
    compared_every: int
    edit_lines: int
    kills: int
    fault_lines: int
    vector_changes: int


FULL = Sizes(
    tree_lines=500_000,
    tree_runs=3,
    file_lines=5_000,
    changes=300,
    day_lines=100_000,
    day_changes=10_000,
    chunks=(100_000, 1_000_000),
    searches=200,
    random_edits=2_000,
    compared_every=100,
    edit_lines=20_000,
    kills=200,
    fault_lines=40_000,
    vector_changes=200,
)
QUICK = Sizes(
    tree_lines=20_000,
    tree_runs=1,
    file_lines=5_000,
    changes=20,
    day_lines=10_000,
    day_changes=200,
    chunks=(5_000,),
    searches=30,
    random_edits=60,
    compared_every=20,
    edit_lines=5_000,
    kills=8,
    fault_lines=10_000,
    vector_changes=10,
)
