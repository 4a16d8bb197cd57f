"""An embedder without a table: each word has a direction drawn from its hash.

Texts are as similar as the words that they share. For tests, and for trying the index without a
model. Knows no meaning.
"""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from lsp_assist.config import IndexSettings
from lsp_assist.errors import SettingError
from lsp_assist.words import parts_of, words_of

__all__ = ["HashingEmbedder", "open_embedder"]

DEFAULT_DIMS = 64


def open_embedder(argument: str, settings: IndexSettings) -> "HashingEmbedder":  # noqa: ARG001  # nothing to set
    """The embedder for `hashing` or `hashing:<dims>`.

    Raises: SettingError
    """
    if argument and not (argument.isdecimal() and 1 <= int(argument) <= 4096):
        raise SettingError(
            f"`index.embedder` is 'hashing:{argument}'; it takes 1 to 4096 dimensions.",
            field="index.embedder",
        )
    return HashingEmbedder(int(argument or DEFAULT_DIMS))


class HashingEmbedder:
    """An `llm.Embedder`; the same on every machine."""

    def __init__(self, n_dims: int = DEFAULT_DIMS) -> None:
        self.n_dims = n_dims
        self.name = f"hashing-{n_dims}"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors, shape (len(texts), n_dims); zeros for a text without a word."""
        vectors = np.zeros((len(texts), self.n_dims), np.float32)
        for row, text in zip(vectors, texts, strict=True):
            for word in words_of(text):
                for part in parts_of(word):
                    digest = int.from_bytes(blake2b(part.encode(), digest_size=8).digest())
                    row[digest % self.n_dims] += 1 if digest >> 63 else -1
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """The unit vector of a question, shape (n_dims,)."""
        vector: NDArray[np.float32] = self.embed([text])[0]
        return vector
