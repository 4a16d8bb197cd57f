"""How a file is cut into chunks: one per function, a header per class, the rest as it stands.

Works on lines and on the spans of symbols. Knows no parser and no language.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from lsp_assist.codebase.symbols import CLASS_KINDS, Chunk, Symbol

__all__ = ["MAX_CHARS", "MAX_LINES", "WHOLE_LINES", "Span", "cut", "text_hash"]

MAX_LINES = 120
MAX_CHARS = 6_000
"""A larger piece is split, where its lines allow it: a single longer line stays whole."""
WHOLE_LINES = 16
"""A class of up to so many lines is one chunk."""
INLINE_LINES = 3
"""A symbol without a body of up to so many lines stays in the text around it."""

STRAY_LINES = 2

_WORD = re.compile(r"\w")
_CLASS_LIKE = CLASS_KINDS | {"namespace", "module", "heading"}


@dataclass(frozen=True, slots=True)
class Span:
    """What a symbol needs to be cut: its lines with the comments above them, and its body."""

    lead_line: int
    end_line: int
    has_body: bool


@dataclass(frozen=True, slots=True)
class _Piece:
    symbol: int
    start_line: int
    end_line: int


def cut(lines: Sequence[str], symbols: Sequence[Symbol], spans: Sequence[Span]) -> list[Chunk]:
    """Chunks that partition the lines in order; none for a blank text.

    A chunk is about one symbol at most. Symbols without a body (constants, prototypes) stay in
    the text around them, which is about the only one in it, or about the symbol around it.
    """
    n_lines = len(lines) - (1 if lines and not lines[-1] else 0)
    children: dict[int, list[int]] = {}
    inline: list[int] = []  # in order
    for index, (symbol, span) in enumerate(zip(symbols, spans, strict=True)):
        if span.has_body or span.end_line - symbol.start_line >= INLINE_LINES:
            children.setdefault(symbol.parent, []).append(index)
        elif _is_scope(symbols, symbol.parent):
            inline.append(index)

    pieces = _pieces(lines, symbols, spans, children, n_lines)
    chunks = []
    for piece in _merged(lines, symbols, pieces):
        about = piece.symbol
        if _is_scope(symbols, about):
            about = _only_symbol(piece, symbols, inline)
        name = symbols[about].qualified_name if about != -1 else ""
        for start, end in _split(lines, piece.start_line, piece.end_line):
            chunks.append(Chunk(about, start, end, text_hash(name, lines[start : end + 1])))
    return chunks


def text_hash(qualified_name: str, lines: Sequence[str]) -> str:
    """Names a chunk by its symbol and its text, whatever file it is in."""
    text = "\n".join((qualified_name, *lines))
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _pieces(
    lines: Sequence[str],
    symbols: Sequence[Symbol],
    spans: Sequence[Span],
    children: dict[int, list[int]],
    n_lines: int,
) -> Iterator[_Piece]:
    """The lines, taken apart along symbols. As deep as symbols are nested, which is bounded."""

    def parts(symbol: int, start: int, end: int) -> Iterator[_Piece]:
        at = start
        if symbol == -1 or _is_taken_apart(lines, symbols[symbol].kind, start, end):
            for child in children.get(symbol, ()):
                first = max(spans[child].lead_line, at)
                last = min(spans[child].end_line, end)
                if first > last:
                    continue  # it shares its only line with the one before
                if first > at:
                    yield _Piece(symbol, at, first - 1)
                yield from parts(child, first, last)
                at = last + 1
        if at <= end:
            yield _Piece(symbol, at, end)

    return parts(-1, 0, n_lines - 1)


def _is_taken_apart(lines: Sequence[str], kind: str, start: int, end: int) -> bool:
    if kind in _CLASS_LIKE:
        return end - start >= WHOLE_LINES
    return _is_too_large(lines, start, end)


def _is_too_large(lines: Sequence[str], start: int, end: int) -> bool:
    return end - start >= MAX_LINES or sum(map(len, lines[start : end + 1])) > MAX_CHARS


def _merged(
    lines: Sequence[str], symbols: Sequence[Symbol], pieces: Iterator[_Piece]
) -> list[_Piece]:
    """Pieces that say something; brackets, blank lines and stray lines go to the one before."""
    starts = [symbol.start_line for symbol in symbols]
    kept: list[_Piece] = []
    blank_from = -1
    for piece in pieces:
        own = lines[piece.start_line : piece.end_line + 1]
        is_blank = not any(map(_WORD.search, own))
        if kept and (is_blank or _is_stray(own, starts, piece)):
            kept[-1] = _Piece(kept[-1].symbol, kept[-1].start_line, piece.end_line)
        elif is_blank:
            blank_from = piece.start_line if blank_from == -1 else blank_from
        else:
            start = piece.start_line if blank_from == -1 else blank_from
            kept.append(_Piece(piece.symbol, start, piece.end_line))
            blank_from = -1
    if blank_from != -1 and any(map(str.strip, lines)):
        kept.append(_Piece(-1, blank_from, len(lines) - (0 if lines[-1] else 1) - 1))
    return kept


def _is_stray(own: Sequence[str], starts: Sequence[int], piece: _Piece) -> bool:
    """A line or two between symbols, such as `#endif` or `private:`, that no symbol starts in."""
    if len(own) > 2 * STRAY_LINES or sum(1 for line in own if line.strip()) > STRAY_LINES:
        return False
    at = bisect_left(starts, piece.start_line)
    return at == len(starts) or starts[at] > piece.end_line


def _only_symbol(piece: _Piece, symbols: Sequence[Symbol], inline: Sequence[int]) -> int:
    """The symbol that starts within the piece if there is exactly one, else the one around it."""
    at = bisect_left(inline, piece.start_line, key=lambda i: symbols[i].start_line)
    starts_within = [i for i in inline[at : at + 2] if symbols[i].start_line <= piece.end_line]
    return starts_within[0] if len(starts_within) == 1 else piece.symbol


def _is_scope(symbols: Sequence[Symbol], symbol: int) -> bool:
    """The file or a namespace: what stands in it on its own has little to do with it."""
    return symbol == -1 or symbols[symbol].kind in ("namespace", "module")


def _split(lines: Sequence[str], start: int, end: int) -> Iterator[tuple[int, int]]:
    """Parts that are small enough, cut at blank lines and where the indentation is least."""
    while _is_too_large(lines, start, end):
        n_chars, last = 0, start
        while last <= end and last - start < MAX_LINES:
            n_chars += len(lines[last])
            if n_chars > MAX_CHARS:
                break
            last += 1
        # The next part begins at `last` at the latest, and not before half of the way there.
        if last <= start + 1:
            at = start + 1
        else:
            candidates = range(start + max(1, (last - start) // 2), last + 1)
            at = min(candidates, key=lambda i: (_cut_cost(lines, i), -i))
        if at > end:
            break
        yield start, at - 1
        start = at
    yield start, end


def _cut_cost(lines: Sequence[str], at: int) -> int:
    """How bad it is to begin a part at this line: low after a blank line and far to the left."""
    line = lines[at]
    stripped = line.lstrip()
    if not stripped:
        return 1_000
    closes = 4 if stripped[0] in ")]}" or stripped.startswith(("end", "else", "elif")) else 0
    return len(line) - len(stripped) + closes - (6 if not lines[at - 1].strip() else 0)
