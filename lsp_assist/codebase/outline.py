"""The outline of a file: its symbols, references, imports and chunks, from one parse.

The only home of tree-sitter, which is imported at the first parse. Pure: reads no file and keeps
no text. Never raises on any text: what cannot be parsed in time gives chunks without symbols.
Knows no other file, so it resolves no name.
"""

import re
import time
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING, Literal, cast

from lsp_assist.codebase.chunks import Span, cut
from lsp_assist.codebase.documents import split_lines
from lsp_assist.codebase.languages import Language
from lsp_assist.codebase.prose import comment_start, one_line, summary_of
from lsp_assist.codebase.symbols import (
    CLASS_KINDS,
    FUNCTION_KINDS,
    KINDS,
    VALUE_KINDS,
    Chunk,
    Import,
    Kind,
    Outline,
    Reference,
    ReferenceKind,
    Symbol,
)

if TYPE_CHECKING:
    import tree_sitter as ts

__all__ = ["PARSE_LIMIT_S", "Chunk", "Import", "Outline", "Reference", "Symbol", "outline"]

PARSE_LIMIT_S = 2.0
"""What a file may take to parse. The queries are bounded by their size, not by the clock:
py-tree-sitter 0.26.1 crashes in the progress callback of a query."""
MAX_DEPTH = 32
"""Symbols nested deeper are left out: their qualified names would grow with the square."""
MAX_NAME_CHARS = 200
_READ_BYTES = 2_048
_DECLARATION_BYTES = 2_000
_MATCH_LIMIT = 256
_MAX_TREE_DEPTH = 1_000
_LARGE_BYTES = 2_000
_MAX_QUERY_COST = 300_000_000
_LINE_END = re.compile(rb"\r\n|\n|\r")
_CONSTANT = re.compile(r"(?:\w:)?_*[A-Z][A-Z0-9_]+$")
_TYPE_ARGUMENTS = re.compile(r"(?<!operator)<[^<>]*>")
_QUOTES = ("'", '"', "`")
_SELF = frozenset({"self", "Self", "cls", "this"})
_REFERENCE_KINDS: tuple[ReferenceKind, ...] = ("call", "type", "name")


@dataclass(slots=True)
class _Mark:
    """A node that a query captured: a definition, or something that matters to definitions."""

    start: int
    end: int
    kind: Kind | Literal["container", "wrapper"]
    name: str = ""
    name_start: int = 0
    scope: str = ""
    body_start: int = -1
    doc: str = ""
    index: int = -1
    """Of the symbol; where there is none, of the innermost symbol around it."""
    qualified_name: str = ""

    @property
    def order(self) -> tuple[int, int, bool, int]:
        """Outer before inner; a wrapper before what it wraps."""
        return self.start, -self.end, self.kind != "wrapper", self.name_start


@dataclass(slots=True)
class _Page:
    """A file while it is read. Positions are bytes of `source`."""

    language: Language
    source: bytes
    lines: Sequence[str]
    line_starts: list[int] = field(default_factory=list)
    marks: list[_Mark] = field(default_factory=list)
    decorators: list[tuple[int, int]] = field(default_factory=list)
    imports: dict[tuple[int, str], list[str]] = field(default_factory=dict)
    references: list[tuple[int, int, ReferenceKind]] = field(default_factory=list)
    problem: str = ""

    def line_at(self, byte: int) -> int:
        return bisect_right(self.line_starts, byte) - 1

    def last_line(self, start: int, end: int) -> int:
        """The line of the last byte before `end`: some grammars end a node after its newline."""
        while end > start + 1 and self.source[end - 1] in b"\r\n":
            end -= 1
        return self.line_at(max(start, end - 1))

    def text(self, start: int, end: int) -> str:
        return self.source[start:end].decode("utf-8", "replace")


def outline(path: str, text: str, language: Language) -> Outline:
    """What the text defines, uses and imports, and how it is cut into chunks.

    `path` is only carried along.
    """
    source = text.encode("utf-8", "surrogatepass")
    lines = split_lines(text)
    page = _Page(language, source, lines)
    page.line_starts = [0, *(end.end() for end in _LINE_END.finditer(source))]
    if language.grammar and source:
        _read(page)
    symbols, extents, spans = _symbols(page)
    return Outline(
        path=path,
        language=language.name,
        n_lines=len(lines),
        symbols=tuple(symbols),
        references=tuple(_references(page, extents)),
        imports=tuple(_imports(page)),
        chunks=tuple(cut(lines, symbols, spans)),
        problem=page.problem,
    )


def _read(page: _Page) -> None:
    """Fill in what the queries capture; say in `problem` what they could not."""
    try:
        grammar, definitions, uses = _grammar(page.language)
    except (ImportError, LookupError, ValueError) as error:
        page.problem = f"The grammar {page.language.grammar!r} cannot be used: {error}"
        return
    tree = _parse(grammar, page.source)
    if tree is None:
        page.problem = f"Parsing took more than {PARSE_LIMIT_S:g} s; no symbols"
        return
    root = tree.root_node
    if _query_cost(root) > _MAX_QUERY_COST:
        page.problem = "Too little of it can be parsed; no symbols"
        return
    named: dict[int, tuple[int, _Mark]] = {}
    for pattern, captures in _cursor(definitions).matches(root):
        if "from" in captures:
            _add_import(page, captures)
        elif "decorator" in captures:
            page.decorators.extend((n.start_byte, n.end_byte) for n in captures["decorator"])
        elif "wrapper" in captures:
            page.marks.append(_mark(page, captures))
        else:
            mark = _mark(page, captures)
            # Of several patterns for one name, the first in the query knows best.
            if pattern < named.get(mark.name_start, (pattern + 1, mark))[0]:
                named[mark.name_start] = pattern, mark
    page.marks.extend(mark for _, mark in named.values())
    page.marks.sort(key=attrgetter("order"))
    page.decorators.sort()
    if uses is not None:
        captured = _cursor(uses).captures(root)
        page.references = sorted(
            (node.start_byte, node.end_byte, kind)
            for kind in _REFERENCE_KINDS
            for node in captured.get(kind, ())
        )


@cache
def _grammar(language: Language) -> "tuple[ts.Language, ts.Query, ts.Query | None]":
    """Its grammar, the query of what it defines and imports, and the query of what it uses."""
    import tree_sitter as ts
    from tree_sitter_language_pack import SupportedLanguage, get_language

    grammar = get_language(cast(SupportedLanguage, language.grammar))
    queries = language.queries
    uses = ts.Query(grammar, queries.references) if queries.references else None
    return grammar, ts.Query(grammar, queries.symbols + queries.imports), uses


def _parse(grammar: "ts.Language", source: bytes) -> "ts.Tree | None":
    """The tree, or None if it takes too long."""
    import tree_sitter as ts

    deadline = time.monotonic() + PARSE_LIMIT_S
    # Predicates read through the callback too, so the pieces are small. They are bytes and no
    # memoryview, which crashes there: https://github.com/tree-sitter/py-tree-sitter/issues/435
    try:
        return ts.Parser(grammar).parse(
            lambda at, _: source[at : at + _READ_BYTES],
            progress_callback=lambda _at, _has_error: time.monotonic() > deadline,
        )
    except ValueError:  # "Parsing failed": the callback said so
        return None


def _cursor(query: "ts.Query") -> "ts.QueryCursor":
    """A cursor that does not go down into absurd depths, where it takes time by the square."""
    import tree_sitter as ts

    cursor = ts.QueryCursor(query, match_limit=_MATCH_LIMIT)
    cursor.set_max_start_depth(_MAX_TREE_DEPTH)
    return cursor


def _query_cost(root: "ts.Node") -> int:
    """Steps that a query takes beyond a few per node.

    At each node the cursor of a query looks for the next named one among those after it
    (`ts_tree_cursor_current_status`, tree-sitter 0.26), so that a run of tokens without a named
    node, as in an `ERROR`, costs its square. Looks only into nodes that are large enough.
    """
    cost = 0
    large = [root]
    while large:
        run = 0
        for node in large.pop().children:
            if not node.is_named:
                run += 1
                continue
            cost += run * run
            run = 0
            if node.end_byte - node.start_byte >= _LARGE_BYTES:
                large.append(node)
        cost += run * run
    return cost


def _mark(page: _Page, captures: "Mapping[str, Sequence[ts.Node]]") -> _Mark:
    """The definition of a match. Of its captures, one is named for the kind of the symbol."""
    kind = next(key for key in captures if key in KINDS or key in ("container", "wrapper"))
    nodes = captures[kind]
    mark = _Mark(nodes[0].start_byte, nodes[-1].end_byte, cast(Kind, kind))
    mark.name_start = mark.start
    if name := captures.get("name") or captures.get("path"):
        mark.name_start = name[0].start_byte
        mark.name = page.text(mark.name_start, name[-1].end_byte)[:MAX_NAME_CHARS]
        if "path" in captures:
            path = _TYPE_ARGUMENTS.sub("", mark.name)
            mark.scope, _, mark.name = path.rpartition(page.language.separator)
        mark.name = _type_name(mark.name) if kind == "container" else _squeezed(mark.name)
    if scope := captures.get("scope"):
        mark.scope = _type_name(page.text(scope[0].start_byte, scope[-1].end_byte))
    if body := captures.get("body"):
        mark.body_start = body[0].start_byte
    if doc := captures.get("doc"):
        mark.doc = page.text(doc[0].start_byte, doc[-1].end_byte)
    return mark


def _squeezed(name: str) -> str:
    name = " ".join(name.split()).removeprefix(":")
    return name[1:-1] if name[:1] in _QUOTES and name[-1:] == name[:1] else name


def _type_name(type_: str) -> str:
    """The name of a type without its arguments and what stands before: `Foo` of `&mut Foo<T>`."""
    words = type_.partition("<")[0].partition("[")[0].replace("*", " ").replace("&", " ").split()
    return words[-1].strip("()")[:MAX_NAME_CHARS] if words else ""


def _add_import(page: _Page, captures: "Mapping[str, Sequence[ts.Node]]") -> None:
    """One import per module and statement, however many names it takes."""
    module = captures["from"]
    name = page.text(module[0].start_byte, module[-1].end_byte).strip("\"'`<> \t\r\n")
    name = name.removeprefix("import ")[:MAX_NAME_CHARS]
    statement = captures.get("import", module)[0]
    names = page.imports.setdefault((statement.start_byte, name), [])
    names.extend(page.text(n.start_byte, n.end_byte) for n in captures.get("imported", ()))


def _imports(page: _Page) -> list[Import]:
    return [
        Import(module, tuple(names), page.line_at(at))
        for (at, module), names in sorted(page.imports.items())
        if module
    ]


def _symbols(page: _Page) -> tuple[list[Symbol], list[tuple[int, int]], list[Span]]:
    """Symbols in order, and beside them where they are in bytes and in lines."""
    symbols: list[Symbol] = []
    extents: list[tuple[int, int]] = []
    spans: list[Span] = []
    open_marks: list[_Mark] = []
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


def _is_beside(earlier: _Mark, mark: _Mark) -> bool:
    """`int a, b;` has two marks of one extent, neither of which is in the other."""
    return earlier.kind != "wrapper" and (earlier.start, earlier.end) == (mark.start, mark.end)


def _kind(mark: _Mark, around: _Mark | None, language: Language) -> Kind | None:
    """What the symbol is, seen from what is around it; None for what is local to a function."""
    kind = cast(Kind, mark.kind)
    is_member = mark.scope != "" or (
        around is not None and (around.kind == "container" or around.kind in CLASS_KINDS)
    )
    if kind in VALUE_KINDS:
        if around is not None and around.kind in FUNCTION_KINDS:
            return None
        if kind == "variable" and _CONSTANT.match(mark.name):
            return "constant"
        return "field" if is_member and kind == "variable" else kind
    if kind in ("function", "method") and is_member:
        of = mark.scope.rpartition(language.separator)[2] or (around.name if around else "")
        is_constructor = mark.name in language.constructors or mark.name == of
        return "constructor" if is_constructor else "method"
    return kind


def _outer_start(page: _Page, open_marks: Sequence[_Mark], mark: _Mark) -> int:
    """Where the symbol starts with its decorators, `export` or `template <...>`."""
    start = mark.start
    for outer in reversed(open_marks):
        rest = page.source[mark.end : min(outer.end, mark.end + 8)]
        if outer.kind != "wrapper" or outer.end > mark.end + 8 or rest.strip(b"; \t\r\n"):
            break
        start = outer.start
    return start


def _qualified(language: Language, mark: _Mark) -> str:
    return language.separator.join(filter(None, (mark.qualified_name, mark.scope, mark.name)))


def _symbol(
    page: _Page, mark: _Mark, kind: Kind, outer: int, decorated: frozenset[int]
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


def _signature(page: _Page, mark: _Mark, start: int) -> str:
    end = mark.body_start if mark.body_start > mark.start else mark.end
    end = min(end, mark.start + _DECLARATION_BYTES)
    parts = []
    n_before = bisect_right(page.decorators, (start, -1))
    for decorator_start, decorator_end in page.decorators[n_before:]:
        if decorator_start >= end:
            break
        if decorator_start >= start:
            parts.append(page.text(start, decorator_start))
            start = decorator_end
    parts.append(page.text(start, end))
    declaration = " ".join(parts)
    first_line, _, rest = declaration.strip().partition("\n")
    if mark.kind == "heading":
        declaration = first_line
    elif mark.kind in VALUE_KINDS and rest:
        declaration = f"{first_line} …"
    return one_line(declaration, page.language.line_comments)


def _decorator_lines(page: _Page) -> frozenset[int]:
    spans = ((page.line_at(s), page.last_line(s, e)) for s, e in page.decorators)
    return frozenset(chain.from_iterable(range(first, last + 1) for first, last in spans))


def _comment_above(page: _Page, line: int, decorated: frozenset[int]) -> tuple[Sequence[str], int]:
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


def _references(page: _Page, extents: Sequence[tuple[int, int]]) -> list[Reference]:
    """What is used, each with the innermost symbol around it, by one sweep over both."""
    found: dict[tuple[str, int, ReferenceKind], Reference] = {}
    names = {mark.name_start for mark in page.marks if mark.kind != "wrapper"}
    inside: list[int] = []
    upcoming = 0
    for start, end, kind in page.references:
        while upcoming < len(extents) and extents[upcoming][0] <= start:
            inside.append(upcoming)
            upcoming += 1
        # The innermost is the last one that is still open; those above it on the stack are over.
        while inside and extents[inside[-1]][1] <= start:
            inside.pop()
        symbol = inside[-1] if inside else -1
        if start in names:
            continue  # the definition itself
        name = page.text(start, end).strip("\"'")
        if name in _SELF or not 0 < len(name) <= MAX_NAME_CHARS:
            continue
        if (name, symbol, kind) not in found:
            found[name, symbol, kind] = Reference(name, page.line_at(start), symbol, kind)
    return list(found.values())
