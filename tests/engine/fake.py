"""An engine at the door that does what the question says, for what a real one does too fast."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lsp_assist.engine.requests import (
    Ended,
    Event,
    GenerateRequest,
    Piece,
    Prefilled,
    Timings,
    TokenLogprob,
)
from lsp_assist.engine.service import Warmth
from lsp_assist.engine.template import Turn
from lsp_assist.errors import ContextTooLong, ModelFileError, ModelUnavailable

TIMINGS = Timings(queue_ms=1.0, prefill_ms=2.0, first_token_ms=4.0, decode_ms=30.0)


@dataclass(frozen=True, slots=True)
class FakeModelState:
    """A model of the fake."""

    name: str
    path: Path
    state: str
    n_ctx: int = 512


@dataclass(frozen=True, slots=True)
class FakeStatus:
    """Status of the fake."""

    models: tuple[FakeModelState, ...]
    n_cancelled: int


@dataclass
class FakeEngine:
    """Remembers what it was asked; the first word of the last turn says how it answers."""

    names: list[str] = field(default_factory=lambda: ["tiny", "other"])
    requests: list[GenerateRequest] = field(default_factory=list)
    cancelled: asyncio.Queue[GenerateRequest] = field(default_factory=asyncio.Queue)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Event, None]:
        self.requests.append(request)
        self.arrived.set()
        try:
            async for event in self._events(request):
                yield event
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled.put_nowait(request)
            raise

    async def _events(self, request: GenerateRequest) -> AsyncGenerator[Event, None]:
        text = request.prompt if isinstance(request.prompt, str) else _last_text(request.prompt)
        verb, _, rest = text.partition(" ")
        match verb:
            case "long":
                raise ContextTooLong(9000, 512)
            case "unloadable":
                raise ModelUnavailable("There is no room in memory; close other programs.")
            case "broken":
                raise ModelFileError("Model file 'x.gguf' is damaged; download it again.")
            case "crash":
                raise RuntimeError("something that nobody foresaw")
            case "wait":
                await self.released.wait()
        yield Prefilled(n_prompt=10, n_cached=7)
        words = rest.split(" ") if request.sampling.max_tokens else []
        for index in range(request.n):
            for word in words:
                yield Piece(index, f"{word} ", self._logprobs(request, f"{word} "))
        match verb:
            case "hold":
                await asyncio.Event().wait()
            case "half":
                raise ModelUnavailable("The model broke; ask again.")
        for index in range(request.n):
            reason = "stop" if request.sampling.max_tokens else "length"
            yield Ended(index, "stop" if reason == "stop" else "length", len(words), TIMINGS)

    def _logprobs(self, request: GenerateRequest, text: str) -> tuple[TokenLogprob, ...]:
        if not request.n_logprobs:
            return ()
        top = tuple((n, f"t{n}", -float(n + 1)) for n in range(request.n_logprobs))
        return (TokenLogprob(1, text, -0.5, top),)

    async def tokenize(self, model: str, text: str, *, parse_special: bool = False) -> list[int]:
        return [*(ord(c) for c in text), *([0] if parse_special else [])]

    async def detokenize(self, model: str, tokens: Sequence[int]) -> str:
        return "".join(chr(token) for token in tokens)

    async def warmth(self, model: str, turns: Sequence[Turn]) -> Warmth:
        """A token for each turn, the first of them warm."""
        return Warmth(len(turns), 1, is_append_only=True)

    async def apply_template(self, model: str, turns: Sequence[Turn]) -> str:
        return "".join(f"<{turn.role}>{turn.content}" for turn in turns)

    async def embed(self, model: str, texts: Sequence[str]) -> list[list[float]]:
        return [[float(len(text)), 0.5] for text in texts]

    async def models(self) -> list[FakeModelState]:
        return [FakeModelState(name, Path(f"{name}.gguf"), "asleep") for name in self.names]

    async def status(self) -> FakeStatus:
        return FakeStatus(tuple(await self.models()), self.cancelled.qsize())

    async def close(self) -> None:
        pass

    async def add_model(self, path: Path) -> str:
        if "missing" in path.name:
            raise ModelFileError(f"Model file {str(path)!r} not found; check the path.")
        self.names.append(path.stem)
        return path.stem


def _last_text(prompt: tuple[Turn, ...] | tuple[int, ...]) -> str:
    last = prompt[-1]
    return last.content if isinstance(last, Turn) else "say tokens"


__all__ = ["TIMINGS", "FakeEngine", "FakeModelState", "FakeStatus"]
