"""Drawing the next token from the logits, by a chain of llama.cpp's samplers.

Knows no text. One sampler serves one reply, because some links remember what was said.
"""

import secrets
from types import TracebackType
from typing import Self

from lsp_assist.engine.libllama import library
from lsp_assist.engine.llama import Context, Weights
from lsp_assist.llm import Sampling

__all__ = ["Sampler"]

_PENALTY_LAST_N = 64


class Sampler:
    """The chain for one reply: penalties, top-k, top-p, min-p, temperature, draw.

    Temperature 0 always takes the likeliest token. The repeat penalty looks at the reply only: an
    answer about code has to repeat the names that stand in its prompt.
    """

    def __init__(self, weights: Weights, sampling: Sampling) -> None:
        self._llama = llama = library()
        self._chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
        links = []
        if sampling.repeat_penalty != 1.0:
            links.append(
                llama.llama_sampler_init_penalties(
                    weights.n_vocab, _PENALTY_LAST_N, sampling.repeat_penalty, 0.0, 0.0
                )
            )
        if sampling.temperature <= 0:
            links.append(llama.llama_sampler_init_greedy())
        else:
            seed = secrets.randbits(32) if sampling.seed is None else sampling.seed & 0xFFFFFFFF
            links += [
                llama.llama_sampler_init_top_k(sampling.top_k),
                llama.llama_sampler_init_top_p(sampling.top_p, 1),
                llama.llama_sampler_init_min_p(sampling.min_p, 1),
                llama.llama_sampler_init_temp(sampling.temperature),
                llama.llama_sampler_init_dist(seed),
            ]
        for link in links:  # the chain owns its links
            llama.llama_sampler_chain_add(self._chain, link)

    def sample(self, context: Context, index: int) -> int:
        """The token that follows the token at `index` of the batch decoded last."""
        assert self._chain, "used after close"
        return int(self._llama.llama_sampler_sample(self._chain, context.handle, index))

    def close(self) -> None:
        """Frees the chain."""
        chain, self._chain = self._chain, None
        if chain:
            self._llama.llama_sampler_free(chain)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
