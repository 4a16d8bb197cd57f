"""What makes one place better than another beyond its words. Pure.

Knows no store and no text; scores come from BM25 and only their order means something.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["NAMED_BONUS", "Hit", "best_of_each_symbol", "prior"]

# Tests, examples and prose name everything and define little; "where is X" asks for definitions.
TEST_PRIOR = 0.6
PROSE_PRIOR = 0.6
NAMED_BONUS = 1.25  # the question spells the symbol's name

_TEST_PATH = re.compile(
    r"(^|[/_.-])(tests?|testing|specs?|fixtures?|examples?|bench(marks?)?)([/_.-]|$)"
)
_PROSE_SUFFIXES = (".md", ".rst", ".txt", ".adoc", ".po", ".html")


@dataclass(frozen=True, slots=True)
class Hit:
    """A place found for a query, better by score. Lines zero-based, end included."""

    root: Path
    path: str
    start_line: int
    end_line: int
    symbol: str
    """Qualified name, empty outside of a symbol."""
    kind: str
    score: float
    ordinal: int
    """The symbol's place in its file's outline, -1 outside of one."""
    chunk_hash: str


def prior(path: str) -> float:
    """How much a place is worth by where it is, at most 1."""
    lowered = path.lower()
    worth = TEST_PRIOR if _TEST_PATH.search(lowered) else 1.0
    return worth * (PROSE_PRIOR if lowered.endswith(_PROSE_SUFFIXES) else 1.0)


def best_of_each_symbol(hits: Iterable[Hit]) -> list[Hit]:
    """The hits, best first, without further parts of a symbol that is there already."""
    kept: dict[tuple[str, int], Hit] = {}
    for hit in sorted(hits, key=lambda hit: (-hit.score, hit.path, hit.start_line)):
        key = (hit.path, hit.ordinal if hit.ordinal >= 0 else -1 - hit.start_line)
        kept.setdefault(key, hit)
    return list(kept.values())
