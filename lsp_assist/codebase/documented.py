"""What the authors of code say about it: each comment taken apart from the code that it is about.

Pairs to learn from, and to measure search with. Pure. Knows no corpus, no model and no index.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lsp_assist.codebase.documents import split_lines
from lsp_assist.codebase.languages import Language, language_of
from lsp_assist.codebase.outline import outline
from lsp_assist.codebase.prose import comment_start, paragraph_of
from lsp_assist.codebase.symbols import CLASS_KINDS, FUNCTION_KINDS

__all__ = ["Documented", "documented"]

MAX_DOC_CHARS = 300
MAX_CODE_LINES = 120
MIN_REMARK_WORDS = 4
MAX_REMARK_CODE_LINES = 12
_DOCSTRING = re.compile(r"""\s*[rRuU]?(\"{3}|'{3}|"|')""")


@dataclass(frozen=True, slots=True)
class Documented:
    """Code and what its comment says about it."""

    language: str
    name: str
    """Qualified name of the symbol that it is, or that it stands in."""
    doc: str
    """First paragraph of the comment, without marks; empty for code without one."""
    code: str
    """Without the comment."""
    is_symbol: bool
    """Whether the code is a whole symbol, not the lines below a remark within one."""
    start_line: int
    """Of the symbol's declaration, or of the first line below the remark."""


def documented(path: str, text: str) -> list[Documented]:
    """The functions and classes of a file, and the remarks within them, in order."""
    language = language_of(path, text[:200].partition("\n")[0])
    if language is None or not language.grammar:
        return []
    lines = split_lines(text)
    found = []
    for symbol in outline(path, text, language).symbols:
        n_lines = symbol.end_line - symbol.start_line + 1
        if symbol.kind not in FUNCTION_KINDS | CLASS_KINDS or n_lines > MAX_CODE_LINES:
            continue
        marks = language.line_comments, language.block_comments
        lead = lines[comment_start(lines, symbol.start_line, *marks) : symbol.start_line]
        code = lines[symbol.start_line : symbol.end_line + 1]
        if language.name == "python":
            lead, code = _without_docstring(code, symbol.name_line - symbol.start_line)
        name, start = symbol.qualified_name, symbol.start_line
        doc = paragraph_of(lead, MAX_DOC_CHARS)
        found.append(Documented(language.name, name, doc, "\n".join(code), True, start))
        if symbol.kind in FUNCTION_KINDS:
            for remark, below, at in _remarks(code, language):
                code_below = "\n".join(below)
                found.append(Documented(language.name, name, remark, code_below, False, start + at))
    return found


def _without_docstring(code: list[str], name_line: int) -> tuple[list[str], list[str]]:
    """The docstring of a Python symbol, and its code without it."""
    head = name_line
    while head < len(code) and not code[head].partition("#")[0].rstrip().endswith(":"):
        head += 1
    first = head + 1
    while first < len(code) and not code[first].strip():
        first += 1
    opening = _DOCSTRING.match(code[first]) if first < len(code) else None
    if opening is None:
        return [], code
    quotes = opening[1]
    last = first
    if quotes not in code[first][opening.end() :]:
        if len(quotes) == 1:
            return [], code
        last += 1
        while last < len(code) - 1 and quotes not in code[last]:
            last += 1
    return code[first : last + 1], code[:first] + code[last + 1 :]


def _remarks(code: Sequence[str], language: Language) -> Iterator[tuple[str, Sequence[str], int]]:
    """Comments on lines of their own, each with the lines below it and where those begin."""
    marks = language.line_comments
    at = 1
    while marks and at < len(code):
        if not code[at].lstrip().startswith(marks):
            at += 1
            continue
        start = at
        while at < len(code) and code[at].lstrip().startswith(marks):
            at += 1
        end = at
        while (
            end < len(code)
            and end - at < MAX_REMARK_CODE_LINES
            and code[end].strip()
            and not code[end].lstrip().startswith(marks)
        ):
            end += 1
        remark = paragraph_of(code[start:at], MAX_DOC_CHARS)
        if end > at and len(remark.split()) >= MIN_REMARK_WORDS:
            yield remark, code[at:end], at
