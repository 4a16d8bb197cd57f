"""Functions with what their authors say of them, and the same text without any of it.

Lines keep their numbers, so a function is at one place in both texts. Pure: knows no index.
"""

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from lsp_assist.codebase.documents import split_lines
from lsp_assist.codebase.languages import Language, language_of
from lsp_assist.codebase.outline import outline
from lsp_assist.codebase.prose import comment_start
from lsp_assist.codebase.symbols import Symbol

__all__ = ["MIN_WORDS", "Described", "Undocumented", "first_paragraph", "undocumented"]

MIN_WORDS = 5
MIN_LINES = 3
"""A shorter function has no body to be found by."""
LANGUAGES = frozenset(
    {"c", "cpp", "go", "java", "javascript", "python", "rust", "tsx", "typescript"}
)

_KINDS = frozenset({"function", "method", "constructor"})


@dataclass(frozen=True, slots=True)
class Described:
    """A function and the first paragraph of its documentation."""

    qualified_name: str
    ordinal: int
    """Its place in the outline of the text without documentation."""
    paragraph: str


@dataclass(frozen=True, slots=True)
class Undocumented:
    """A file without the documentation of its functions."""

    text: str
    functions: tuple[Described, ...]
    """Those whose first paragraph has at least `MIN_WORDS` words beside the function's name."""


@dataclass(frozen=True, slots=True)
class _Doc:
    """Lines, both included, and what they say."""

    start_line: int
    end_line: int
    text: tuple[str, ...]
    instead: str = ""
    """What stands in their place where a body would have nothing else."""


def undocumented(path: str, text: str) -> Undocumented:
    """The text with every function's docstring or comment above blanked, and what they said."""
    language = language_of(path, text[:200].partition("\n")[0])
    if language is None or language.name not in LANGUAGES:
        return Undocumented(text, ())
    lines = split_lines(text)
    symbols = [s for s in outline(path, text, language).symbols if s.kind in _KINDS]
    docs = dict(_docs(language, text, lines, symbols))
    for doc in docs.values():
        lines[doc.start_line : doc.end_line + 1] = [
            doc.instead,
            *[""] * (doc.end_line - doc.start_line),
        ]
    stripped = "\n".join(lines)
    if not docs:
        return Undocumented(text, ())
    remaining = outline(path, stripped, language).symbols
    at = {(s.qualified_name, s.name_line): ordinal for ordinal, s in enumerate(remaining)}
    found = []
    for symbol in symbols:
        said = docs.get(symbol)
        ordinal = at.get((symbol.qualified_name, symbol.name_line))
        if said is None or ordinal is None or not _has_body(language, lines, symbol, said):
            continue
        paragraph = _without_name(first_paragraph(said.text), symbol.name)
        if len(re.findall(r"\w+", paragraph)) >= MIN_WORDS:
            found.append(Described(symbol.qualified_name, ordinal, paragraph))
    return Undocumented(stripped, tuple(found))


def first_paragraph(comment: Iterable[str]) -> str:
    """The first paragraph of a comment or docstring on one line, without its marks and tags."""
    words: list[str] = []
    for row in comment:
        said = _END_MARK.sub("", _MARK.sub("", row.strip())).strip()
        has_word = any(map(str.isalnum, said))
        if (words and not said) or (_SECTION.match(said) and (words or has_word)):
            break
        if has_word:
            words.append(said)
    return " ".join(_TAG.sub(r" \1 ", " ".join(words)).split())


_MARK = re.compile(r"^(?:[rRuU]?(?:\"{3}|'{3}|[\"'])|/\*+!?|\*+(?!/)|//[/!]?|#+)\s?")
_END_MARK = re.compile(r"\s*(?:\*+/|\"{3}|'{3}|(?<=[.!?])[\"'])$")
_TAG = re.compile(r"</?\w+[^<>]*/?>|\{@\w+\s+([^}]*)\}")
_SECTION = re.compile(
    r"^(?:[@\\](?!brief\b)\w|:\w+[^:]*:(?!`)|\.\. |```|#+ |-{3,}|={3,}|>>> "
    r"|(?:Args|Arguments|Parameters|Returns?|Raises|Examples?|Safety|Panics|Errors)\s*:?$)"
)


def _without_name(paragraph: str, name: str) -> str:
    """The paragraph without the name that it begins with, as in Go: a question does not know it."""
    return re.sub(rf"^`*(?:\w+\.)*{re.escape(name)}`*(?:\(\))?\s*[:-]*\s*", "", paragraph)


def _has_body(language: Language, lines: Sequence[str], symbol: Symbol, doc: _Doc) -> bool:
    """Whether there is something beside the documentation: no prototype, nothing abstract."""
    own = [line for line in lines[symbol.start_line : symbol.end_line + 1] if line.strip()]
    if doc.instead or len(own) < MIN_LINES:
        return False
    return language.name == "python" or any("{" in line for line in own)


def _docs(
    language: Language, text: str, lines: Sequence[str], symbols: Sequence[Symbol]
) -> Iterator[tuple[Symbol, _Doc]]:
    if language.name == "python":
        yield from _docstrings(text, lines, symbols)
        return
    for symbol in symbols:
        start = comment_start(
            lines, symbol.start_line, language.line_comments, language.block_comments
        )
        if start < symbol.start_line:
            end = symbol.start_line - 1
            yield symbol, _Doc(start, end, tuple(lines[start : end + 1]))


def _docstrings(
    text: str, lines: Sequence[str], symbols: Sequence[Symbol]
) -> Iterator[tuple[Symbol, _Doc]]:
    at = {symbol.name_line: symbol for symbol in symbols}
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return  # a template, or another version of the language
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        symbol, doc = at.get(node.lineno - 1), node.body[0]
        said = ast.get_docstring(node)
        if symbol is None or said is None or doc.end_lineno is None:
            continue
        start, end = doc.lineno - 1, doc.end_lineno - 1
        if lines[start][: doc.col_offset].strip() or ";" in lines[end][doc.end_col_offset :]:
            continue
        is_all = len(node.body) == 1
        yield (
            symbol,
            _Doc(
                start,
                end,
                tuple(said.splitlines()),
                " " * doc.col_offset + "..." if is_all else "",
            ),
        )
