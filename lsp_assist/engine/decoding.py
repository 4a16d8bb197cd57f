"""From the bytes of tokens to text that may be shown, piece by piece.

Pure: knows no model. A character may be spread over tokens, and so may a stop string; both are held
back until they are whole.
"""

import codecs
from collections.abc import Sequence

__all__ = ["TextDecoder"]


class TextDecoder:
    """Text from bytes as they come, up to the first stop string.

    The texts that `push` and `finish` give, joined, are the text of all bytes, up to where the
    first stop string to be complete begins (of two complete at once, the longer). How the bytes
    are cut into tokens makes no difference.
    """

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._stop = tuple(text for text in stop if text)
        self._bytes = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self.is_stopped = False
        """Whether a stop string was met; nothing more will come."""

    def push(self, piece: bytes) -> str:
        """The text that is certain now."""
        return self._advance(self._bytes.decode(piece))

    def finish(self) -> str:
        """The rest: an unfinished character becomes U+FFFD, an unfinished stop string is text."""
        text = self._advance(self._bytes.decode(b"", final=True))
        rest, self._held = self._held, ""
        return text + rest

    def _advance(self, text: str) -> str:
        if self.is_stopped:
            return ""
        self._held += text
        matches = [
            (at + len(stop), at) for stop in self._stop if (at := self._held.find(stop)) >= 0
        ]
        if matches:
            _, at = min(matches)
            text, self._held = self._held[:at], ""
            self.is_stopped = True
            return text
        n_kept = _n_possible(self._held, self._stop)
        cut = len(self._held) - n_kept
        text, self._held = self._held[:cut], self._held[cut:]
        return text


def _n_possible(text: str, stop: Sequence[str]) -> int:
    """The length of the longest end of the text that a stop string begins with."""
    longest = max((len(s) - 1 for s in stop), default=0)
    for n in range(min(longest, len(text)), 0, -1):
        if any(s.startswith(text[-n:]) for s in stop):
            return n
    return 0
