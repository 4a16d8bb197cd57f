"""Outlines as text: what the fixtures in tests/fixtures/outline hold, and how they are written.

`python -m tests.codebase.outline_text accept` writes what the outlines say now into the fixtures;
read the difference before you commit it.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lsp_assist.codebase.languages import Language, language_of
from lsp_assist.codebase.outline import outline
from lsp_assist.codebase.symbols import Outline, Reference

__all__ = ["FIXTURES", "Fixture", "fixtures", "render"]

FIXTURES = Path(__file__).parents[1] / "fixtures" / "outline"
_SOURCE = "==== source ====\n"
_OUTLINE = "==== outline ====\n"


@dataclass(frozen=True, slots=True)
class Fixture:
    """A file of code and what its outline is to say."""

    file: Path
    path: str
    source: str
    expected: str

    @property
    def language(self) -> Language:
        found = language_of(self.path, self.source.partition("\n")[0])
        assert found, self.path
        return found

    def outline(self) -> Outline:
        return outline(self.path, self.source, self.language)


def fixtures() -> list[Fixture]:
    """All fixtures; `<language>.txt`, or `<language>-<what it shows>.txt`."""
    return [_read(file) for file in sorted(FIXTURES.glob("*.txt"))]


def render(found: Outline) -> str:
    """The outline, a line for each thing that it says."""
    return "".join(f"{line}\n" for line in _lines(found))


def _lines(found: Outline) -> Iterator[str]:
    if found.problem:
        yield f"problem: {found.problem}"
    depth: list[int] = []
    for symbol in found.symbols:
        depth.append(0 if symbol.parent == -1 else depth[symbol.parent] + 1)
        name = f" (name in {symbol.name_line})" if symbol.name_line != symbol.start_line else ""
        yield "  " * depth[-1] + (
            f"{symbol.start_line}-{symbol.end_line}{name} {symbol.kind} {symbol.qualified_name}"
        )
        yield "  " * depth[-1] + f"    `{symbol.signature}` {symbol.summary}".rstrip()
    yield "imports"
    for wanted in found.imports:
        names = map(_renamed, wanted.names, wanted.aliases)
        yield f"  {wanted.line} {' '.join((_renamed(wanted.module, wanted.alias), *names))}"
    yield "references"
    for index in range(-1, len(found.symbols)):
        used = [r for r in found.references if r.symbol == index]
        if used:
            who = found.symbols[index].qualified_name if index != -1 else "-"
            yield f"  {who}: " + ", ".join(map(_reference, used))
    yield "chunks"
    for chunk in found.chunks:
        about = found.symbols[chunk.symbol].qualified_name if chunk.symbol != -1 else "-"
        yield f"  {chunk.start_line}-{chunk.end_line} {about}"


def _renamed(name: str, alias: str) -> str:
    return f"{name}={alias}" if alias not in ("", name) else name


def _reference(used: Reference) -> str:
    receiver = f"{used.receiver}." if used.receiver else ""
    known = f" ({used.receiver_type})" if used.receiver_type else ""
    return f"{used.kind} {receiver}{used.name}{known} {used.line}"


def _read(file: Path) -> Fixture:
    head, _, rest = file.read_text("utf-8").partition(_SOURCE)
    source, _, expected = rest.partition(_OUTLINE)
    return Fixture(file, head.removeprefix("path:").strip(), source, expected)


def _accept() -> None:
    for fixture in fixtures():
        text = f"path: {fixture.path}\n{_SOURCE}{fixture.source}{_OUTLINE}"
        fixture.file.write_text(text + render(fixture.outline()), "utf-8")


if __name__ == "__main__" and sys.argv[1:] == ["accept"]:
    _accept()
