"""The tokens of rendered prompts, each piece by itself.

A piece has the same tokens in every prompt, so a prompt that grows at its end grows by tokens at
its end. Control tokens come from pieces of the template only. What the model itself said keeps the
tokens that it said it with, as long as this process remembers them: cut otherwise, the same text
would have to be computed again. Nothing depends on that; how much of a prompt a cache holds is
found by comparing tokens, never by assuming. Knows no cache and no conversation.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

from lsp_assist.engine.template import Piece

__all__ = ["PromptTokens", "Vocabulary"]


class Vocabulary(Protocol):
    """What of the weights is needed here."""

    @property
    def bos(self) -> int:
        """The token that begins a text."""

    @property
    def adds_bos(self) -> bool:
        """Whether the model expects it."""

    def tokenise(self, text: str, *, parse_special: bool) -> list[int]:
        """The tokens of a text."""

    def piece(self, token: int) -> bytes:
        """The bytes that a token stands for."""

    def is_control(self, token: int) -> bool:
        """Whether the token is one that text cannot spell."""


class PromptTokens:
    """Tokens by piece; the latest `max_remembered` tokens need not be computed again."""

    def __init__(self, vocabulary: Vocabulary, *, max_remembered: int = 1_000_000) -> None:
        self._vocabulary = vocabulary
        self._max_remembered = max_remembered
        # Sentencepiece vocabularies take a text to begin with a space, unasked.
        self._prefixes = self._spelled(vocabulary.tokenise("a", parse_special=False)) == b" a"
        self._newline = vocabulary.tokenise("\n", parse_special=False)
        self._contents: OrderedDict[tuple[str, bool], list[int]] = OrderedDict()
        self._replies: OrderedDict[str, list[int]] = OrderedDict()
        self.n_remembered = 0

    def of(self, pieces: Sequence[Piece]) -> list[int]:
        """The tokens of a prompt."""
        vocabulary = self._vocabulary
        tokens: list[int] = []
        for piece in pieces:
            continues = self._prefixes and bool(tokens) and not vocabulary.is_control(tokens[-1])
            if piece.is_template:
                tokens += self._tokenise(piece.text, continues, parse_special=True)
            else:
                tokens += self._of_content(piece.text, continues)
        if vocabulary.adds_bos and tokens[:1] != [vocabulary.bos]:
            tokens.insert(0, vocabulary.bos)
        return tokens

    def count(self, text: str) -> int:
        """How many tokens the text has as content."""
        return len(self._of_content(text, continues=self._prefixes))

    def remember_reply(self, text: str, tokens: Sequence[int]) -> None:
        """Lets this text have these tokens whenever it is a content.

        Left alone unless the tokens spell exactly this text and none of them is a control token.
        """
        if self._spelled(tokens) != text.encode("utf-8", "replace"):
            return
        if not tokens or any(map(self._vocabulary.is_control, tokens)):
            return
        self._forget(self._replies, text)
        self._replies[text] = list(tokens)
        self._make_room(len(tokens))

    def _of_content(self, text: str, continues: bool) -> list[int]:
        if text in self._replies:
            self._replies.move_to_end(text)
            return self._replies[text]
        key = (text, continues)
        if key in self._contents:
            self._contents.move_to_end(key)
            return self._contents[key]
        tokens = self._tokenise(text, continues, parse_special=False)
        self._contents[key] = tokens
        self._make_room(len(tokens))
        return tokens

    def _tokenise(self, text: str, continues: bool, *, parse_special: bool) -> list[int]:
        """The tokens of a text, without an unasked space where it continues another one."""
        if continues:
            tokens = self._vocabulary.tokenise("\n" + text, parse_special=parse_special)
            n_newline = len(self._newline)
            if tokens[:n_newline] == self._newline:
                return tokens[n_newline:]
        return self._vocabulary.tokenise(text, parse_special=parse_special)

    def _spelled(self, tokens: Sequence[int]) -> bytes:
        return b"".join(map(self._vocabulary.piece, tokens))

    def _make_room(self, n_new: int) -> None:
        self.n_remembered += n_new
        while self.n_remembered > self._max_remembered and (self._contents or self._replies):
            if self._contents:
                self.n_remembered -= len(self._contents.popitem(last=False)[1])
            else:
                self.n_remembered -= len(self._replies.popitem(last=False)[1])

    def _forget(self, remembered: OrderedDict[str, list[int]], text: str) -> None:
        self.n_remembered -= len(remembered.pop(text, ()))
