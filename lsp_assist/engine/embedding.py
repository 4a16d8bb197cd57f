"""Vectors for texts, by a context of its own on the weights of a model.

Knows no cache: a text is computed when it is asked for. All on one thread.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Self

from lsp_assist.engine.libllama import library
from lsp_assist.engine.llama import Context, Weights
from lsp_assist.errors import ModelUnavailable

if TYPE_CHECKING:
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["EmbeddingContext"]

_N_SEQS = 8
_MAX_TOKENS = 2048


class EmbeddingContext:
    """Computes unit vectors, several texts in one batch; for models whose file says that it has
    them. Owns no weights.

    Raises: ModelUnavailable
    """

    def __init__(self, weights: Weights, *, n_threads: int = 0) -> None:
        self._weights = weights
        self.n_tokens_max = min(_MAX_TOKENS, weights.n_ctx_train or _MAX_TOKENS)
        """Of one text; what is longer is cut."""
        self._context = Context(
            weights,
            n_ctx=self.n_tokens_max,
            n_batch=self.n_tokens_max,
            n_seq_max=_N_SEQS,
            n_threads=n_threads,
            gives_embeddings=True,
        )

    def embed(
        self, texts: Sequence[str], between_batches: Callable[[], None] = lambda: None
    ) -> "NDArray[np.float32]":
        """Unit vectors, shape (len(texts), n_embd).

        What `between_batches` raises ends the work.
        """
        import numpy as np

        n_embd: int = library().llama_model_n_embd(self._weights.handle)
        vectors = np.zeros((len(texts), n_embd), np.float32)
        waiting: list[tuple[int, list[int]]] = []
        n_waiting = 0
        for index, text in enumerate(texts):
            tokens = self._tokens(text)
            if waiting and (n_waiting + len(tokens) > self.n_tokens_max or len(waiting) == _N_SEQS):
                between_batches()
                self._compute(waiting, vectors)
                waiting, n_waiting = [], 0
            waiting.append((index, tokens))
            n_waiting += len(tokens)
        if waiting:
            between_batches()
            self._compute(waiting, vectors)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors /= np.maximum(lengths, np.finfo(np.float32).tiny)
        return vectors

    def close(self) -> None:
        """Frees the context."""
        self._context.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: "TracebackType | None",
    ) -> None:
        self.close()

    def _tokens(self, text: str) -> list[int]:
        """The tokens of a text as the model was trained: with begin and end where it has them."""
        weights = self._weights
        tokens = weights.tokenise(text, parse_special=False)
        before = [weights.bos] if weights.adds_bos else []
        after = [weights.eos] if weights.adds_eos else []
        tokens = tokens[: self.n_tokens_max - len(before) - len(after)]
        # No model computes nothing; the vector of an empty text is that of a line end.
        return [*before, *tokens, *after] or weights.tokenise("\n", parse_special=False)

    def _compute(
        self, batch: Sequence[tuple[int, Sequence[int]]], vectors: "NDArray[np.float32]"
    ) -> None:
        import numpy as np

        context = self._context
        context.clear()
        for seq, (_, tokens) in enumerate(batch):
            context.keep(seq, 0)
            context.add(tokens, seq=seq, position=0, wants_logits=True)
        if context.decode() != "ok":
            raise ModelUnavailable("llama.cpp stopped unasked; ask again.")
        llama = library()
        for seq, (index, _) in enumerate(batch):
            pointer = llama.llama_get_embeddings_seq(context.handle, seq)
            if not pointer:
                raise ModelUnavailable(
                    f"Model {self._weights.path.name!r} gives no embeddings; take one that is "
                    "made for them."
                )
            vectors[index] = np.ctypeslib.as_array(pointer, (vectors.shape[1],))
        for seq in range(len(batch)):
            context.keep(seq, 0)
