"""An embedder without a model: the same words give near vectors, in every process."""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from lsp_assist.codebase import lexical
from lsp_assist.errors import ModelError

__all__ = ["HashingEmbedder"]


class HashingEmbedder:
    """Sums a direction for each term; `alike` says which words have one in common."""

    def __init__(
        self,
        name: str = "hashing",
        n_dims: int = 64,
        alike: Sequence[frozenset[str]] = (),
    ) -> None:
        self.name = name
        self.n_dims = n_dims
        self.n_texts = 0
        self.is_broken = False
        self._stands_for = {
            term: min(words) for words in alike for word in words for term in lexical.terms(word)
        }
        self._directions: dict[str, NDArray[np.float32]] = {}

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if self.is_broken:
            raise ModelError("The embedder is broken; mend it.")
        self.n_texts += len(texts)
        return np.stack([self.embed_query(text) for text in texts])

    def embed_query(self, text: str) -> NDArray[np.float32]:
        total = np.zeros(self.n_dims, np.float32)
        for term in lexical.terms(text):
            total += self._direction(self._stands_for.get(term, term))
        length = float(np.linalg.norm(total))
        unit: NDArray[np.float32] = total / np.float32(length or 1.0)
        return unit

    def _direction(self, term: str) -> NDArray[np.float32]:
        if term not in self._directions:
            seed = int.from_bytes(blake2b(term.encode(), digest_size=8).digest())
            drawn = np.random.default_rng(seed).normal(size=self.n_dims)
            self._directions[term] = drawn.astype(np.float32)
        return self._directions[term]
