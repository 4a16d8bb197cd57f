"""A loaded model and the one conversation that its cache holds.

Everything here runs on the thread that owns the model. What the cache holds of the last prompt and
reply is reused by comparing tokens. Knows no queue and no event loop.
"""

import contextlib
import datetime as dt
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lsp_assist.config import ModelSettings
from lsp_assist.engine.decoding import TextDecoder
from lsp_assist.engine.gguf import read_model_file
from lsp_assist.engine.llama import Context, Weights
from lsp_assist.engine.prompt_tokens import PromptTokens
from lsp_assist.engine.sampling import Sampler
from lsp_assist.engine.template import ChatTemplate, Turn
from lsp_assist.errors import ContextTooLong, ModelError, ModelFileError, ModelUnavailable
from lsp_assist.llm import Prompt, Sampling

__all__ = ["LoadedModel", "Reply", "Stopped"]

logger = logging.getLogger(__name__)


class Stopped(Exception):
    """The work was given up, because nobody wants its result any more."""


@dataclass(eq=False, slots=True)
class LoadedModel:
    """A model with its context, and what of the last conversation its cache holds."""

    weights: Weights
    context: Context
    template: ChatTemplate
    tokens: PromptTokens
    n_ctx: int
    held: list[int] = field(default_factory=list)
    """The tokens in the cache, as far as they are known to be there."""

    @classmethod
    def load(
        cls, path: Path, settings: ModelSettings, is_stopping: Callable[[], bool]
    ) -> "LoadedModel":
        """The model in a file, after checking the file; gives up when `is_stopping` says so.

        Raises: ModelFileError, ModelUnavailable, Stopped
        """
        started = time.perf_counter()
        file = read_model_file(path)
        with contextlib.ExitStack() as undo:
            try:
                weights = Weights(
                    file.path,
                    n_gpu_layers=settings.n_gpu_layers,
                    on_progress=lambda _part: not is_stopping(),
                )
            except ModelError:
                if is_stopping():
                    raise Stopped from None
                raise
            undo.callback(weights.close)
            n_ctx = min(settings.n_ctx, weights.n_ctx_train or settings.n_ctx)
            context = Context(
                weights,
                n_ctx=n_ctx,
                n_batch=_GPU_CHUNK if weights.is_on_gpu else _CPU_CHUNK,
                n_threads=settings.n_threads,
                head_dim=file.head_dim,
            )
            undo.callback(context.close)
            template = ChatTemplate(
                file.chat_template,
                now=dt.datetime.now().astimezone(),
                bos=_spelling(weights, weights.bos),
                eos=_spelling(weights, weights.eos),
                special_names=weights.special_names,
            )
            tokens = PromptTokens(weights)
            undo.pop_all()
        milliseconds = (time.perf_counter() - started) * 1000
        logger.info("Loaded %r (%s) in %.0f ms", path.name, file.quantisation, milliseconds)
        return cls(weights, context, template, tokens, n_ctx)

    def prompt_tokens(self, prompt: Prompt) -> list[int]:
        """The tokens of a prompt.

        Raises: ContextTooLong, ModelFileError
        """
        pieces = self.template.render([Turn(m.role, m.text) for m in prompt.messages])
        tokens = self.tokens.of(pieces)
        if not tokens:
            raise ModelFileError(
                f"Model file {str(self.weights.path)!r} has a chat template that makes nothing of "
                "this conversation; take another model."
            )
        if len(tokens) > self.n_ctx:
            raise ContextTooLong(len(tokens), self.n_ctx)
        return tokens

    def close(self) -> None:
        """Frees the context and the weights."""
        self.context.close()
        self.weights.close()


class Reply:
    """One reply: brings the cache to the prompt, then draws token by token."""

    def __init__(
        self, loaded: LoadedModel, sampling: Sampling, between_steps: Callable[[], None]
    ) -> None:
        """`between_steps` is called at least once per token; what it raises ends the reply."""
        self._loaded = loaded
        self._sampling = sampling
        self._between_steps = between_steps
        self.tokens: list[int] = []
        self.n_cached = 0

    def texts(self, prompt: Sequence[int]) -> Iterator[str]:
        """The text as it becomes certain."""
        index = self._prefill(prompt)
        if self._sampling.max_tokens == 0:
            return
        loaded = self._loaded
        decoder = TextDecoder((*self._sampling.stop, *loaded.template.stop))
        shown: list[str] = []
        with Sampler(loaded.weights, self._sampling) as sampler:
            while True:
                token = sampler.sample(loaded.context, index)
                if loaded.weights.is_end(token):
                    break
                self.tokens.append(token)
                if text := decoder.push(loaded.weights.piece(token)):
                    shown.append(text)
                    yield text
                if (
                    decoder.is_stopped
                    or len(self.tokens) >= self._sampling.max_tokens
                    or len(loaded.held) >= loaded.n_ctx
                ):
                    break
                index = self._compute([token])
        if text := decoder.finish():
            shown.append(text)
            yield text
        loaded.tokens.remember_reply("".join(shown), self.tokens)

    def _prefill(self, prompt: Sequence[int]) -> int:
        """Brings the cache to the prompt; the batch index of its last token."""
        loaded = self._loaded
        self._between_steps()
        n_shared = _n_shared(loaded.held, prompt)
        if self._sampling.max_tokens > 0:
            # The last token is computed in any case: its logits are what the reply starts from.
            n_shared = min(n_shared, len(prompt) - 1)
        self.n_cached = loaded.context.keep(_SEQ, n_shared)
        del loaded.held[self.n_cached :]
        index = -1
        n_chunk = loaded.context.n_batch
        for at in range(self.n_cached, len(prompt), n_chunk):
            index = self._compute(prompt[at : at + n_chunk])
        return index

    def _compute(self, tokens: Sequence[int]) -> int:
        """Extends what is held; the batch index of the last token, whose logits are there."""
        self._between_steps()
        loaded = self._loaded
        context = loaded.context
        context.clear()
        index = context.add(tokens, seq=_SEQ, position=len(loaded.held), wants_logits=True)
        outcome = context.decode()
        if outcome == "ok":
            loaded.held += tokens
            return index
        logger.debug("Gave up a batch of %d tokens: %s", len(tokens), outcome)
        # Nothing of this batch stays, and nothing at all where a model cannot roll back.
        del loaded.held[
            context.keep(_SEQ, len(loaded.held) if loaded.weights.can_roll_back else 0) :
        ]
        self._between_steps()
        raise ModelUnavailable(f"llama.cpp stopped unasked ({outcome}); ask again.")


_SEQ = 0
_CPU_CHUNK = 128
"""Tokens per decode in prefill: a cancel loses what is being computed, and a smaller one is slower
(128: 8 % slower than 512, 64: 14 %; facts: engine, 4)."""
_GPU_CHUNK = 512


def _n_shared(a: Sequence[int], b: Sequence[int]) -> int:
    """The length of the longest common prefix."""
    for index, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return index
    return min(len(a), len(b))


def _spelling(weights: Weights, token: int) -> str:
    return weights.piece(token, special=True).decode("utf-8", "replace") if token >= 0 else ""
