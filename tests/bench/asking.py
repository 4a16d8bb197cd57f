"""Asking an engine and noting when what came."""

import contextlib
import random
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lsp_assist.engine.requests import (
    Ended,
    GenerateRequest,
    Piece,
    Prefilled,
    Priority,
)
from lsp_assist.engine.service import Engine, EngineSettings
from lsp_assist.llm import Sampling

__all__ = ["Heard", "Tokens", "ask", "awake", "request"]

MODEL = "model"


@dataclass(slots=True)
class Heard:
    """What came back, and when: in seconds since the request."""

    n_cached: int = 0
    n_prompt: int = 0
    pieces: list[float] = field(default_factory=list)
    text: str = ""
    n_tokens: int = 0
    n_ended: int = 0
    first_s: float = 0.0
    """The first token."""
    ended_s: float = 0.0
    cpu_s: float = 0.0
    """Work of this process up to the end, whatever else the machine does."""

    @property
    def tokens_per_s(self) -> float:
        """Speed after the first token."""
        return (len(self.pieces) - 1) / (self.pieces[-1] - self.pieces[0])


class Tokens:
    """Random tokens; no two drawings have a beginning in common."""

    def __init__(self, n_vocab: int) -> None:
        self._random = random.Random(1)
        self._range = (600, n_vocab - 1)

    def __call__(self, n_tokens: int) -> tuple[int, ...]:
        return tuple(self._random.randint(*self._range) for _ in range(n_tokens))


def request(
    tokens: Sequence[int],
    *,
    max_tokens: int = 1,
    n: int = 1,
    priority: Priority = Priority.QUESTION,
    is_speculative: bool = False,
) -> GenerateRequest:
    """A request that takes the likeliest tokens."""
    sampling = Sampling(temperature=0, max_tokens=max_tokens)
    return GenerateRequest(
        MODEL, tuple(tokens), sampling, priority, n=n, is_speculative=is_speculative
    )


async def ask(engine: Engine, wanted: GenerateRequest, heard: Heard | None = None) -> Heard:
    """The answer to a request, noted while it comes."""
    heard = heard or Heard()
    started, cpu_started = time.perf_counter(), time.process_time()
    async with contextlib.aclosing(engine.generate(wanted)) as events:
        async for event in events:
            now = time.perf_counter() - started
            match event:
                case Prefilled(n_prompt, n_cached):
                    heard.n_prompt, heard.n_cached = n_prompt, n_cached
                case Piece(_, text):
                    heard.pieces.append(now)
                    heard.text += text
                    heard.first_s = heard.first_s or now
                case Ended():
                    heard.n_tokens += event.n_tokens
                    heard.n_ended += 1
                    heard.ended_s = now
                    heard.first_s = heard.first_s or now
    heard.cpu_s = time.process_time() - cpu_started
    return heard


@contextlib.asynccontextmanager
async def awake(
    path: Path, *, n_ctx: int, folder: Path | None = None, settings: EngineSettings | None = None
) -> AsyncIterator[Engine]:
    """An engine that has loaded the model; its states lie in a folder of its own."""
    with contextlib.ExitStack() as stack:
        states = folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        settings = settings or EngineSettings({}, states, n_ctx=n_ctx, idle_sleep_s=-1)
        engine = Engine(replace(settings, models={MODEL: path}))
        try:
            await ask(engine, request([601, 602]))
            yield engine
        finally:
            await engine.close()
