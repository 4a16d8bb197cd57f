"""GBNF, llama.cpp's grammars, as a tree: read, and checked before llama.cpp sees them.

llama.cpp trusts a grammar: `"a"{3,2}` and a hidden left recursion fill the memory, deep brackets
overflow its stack, and of an error it prints the whole grammar. What it cannot run is refused here,
with the place. Pure: knows no llama.cpp, no vocabulary and no schema.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn

from lsp_assist.errors import BadInput

__all__ = [
    "MAX_REPEAT",
    "Chars",
    "Choice",
    "Expression",
    "Reference",
    "Repeat",
    "Sequence",
    "Token",
    "check",
    "parse",
    "quoted",
]

MAX_REPEAT = 1999
"""llama.cpp refuses a larger count, or silently takes a larger upper bound for none."""
_MAX_CHARS = 500_000
_MAX_DEPTH = 64


@dataclass(frozen=True, slots=True)
class Chars:
    """One character in these ranges of code points, ends included; or, negated, in none."""

    ranges: tuple[tuple[int, int], ...]
    is_negated: bool = False


@dataclass(frozen=True, slots=True)
class Token:
    """One token of the vocabulary, or, negated, any other; as `<|name|>` or `<[id]>`."""

    spelling: str
    is_negated: bool = False


@dataclass(frozen=True, slots=True)
class Reference:
    """What a rule says."""

    name: str


@dataclass(frozen=True, slots=True)
class Sequence:
    """One after the other."""

    parts: "tuple[Expression, ...]"


@dataclass(frozen=True, slots=True)
class Choice:
    """One of these."""

    options: "tuple[Expression, ...]"


@dataclass(frozen=True, slots=True)
class Repeat:
    """The same, this often; `high` None is without end."""

    part: "Expression"
    low: int
    high: int | None


Expression = Chars | Token | Reference | Sequence | Choice | Repeat


def check(text: str) -> None:
    """Passes a grammar that llama.cpp can run.

    Raises: BadInput, naming the place
    """
    rules = parse(text)
    if "root" not in rules:
        _refuse("has no rule named 'root'")
    for name, rule in rules.items():
        for part in _parts(rule):
            if isinstance(part, Reference) and part.name not in rules:
                _refuse(f"uses {part.name!r} in rule {name!r} and does not define it")
    nullable = _nullable(rules)
    for name, rule in rules.items():
        for part in _parts(rule):
            if isinstance(part, Repeat) and part.high is None and _is_empty(part.part, nullable):
                _refuse(f"repeats in rule {name!r} what may be empty, without end")
    _refuse_left_recursion(rules, nullable)


def parse(text: str) -> Mapping[str, Expression]:
    """The rules by name.

    Raises: BadInput, naming the place
    """
    if len(text) > _MAX_CHARS:
        _refuse(f"has {len(text):,} characters, and {_MAX_CHARS:,} are the most that is taken")
    if "\0" in text:
        _refuse("has a NUL character")
    return _Parser(text).rules()


def quoted(text: str) -> str:
    """The text as a GBNF literal."""
    escaped = (_ESCAPED.get(char) or char for char in text)
    return '"' + "".join(c if c.isprintable() else _code(c) for c in escaped) + '"'


_ESCAPED = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _code(char: str) -> str:
    return f"\\U{ord(char):08X}" if len(char) == 1 else char


def _refuse(what: str) -> NoReturn:
    raise BadInput(f"The grammar {what}; correct it.", field="grammar")


# ---- reading -------------------------------------------------------------------------------

_NAME = re.compile(r"[A-Za-z0-9-]+")
_NUMBER = re.compile(r"[0-9]{1,9}")
_SPACE = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_SPACE_AND_LINES = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_TOKEN = re.compile(r"(!?)(<\[[0-9]{1,9}\]>|<[^\[>][^>]*>)")
_LITERAL_ESCAPES = {"t": "\t", "r": "\r", "n": "\n", **{c: c for c in '\\"[]-'}}
_HEX = {"x": 2, "u": 4, "U": 8}
_REPEATS: Mapping[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}


class _Parser:
    """A recursive descent over the text, as llama.cpp's own."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0

    def rules(self) -> dict[str, Expression]:
        rules: dict[str, Expression] = {}
        self._skip(lines=True)
        while self._at < len(self._text):
            name = self._take(_NAME, "the name of a rule")
            if name in rules:
                self._fail(f"rule {name!r} is defined twice")
            self._skip()
            self._expect("::=")
            self._skip(lines=True)
            rules[name] = self._choice()
            if self._at < len(self._text) and self._text[self._at] not in "\r\n":
                self._fail("expected the end of the line")
            self._skip(lines=True)
        return rules

    def _choice(self) -> Expression:
        options = [self._sequence()]
        while self._peek() == "|":
            self._at += 1
            self._skip(lines=True)
            options.append(self._sequence())
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def _sequence(self) -> Expression:
        parts: list[Expression] = []
        while True:
            char = self._peek()
            if char in _REPEATS or char == "{":
                if not parts:
                    self._fail(f"nothing stands before {char!r}")
                low, high = self._bounds(char)
                if parts[-1] == Sequence(()):
                    self._fail(f"an empty text stands before {char!r}")
                parts[-1] = Repeat(parts[-1], low, high)
            elif (part := self._part(char)) is None:
                return parts[0] if len(parts) == 1 else Sequence(tuple(parts))
            else:
                parts.append(part)
            self._skip(lines=self._depth > 0)

    def _part(self, char: str) -> Expression | None:
        """What begins here; None at the end of a sequence."""
        if char == '"':
            self._at += 1
            codes = []
            while self._peek() != '"':
                codes.append(self._char())
            self._at += 1
            parts = tuple(Chars(((code, code),)) for code in codes)
            return parts[0] if len(parts) == 1 else Sequence(parts)
        if char == "[":
            return self._class()
        if char == ".":
            self._at += 1
            return Chars((), is_negated=True)
        if char == "(":
            return self._group()
        if char and char in "<!":
            match = _TOKEN.match(self._text, self._at)
            if match is None:
                self._fail("expected a token, as <name> or <[id]>")
            self._at = match.end()
            return Token(match[2], is_negated=bool(match[1]))
        match = _NAME.match(self._text, self._at)
        if match is None:
            return None
        self._at = match.end()
        return Reference(match[0])

    def _group(self) -> Expression:
        self._at += 1
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            self._fail(f"more than {_MAX_DEPTH} brackets within each other")
        self._skip(lines=True)
        inner = self._choice()
        self._expect(")")
        self._depth -= 1
        return inner

    def _class(self) -> Expression:
        self._at += 1
        is_negated = self._peek() == "^"
        self._at += is_negated
        ranges = []
        while self._peek() != "]":
            low = high = self._char()
            if self._peek() == "-" and self._text[self._at + 1 : self._at + 2] != "]":
                self._at += 1
                high = self._char()
            if high < low:
                self._fail("a range ends before it begins")
            ranges.append((low, high))
        if not ranges:
            self._fail("a class without characters")
        self._at += 1
        return Chars(tuple(ranges), is_negated)

    def _char(self) -> int:
        """The code point of a character in quotes or a class."""
        char = self._peek()
        if not char:
            self._fail("it ends too early")
        if char != "\\":
            self._at += 1
            return ord(char)
        escape = self._text[self._at + 1 : self._at + 2]
        self._at += 2
        if escape in _HEX:
            digits = self._text[self._at : self._at + _HEX[escape]]
            if not re.fullmatch(f"[0-9A-Fa-f]{{{_HEX[escape]}}}", digits):
                self._fail(f"expected {_HEX[escape]} hexadecimal digits")
            self._at += len(digits)
            return int(digits, 16)
        if escape not in _LITERAL_ESCAPES:
            self._fail(f"unknown escape \\{escape}")
        return ord(_LITERAL_ESCAPES[escape])

    def _bounds(self, char: str) -> tuple[int, int | None]:
        self._at += 1
        if char in _REPEATS:
            return _REPEATS[char]
        self._skip(lines=self._depth > 0)
        low = int(self._take(_NUMBER, "a number"))
        high: int | None = low
        self._skip(lines=self._depth > 0)
        if self._peek() == ",":
            self._at += 1
            self._skip(lines=self._depth > 0)
            high = int(self._take(_NUMBER, "a number")) if self._peek().isdecimal() else None
            self._skip(lines=self._depth > 0)
        self._expect("}")
        if max(low, high or 0) > MAX_REPEAT:
            self._fail(f"more than {MAX_REPEAT} repetitions")
        if high is not None and high < low:
            self._fail("fewer repetitions at most than at least")
        return low, high

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _skip(self, *, lines: bool = False) -> None:
        match = (_SPACE_AND_LINES if lines else _SPACE).match(self._text, self._at)
        assert match is not None, "an empty space is a space"
        self._at = match.end()

    def _take(self, pattern: re.Pattern[str], what: str) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            self._fail(f"expected {what}")
        self._at = match.end()
        return match[0]

    def _expect(self, text: str) -> None:
        if not self._text.startswith(text, self._at):
            self._fail(f"expected {text!r}")
        self._at += len(text)

    def _fail(self, what: str) -> NoReturn:
        before = self._text[: self._at]
        line = before.count("\n") + 1
        column = len(before) - (before.rfind("\n") + 1) + 1
        _refuse(f"cannot be read at line {line}, column {column}: {what}")


# ---- checking ------------------------------------------------------------------------------


def _parts(expression: Expression) -> Iterator[Expression]:
    """An expression and all within it."""
    yield expression
    match expression:
        case Sequence(parts) | Choice(parts):
            for part in parts:
                yield from _parts(part)
        case Repeat(part):
            yield from _parts(part)


def _is_empty(expression: Expression, nullable: set[str]) -> bool:
    """Whether it can be the empty text."""
    match expression:
        case Sequence(parts):
            return all(_is_empty(part, nullable) for part in parts)
        case Choice(options):
            return any(_is_empty(option, nullable) for option in options)
        case Repeat(part, low):
            return low == 0 or _is_empty(part, nullable)
        case Reference(name):
            return name in nullable
        case _:
            return False


def _nullable(rules: Mapping[str, Expression]) -> set[str]:
    """The rules that can be empty: added until none is new."""
    nullable: set[str] = set()
    while True:
        new = {name for name, rule in rules.items() if _is_empty(rule, nullable)} - nullable
        if not new:
            return nullable
        nullable |= new


def _firsts(expression: Expression, nullable: set[str]) -> Iterator[str]:
    """The rules that it may begin with."""
    match expression:
        case Sequence(parts):
            for part in parts:
                yield from _firsts(part, nullable)
                if not _is_empty(part, nullable):
                    break
        case Choice(options):
            for option in options:
                yield from _firsts(option, nullable)
        case Repeat(part):
            yield from _firsts(part, nullable)
        case Reference(name):
            yield name


def _refuse_left_recursion(rules: Mapping[str, Expression], nullable: set[str]) -> None:
    firsts = {name: list(_firsts(rule, nullable)) for name, rule in rules.items()}
    done: set[str] = set()
    for start in rules:
        path = {start: iter(firsts[start])}
        while path:
            name = next(reversed(path))
            following = next(path[name], None)
            if following is None:
                done.add(name)
                del path[name]
            elif following in path:
                _refuse(f"has a rule that begins with itself, {following!r}")
            elif following not in done:
                path[following] = iter(firsts[following])
