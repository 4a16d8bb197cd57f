"""What the engine is asked and what it answers, as plain values: the border between API and work.

Knows no HTTP, no llama.cpp and no thread.
"""

from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Literal

from lsp_assist.engine.template import Turn
from lsp_assist.llm import Sampling

__all__ = [
    "Adapter",
    "Ended",
    "Event",
    "FinishReason",
    "GenerateRequest",
    "Piece",
    "Prefilled",
    "Priority",
    "Timings",
    "TokenLogprob",
]


class Priority(IntEnum):
    """Who goes first; a lower one preempts a higher one's prefill."""

    QUESTION = 0
    TYPED_WARM_UP = 1
    BACKGROUND_WARM_UP = 2
    SUMMARY = 3
    """Titles and summaries, on sequences of their own."""
    LEARNING = 4


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter and how strongly it acts."""

    path: Path
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """Completions of one prompt."""

    model: str
    prompt: tuple[Turn, ...] | str | tuple[int, ...]
    """A conversation for the chat template, or a text or tokens as they are."""
    sampling: Sampling = field(default_factory=Sampling)
    """`max_tokens` 0 is a warm-up: the prompt is prefilled and nothing generated."""
    priority: Priority = Priority.QUESTION
    n: int = 1
    """Completions from the one prefix, decoded in one batch."""
    grammar: str = ""
    """GBNF that the reply obeys; empty for none."""
    n_logprobs: int = 0
    """How many alternatives to report for each token, 0 for no log probabilities at all."""
    adapters: tuple[Adapter, ...] = ()
    is_speculative: bool = False
    """Of a warm-up: also sample the first tokens on a fork, kept for the same question."""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token that was drawn, its log probability, and the likeliest alternatives."""

    token: int
    text: str
    logprob: float
    top: tuple[tuple[int, str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Prefilled:
    """The prompt is computed; comes once, before any text."""

    n_prompt: int
    n_cached: int
    """Of the prompt's tokens, those that were not computed now."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Text of one completion."""

    index: int
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time went, in wall milliseconds."""

    queue_ms: float
    prefill_ms: float
    first_token_ms: float
    """From submission to the first token."""
    decode_ms: float
    """From the first token to the last."""


@dataclass(frozen=True, slots=True)
class Ended:
    """One completion is over; the last event is that of the last completion."""

    index: int
    reason: FinishReason
    n_tokens: int
    timings: Timings


Event = Prefilled | Piece | Ended
