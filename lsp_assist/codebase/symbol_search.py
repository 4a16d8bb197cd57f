"""How well a symbol's name fits what somebody types to find it.

Pure. Knows no store; the candidates come from there, by the letters in their order.
"""

import re

__all__ = ["fit", "like_pattern"]

_WORD_START = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+|[^\W_]+")
_SEPARATORS = re.compile(r"::|[.#/\\]")


def like_pattern(query: str) -> str:
    """A pattern for SQL's LIKE, escaped by a backslash, that all names pass that can fit."""
    last = _SEPARATORS.split(query.strip())[-1]
    letters = (f"\\{char}" if char in "%_\\" else char for char in last if not char.isspace())
    return "%" + "".join(f"{char}%" for char in letters)


def fit(query: str, name: str, qualified_name: str) -> float:
    """0 for a name without the letters in their order, else more the better it fits, up to 1.

    The name itself, a beginning of it, beginnings of its words (`gU` for `getUser`), a part of it,
    and letters somewhere in it, in this order. What stands before a `.` or `::` must be around it.
    """
    *around, last = _SEPARATORS.split(query.strip())
    rest = qualified_name.lower()
    for part in filter(None, around):
        at = rest.find(part.lower())
        if at < 0:
            return 0.0
        rest = rest[at + len(part) :]
    wanted, lowered = "".join(last.split()).lower(), name.lower()
    if not wanted:
        return 0.1
    if not _has_in_order(wanted, lowered):
        return 0.0
    # Of two that fit alike, the one with less to it.
    brevity = 0.1 * len(wanted) / max(len(lowered), len(wanted))
    if lowered == wanted:
        return 1.0 if name == last else 0.95
    if lowered.startswith(wanted):
        return 0.8 + brevity
    if _starts_words(wanted.replace("_", ""), [word.lower() for word in _WORD_START.findall(name)]):
        return 0.65 + brevity
    if wanted in lowered:
        return 0.5 + brevity
    return 0.2 + brevity


def _starts_words(wanted: str, words: list[str]) -> bool:
    """Whether it is made of beginnings of words, in order, words left out or not."""
    if not wanted:
        return True
    for at, word in enumerate(words):
        for n in range(min(len(word), len(wanted)), 0, -1):
            if word[:n] == wanted[:n] and _starts_words(wanted[n:], words[at + 1 :]):
                return True
    return False


def _has_in_order(wanted: str, name: str) -> bool:
    letters = iter(name)
    return all(char in letters for char in wanted)
