"""The outline of a file: its symbols, references, imports and chunks, from one parse.

The only home of tree-sitter, which is imported at the first parse. Pure: reads no file and keeps
no text. Never raises on any text: what cannot be parsed in time gives chunks without symbols.
Knows no other file, so it resolves no name.
"""

import re
import time
from functools import cache
from itertools import accumulate
from operator import attrgetter
from typing import TYPE_CHECKING, cast

from lsp_assist.codebase.chunks import cut
from lsp_assist.codebase.documents import split_lines
from lsp_assist.codebase.languages import Language
from lsp_assist.codebase.preprocessor import without_torn_branches
from lsp_assist.codebase.receivers import Binding, made_type, written_type
from lsp_assist.codebase.structure import (
    MAX_NAME_CHARS,
    Mark,
    Page,
    Taken,
    imports_of,
    references_of,
    symbols_of,
)
from lsp_assist.codebase.symbols import (
    KINDS,
    Chunk,
    Import,
    Kind,
    Outline,
    Reference,
    ReferenceKind,
    Symbol,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import tree_sitter as ts

__all__ = [
    "PARSE_LIMIT_S",
    "Chunk",
    "Import",
    "Outline",
    "Reference",
    "Symbol",
    "line_starts",
    "outline",
    "outline_of",
    "parsable",
    "parsed",
    "read",
]

PARSE_LIMIT_S = 2.0
"""What a file may take to parse. The queries are bounded by their size, not by the clock:
py-tree-sitter 0.26.1 crashes in the progress callback of a query."""
_MAX_QUERY_COST = 300_000_000
"""About a second, in the steps of `_query_cost`."""
_MAX_TREE_DEPTH = 1_000
_MATCH_LIMIT = 256
_LARGE_BYTES = 2_000
_READ_BYTES = 2_048
_LINE_END = re.compile(rb"\r\n|\n|\r")
_TYPE_ARGUMENTS = re.compile(r"(?<!operator)<[^<>]*>")
_QUOTES = ("'", '"', "`")
_REFERENCE_KINDS = frozenset[ReferenceKind](("call", "type", "name"))


def outline(path: str, text: str, language: Language) -> Outline:
    """What the text defines, uses and imports, and how it is cut into chunks.

    `path` is only carried along.
    """
    source = text.encode("utf-8", "replace")  # a lone surrogate would break the predicates
    page = Page(language, source, split_lines(text), line_starts(source))
    if language.grammar and source:
        tree, page.problem = parsed(language, parsable(language, source))
        if tree is not None:
            read(page, tree.root_node)
    return outline_of(path, page)


def outline_of(path: str, page: Page) -> Outline:
    """The outline of a page that was read."""
    symbols, extents, spans = symbols_of(page)
    return Outline(
        path=path,
        language=page.language.name,
        n_lines=len(page.lines),
        symbols=tuple(symbols),
        references=tuple(references_of(page, symbols, extents)),
        imports=tuple(imports_of(page)),
        chunks=tuple(cut(page.lines, symbols, spans)),
        problem=page.problem,
    )


def line_starts(source: bytes) -> list[int]:
    """Where the lines start, in bytes."""
    if b"\r" not in source:  # the same, three times faster, for what nearly all files are
        lengths = map(len, source.split(b"\n"))
        return list(accumulate(lengths, lambda at, length: at + length + 1, initial=0))[:-1]
    return [0, *(end.end() for end in _LINE_END.finditer(source))]


def parsable(language: Language, source: bytes) -> bytes:
    """The text as its grammar can take it; every byte is where it was."""
    return without_torn_branches(source) if language.has_preprocessor else source


def parsed(
    language: Language, source: bytes, before: "ts.Tree | None" = None
) -> "tuple[ts.Tree | None, str]":
    """The tree of a text, else why there is none. `before` is that of an earlier text, edited."""
    try:
        grammar = _grammar(language)[0]
    except (ImportError, LookupError, ValueError) as error:
        return None, f"The grammar {language.grammar!r} cannot be used: {error}"
    tree = _parse(grammar, source, before)
    if tree is None:
        return None, f"Parsing took more than {PARSE_LIMIT_S:g} s; no symbols"
    if _query_cost(tree.root_node) > _MAX_QUERY_COST:
        return None, "Too little of it can be parsed; no symbols"
    return tree, ""


def read(page: Page, root: "ts.Node", within: "Sequence[tuple[int, int] | None]" = (None,)) -> None:
    """Fill in what the queries capture; `within` stretches of bytes, and what reaches into them."""
    _, definitions, uses, local = _grammar(page.language)
    named: dict[int, tuple[int, Mark]] = {}
    for pattern, captures in _matches(definitions, root, within):
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
        page.references = sorted(
            {
                (node.start_byte, node.end_byte, kind)
                for stretch in within
                for kind, nodes in _cursor(uses, stretch).captures(root).items()
                if kind in _REFERENCE_KINDS
                for node in nodes
            }
        )
    if local is not None:
        page.bindings = sorted(
            (_binding(page, captures) for _, captures in _matches(local, root, within)),
            key=attrgetter("start"),
        )


@cache
def _grammar(
    language: Language,
) -> "tuple[ts.Language, ts.Query, ts.Query | None, ts.Query | None]":
    """Its grammar, and the queries of what it defines and imports, of what it uses, of locals."""
    import tree_sitter as ts
    from tree_sitter_language_pack import SupportedLanguage, get_language

    grammar = get_language(cast(SupportedLanguage, language.grammar))
    queries = language.queries
    uses = ts.Query(grammar, queries.references) if queries.references else None
    local = ts.Query(grammar, queries.locals) if queries.locals else None
    return grammar, ts.Query(grammar, queries.symbols + queries.imports), uses, local


def _parse(grammar: "ts.Language", source: bytes, before: "ts.Tree | None") -> "ts.Tree | None":
    """The tree, or None if it takes too long."""
    import tree_sitter as ts

    deadline = time.monotonic() + PARSE_LIMIT_S

    # Predicates read through the callback too, so the pieces are small. They are bytes and no
    # memoryview, which crashes there: https://github.com/tree-sitter/py-tree-sitter/issues/435
    def is_late(_at: int, _has_error: bool) -> bool:
        return time.monotonic() > deadline

    def piece(at: int, _: object) -> bytes:
        return source[at : at + _READ_BYTES]

    parser = ts.Parser(grammar)
    try:
        if before is None:
            return parser.parse(piece, progress_callback=is_late)
        return parser.parse(piece, before, progress_callback=is_late)
    except ValueError:  # "Parsing failed": the callback said so
        return None


def _cursor(query: "ts.Query", within: tuple[int, int] | None) -> "ts.QueryCursor":
    """A cursor that does not go down into absurd depths, where it takes time by the square."""
    import tree_sitter as ts

    cursor = ts.QueryCursor(query, match_limit=_MATCH_LIMIT)
    cursor.set_max_start_depth(_MAX_TREE_DEPTH)
    if within is not None:
        cursor.set_byte_range(*within)
    return cursor


def _matches(
    query: "ts.Query", root: "ts.Node", within: "Sequence[tuple[int, int] | None]"
) -> "Iterator[tuple[int, Mapping[str, Sequence[ts.Node]]]]":
    for stretch in within:
        yield from _cursor(query, stretch).matches(root)


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


def _mark(page: Page, captures: "Mapping[str, Sequence[ts.Node]]") -> Mark:
    """The definition of a match. Of its captures, one is named for the kind of the symbol."""
    kind = next(key for key in captures if key in KINDS or key in ("container", "wrapper"))
    nodes = captures[kind]
    mark = Mark(nodes[0].start_byte, nodes[-1].end_byte, cast(Kind, kind))
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
    """The name of a type without its arguments and marks: `Foo` of `&mut Foo<T>`."""
    words = type_.partition("<")[0].partition("[")[0].replace("*", " ").replace("&", " ").split()
    return words[-1].strip("()")[:MAX_NAME_CHARS] if words else ""


def _add_import(page: Page, captures: "Mapping[str, Sequence[ts.Node]]") -> None:
    """One import per module and statement, however many names it takes."""
    module = captures["from"]
    name = page.text(module[0].start_byte, module[-1].end_byte).strip("\"'`<> \t\r\n")
    name = name.removeprefix("import ")[:MAX_NAME_CHARS]
    statement = captures.get("import", module)[0]
    taken = page.imports.setdefault((statement.start_byte, name), Taken())
    if alias := captures.get("alias"):
        taken.alias = page.text(alias[0].start_byte, alias[0].end_byte)
    names = [_imported(page, n) for n in captures.get("imported", ())]
    if default := captures.get("default"):
        names, aliases = ["default"], default
    else:
        aliases = captures.get("as", [])
    taken.names += names
    taken.aliases += [_imported(page, n) for n in aliases] or names


def _imported(page: Page, node: "ts.Node") -> str:
    name = page.text(node.start_byte, node.end_byte)
    return "*" if name == "." else name.removeprefix(":")


def _binding(page: Page, captures: "Mapping[str, Sequence[ts.Node]]") -> Binding:
    """A local variable or an attribute, and what is said of its type."""
    is_attribute = "attribute" in captures
    node = captures["attribute" if is_attribute else "local"][0]
    type_ = ""
    if made := captures.get("made"):
        type_ = made_type(page.text(made[0].start_byte, made[0].end_byte))
    elif held := captures.get("value"):
        type_ = page.text(held[0].start_byte, held[0].end_byte)
    elif written := captures.get("type"):
        type_ = written_type(page.text(written[0].start_byte, written[0].end_byte))
    name = page.text(node.start_byte, node.end_byte)
    return Binding(node.start_byte, name, type_, is_attribute)
