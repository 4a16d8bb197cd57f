"""Drawing the next token from the logits, by a chain of llama.cpp's samplers.

Knows no text but the spelling of single tokens. One sampler serves one reply, because some links
remember what was said.
"""

import ctypes
import secrets
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from lsp_assist.engine.gbnf import check
from lsp_assist.engine.libllama import library, recent_errors
from lsp_assist.engine.llama import Context, Weights
from lsp_assist.engine.requests import TokenLogprob
from lsp_assist.errors import BadInput, ModelUnavailable
from lsp_assist.llm import Sampling

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Sampler", "token_logprob"]

_PENALTY_LAST_N = 64


class Sampler:
    """The chain for one reply: penalties, top-k, top-p, min-p, temperature, draw.

    Temperature 0 always takes the likeliest token. The repeat penalty looks at the reply only: an
    answer about code has to repeat the names that stand in its prompt.

    Raises: BadInput if the grammar cannot be used
    """

    def __init__(
        self,
        weights: Weights,
        sampling: Sampling,
        *,
        grammar: str = "",
        n_logprobs: int = 0,
        completion: int = 0,
    ) -> None:
        """`grammar` is GBNF, empty for none. `n_logprobs` alternatives are kept with each token, 0
        keeps no log probabilities. The completions of one request differ by `completion`: a seed
        that was given is used for the first, the next one for the second, and so on.
        """
        self._weights = weights
        self._n_logprobs = n_logprobs
        self.logprob: TokenLogprob | None = None
        """Of the token drawn last, where `n_logprobs` asks for it."""
        self._grammar = _Grammar(weights, grammar) if grammar.strip() else None
        self._takes_likeliest = (
            self._grammar is None and sampling.temperature <= 0 and sampling.repeat_penalty == 1.0
        )
        self._llama = llama = library()
        self._chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
        for link in _links(llama, weights, sampling, completion):  # the chain owns its links
            llama.llama_sampler_chain_add(self._chain, link)

    def sample(self, context: Context, index: int) -> int:
        """The token that follows the token at `index` of the batch decoded last.

        Raises: ModelUnavailable if the grammar allows no token of this model
        """
        assert self._chain, "used after close"
        if self._takes_likeliest:
            # The chain would make a list of the whole vocabulary first, once per token.
            token = int(context.logits(index).argmax())
        elif self._grammar is None:
            token = int(self._llama.llama_sampler_sample(self._chain, context.handle, index))
        else:
            token = self._constrained(self._grammar, context.logits(index))
            self._llama.llama_sampler_accept(self._chain, token)
        if self._n_logprobs > 0:
            logits = context.logits(index)
            self.logprob = token_logprob(self._weights, logits, token, self._n_logprobs)
        return token

    def _constrained(self, grammar: "_Grammar", logits: "NDArray[np.float32]") -> int:
        """A token that the grammar allows.

        Drawn from all tokens first: mostly the grammar allows that one, and to ask for one costs a
        thousandth of asking for all (4.6 ms for a vocabulary of 152,000; LOG.md, 2026-11).
        """
        import numpy as np

        candidates = _Candidates(self._llama, logits)
        token = candidates.draw(self._chain)
        if not grammar.allows(token):
            allowed = grammar.mask(logits)
            while True:
                if not np.isfinite(allowed).any():
                    raise ModelUnavailable(
                        "No token of this model fits the grammar here; ask with another grammar, "
                        "or use another model."
                    )
                token = _Candidates(self._llama, allowed).draw(self._chain)
                if not grammar.is_unspoken(token):
                    break
                allowed[token] = -np.inf
        grammar.accept(token)
        return token

    def close(self) -> None:
        """Frees the chain and the grammar."""
        chain, self._chain = self._chain, None
        if chain:
            self._llama.llama_sampler_free(chain)
        if self._grammar is not None:
            self._grammar.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def token_logprob(
    weights: Weights, logits: "NDArray[np.float32]", token: int, n_top: int
) -> TokenLogprob:
    """The log probability of a token under these logits, and the `n_top` likeliest tokens.

    Of the model itself, before temperature, penalties and grammar.
    """
    import numpy as np

    largest = logits.max()
    total = float(largest + np.log(np.exp(logits - largest).sum()))
    n_top = min(n_top, logits.size)
    top = np.argpartition(-logits, n_top - 1)[:n_top] if n_top else np.empty(0, np.intp)
    top = top[np.argsort(-logits[top], kind="stable")]
    return TokenLogprob(
        token,
        _spelling(weights, token),
        float(logits[token]) - total,
        tuple((int(t), _spelling(weights, int(t)), float(logits[t]) - total) for t in top),
    )


def _spelling(weights: Weights, token: int) -> str:
    return weights.piece(token, special=True).decode("utf-8", "replace")


def _links(llama: Any, weights: Weights, sampling: Sampling, completion: int) -> list[Any]:
    """The links of the chain, in order."""
    links = []
    if sampling.repeat_penalty != 1.0:
        links.append(
            llama.llama_sampler_init_penalties(
                weights.n_vocab, _PENALTY_LAST_N, sampling.repeat_penalty, 0.0, 0.0
            )
        )
    if sampling.temperature <= 0:
        return [*links, llama.llama_sampler_init_greedy()]
    seed = secrets.randbits(32) if sampling.seed is None else sampling.seed + completion
    return [
        *links,
        llama.llama_sampler_init_top_k(sampling.top_k),
        llama.llama_sampler_init_top_p(sampling.top_p, 1),
        llama.llama_sampler_init_min_p(sampling.min_p, 1),
        llama.llama_sampler_init_temp(sampling.temperature),
        llama.llama_sampler_init_dist(seed & 0xFFFFFFFF),
    ]


class _Candidates:
    """Tokens with their logits, as llama.cpp's samplers take them."""

    def __init__(self, llama: Any, logits: "NDArray[np.float32]") -> None:
        import numpy as np

        self._llama = llama
        # llama_token_data: id, logit, probability.
        self.rows = np.empty(logits.size, [("id", "<i4"), ("logit", "<f4"), ("p", "<f4")])
        self.rows["id"] = np.arange(logits.size, dtype=np.int32)
        self.rows["logit"] = logits
        self.rows["p"] = 0
        pointer = self.rows.ctypes.data_as(ctypes.POINTER(llama.llama_token_data))
        self._array = llama.llama_token_data_array(
            data=pointer, size=logits.size, selected=-1, sorted=False
        )

    def draw(self, sampler: Any) -> int:
        """The token that the sampler takes."""
        self.apply(sampler)
        assert self._array.selected >= 0, "the last link of a chain selects"
        return int(self._array.data[self._array.selected].id)

    def apply(self, sampler: Any) -> None:
        self._llama.llama_sampler_apply(sampler, ctypes.byref(self._array))


class _Grammar:
    """A grammar, and how far the reply has come in it.

    llama.cpp ends the process when it is made to accept a token that the grammar refuses, so every
    token is asked for before.
    """

    def __init__(self, weights: Weights, text: str) -> None:
        check(text)
        self._llama = llama = library()
        self._weights = weights
        vocab = llama.llama_model_get_vocab(weights.handle)
        recent_errors()
        self._sampler = llama.llama_sampler_init_grammar(vocab, text.encode(), b"root")
        if not self._sampler:
            raise BadInput(
                f"The grammar was refused by llama.cpp ({recent_errors() or 'no reason given'}); "
                "correct it.",
                field="grammar",
            )

    def allows(self, token: int) -> bool:
        """Whether the reply may go on with the token."""
        if self.is_unspoken(token):
            return False
        row = self._llama.llama_token_data(id=token, logit=1.0, p=0.0)
        array = self._llama.llama_token_data_array(
            data=ctypes.pointer(row), size=1, selected=-1, sorted=False
        )
        self._llama.llama_sampler_apply(self._sampler, ctypes.byref(array))
        return bool(row.logit == 1.0)

    def is_unspoken(self, token: int) -> bool:
        """Whether the token is not text: `<|im_start|>` is spelled like it, and shown as nothing.

        The end of the reply is one that a grammar knows.
        """
        return self._weights.is_control(token) and not self._weights.is_end(token)

    def mask(self, logits: "NDArray[np.float32]") -> "NDArray[np.float32]":
        """The logits of what is allowed; minus infinity for the rest."""
        candidates = _Candidates(self._llama, logits)
        candidates.apply(self._sampler)
        return candidates.rows["logit"].copy()

    def accept(self, token: int) -> None:
        """Goes on with a token that is allowed."""
        if not self._weights.is_end(token):
            self._llama.llama_sampler_accept(self._sampler, token)

    def close(self) -> None:
        sampler, self._sampler = self._sampler, None
        if sampler:
            self._llama.llama_sampler_free(sampler)
