"""A file at four levels of detail: whole, outline with some bodies, outline, one line.

Pure, and deterministic to the byte: the same file gives the same segment whenever it is shown, so
that a cache knows it again. Knows no index, no budget and no order.
"""

import re
from collections.abc import Iterator, Sequence

from lsp_assist.codebase.documents import split_lines
from lsp_assist.codebase.ingest import text_digest
from lsp_assist.codebase.store import StoredSymbol
from lsp_assist.codebase.symbols import CLASS_KINDS, FUNCTION_KINDS
from lsp_assist.context.code import FileKey, ProjectFile
from lsp_assist.llm import Segment, SegmentKind, Source

__all__ = ["Lines", "fenced", "line", "skeleton", "touched", "whole"]

MAX_NAMES = 8
_BACKTICKS = re.compile("`+")

Lines = tuple[int, int]
"""First and last line, zero-based, both included."""


def whole(file: ProjectFile, text: str, kind: SegmentKind = "pack") -> Segment:
    """The file with all of its text."""
    head = f"File: {file.key.path}\n"
    opening, body, closing = fenced(file.language, text)
    start = len(head) + len(opening)
    return Segment(
        kind,
        f"{head}{opening}{body}{closing}\n",
        _source(file.key, len(split_lines(text))),
        level="whole",
        text_start=start,
        text_end=start + len(body) - 1,
        digest=text_digest(text),
    )


def touched(
    file: ProjectFile,
    symbols: Sequence[StoredSymbol],
    text: str,
    ranges: Sequence[Lines],
    kind: SegmentKind = "file",
) -> Segment:
    """The file's outline, with the text of the innermost symbols that lie in these ranges.

    Lines that are in a range and in no symbol are shown as well.
    """
    lines = split_lines(text)
    open_symbols = _touched_symbols(symbols, ranges)
    spans = [(s.start_line, min(s.end_line, len(lines) - 1)) for s in open_symbols]
    spans += [span for span in _clamped(ranges, len(lines)) if not _is_covered(span, spans)]
    merged = _merged(spans)
    shown: list[tuple[int, str]] = [
        (start, "\n".join(f"{n + 1}: {lines[n]}" for n in range(start, end + 1)))
        for start, end in merged
    ]
    shown += [
        (symbol.start_line, _signature(symbol, depth))
        for symbol, depth in _nested(symbols)
        if not any(start <= symbol.start_line <= end for start, end in merged)
    ]
    shown.sort(key=lambda part: part[0])
    body = "\n".join(part for _, part in shown)
    return Segment(
        kind,
        _outlined("Outline with the parts in question", file, body),
        _source(file.key, file.n_lines),
        level="touched",
        digest=text_digest(text),
    )


def skeleton(
    file: ProjectFile, symbols: Sequence[StoredSymbol], kind: SegmentKind = "pack"
) -> Segment:
    """The file's signatures, each with its line, indented as they are nested.

    A file without any is shown in one line.
    """
    if not symbols:
        return line(file, symbols, kind)
    body = "\n".join(_signature(symbol, depth) for symbol, depth in _nested(symbols))
    return Segment(
        kind,
        _outlined("Outline", file, body),
        _source(file.key, file.n_lines),
        level="skeleton",
        digest=file.digest,
    )


def line(file: ProjectFile, symbols: Sequence[StoredSymbol], kind: SegmentKind = "pack") -> Segment:
    """What the file is, in one line: its length and the first names that it defines."""
    names = [symbol.name for symbol, depth in _nested(symbols) if depth == 0 and symbol.name]
    named = ", ".join(names[:MAX_NAMES])
    if len(names) > MAX_NAMES:
        named += f" and {len(names) - MAX_NAMES} more"
    size = "1 line" if file.n_lines == 1 else f"{file.n_lines} lines"
    defines = f", defines {named}" if named else ""
    return Segment(
        kind,
        f"{file.key.path}: {size}{defines}\n",
        _source(file.key, file.n_lines),
        level="line",
        digest=file.digest,
    )


def fenced(language: str, text: str) -> tuple[str, str, str]:
    """Opening fence, text with one newline at its end, closing fence that no line of it closes."""
    longest = max(map(len, _BACKTICKS.findall(text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n", text.rstrip() + "\n", f"{fence}\n"


def _outlined(title: str, file: ProjectFile, body: str) -> str:
    opening, body, closing = fenced("", body)
    return f"{title}: {file.key.path}\n{opening}{body}{closing}\n"


def _signature(symbol: StoredSymbol, depth: int) -> str:
    said = " ".join((symbol.signature or symbol.qualified_name or symbol.name).split())
    return f"{symbol.start_line + 1}: {'  ' * depth}{said}"


def _nested(symbols: Sequence[StoredSymbol]) -> Iterator[tuple[StoredSymbol, int]]:
    """Each symbol and how many others lie around it."""
    around: list[StoredSymbol] = []
    for symbol in sorted(symbols, key=lambda s: (s.start_line, -s.end_line, s.ordinal)):
        while around and symbol.end_line > around[-1].end_line:
            around.pop()
        while around and symbol.start_line > around[-1].end_line:
            around.pop()
        yield symbol, len(around)
        if symbol.kind in CLASS_KINDS or symbol.end_line > symbol.start_line:
            around.append(symbol)


def _touched_symbols(
    symbols: Sequence[StoredSymbol], ranges: Sequence[Lines]
) -> list[StoredSymbol]:
    """The innermost symbols with a body that overlap a range."""
    found = [
        s
        for s in symbols
        if any(s.start_line <= end and start <= s.end_line for start, end in ranges)
    ]
    functions = [s for s in found if s.kind in FUNCTION_KINDS]
    return [
        s
        for s in functions
        if not any(
            o is not s and s.start_line <= o.start_line and o.end_line <= s.end_line
            for o in functions
        )
    ]


def _clamped(ranges: Sequence[Lines], n_lines: int) -> Iterator[Lines]:
    for start, end in ranges:
        if start < n_lines:
            yield start, min(end, n_lines - 1)


def _is_covered(span: Lines, spans: Sequence[Lines]) -> bool:
    return any(start <= span[0] and span[1] <= end for start, end in spans)


def _merged(spans: Sequence[Lines]) -> list[Lines]:
    merged: list[Lines] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


def _source(key: FileKey, n_lines: int) -> Source:
    return Source(key.path, 0, max(0, n_lines - 1), "", key.root)
