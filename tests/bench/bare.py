"""The bare loop that our engine is held against: llama.cpp and one sequence, nothing else."""

import time
from collections.abc import Sequence
from pathlib import Path

from lsp_assist.engine.gguf import read_model_file
from lsp_assist.engine.llama import Context, Weights

__all__ = ["Bare"]


class Bare:
    """A model in a context as ours, with one chunk after the other put through `llama_decode`."""

    def __init__(self, path: Path, *, n_ctx: int, n_batch: int = 128) -> None:
        self.weights = Weights(path, n_gpu_layers=0)
        self.context = Context(
            self.weights,
            n_ctx=n_ctx,
            n_batch=n_batch,
            n_seq_max=64,
            head_dim=read_model_file(path).head_dim,
        )

    def prefill_s(self, tokens: Sequence[int]) -> float:
        """Seconds for the prompt up to its first token."""
        context = self.context
        context.keep(0, 0)
        started = time.perf_counter()
        for at in range(0, len(tokens), context.n_batch):
            context.clear()
            part = tokens[at : at + context.n_batch]
            index = context.add(part, seq=0, position=at, wants_logits=True)
            assert context.decode() == "ok"
        int(context.logits(index).argmax())
        return time.perf_counter() - started

    def decode_s(self, n_tokens: int) -> float:
        """Seconds for so many more tokens, each the likeliest."""
        context = self.context
        token = 601
        started = time.perf_counter()
        for _ in range(n_tokens):
            context.clear()
            index = context.add([token], seq=0, position=context.n_held(0), wants_logits=True)
            assert context.decode() == "ok"
            token = int(context.logits(index).argmax())
        return time.perf_counter() - started

    def close(self) -> None:
        """Frees the model."""
        self.context.close()
        self.weights.close()
