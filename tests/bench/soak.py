"""Many requests of all kinds from several clients: none may be lost, and memory must not grow."""

import asyncio
import random
import statistics
import time
from contextlib import aclosing
from pathlib import Path

from lsp_assist.engine.requests import Ended, GenerateRequest, Priority
from lsp_assist.engine.service import Engine
from lsp_assist.errors import AssistError
from tests.bench.asking import Tokens, ask, awake, request
from tests.bench.machine import resident_bytes
from tests.bench.sizes import Sizes

__all__ = ["enter_ms", "soak"]

N_CLIENTS = 8
N_CTX = 2048


async def soak(path: Path, sizes: Sizes, tokens: Tokens) -> dict[str, float]:
    """Requests without an answer, and memory after all of them against after a tenth."""
    async with awake(path, n_ctx=N_CTX) as engine:
        shared = tokens(512)
        n_each = sizes.soak // N_CLIENTS
        clients = [_Client(engine, n, shared, tokens) for n in range(N_CLIENTS)]
        await asyncio.gather(*(client.run(n_each // 4) for client in clients))
        before = resident_bytes()
        started = time.perf_counter()
        await asyncio.gather(*(client.run(n_each - n_each // 4) for client in clients))
        seconds = time.perf_counter() - started
        status = await engine.status()
        growth = resident_bytes() / before
    n_lost = sum(client.n_lost for client in clients) + status.n_running + status.n_waiting
    return {
        "engine.soak_lost": n_lost,
        "engine.soak_rss_growth": growth,
        "engine.soak_requests_per_s": N_CLIENTS * (n_each - n_each // 4) / seconds,
    }


class _Client:
    """Somebody who asks, warms up, forks, and changes his mind."""

    def __init__(
        self, engine: Engine, number: int, shared: tuple[int, ...], tokens: Tokens
    ) -> None:
        self._engine = engine
        self._random = random.Random(number)
        self._chat = shared
        self._shared = shared
        self._tokens = tokens
        self.n_lost = 0

    async def run(self, n_requests: int) -> None:
        """One request after the other."""
        for _ in range(n_requests):
            kind = self._random.choice(["ask", "ask", "warm", "fork", "cancel", "disconnect"])
            if len(self._chat) > N_CTX // 2:
                self._chat = self._shared
            question = self._chat + self._tokens(self._random.randint(1, 60))
            n_tokens = self._random.randint(1, 24)
            try:
                async with asyncio.timeout(120):
                    await self._do(kind, question, n_tokens)
            except (AssertionError, AssistError, TimeoutError, StopAsyncIteration) as error:
                print(f"{kind} of {len(question)} tokens: {error!r}")
                self.n_lost += 1

    async def _do(self, kind: str, question: tuple[int, ...], n_tokens: int) -> None:
        if kind == "ask":
            await self._whole(request(question, max_tokens=n_tokens), n_tokens)
            self._chat = question
        elif kind == "fork":
            forked = self._shared + self._tokens(20)
            await self._whole(request(forked, max_tokens=n_tokens, n=2), 2 * n_tokens)
        elif kind == "warm":
            priority = self._random.choice([Priority.TYPED_WARM_UP, Priority.BACKGROUND_WARM_UP])
            await self._whole(request(question, max_tokens=0, priority=priority), 0)
        else:
            async with aclosing(self._engine.generate(request(question, max_tokens=500))) as events:
                if kind == "disconnect":
                    await asyncio.wait(
                        [task := asyncio.ensure_future(anext(events))],
                        timeout=self._random.random() * 0.05,
                    )
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)
                else:
                    for _ in range(4):
                        await anext(events)

    async def _whole(self, wanted: GenerateRequest, n_expected: int) -> None:
        n_ended = n_tokens = 0
        async with aclosing(self._engine.generate(wanted)) as events:
            async for event in events:
                if isinstance(event, Ended):
                    n_ended += 1
                    n_tokens += event.n_tokens
        if n_ended != wanted.n or n_tokens > n_expected:
            raise AssertionError(f"{n_ended} ends and {n_tokens} tokens")


async def enter_ms(path: Path, sizes: Sizes, tokens: Tokens) -> dict[str, float]:
    """Enter after a pause, to the first text; and where the question was warmed up only."""
    ahead: list[float] = []
    warm: list[float] = []
    async with awake(path, n_ctx=2048) as engine:
        chat = tokens(768)
        await ask(engine, request(chat, max_tokens=0))
        for _ in range(sizes.enters):
            question = chat + tokens(24)
            for is_speculative, found in ((True, ahead), (False, warm)):
                typed = request(
                    question,
                    max_tokens=0,
                    priority=Priority.TYPED_WARM_UP,
                    is_speculative=is_speculative,
                )
                await ask(engine, typed)
                await asyncio.sleep(0.3)  # the pause
                heard = await ask(engine, request(question, max_tokens=8))
                found.append(heard.first_s * 1000)
                question = chat + tokens(24)
    ahead.sort()
    return {
        "engine.speculative_enter_ms": ahead[min(len(ahead) - 1, int(len(ahead) * 0.95))],
        "engine.speculative_enter_median_ms": statistics.median(ahead),
        "engine.warm_enter_median_ms": statistics.median(warm),
    }
