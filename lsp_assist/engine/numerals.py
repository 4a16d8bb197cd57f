"""Integers between two bounds as GBNF, digit by digit. Pure: knows no schema."""

from collections.abc import Iterator

from lsp_assist.errors import BadInput

__all__ = ["integer_grammar"]

_MAX_DIGITS = 18


def integer_grammar(low: int | None, high: int | None) -> str:
    """A GBNF expression for the decimal integers from `low` to `high`, both included.

    None is no bound; up to 18 digits come out then.

    Raises: BadInput for a bound of more than 18 digits
    """
    largest = 10**_MAX_DIGITS - 1
    for bound in (low, high):
        if bound is not None and abs(bound) > largest:
            raise BadInput(
                f"The bound {bound} of the schema has more than {_MAX_DIGITS} digits; lower it.",
                field="grammar",
            )
    least, most = -largest if low is None else low, largest if high is None else high
    options: list[str] = []
    if least < 0:
        negative = _between(max(1, -most), -least)
        options.append(f'"-" ({" | ".join(negative)})')
    if most >= 0:
        options += _between(max(0, least), most)
    return " | ".join(options)


def _between(low: int, high: int) -> list[str]:
    """Alternatives for non-negative integers, those of each length by themselves."""
    options: list[str] = []
    for n_digits in range(len(str(low)), len(str(high)) + 1):
        least = max(low, 10 ** (n_digits - 1) if n_digits > 1 else 0)
        most = min(high, 10**n_digits - 1)
        options += _same_length(str(least), str(most))
    return options


def _same_length(low: str, high: str) -> Iterator[str]:
    """Alternatives for the digit strings between two of the same length."""
    if not low:
        yield '""'
    elif low == "0" * len(low) and high == "9" * len(high):
        yield f"[0-9]{{{len(low)}}}"
    elif low[0] == high[0]:
        for rest in _same_length(low[1:], high[1:]):
            yield _then(low[0], low[0], rest)
    else:
        first, last = int(low[0]), int(high[0])
        n_rest = len(low) - 1
        if low[1:] != "0" * n_rest:
            for rest in _same_length(low[1:], "9" * n_rest):
                yield _then(low[0], low[0], rest)
            first += 1
        if high[1:] != "9" * n_rest:
            last -= 1
        if first <= last:
            rest = f"[0-9]{{{n_rest}}}" if n_rest else '""'
            yield _then(str(first), str(last), rest)
        if high[1:] != "9" * n_rest:
            for rest in _same_length("0" * n_rest, high[1:]):
                yield _then(high[0], high[0], rest)


def _then(first: str, last: str, rest: str) -> str:
    digit = f'"{first}"' if first == last else f"[{first}-{last}]"
    return digit if rest == '""' else f"{digit} {rest}"
