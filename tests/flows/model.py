"""A model at the door that keeps what it read, so that tests see what a cache would."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from lsp_assist.llm import Delta, Prompt, Sampling, Usage, WarmPriority

__all__ = ["KeptModel", "Read"]


@dataclass(frozen=True, slots=True)
class Read:
    """One prompt that the model was given."""

    text: str
    priority: WarmPriority | None
    """None for a question."""
    speculative: bool
    sampling: Sampling


class KeptModel:
    """Tokens are characters in fours; a prompt is warm as far as it begins like an earlier one."""

    name = "kept"

    def __init__(self, window: int | None = 4096) -> None:
        self._window = window
        self.read: list[Read] = []
        self.may_read = asyncio.Event()
        self.may_read.set()
        self.begun = asyncio.Event()
        self._news = asyncio.Event()

    async def has_read(self, n_prompts: int) -> None:
        """Wait until so many prompts were read."""
        while len(self.read) < n_prompts:
            self._news.clear()
            await self._news.wait()

    async def stream(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Delta, None]:
        """Says the same at all times."""
        usage = await self._reads(prompt, None, False, sampling)
        yield Delta("Fine.")
        yield Delta(usage=usage)

    async def warm(
        self,
        prompt: Prompt,
        *,
        sampling: Sampling = Sampling(),  # noqa: B008  # a value that never changes
        priority: WarmPriority = "background_warm_up",
        speculative: bool = False,
    ) -> Usage:
        """Reads the prompt."""
        return await self._reads(prompt, priority, speculative, sampling)

    async def count(self, text: str) -> int:
        """Four characters a token."""
        return len(text) // 4

    async def window(self) -> int | None:
        """As it was made."""
        return self._window

    async def close(self) -> None:
        """Nothing to free."""

    async def _reads(
        self,
        prompt: Prompt,
        priority: WarmPriority | None,
        speculative: bool,
        sampling: Sampling,
    ) -> Usage:
        self.begun.set()
        await self.may_read.wait()
        text = "".join(f"<{m.role}>{m.text}" for m in prompt.messages)
        n_cached = max((_n_common(read.text, text) for read in self.read), default=0)
        self.read.append(Read(text, priority, speculative, sampling))
        self._news.set()
        return Usage("kept", prompt_tokens=len(text) // 4, cached_tokens=n_cached // 4, ttft_ms=1.0)


def _n_common(one: str, other: str) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(one), len(other)))
