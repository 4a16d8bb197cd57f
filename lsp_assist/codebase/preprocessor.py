"""C as a parser can take it: conditionals that tear blocks apart are reduced to one branch.

A grammar reads `#if` like a statement, with whole statements in it. Where a branch opens a brace
that is closed outside of it, everything after it is misread, often to the end of the file. There
the lines of the directives and all branches but one become blanks; every byte stays where it is.

Pure. Knows no grammar.
"""

import re
from dataclasses import dataclass, field
from itertools import pairwise

__all__ = ["without_torn_branches"]

_DIRECTIVE = re.compile(
    rb"#[ \t]*(if|ifdef|ifndef|elif|elifdef|elifndef|else|endif)\b((?:\\\r?\n|[^\n])*)"
)
_BRACKET = re.compile(
    rb"/\*.*?(?:\*/|\Z)|//[^\n]*"
    rb"|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|^[ \t]*#(?:\\\r?\n|[^\n])*|([](){}[])",
    re.DOTALL | re.MULTILINE,
)
_PAIRS = ((b"{", b"}"), (b"(", b")"), (b"[", b"]"))
_OPENING = {closing: opening for opening, closing in _PAIRS}
_STARTS_HALFWAY = re.compile(rb"\s*(?:else\b|\|\||&&|[?:,.=)])")
_WHOLE_ENDS = b";}"  # of a branch that holds whole statements
_TAIL_BYTES = 2_000
_NOT_LINE_END = re.compile(rb"[^\r\n]")
_NEVER = re.compile(rb"\s*(?:0\b|FALSE\b|false\b)")


@dataclass(slots=True)
class _Conditional:
    """A conditional that is open: where its directives are, each with its end."""

    directives: list[tuple[int, int]] = field(default_factory=list)
    is_never: bool = False
    """Whether its first branch is there for nobody, as in `#if 0`."""


def without_torn_branches(source: bytes) -> bytes:
    """The text with as many bytes, whose conditionals hold whole blocks; the same if they do."""
    text: bytearray | None = None
    open_ones: list[_Conditional] = []
    for found in _DIRECTIVE.finditer(source):
        word, at = found[1], found.start()
        if source[source.rfind(b"\n", 0, at) + 1 : at].strip():
            continue  # not the first on its line
        if word.startswith(b"if"):
            is_never = word == b"if" and _NEVER.match(found[2]) is not None
            open_ones.append(_Conditional([found.span()], is_never))
        elif open_ones:
            open_ones[-1].directives.append(found.span())
            if word == b"endif":
                conditional = open_ones.pop()
                if _is_torn(source if text is None else text, conditional):
                    text = bytearray(source) if text is None else text
                    _reduce(text, conditional)
    return source if text is None else bytes(text)


def _branches(conditional: _Conditional) -> list[tuple[int, int]]:
    at = conditional.directives
    return [(before[1], after[0]) for before, after in pairwise(at)]


def _is_torn(text: bytes | bytearray, conditional: _Conditional) -> bool:
    return any(_has_open_end(text, start, end) for start, end in _branches(conditional))


def _has_open_end(text: bytes | bytearray, start: int, end: int) -> bool:
    """Whether a branch opens what it does not close, closes what was open, or ends halfway."""
    if _STARTS_HALFWAY.match(text, start, end):
        return True
    # Prose and other people's macros hold single brackets of the other kinds.
    pairs = _PAIRS if end - start < _TAIL_BYTES else _PAIRS[:1]
    counts = [(text.count(a, start, end), text.count(b, start, end)) for a, b in pairs]
    closes_first = any(
        n and 0 <= text.find(closing, start, end) < text.find(opening, start, end)
        for (opening, closing), (n, _) in zip(pairs, counts, strict=True)
    )
    if not closes_first and all(n_open == n_closed for n_open, n_closed in counts):
        return _ends_halfway(bytes(text[max(start, end - _TAIL_BYTES) : end]))
    depth = dict.fromkeys((opening for opening, _ in pairs), 0)
    for found in _BRACKET.finditer(text, start, end):
        bracket = found[1]
        opening = _OPENING.get(bracket, bracket)
        if opening in depth:
            depth[opening] += 1 if opening == bracket else -1
            if depth[opening] < 0:
                return True
    return any(depth.values())


def _ends_halfway(branch: bytes) -> bool:
    """Whether a branch ends within a statement or a list. Looks past comments and directives."""
    rest = branch.rstrip()
    while rest and rest[-1] not in _WHOLE_ENDS:
        line_start = rest.rfind(b"\n") + 1
        while rest[:line_start].rstrip(b"\r\n").endswith(b"\\"):
            line_start = rest.rfind(b"\n", 0, line_start - 1) + 1
        line = rest[line_start:]
        if line.lstrip().startswith(b"#"):
            return False
        if rest.endswith(b"*/"):
            cut = rest.rfind(b"/*", 0, -2)
        elif (slashes := line.find(b"//")) >= 0:
            cut = line_start + slashes
        else:
            return True
        rest = rest[: max(cut, 0)].rstrip()
    return False


def _reduce(text: bytearray, conditional: _Conditional) -> None:
    """Blank out the directives and all branches but the first that is meant for anybody."""
    branches = _branches(conditional)
    kept = branches[1 if conditional.is_never and len(branches) > 1 else 0]
    if conditional.is_never and len(branches) == 1:
        kept = (kept[0], kept[0])
    first, last = conditional.directives[0][0], conditional.directives[-1][1]
    for start, end in ((first, kept[0]), (kept[1], last)):
        text[start:end] = _NOT_LINE_END.sub(b" ", bytes(text[start:end]))
