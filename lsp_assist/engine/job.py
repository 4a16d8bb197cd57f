"""A request inside the scheduler: its tokens, its branches, and the events that answer it.

A branch is one completion in the making. It is what the scheduler puts into batches: decoding is
prefilling the one token that was drawn last. Knows no cache and no queue.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from lsp_assist.engine.decoding import TextDecoder
from lsp_assist.engine.kv import Tokens, as_tokens
from lsp_assist.engine.llama import Context, Weights
from lsp_assist.engine.requests import (
    Ended,
    Event,
    FinishReason,
    GenerateRequest,
    Piece,
    Prefilled,
    Timings,
    TokenLogprob,
)
from lsp_assist.engine.sampling import Sampler
from lsp_assist.errors import BadInput

__all__ = ["Ahead", "Answer", "Branch", "Job"]

Answer = Callable[[Event | Exception], None]
"""Takes the events of a request, the last `Ended` or an error at the end; must not block."""


class Job:
    """One request, from its submission to its last event.

    Made on any thread; then touched by the scheduler's only, but for `is_cancelled`.
    """

    def __init__(
        self,
        request: GenerateRequest,
        tokens: Sequence[int] | Tokens,
        answer: Answer,
        *,
        weights: Weights,
        key: str = "",
        stop: Sequence[str] = (),
        on_reply: Callable[[str, Sequence[int]], None] = lambda _text, _tokens: None,
    ) -> None:
        """`stop` is what ends a reply beside what the request says. `on_reply` is told the text and
        the tokens of each whole reply.

        Raises: BadInput
        """
        if request.n < 1:
            raise BadInput(f"`n` is {request.n!r}; it must be 1 or more.", field="n")
        self.request = request
        self.prompt = as_tokens(tokens)
        self.key = key
        self.priority = request.priority
        self.max_tokens = request.sampling.max_tokens
        self.is_cancelled = False
        self.is_ended = False
        self.n_cached = 0
        self.order = 0
        """Position in the queue, given by the scheduler."""
        self._answer = answer
        self._on_reply = on_reply
        self._weights = weights
        self._stop = tuple(stop)
        self._submitted_at = time.perf_counter()
        self._placed_at = self._prefilled_at = self._first_at = 0.0
        self.is_prefilled = False
        stops = (*request.sampling.stop, *stop)
        n = request.n if self.max_tokens else 1
        self.branches = [Branch(self, index, weights, TextDecoder(stops)) for index in range(n)]

    @property
    def is_warm_up(self) -> bool:
        """Whether nothing is to be generated for the caller."""
        return self.max_tokens == 0

    @property
    def wants_logits(self) -> bool:
        """Whether a token is drawn after the prompt."""
        return not self.is_warm_up or self.request.is_speculative

    @property
    def open_branches(self) -> "list[Branch]":
        """The completions that have not ended."""
        return [branch for branch in self.branches if not branch.is_ended]

    def ahead(self) -> "Ahead":
        """The question that a speculative warm-up expects."""
        request = replace(self.request, is_speculative=False, n=1)
        sampling = replace(request.sampling, max_tokens=_WITHOUT_END)
        events: list[Event | Exception] = []
        job = Job(
            replace(request, sampling=sampling),
            self.prompt,
            events.append,
            weights=self._weights,
            key=self.key,
            stop=self._stop,
            on_reply=self._on_reply,
        )
        job.order = self.order
        return Ahead(job, events)

    def adopt(self, ahead: "Ahead") -> None:
        """Takes over what was drawn ahead for the same question, and tells it at once."""
        for branch in self.branches:
            branch.close()
        self.branches = ahead.job.branches
        for branch in self.branches:
            branch.job = self
        self.placed(len(self.prompt))
        for event in ahead.events:
            if isinstance(event, Prefilled):
                self.prefilled()
                self.said_first()
            elif isinstance(event, Ended):
                self._tell_end(replace(event, timings=self._timings()))
            elif isinstance(event, Piece):
                self.tell(event)

    def placed(self, n_cached: int) -> None:
        """Notes that the work begins."""
        if not self._placed_at:
            self._placed_at = time.perf_counter()
            self.n_cached = n_cached

    def prefilled(self) -> None:
        """Tells that the prompt is computed."""
        self.is_prefilled = True
        self._prefilled_at = time.perf_counter()
        self.tell(Prefilled(len(self.prompt), min(self.n_cached, len(self.prompt))))

    def said_first(self) -> None:
        """Notes that the first token was drawn."""
        self._first_at = self._first_at or time.perf_counter()

    def tell(self, event: Event) -> None:
        """Gives an event to whoever asked; nothing after the last one."""
        if not self.is_ended and not self.is_cancelled:
            self._answer(event)

    def fail(self, error: Exception) -> None:
        """Ends everything with an error."""
        is_silent = self.is_ended or self.is_cancelled
        self.end()
        if not is_silent:
            self._answer(error)

    def end(self) -> None:
        """Ends everything without a word."""
        self.is_ended = True
        for branch in self.branches:
            branch.close()

    def ended(self, branch: "Branch", reason: FinishReason, text: str) -> None:
        """Tells that a branch has ended with this text; with the last one the job has."""
        if branch.said:
            self._on_reply(text, branch.said)
        self._tell_end(Ended(branch.index, reason, len(branch.said), self._timings()))

    def _tell_end(self, event: Ended) -> None:
        """Whoever hears the last event finds the job ended."""
        is_silent = self.is_ended or self.is_cancelled
        if not self.open_branches:
            self.end()
        if not is_silent:
            self._answer(event)

    def _timings(self) -> Timings:
        now = time.perf_counter()
        placed, prefilled = self._placed_at or now, self._prefilled_at or now
        first = self._first_at or prefilled
        return Timings(
            queue_ms=(placed - self._submitted_at) * 1000,
            prefill_ms=(prefilled - placed) * 1000,
            first_token_ms=(first - self._submitted_at) * 1000,
            decode_ms=(now - first) * 1000 if self._first_at else 0.0,
        )


@dataclass(eq=False, slots=True)
class Ahead:
    """A question that nobody has asked yet, and the events that will answer it."""

    job: Job
    events: list[Event | Exception]
    is_waiting: bool = False
    """Whether the scheduler has put it aside until the question comes."""

    @property
    def is_far_enough(self) -> bool:
        """Whether enough was drawn."""
        return self.job.is_ended or len(self.job.branches[0].said) >= _N_AHEAD

    def answers(self, job: Job) -> bool:
        """Whether it is an answer to the job, as good as one that is made now."""
        mine, theirs = self.job.request, job.request
        return (
            theirs.n == 1
            and job.max_tokens > _N_AHEAD
            and self.job.key == job.key
            and mine.grammar == theirs.grammar
            and mine.n_logprobs == theirs.n_logprobs
            and replace(mine.sampling, max_tokens=0) == replace(theirs.sampling, max_tokens=0)
            and np.array_equal(self.job.prompt, job.prompt)
            and not any(isinstance(event, Exception) for event in self.events)
        )


_N_AHEAD = 4
"""Tokens: the first text is there, and little is lost with a question that is not asked."""
_WITHOUT_END = 1 << 30


@dataclass(eq=False, slots=True)
class Branch:
    """One completion: what is to be computed, what was drawn, what was shown."""

    job: Job
    index: int
    _weights: Weights
    _decoder: TextDecoder
    said: list[int] = field(default_factory=list)
    seq: int = -1
    """The sequence that it lives in, -1 while it waits for one."""
    n_held: int = 0
    """How many of its tokens are computed."""
    stepped_at: int = 0
    """The step that it took part in last."""
    is_ended: bool = False
    _shown: list[str] = field(default_factory=list)
    _logprobs: list[TokenLogprob] = field(default_factory=list)
    """Of tokens whose text is held back still."""
    _sampler: Sampler | None = None

    def __post_init__(self) -> None:
        if self.job.wants_logits:
            request = self.job.request
            self._sampler = Sampler(
                self._weights,
                request.sampling,
                grammar=request.grammar,
                n_logprobs=request.n_logprobs,
                completion=self.index,
            )

    @property
    def n_tokens(self) -> int:
        """How many tokens it has: the prompt's and those that were drawn."""
        return len(self.job.prompt) + len(self.said)

    @property
    def n_left(self) -> int:
        """How many of them are to be computed."""
        return self.n_tokens - self.n_held

    @property
    def is_decoding(self) -> bool:
        """Whether only the token drawn last is missing."""
        return bool(self.said) and self.n_left == 1

    def tokens(self, start: int, end: int) -> Tokens:
        """Its tokens from `start` up to `end`."""
        prompt = self.job.prompt
        if end <= len(prompt):
            return prompt[start:end]
        said = as_tokens(self.said[max(0, start - len(prompt)) : end - len(prompt)])
        return np.concatenate([prompt[start:], said]) if start < len(prompt) else said

    def draw(self, context: Context, batch_index: int, n_ctx: int) -> None:
        """Draws the next token from the logits at an index of the batch, and tells its text.

        Raises: ModelUnavailable if no token can be drawn
        """
        assert self._sampler is not None, "a warm-up draws nothing"
        token = self._sampler.sample(context, batch_index)
        self.job.said_first()
        if self._weights.is_end(token):
            self.finish("stop")
            return
        self.said.append(token)
        if self._sampler.logprob is not None:
            self._logprobs.append(self._sampler.logprob)
        self._show(self._decoder.push(self._weights.piece(token)))
        if self._decoder.is_stopped:
            self.finish("stop")
        else:
            self.check_length(n_ctx)

    def check_length(self, n_ctx: int) -> None:
        """Ends it if it has said all that it may."""
        if len(self.said) >= self.job.max_tokens or self.n_tokens >= n_ctx:
            self.finish("length")

    def finish(self, reason: FinishReason) -> None:
        """Ends it."""
        self._show(self._decoder.finish())
        self.close()
        self.job.ended(self, reason, "".join(self._shown))

    def close(self) -> None:
        """Frees the sampler."""
        self.is_ended = True
        sampler, self._sampler = self._sampler, None
        if sampler is not None:
            sampler.close()

    def _show(self, text: str) -> None:
        if text:
            self._shown.append(text)
            self.job.tell(Piece(self.index, text, tuple(self._logprobs)))
            self._logprobs.clear()
