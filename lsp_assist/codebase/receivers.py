"""What a name is taken from, and what a file says about the types of its variables.

Works on text around a name and on what a query marked as bound, so that it is one and the same for
all languages. Knows no parser and no other file.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from lsp_assist.codebase.symbols import CLASS_KINDS, Symbol

__all__ = [
    "SELF",
    "UNKNOWN",
    "Binding",
    "Scopes",
    "Sweep",
    "made_type",
    "receiver_before",
    "written_type",
]

SELF = frozenset({"self", "Self", "cls", "this", "$this"})
UNKNOWN = "?"

_MAX_PARTS = 8
_MAX_STEPS = 3  # of variables that are made from variables
_MAX_BRACKET_BYTES = 2_000
_MAX_TYPE_CHARS = 120
_IDENTIFIER = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_$#") | set(
    range(0x80, 0x100)
)
_NO_MEMBER = b"([{,=!&"
_SPACE = b" \t\r\n"
_COMMENT = re.compile(rb"//|[#*]|--")
_OPENING = {ord(")"): ord("("), ord("]"): ord("["), ord(">"): ord("<")}
_TYPE_PATH = re.compile(r"[^\W\d]\w*(?:(?:\.|::|\\)[^\W\d]\w*)*")
# What stands around a type and says nothing about its members. `list` and the like are left alone:
# what is taken from a list is the list's.
_TRANSPARENT = frozenset(
    "Optional Union Annotated Final ClassVar Type Readonly Required NotRequired Box Rc Arc Ref"
    " RefMut unique_ptr shared_ptr weak_ptr Awaitable Promise Option Result const mut dyn impl"
    " struct enum class static final volatile unsigned typename".split()
)
_NOTHING = frozenset(
    "None null undefined nil auto var val let std collections typing t optional mut ref".split()
)


@dataclass(frozen=True, slots=True)
class Binding:
    """A name that a function or a class gives a value to."""

    start: int
    """Byte."""
    name: str
    type: str
    """`Session()` for an instance, the name of a variable for what that is; empty where nothing is
    said."""
    is_attribute: bool
    """Of the class around it; else local to the function around it."""


class Sweep:
    """The innermost of nested extents around ascending positions, in one pass over both."""

    def __init__(self, extents: Sequence[tuple[int, int]]) -> None:
        self._extents = extents
        self._inside: list[int] = []
        self._upcoming = 0

    def innermost(self, at: int) -> int:
        """Index of the innermost extent around a position, -1 outside of all."""
        extents, inside = self._extents, self._inside
        while self._upcoming < len(extents) and extents[self._upcoming][0] <= at:
            inside.append(self._upcoming)
            self._upcoming += 1
        # The innermost is the last one that is still open; those above it on the stack are over.
        while inside and extents[inside[-1]][1] <= at:
            inside.pop()
        return inside[-1] if inside else -1


class Scopes:
    """Which names are bound in which symbol of a file, and to what."""

    def __init__(self, symbols: Sequence[Symbol], implicit_self: bool) -> None:
        self._symbols = symbols
        self._implicit_self = implicit_self
        self._names: dict[int, dict[str, str]] = {}

    def bind(self, binding: Binding, symbol: int) -> None:
        """Note a binding within a symbol. What is bound twice has the type that was said first."""
        type_ = binding.type
        if type_ and not type_.endswith("()"):
            known = self.type_of(type_, symbol)
            type_ = "" if known == UNKNOWN else known
        if binding.is_attribute:
            symbol = self._class_around(symbol)
        elif symbol == -1 or self._symbols[symbol].kind in CLASS_KINDS:
            return  # a symbol itself
        if symbol == -1:
            return
        names = self._names.setdefault(symbol, {})
        names[binding.name] = names.get(binding.name) or type_

    def is_local(self, name: str, symbol: int) -> bool:
        """Whether the bare name is a variable of a function around it."""
        return self._find(name, symbol, attributes=False) is not None

    def type_of(self, receiver: str, symbol: int, n_steps: int = 0) -> str:
        """The receiver with what its variable is known to be; `?` for an unknown local."""
        root, dot, rest = receiver.partition(".")
        if root in SELF:
            attribute, dot, rest = rest.partition(".")
            around = self._class_around(symbol)
            known = self._names.get(around, {}).get(attribute, "") if around != -1 else ""
            return known + dot + rest if known else ""
        name = root.rstrip("()[]")
        bound = self._find(name, symbol, attributes=self._implicit_self)
        if bound is None:
            return ""
        # What a variable holds is known; what it gives when it is called or indexed is not.
        if not bound or name != root:
            return UNKNOWN
        if n_steps == _MAX_STEPS:
            return UNKNOWN
        known = self.type_of(bound, symbol, n_steps + 1) or bound
        return UNKNOWN if known == UNKNOWN else known + dot + rest

    def _find(self, name: str, symbol: int, *, attributes: bool) -> str | None:
        while symbol != -1:
            around = self._symbols[symbol]
            if attributes or around.kind not in CLASS_KINDS:
                bound = self._names.get(symbol, {}).get(name)
                if bound is not None:
                    return bound
            symbol = around.parent
        return None

    def _class_around(self, symbol: int) -> int:
        while symbol != -1 and self._symbols[symbol].kind not in CLASS_KINDS:
            symbol = self._symbols[symbol].parent
        return symbol


def receiver_before(source: bytes, start: int, members: Sequence[str]) -> str:
    """What the name at a byte is taken from: `self.session` before `.get`, empty for a bare name.

    Reads backwards over names, calls and subscripts; whatever else stands there is `?`.
    """
    if start == 0 or source[start - 1] in _NO_MEMBER:
        return ""
    if source[start - 1] == ord(" ") and source[start - 2] not in _SPACE:
        return ""
    at = _before_member(source, start, members)
    if at is None:
        return ""
    parts: list[str] = []
    while at is not None:
        if len(parts) == _MAX_PARTS:
            return ".".join([UNKNOWN, *reversed(parts)])
        suffix, at = _suffix_before(source, at)
        begin = at
        while begin > 0 and source[begin - 1] in _IDENTIFIER:
            begin -= 1
        if begin == at:
            parts.append(UNKNOWN)
            break
        parts.append(source[begin:at].decode("utf-8", "replace") + suffix)
        at = _before_member(source, begin, members)
    return ".".join(reversed(parts))


def made_type(callee: str) -> str:
    """What calling this gives: `models.Session()` for `models.Session`; empty if it is no path."""
    path = callee.strip().removeprefix("new ").partition("<")[0].replace("::", ".").strip(". *&")
    path = path.replace("?.", ".").replace("->", ".").replace("\\", ".")
    is_path = all(part.isidentifier() or part[:1] == "$" for part in path.split("."))
    return f"{path}()" if is_path and len(path) <= _MAX_TYPE_CHARS else ""


def written_type(text: str) -> str:
    """An instance of a type as it is annotated: `Session()` for `Optional["models.Session"]`.

    Of several types, the first that is not nothing; empty if there is no name.
    """
    for found in _TYPE_PATH.finditer(text[: 2 * _MAX_TYPE_CHARS]):
        path = found[0].replace("::", ".").replace("\\", ".")
        last = path.rpartition(".")[2]
        if last not in _TRANSPARENT and last not in _NOTHING:
            return f"{path}()"
    return ""


def _before_member(source: bytes, at: int, members: Sequence[str]) -> int | None:
    """Where the receiver ends, if a separator stands before `at`.

    Only what spans lines may have spaces around it: `f . g` is no member in Haskell, nor in PHP.
    """
    end = _before_line_end(source, at)
    # A dot at the end of the line above goes on here, unless it ends a sentence of a comment.
    if end < at and _COMMENT.search(source, source.rfind(b"\n", 0, end) + 1, end):
        return None
    at = end
    before = source[max(0, at - 3) : at].decode("latin-1")
    for member in members:
        if before.endswith(member):
            end = at - len(member)
            is_range = member == "." and end > 0 and source[end - 1] == ord(".")
            return None if is_range else _before_line_end(source, end)
    return None


def _before_line_end(source: bytes, at: int) -> int:
    end = at
    while end > 0 and source[end - 1] in _SPACE:
        end -= 1
    return end if end < at and b"\n" in source[end:at] else at


def _suffix_before(source: bytes, at: int) -> tuple[str, int]:
    """The calls and subscripts that end at a byte, as `()[]`, and where they start."""
    suffix = ""
    while at > 0:
        last = source[at - 1]
        if last in b"?!":
            at -= 1
            continue
        opening = _OPENING.get(last)
        begin = _opening_before(source, at - 1, opening, last) if opening else None
        if begin is None:
            break
        if last != ord(">"):
            suffix = chr(source[begin]) + chr(last) + suffix
        elif source[begin - 2 : begin] == b"::":
            begin -= 2
        at = begin
    return suffix, at


def _opening_before(source: bytes, at: int, opening: int, closing: int) -> int | None:
    """Where the bracket that closes at a byte was opened; None if that is too far."""
    depth = 0
    for begin in range(at, max(-1, at - _MAX_BRACKET_BYTES), -1):
        byte = source[begin]
        if byte == closing:
            depth += 1
        elif byte == opening:
            depth -= 1
            if depth == 0:
                return begin
    return None
