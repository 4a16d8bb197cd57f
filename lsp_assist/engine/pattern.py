r"""Regular expressions as GBNF over the inside of a JSON string.

The regular part of ECMA 262, which JSON Schema's `pattern` is written in: what looks around or
back is refused by name. A quote that the expression allows comes out as JSON writes it, `\"`.
Pure: knows no schema and no model.
"""

import re
from collections.abc import Iterable
from typing import NoReturn

from lsp_assist.engine.gbnf import MAX_REPEAT
from lsp_assist.errors import BadInput

__all__ = ["ANY_CHAR", "pattern_grammar"]

_Ranges = list[tuple[int, int]]

# A character as itself or escaped. Surrogates have no escape here, so that one is one character.
ANY_CHAR = (
    r'([^"\\\x00-\x1F] | "\\" (["\\/bfnrt] | "u" '
    r"([0-9A-CE-Fa-ce-f] [0-9A-Fa-f]{3} | [Dd] [0-7] [0-9A-Fa-f]{2})))"
)

_MAX_CODE = 0x10FFFF
_DIGIT: _Ranges = [(48, 57)]
_WORD: _Ranges = [(48, 57), (65, 90), (95, 95), (97, 122)]
_SPACE: _Ranges = [(9, 13), (32, 32), (0xA0, 0xA0), (0x2028, 0x2029), (0xFEFF, 0xFEFF)]
_LINE_ENDS: _Ranges = [(10, 10), (13, 13), (0x2028, 0x2029)]
# What JSON writes in two characters.
_ESCAPED = {34: '"', 92: "\\", 8: "b", 12: "f", 10: "n", 13: "r", 9: "t"}
_CONTROL = {"t": 9, "n": 10, "v": 11, "f": 12, "r": 13, "0": 0}


def pattern_grammar(pattern: str) -> str:
    """A GBNF expression for the characters of a JSON string in which the pattern is found.

    Raises: BadInput naming what of the pattern is not supported
    """
    return _Pattern(pattern).translated()


class _Pattern:
    """A recursive descent over a pattern."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0
        self._depth = 0

    def translated(self) -> str:
        options = [self._anchored()]
        while self._peek() == "|":
            self._at += 1
            options.append(self._anchored())
        if self._at < len(self._pattern):
            self._fail(f"an unexpected {self._peek()!r}")
        return f"({' | '.join(options)})"

    def _anchored(self) -> str:
        """An alternative of the whole: where it is not anchored, anything stands beside it."""
        is_start = self._peek() == "^"
        self._at += is_start
        inner = self._sequence()
        is_end = self._peek() == "$"
        self._at += is_end
        anything = f"{ANY_CHAR}*"
        parts = ["" if is_start else anything, inner, "" if is_end else anything]
        return " ".join(part for part in parts if part) or '""'

    def _choice(self) -> str:
        options = [self._sequence()]
        while self._peek() == "|":
            self._at += 1
            options.append(self._sequence())
        return " | ".join(option or '""' for option in options)

    def _sequence(self) -> str:
        parts = []
        while (char := self._peek()) and char not in "|)$":
            if char == "^":
                self._fail("'^' within")
            item = self._item(char)
            parts.append(item + self._times())
        return " ".join(parts)

    def _item(self, char: str) -> str:
        self._at += 1
        if char == "(":
            return self._group()
        if char == "[":
            return _one_of(self._class())
        if char == ".":
            return _one_of(_without(_LINE_ENDS))
        if char in "*+?{":
            self._fail(f"{char!r} after nothing")
        return _one_of(self._escape() if char == "\\" else [(ord(char), ord(char))])

    def _group(self) -> str:
        if self._peek() == "?":
            if not self._pattern.startswith("?:", self._at):
                self._fail(f"'({self._pattern[self._at : self._at + 2]}'")
            self._at += 2
        self._depth += 1
        if self._depth > 20:
            self._fail("more than 20 groups within each other")
        inner = self._choice()
        if self._peek() != ")":
            self._fail("a group that does not end")
        self._at += 1
        self._depth -= 1
        return f"({inner})"

    def _times(self) -> str:
        match = re.compile(r"[*+?]|\{(\d{1,4})(,(\d{0,4}))?\}").match(self._pattern, self._at)
        if match is None:
            return ""
        self._at = match.end()
        if max(int(number or 0) for number in (match[1], match[3])) > MAX_REPEAT:
            self._fail(f"more than {MAX_REPEAT} repetitions")
        if self._peek() == "?":  # taking less first, the same texts are found
            self._at += 1
        if self._peek() in "*+{?":
            self._fail(f"{self._peek()!r} after a repetition")
        return match[0]

    def _class(self) -> _Ranges:
        is_negated = self._peek() == "^"
        self._at += is_negated
        ranges: _Ranges = []
        while (char := self._peek()) != "]":
            if not char:
                self._fail("a class that does not end")
            low = self._member()
            if self._peek() == "-" and self._pattern[self._at + 1 : self._at + 2] not in ("]", ""):
                self._at += 1
                high = self._member()
                if len(low) > 1 or len(high) > 1 or high[0][1] < low[0][0]:
                    self._fail("a range that is none")
                low = [(low[0][0], high[0][1])]
            ranges += low
        self._at += 1
        return _without(ranges) if is_negated else ranges

    def _member(self) -> _Ranges:
        char = self._peek()
        self._at += 1
        if char == "\\":
            if self._peek() == "b":
                self._at += 1
                return [(8, 8)]
            return self._escape()
        return [(ord(char), ord(char))]

    def _escape(self) -> _Ranges:
        char = self._peek()
        self._at += 1
        match char:
            case "d" | "D" | "w" | "W" | "s" | "S":
                ranges = {"d": _DIGIT, "w": _WORD, "s": _SPACE}[char.lower()]
                return _without(ranges) if char.isupper() else ranges
            case "x" | "u":
                n = 2 if char == "x" else 4
                digits = self._pattern[self._at : self._at + n]
                if not re.fullmatch(f"[0-9A-Fa-f]{{{n}}}", digits):
                    self._fail(f"'\\{char}' without {n} hexadecimal digits")
                self._at += n
                return [(int(digits, 16), int(digits, 16))]
            case _ if char in _CONTROL:
                return [(_CONTROL[char], _CONTROL[char])]
            case _ if not char or char.isalnum():
                self._fail(f"'\\{char}'")
        return [(ord(char), ord(char))]

    def _peek(self) -> str:
        return self._pattern[self._at : self._at + 1]

    def _fail(self, what: str) -> NoReturn:
        raise BadInput(
            f"Pattern {self._pattern!r} of the schema has {what}, which is not supported; "
            "simplify it.",
            field="grammar",
        )


def _without(ranges: Iterable[tuple[int, int]]) -> _Ranges:
    """All other code points that are characters."""
    rest: _Ranges = []
    at = 0
    for low, high in sorted([*ranges, (0xD800, 0xDFFF)]):
        if low > at:
            rest.append((at, low - 1))
        at = max(at, high + 1)
    return [*rest, (at, _MAX_CODE)] if at <= _MAX_CODE else rest


def _one_of(ranges: _Ranges) -> str:
    """An expression for one of these characters, as JSON writes it."""
    kept = _without([*_without(ranges), (0, 0x1F), (34, 34), (92, 92)])
    options = []
    if kept:
        options.append("[" + "".join(f"{_code(low)}-{_code(high)}" for low, high in kept) + "]")
    options += [
        '"\\\\' + {'"': '\\"', "\\": "\\\\"}.get(escaped, escaped) + '"'
        for code, escaped in _ESCAPED.items()
        if any(low <= code <= high for low, high in ranges)
    ]
    if not options:
        raise BadInput(
            "A pattern of the schema asks for a character that no JSON string has; correct it.",
            field="grammar",
        )
    return options[0] if len(options) == 1 else f"({' | '.join(options)})"


def _code(code: int) -> str:
    char = chr(code)
    return char if char.isascii() and char.isalnum() else f"\\U{code:08X}"
