"""Symbols, references and imports from what the queries of a language marked in a file.

Says what is within what, what things are called and what is local. Knows no parser: marks are
positions and texts.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Literal, cast

from lsp_assist.codebase.chunks import Span
from lsp_assist.codebase.languages import Language
from lsp_assist.codebase.prose import comment_start, one_line, summary_of
from lsp_assist.codebase.receivers import SELF, Binding, Scopes, Sweep, receiver_before
from lsp_assist.codebase.symbols import (
    CLASS_KINDS,
    FUNCTION_KINDS,
    VALUE_KINDS,
    Import,
    Kind,
    Reference,
    ReferenceKind,
    Symbol,
)

__all__ = [
    "MAX_DEPTH",
    "MAX_NAME_CHARS",
    "Mark",
    "Page",
    "Taken",
    "imports_of",
    "references_of",
    "symbols_of",
]

MAX_DEPTH = 32
"""Symbols nested deeper are left out: their qualified names would grow with the square."""
MAX_NAME_CHARS = 200
_DECLARATION_BYTES = 2_000
_CONSTANT = re.compile(r"(?:\w:)?_*[A-Z][A-Z0-9_]+$")


@dataclass(slots=True)
class Mark:
    """A node that a query captured: a definition, or something that matters to definitions."""

    start: int
    end: int
    kind: Kind | Literal["container", "wrapper"]
    name: str = ""
    name_start: int = 0
    scope: str = ""
    """The type that it belongs to, where that is not around it."""
    body_start: int = -1
    doc: str = ""
    """Its docstring, where it is not a comment above."""
    index: int = -1
    """Of the symbol; where there is none, of the innermost symbol around it."""
    qualified_name: str = ""

    @property
    def order(self) -> tuple[int, int, bool, int]:
        """Outer before inner; a wrapper before what it wraps."""
        return self.start, -self.end, self.kind != "wrapper", self.name_start


@dataclass(slots=True)
class Taken:
    """What an import takes from a module, and what it is called here."""

    names: list[str] = field(default_factory=list)
    aliases: list[str] = field(default_factory=list)
    alias: str = ""


@dataclass(slots=True)
class Page:
    """A file while it is read: what the queries marked. Positions are bytes of `source`."""

    language: Language
    source: bytes
    lines: Sequence[str]
    line_starts: Sequence[int]
    marks: list[Mark] = field(default_factory=list)
    """In order, outer before inner."""
    decorators: list[tuple[int, int]] = field(default_factory=list)
    """Starts and ends, in order."""
    imports: dict[tuple[int, str], "Taken"] = field(default_factory=dict)
    """What is taken, by the start of the statement and the module."""
    references: list[tuple[int, int, ReferenceKind]] = field(default_factory=list)
    """Starts, ends and kinds, in order."""
    bindings: list[Binding] = field(default_factory=list)
    """Local variables, parameters and attributes, in order."""
    problem: str = ""

    def line_at(self, byte: int) -> int:
        """The line that a byte is on."""
        return bisect_right(self.line_starts, byte) - 1

    def last_line(self, start: int, end: int) -> int:
        """The line of the last byte before `end`: some grammars end a node after its newline."""
        while end > start + 1 and self.source[end - 1] in b"\r\n":
            end -= 1
        return self.line_at(max(start, end - 1))

    def text(self, start: int, end: int) -> str:
        """A stretch of the source; what is no text in it is replaced."""
        return self.source[start:end].decode("utf-8", "replace")


def symbols_of(page: Page) -> tuple[list[Symbol], list[tuple[int, int]], list[Span]]:
    """Symbols in order, and beside them where they are in bytes and in lines."""
    symbols: list[Symbol] = []
    extents: list[tuple[int, int]] = []
    spans: list[Span] = []
    open_marks: list[Mark] = []
    decorated = _decorator_lines(page)
    for mark in page.marks:
        while open_marks and (open_marks[-1].end <= mark.start or _is_beside(open_marks[-1], mark)):
            open_marks.pop()
        around = next((m for m in reversed(open_marks) if m.kind != "wrapper"), None)
        mark.index = around.index if around else -1
        mark.qualified_name = around.qualified_name if around else ""
        if len(open_marks) >= MAX_DEPTH:
            continue
        if mark.kind not in ("wrapper", "container"):
            kind = _kind(mark, around, page.language)
            if not mark.name or kind is None:
                continue
            outer = _outer_start(page, open_marks, mark)
            symbol, span = _symbol(page, mark, kind, outer, decorated)
            mark.kind, mark.index = kind, len(symbols)
            symbols.append(symbol)
            extents.append((outer, mark.end))
            spans.append(span)
        elif mark.kind == "container":
            mark.qualified_name = _qualified(page.language, mark)
        open_marks.append(mark)
    return symbols, extents, spans


def references_of(
    page: Page, symbols: Sequence[Symbol], extents: Sequence[tuple[int, int]]
) -> list[Reference]:
    """What is used, each with the innermost symbol around it, by one sweep over both."""
    found: dict[tuple[str, str, int, ReferenceKind], Reference] = {}
    defined = {mark.name_start for mark in page.marks if mark.kind != "wrapper"}
    scopes = _scopes(page, symbols, extents, defined)
    members, sweep = page.language.members, Sweep(extents)
    for start, end, kind in page.references:
        symbol = sweep.innermost(start)
        if start in defined:
            continue  # the definition itself
        name = page.text(start, end).strip("\"'")
        if name in SELF or not 0 < len(name) <= MAX_NAME_CHARS:
            continue
        receiver = receiver_before(page.source, start, members)
        if not receiver and kind != "type" and scopes.is_local(name, symbol):
            continue
        key = name, receiver, symbol, kind
        if key not in found:
            known = scopes.type_of(receiver, symbol) if receiver else ""
            found[key] = Reference(name, page.line_at(start), symbol, kind, receiver, known)
    return list(found.values())


def imports_of(page: Page) -> list[Import]:
    """What is imported, in order."""
    return [
        Import(module, tuple(t.names), page.line_at(at), tuple(t.aliases), t.alias)
        for (at, module), t in sorted(page.imports.items(), key=itemgetter(0))
        if module
    ]


def _scopes(
    page: Page,
    symbols: Sequence[Symbol],
    extents: Sequence[tuple[int, int]],
    defined: Collection[int],
) -> Scopes:
    """What is bound where. The names of functions within functions are no locals."""
    scopes = Scopes(symbols, page.language.implicit_self)
    sweep = Sweep(extents)
    for binding in page.bindings:
        symbol = sweep.innermost(binding.start)
        if binding.start not in defined or binding.is_attribute:
            scopes.bind(binding, symbol)
    return scopes


def _is_beside(earlier: Mark, mark: Mark) -> bool:
    """`int a, b;` has two marks of one extent, neither of which is in the other."""
    return earlier.kind != "wrapper" and (earlier.start, earlier.end) == (mark.start, mark.end)


def _kind(mark: Mark, around: Mark | None, language: Language) -> Kind | None:
    """What the symbol is, seen from what is around it; None for what is local to a function."""
    kind = cast(Kind, mark.kind)
    is_member = mark.scope != "" or (
        around is not None and (around.kind == "container" or around.kind in CLASS_KINDS)
    )
    is_local = around is not None and around.kind in FUNCTION_KINDS
    # Without a body it is `Name name(argument);`, which C++ reads as a declaration.
    if is_local and (kind in VALUE_KINDS or (kind == "function" and mark.body_start < 0)):
        return None
    if kind in VALUE_KINDS:
        if kind == "variable" and _CONSTANT.match(mark.name):
            return "constant"
        return "field" if is_member and kind == "variable" else kind
    if kind in ("function", "method") and is_member:
        of = mark.scope.rpartition(language.separator)[2] or (around.name if around else "")
        is_constructor = mark.name in language.constructors or mark.name == of
        return "constructor" if is_constructor else "method"
    return kind


def _outer_start(page: Page, open_marks: Sequence[Mark], mark: Mark) -> int:
    """Where the symbol starts with its decorators, `export` or `template <...>`."""
    start = mark.start
    for outer in reversed(open_marks):
        rest = page.source[mark.end : min(outer.end, mark.end + 8)]
        if outer.kind != "wrapper" or outer.end > mark.end + 8 or rest.strip(b"; \t\r\n"):
            break
        start = outer.start
    return start


def _qualified(language: Language, mark: Mark) -> str:
    return language.separator.join(filter(None, (mark.qualified_name, mark.scope, mark.name)))


def _symbol(
    page: Page, mark: Mark, kind: Kind, outer: int, decorated: frozenset[int]
) -> tuple[Symbol, Span]:
    parent = mark.index
    mark.qualified_name = _qualified(page.language, mark)
    start_line, end_line = page.line_at(outer), page.last_line(mark.start, mark.end)
    comment, lead_line = _comment_above(page, start_line, decorated)
    symbol = Symbol(
        name=mark.name,
        qualified_name=mark.qualified_name,
        kind=kind,
        start_line=start_line,
        end_line=end_line,
        name_line=page.line_at(mark.name_start),
        signature=_signature(page, mark, outer),
        summary=summary_of(mark.doc.strip("\"'").splitlines()) if mark.doc else summary_of(comment),
        parent=parent,
    )
    return symbol, Span(lead_line, end_line, mark.body_start >= 0)


def _signature(page: Page, mark: Mark, start: int) -> str:
    """The declaration on one line, without the decorators in it and without its body."""
    end = mark.body_start if mark.body_start > mark.start else mark.end
    end = min(end, mark.start + _DECLARATION_BYTES)
    parts = []
    at = bisect_left(page.decorators, (start, -1))
    while at < len(page.decorators) and page.decorators[at][0] < end:
        before, start_after = page.decorators[at]
        parts.append(page.text(start, before))
        start = max(start, start_after)
        at += 1
    parts.append(page.text(start, end))
    declaration = " ".join(parts)
    first_line, _, rest = declaration.strip().partition("\n")
    if mark.kind == "heading":
        declaration = first_line
    elif mark.kind in VALUE_KINDS and rest:
        declaration = f"{first_line} …"
    return one_line(declaration, page.language.line_comments)


def _decorator_lines(page: Page) -> frozenset[int]:
    """Lines that hold decorators and nothing else."""
    found: set[int] = set()
    for start, end in page.decorators:
        last = page.last_line(start, end)
        next_start = page.line_starts[last + 1] if last + 1 < len(page.lines) else None
        if not page.source[end:next_start].strip():
            found.update(range(page.line_at(start), last + 1))
    return frozenset(found)


def _comment_above(page: Page, line: int, decorated: frozenset[int]) -> tuple[Sequence[str], int]:
    """The comment just above a line, and the first line of it and of decorators between them."""
    comment: Sequence[str] = ()
    while True:
        at = line
        while at - 1 in decorated:
            at -= 1
        start = comment_start(
            page.lines, at, page.language.line_comments, page.language.block_comments
        )
        if start < at:
            comment = page.lines[start:at]
        if start == line:
            return comment, line
        line = start
