"""Whether a text fits a GBNF grammar: the slow, plain way, as an oracle."""

from collections.abc import Iterable

from lsp_assist.engine.gbnf import (
    Chars,
    Choice,
    Expression,
    Reference,
    Repeat,
    Sequence,
    parse,
)

__all__ = ["fits"]


def fits(text: str, grammar: str) -> bool:
    """Whether the whole text is one that the grammar allows."""
    rules = parse(grammar)
    known: dict[tuple[str, int], frozenset[int]] = {}

    def ends(expression: Expression, starts: Iterable[int]) -> set[int]:
        """Where the expression can end that begins at one of these places."""
        found: set[int] = set()
        for start in starts:
            found |= one(expression, start)
        return found

    def one(expression: Expression, at: int) -> frozenset[int]:
        match expression:
            case Chars(ranges, is_negated):
                is_in = at < len(text) and any(a <= ord(text[at]) <= b for a, b in ranges)
                is_match = at < len(text) and is_in != is_negated
                return frozenset({at + 1}) if is_match else frozenset()
            case Sequence(parts):
                places = {at}
                for part in parts:
                    places = ends(part, places)
                return frozenset(places)
            case Choice(options):
                return frozenset().union(*(one(option, at) for option in options))
            case Repeat(part, low, high):
                return repeated(part, low, high, at)
            case Reference(name):
                if (name, at) not in known:
                    known[name, at] = one(rules[name], at)
                return known[name, at]
            case _:
                raise AssertionError("tokens have no text")

    def repeated(part: Expression, low: int, high: int | None, at: int) -> frozenset[int]:
        places, reached = {at}, {at} if low == 0 else set()
        n = 0
        while places and (high is None or n < high):
            n += 1
            places = ends(part, places)
            if n > low:
                places -= reached
            if n >= low:
                reached |= places
        return frozenset(reached)

    return len(text) in one(Reference("root"), 0)
