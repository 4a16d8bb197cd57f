"""Many requests of all kinds from several clients: none may be lost, and memory must not grow."""

import asyncio
import contextlib
import random
import statistics
import time
from pathlib import Path

import httpx2

from lsp_assist.engine.requests import GenerateRequest, Priority
from tests.bench.asking import Tokens, request
from tests.bench.machine import resident_bytes
from tests.bench.served import Served, served
from tests.bench.sizes import Sizes

__all__ = ["enter_ms", "soak"]

N_CLIENTS = 8
N_CTX = 2048


async def soak(path: Path, sizes: Sizes, tokens: Tokens) -> dict[str, float]:
    """Requests without an answer, and memory after all of them against after a quarter."""
    with served(path, n_ctx=N_CTX) as engine:
        shared, n_each = tokens(512), sizes.soak // N_CLIENTS
        async with contextlib.AsyncExitStack() as stack:
            clients = [
                _Client(engine, await stack.enter_async_context(engine.client()), n, shared, tokens)
                for n in range(N_CLIENTS)
            ]
            await asyncio.gather(*(client.run(n_each // 4) for client in clients))
            pid = engine.pid()
            before = resident_bytes(pid)
            started = time.perf_counter()
            await asyncio.gather(*(client.run(n_each - n_each // 4) for client in clients))
            seconds = time.perf_counter() - started
            assert engine.pid() == pid, "the engine has died"
            growth = resident_bytes(pid) / before
            n_left = await clients[0].n_left()
    n_lost = sum(client.n_lost for client in clients) + n_left
    return {
        "engine.soak_lost": n_lost,
        "engine.soak_rss_growth": growth,
        "engine.soak_requests_per_s": N_CLIENTS * (n_each - n_each // 4) / seconds,
    }


class _Client:
    """Somebody who asks, warms up, forks, and changes his mind."""

    def __init__(
        self,
        engine: Served,
        connection: httpx2.AsyncClient,
        number: int,
        shared: tuple[int, ...],
        tokens: Tokens,
    ) -> None:
        self._engine = engine
        self._connection = connection
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
            except (AssertionError, TimeoutError, httpx2.HTTPError) as error:
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
            # Gone within the prompt, or within the reply.
            patience_s = self._random.random() * (0.05 if kind == "disconnect" else 0.5)
            wanted = request(question, max_tokens=500)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience_s):
                    await self._engine.ask(self._connection, wanted)

    async def _whole(self, wanted: GenerateRequest, n_tokens: int) -> None:
        heard = await self._engine.ask(self._connection, wanted)
        assert heard.n_ended == wanted.n, f"{heard.n_ended} of {wanted.n} ended"
        assert heard.n_tokens <= n_tokens, f"{heard.n_tokens} of {n_tokens} tokens"

    async def n_left(self) -> int:
        """Requests that are worked on although nobody waits; those that were given up just now may
        take a moment.
        """
        status: dict[str, int] = {}
        for _ in range(100):
            status = await self._engine.status(self._connection)
            if not status["n_running"] + status["n_waiting"]:
                return 0
            await asyncio.sleep(0.05)
        return status["n_running"] + status["n_waiting"]


async def enter_ms(path: Path, sizes: Sizes, tokens: Tokens) -> dict[str, float]:
    """Enter after a pause, to the first text; and where the question was warmed up only."""
    ahead: list[float] = []
    warm: list[float] = []
    with served(path, n_ctx=2048) as engine:
        async with engine.client() as client:
            await _type_and_enter(engine, client, sizes, tokens, (ahead, warm))
    ahead.sort()
    return {
        "engine.speculative_enter_ms": ahead[min(len(ahead) - 1, int(len(ahead) * 0.95))],
        "engine.speculative_enter_median_ms": statistics.median(ahead),
        "engine.warm_enter_median_ms": statistics.median(warm),
    }


async def _type_and_enter(
    engine: Served,
    client: httpx2.AsyncClient,
    sizes: Sizes,
    tokens: Tokens,
    found: tuple[list[float], list[float]],
) -> None:
    """Milliseconds to the first text, with tokens drawn ahead and without."""
    chat = tokens(768)
    await engine.ask(client, request(chat, max_tokens=0))
    for _ in range(sizes.enters):
        for is_speculative, waited in zip((True, False), found, strict=True):
            question = chat + tokens(24)
            typed = request(
                question,
                max_tokens=0,
                priority=Priority.TYPED_WARM_UP,
                is_speculative=is_speculative,
            )
            await engine.ask(client, typed)
            await asyncio.sleep(0.3)  # the pause
            heard = await engine.ask(client, request(question, max_tokens=8))
            waited.append(heard.first_s * 1000)
