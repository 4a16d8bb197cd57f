"""Workspaces of public code for the index to work on, as large as they are asked for.

Knows no index.
"""

import random
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from lsp_assist.codebase import files, ingest, reading
from lsp_assist.codebase.languages import language_of
from tests.bench.retrieval import material

__all__ = ["copy_tree", "edited", "long_text", "queries", "sources"]

MAX_FILE_BYTES = 1_000_000


def sources(given: Sequence[Path]) -> list[Path]:
    """The folders of code to take from: those given, else the pinned material."""
    return list(given) or [r.path for split in ("dev", "test") for r in material.pinned(split)]


def copy_tree(folders: Iterable[Path], target: Path, n_lines: int) -> int:
    """Copy whole folders of code until there are enough lines; returns how many there are."""
    n_copied = 0
    for folder in folders:
        for entry in _listed(folder):
            contents = reading.read(folder / entry, MAX_FILE_BYTES)
            if isinstance(contents, reading.Skipped):
                continue
            copy = target / folder.name / entry
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / entry, copy)
            n_copied += contents.text.count("\n")
            if n_copied >= n_lines:
                return n_copied
    return n_copied


def long_text(folders: Iterable[Path], suffix: str, n_lines: int) -> str:
    """Files of one language one after the other, cut where there are enough lines."""
    lines: list[str] = []
    for folder in folders:
        for entry in _listed(folder):
            if entry.endswith(suffix):
                contents = reading.read(folder / entry, MAX_FILE_BYTES)
                if isinstance(contents, reading.Contents):
                    lines.extend(contents.text.rstrip("\n").split("\n"))
            if len(lines) >= n_lines:
                return "\n".join(lines[:n_lines]) + "\n"
    return ""


def queries(n: int) -> list[str]:
    """Questions of the kind that people ask, the same ones each time."""
    draw = random.Random(3)
    return [
        draw.choice(_ASKED).format(draw.choice(_THINGS), draw.choice(_THINGS)) for _ in range(n)
    ]


def edited(text: str, draw: random.Random) -> str:
    """The text after a small change such as typing makes: a word, a line more or less."""
    lines = text.split("\n")
    at = draw.randrange(len(lines))
    match draw.randrange(5):
        case 0:
            lines.insert(at, "")
        case 1:
            lines.insert(at, lines[draw.randrange(len(lines))])
        case 2 if len(lines) > 3:
            del lines[at]
        case _:
            column = draw.randint(0, len(lines[at]))
            word = draw.choice(("x", " value", "(", "name_of_it", "0"))
            lines[at] = lines[at][:column] + word + lines[at][column:]
    return "\n".join(lines)


def _listed(folder: Path) -> Iterator[str]:
    listing = files.walk(
        folder, max_files=100_000, max_file_bytes=MAX_FILE_BYTES, is_wanted=ingest.is_wanted
    )
    for entry in listing.files:
        language = language_of(entry.path)
        if language is not None and language.grammar:
            yield entry.path


_ASKED = (
    "where is the {} of a {} decided?",
    "how does a {} get its {}?",
    "what happens when the {} is closed before the {}?",
    "{} {}",
    "parse the {} from a {}",
    "which code checks that a {} has a valid {}?",
)
_THINGS = (
    "request header connection cookie timeout session model query cache template token user "
    "password file path url redirect stream buffer lock thread task queue signal message event "
    "form field validator migration index column row node edge graph scheduler observer error "
    "warning log date time zone string encoding array map key value option argument command"
).split()
