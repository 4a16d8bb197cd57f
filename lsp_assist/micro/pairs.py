"""Pairs of a question and the code that answers it, gathered from packages into a folder.

One file of JSON lines for each package, written whole, so that gathering can be stopped and goes on
from there; and `provenance.tsv`, which tells what each package is, its licences and its pairs.
Knows no parser: what is documented in a file it is told.
"""

import hashlib
import json
import logging
import multiprocessing
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

from lsp_assist.micro.packages import Package, SourceFile, packages, source_files
from lsp_assist.words import parts_of, words_of

__all__ = ["Documented", "GatherProgress", "Kind", "Pair", "Reader", "gather", "read_pairs"]

logger = logging.getLogger(__name__)

PROVENANCE = "provenance.tsv"
MAX_CODE_CHARS = 2_000
MIN_QUERY_WORDS = 3
MIN_CODE_CHARS = 40
MAX_OF_A_KIND = 1_500  # of one package, so that no large one sets the tone
_SPECIAL = re.compile(
    r"(?i)copyright|licen[cs]e|spdx|eslint|pylint|noqa|nolint|type: ignore|todo|fixme|xxx|"
    r"deprecated|auto-?generated|do not edit|see above|https?://"
)

Kind = Literal[
    "doc",  # the comment of a function or class, and its code
    "remark",  # a comment within a function, and the lines below it
    "name",  # the name of a function without a comment, and its code without the name
]


@dataclass(frozen=True, slots=True)
class Pair:
    """A question and the code that answers it."""

    kind: Kind
    language: str
    query: str
    code: str
    """Path and qualified name on lines of their own, then the text."""


class Documented(Protocol):
    """Code and what its comment says about it, as the outline finds them."""

    @property
    def language(self) -> str:
        """Its name as the outline has it."""

    @property
    def name(self) -> str:
        """Qualified name of the symbol."""

    @property
    def doc(self) -> str:
        """First paragraph of the comment, without marks; empty for code without one."""

    @property
    def code(self) -> str:
        """Without the comment."""

    @property
    def is_symbol(self) -> bool:
        """Whether the code is a whole symbol."""


@dataclass(frozen=True, slots=True)
class Reader:
    """What knows languages: which files are wanted, and what is documented in one."""

    is_wanted: Callable[[str], bool]
    documented: Callable[[str, str], Sequence[Documented]]


@dataclass(frozen=True, slots=True)
class GatherProgress:
    """How far gathering is."""

    n_done: int
    n_total: int
    n_pairs: int
    eta_s: float


def gather(
    downloads: Path,
    folder: Path,
    reader: Reader,
    report: Callable[[GatherProgress], None] = lambda _: None,
    *,
    n_processes: int = 1,
) -> None:
    """Write the pairs of all packages in `downloads` that may be learnt from into a folder.

    Packages that were gathered before are not read again, unless their archives were incomplete.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows: dict[str, str] = {}
    if (folder / PROVENANCE).exists():
        rows = {r.partition("\t")[0]: r for r in (folder / PROVENANCE).read_text().splitlines()}
    found = packages(downloads)
    left = [package for package in found if package.name not in rows]
    started = time.monotonic()
    n_pairs = 0
    with multiprocessing.Pool(n_processes) as pool:
        work = partial(_gathered, folder=folder, reader=reader)
        for n_done, (row, n_new) in enumerate(pool.imap_unordered(work, left), start=1):
            n_pairs += n_new
            if row:
                rows[row.partition("\t")[0]] = row
            if n_done % 20 == 0 or n_done == len(left):
                _replace(folder / PROVENANCE, "".join(f"{rows[name]}\n" for name in sorted(rows)))
                spent = time.monotonic() - started
                eta = spent / n_done * (len(left) - n_done)
                report(GatherProgress(n_done, len(left), n_pairs, eta))


def read_pairs(folder: Path) -> Iterator[Pair]:
    """All pairs in a folder, package by package, by name."""
    for file in sorted(folder.glob("*.jsonl")):
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                yield Pair(**json.loads(line))


def pairs_of(files: Sequence[SourceFile], reader: Reader, seed: int) -> list[Pair]:
    """The pairs of a package's files; the same code or question comes once."""
    found: dict[Kind, list[Pair]] = {"doc": [], "remark": [], "name": []}
    seen: set[bytes] = set()
    for file in files:
        for item in reader.documented(file.path, file.text):
            pair = _pair(file.path, item)
            if pair is None:
                continue
            keys = {_digest(pair.query), _digest(pair.code.partition("\n")[2])}
            if pair.kind == "name":
                keys.remove(_digest(pair.query))
            if not keys & seen:
                found[pair.kind].append(pair)
                seen |= keys
    rng = random.Random(seed)
    chosen = []
    for pairs in found.values():
        chosen += rng.sample(pairs, MAX_OF_A_KIND) if len(pairs) > MAX_OF_A_KIND else pairs
    return chosen


def _pair(path: str, item: Documented) -> Pair | None:
    """The pair of code and its comment or name; None if there is nothing to learn from it."""
    name, query, code = item.name, item.doc, item.code
    kind: Kind = "doc" if item.is_symbol else "remark"
    if not query and item.is_symbol:
        kind = "name"
        own = re.split(r"\W+", name)[-1]
        query = " ".join(part for word in words_of(name) for part in parts_of(word))
        code = re.sub(rf"\b{re.escape(own)}\b", "", code)
        name = ""
        if code.count("\n") < 3:
            return None
    n_words = len(query.split())
    if n_words < (2 if kind == "name" else MIN_QUERY_WORDS) or len(code) < MIN_CODE_CHARS:
        return None
    if _SPECIAL.search(query) or _is_code(query):
        return None
    where = f"{path}\n{name}\n" if name else f"{path}\n"
    return Pair(kind, item.language, query, where + code[:MAX_CODE_CHARS])


def _is_code(comment: str) -> bool:
    """Whether a comment is code that was commented out."""
    n_letters = sum(char.isalpha() or char == " " for char in comment)
    return n_letters < 0.75 * len(comment) or comment.rstrip().endswith((";", "{", "}"))


def _gathered(package: Package, *, folder: Path, reader: Reader) -> tuple[str, int]:
    """The package's row of the provenance, its pairs being written; empty if it is not readable."""
    licences, files = source_files(package, reader.is_wanted)
    if not licences:
        return "", 0
    pairs = pairs_of(files, reader, seed=len(package.name))
    if pairs:
        lines = "".join(json.dumps(asdict(pair), ensure_ascii=False) + "\n" for pair in pairs)
        _replace(folder / f"{package.name}.jsonl", lines)
    row = "\t".join((package.name, package.version, licences, str(len(pairs))))
    return row, len(pairs)


def _replace(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    partial_path = path.with_suffix(".partial")
    partial_path.write_text(text, "utf-8", "surrogatepass")
    partial_path.replace(path)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
