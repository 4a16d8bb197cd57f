"""Text as numbers of a vocabulary: words of code and prose, identifiers taken apart.

`maxRetries` is `max` and `retries`; a word that the vocabulary lacks is cut into those that it has,
`errmsg` into `err` and `msg`. What embeds and what trains the embedding read text alike through
this. Pure. Knows no vector and no language.
"""

import math
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

__all__ = ["Vocabulary", "parts_of", "words_of"]

_WORD = re.compile(r"\w+")
_PART = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")
_MAX_WORD_CHARS = 64  # longer ones are hashes and encoded data
_MAX_PIECE_CHARS = 20
_CACHED_WORDS = 1 << 17
_UNKNOWN_COST = 16.0  # of a character that no entry covers: more than any entry costs


def words_of(text: str) -> list[str]:
    """The words of a text as they are written, in order, repetitions included."""
    return _WORD.findall(text)


def parts_of(word: str) -> list[str]:
    """The parts of an identifier in lower case; a word of prose is one part."""
    if len(word) > _MAX_WORD_CHARS:
        return []
    # Case says little outside of ASCII identifiers; there only underscores part a word.
    found = _PART.findall(word) if word.isascii() else word.split("_")
    return [part.lower() for part in found if part]


class Vocabulary:
    """Entries by number, the commonest first; their order is all that is known of their counts."""

    def __init__(self, entries: Sequence[str]) -> None:
        self.entries = tuple(entries)
        self._number = {entry: number for number, entry in enumerate(self.entries)}
        self.numbers_of_word = lru_cache(_CACHED_WORDS)(self._numbers_of_word)
        """The numbers of a word's parts; an identifier repeats, so it is taken apart once."""

    def __len__(self) -> int:
        return len(self.entries)

    def numbers(self, text: str) -> list[int]:
        """The numbers of a text's parts, in order; what has no entry is left out."""
        found: list[int] = []
        for numbers in map(self.numbers_of_word, words_of(text)):
            found += numbers
        return found

    def pieces(self, part: str) -> list[str]:
        """The entries that a part is cut into so that they are the commonest and the fewest.

        Zipf's law stands in for the counts: the cost of an entry is the logarithm of its place.
        """
        best: list[tuple[float, int]] = [(0.0, 0)]  # the cost up to here, and where the last began
        for end in range(1, len(part) + 1):
            cheapest = (best[end - 1][0] + _UNKNOWN_COST, end - 1)
            for start in range(max(0, end - _MAX_PIECE_CHARS), end - 1):
                number = self._number.get(part[start:end])
                if number is not None:
                    cost = best[start][0] + math.log(number + 2)
                    cheapest = min(cheapest, (cost, start))
            best.append(cheapest)
        pieces: list[str] = []
        end = len(part)
        while end:
            start = best[end][1]
            if (piece := part[start:end]) in self._number:
                pieces.append(piece)
            end = start
        return pieces[::-1]

    def _numbers_of_word(self, word: str) -> tuple[int, ...]:
        return tuple(self._numbers_of_parts(parts_of(word)))

    def _numbers_of_parts(self, parts: Iterable[str]) -> Iterable[int]:
        for part in parts:
            number = self._number.get(part)
            if number is not None:
                yield number
            elif not part.isdigit():
                yield from (self._number[piece] for piece in self.pieces(part))
