"""What makes one place better than another beyond its words. Pure.

Knows no store and no text; scores come from BM25 and only their order means something.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

__all__ = [
    "NAMED_BONUS",
    "NO_SYMBOL",
    "ChunkRef",
    "Hit",
    "best_of_each_symbol",
    "is_test",
    "is_vendored",
    "prior",
]

# Tests, examples and prose name everything and define little; "where is X" asks for definitions,
# of the project's own.
TEST_PRIOR = 0.5
PROSE_PRIOR = 0.5
VENDOR_PRIOR = 0.5
VALUE_PRIOR = 0.75  # a constant or a field, beside what computes with it
NO_SYMBOL_PRIOR = 0.75
NO_SYMBOL = "text"  # the kind of a place outside of all symbols
NAMED_BONUS = 1.25  # the question spells the symbol's name

_TEST_PATH = re.compile(
    r"(^|[/_.-])(tests?|testing|specs?|fixtures?|examples?|bench(marks?)?)([/_.-]|$)"
)
_VENDOR_PATH = re.compile(r"(^|/)(_?vendor(ed)?|third[_-]party|extern(al)?|dist|bundled)/")
_VALUE_KINDS = ("field", "variable", "constant")
_PROSE_SUFFIXES = (".md", ".rst", ".txt", ".adoc", ".po", ".html")


@dataclass(frozen=True, slots=True)
class ChunkRef:
    """A chunk of a file as it was indexed; the hash tells whether it still is there."""

    ordinal: int
    """Of the symbol that it is about, -1 for none."""
    start_line: int
    end_line: int
    hash: str


@dataclass(frozen=True, slots=True)
class Hit:
    """A place found for a query: a symbol, or a stretch of a file that is in none.

    Lines are zero-based, ends included. The chunk is what was found, and lies around the symbol.
    """

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
    chunk: ChunkRef


def prior(path: str, kind: str = "") -> float:
    """How much a place is worth by where and by what it is, at most 1."""
    lowered = path.lower()
    worth = TEST_PRIOR if is_test(path) else 1.0
    if is_vendored(path):
        worth *= VENDOR_PRIOR
    if lowered.endswith(_PROSE_SUFFIXES):
        return worth * PROSE_PRIOR
    if kind in _VALUE_KINDS:
        return worth * VALUE_PRIOR
    return worth * (NO_SYMBOL_PRIOR if kind == NO_SYMBOL else 1.0)


@lru_cache(maxsize=1 << 16)
def is_test(path: str) -> bool:
    """Whether a path says that it holds tests, examples or benches."""
    return bool(_TEST_PATH.search(path.lower()))


@lru_cache(maxsize=1 << 16)
def is_vendored(path: str) -> bool:
    """Whether a path says that it holds a copy of another project, or what was built."""
    return bool(_VENDOR_PATH.search(path.lower()))


def best_of_each_symbol(hits: Iterable[Hit]) -> list[Hit]:
    """The hits, best first, without further parts of a symbol that is there already."""
    kept: dict[tuple[str, int], Hit] = {}
    for hit in sorted(hits, key=lambda hit: (-hit.score, hit.path, hit.start_line)):
        key = (hit.path, hit.ordinal if hit.ordinal >= 0 else -1 - hit.start_line)
        kept.setdefault(key, hit)
    return list(kept.values())
