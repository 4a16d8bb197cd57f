"""How long until the first token: cold, warm, forked, restarted, interrupted, ahead of Enter."""

import asyncio
import statistics
import time
from contextlib import aclosing
from pathlib import Path

import httpx2

from lsp_assist.engine.requests import Priority
from lsp_assist.engine.service import Engine
from tests.bench.asking import Heard, Tokens, ask, awake, request
from tests.bench.machine import resident_bytes
from tests.bench.served import Served, served
from tests.bench.sizes import Sizes

__all__ = ["first_tokens", "interruptions", "many_forks", "restart"]

N_QUESTION = 32


async def first_tokens(path: Path, sizes: Sizes, tokens: Tokens) -> dict[str, float]:
    """Cold against warm, a fork against the same question without one, a fork of a busy parent."""
    cold, full, context, fork, plain = [], [], [], [], []
    async with awake(path, n_ctx=2 * sizes.prompt) as engine:
        for _ in range(sizes.cold_runs):
            prompt = tokens(sizes.prompt)
            heard = await ask(engine, request(prompt))
            assert heard.n_cached == 0
            cold.append(heard)
        await ask(engine, request(prompt, max_tokens=0))
        chat = prompt
        for _ in range(sizes.runs):
            question = prompt + tokens(N_QUESTION)
            await ask(engine, request(question, max_tokens=0))
            full.append(await _warm(engine, question, len(question) - 1))
            context.append(await _warm(engine, prompt + tokens(N_QUESTION), len(prompt) - 1))
            # The chat goes on at its end: nobody else needs what lies behind it.
            chat += tokens(N_QUESTION)
            await ask(engine, request(chat, max_tokens=0))
            longer = chat + tokens(N_QUESTION)
            plain.append(await _warm(engine, longer, len(chat) - 1))
            # Another branch begins at the same place.
            fork.append(await _warm(engine, chat + tokens(N_QUESTION), len(chat) - 1))
            chat = longer
        cold_s, cold_cpu_s = _medians(cold)
        figures = {"engine.cold_s": cold_s, "engine.cold_cpu_s": cold_cpu_s}
        for name, found in (("full_warm", full), ("context_warm", context)):
            wall_s, cpu_s = _medians(found)
            figures[f"engine.{name}_ratio"] = wall_s / cold_s
            figures[f"engine.{name}_ratio_cpu"] = cpu_s / cold_cpu_s
            figures[f"engine.{name}_ms"] = wall_s * 1000
        figures["engine.fork_ratio"] = _medians(fork)[0] / _medians(plain)[0]
        figures["engine.fork_ratio_cpu"] = _medians(fork)[1] / _medians(plain)[1]
        return figures | await _fork_while_decoding(engine, sizes, tokens, prompt, cold_s)


async def _warm(engine: Engine, question: tuple[int, ...], n_cached: int) -> Heard:
    heard = await ask(engine, request(question))
    assert heard.n_cached >= n_cached, f"{heard.n_cached} of {n_cached} tokens were cached"
    return heard


def _medians(heard: list[Heard]) -> tuple[float, float]:
    """Of wall and CPU seconds."""
    wall_s = statistics.median(each.first_s for each in heard)
    return wall_s, statistics.median(each.cpu_s for each in heard)


async def _fork_while_decoding(
    engine: Engine, sizes: Sizes, tokens: Tokens, prompt: tuple[int, ...], cold_s: float
) -> dict[str, float]:
    """The first token of a fork while its parent is generating, and what the parent keeps."""
    firsts, kept = [], []
    for _ in range(sizes.runs):
        parent = Heard()
        wanted = request(prompt + tokens(4), max_tokens=1000)
        generating = asyncio.create_task(ask(engine, wanted, parent))
        while len(parent.pieces) < 30:  # noqa: ASYNC110 - an event would not make it more exact
            await asyncio.sleep(0.001)
        alone = parent.tokens_per_s
        n_before, forked_at = len(parent.pieces), time.perf_counter()
        fork = await ask(engine, request(prompt + tokens(N_QUESTION), max_tokens=24))
        elapsed = time.perf_counter() - forked_at
        kept.append((len(parent.pieces) - n_before) / elapsed / alone)
        assert fork.n_cached >= len(prompt) - 1
        assert not generating.done(), "the parent ended too soon"
        firsts.append(fork.first_s)
        generating.cancel()
        await asyncio.gather(generating, return_exceptions=True)
    return {
        "engine.fork_while_parent_decodes_ratio": statistics.median(firsts) / cold_s,
        "engine.fork_parent_speed": statistics.median(kept),
    }


async def many_forks(path: Path, sizes: Sizes, tokens: Tokens) -> dict[str, float]:
    """Memory with 16 forks against one."""
    async with awake(path, n_ctx=2 * sizes.prompt) as engine:
        prompt = tokens(sizes.prompt // 4)
        await ask(engine, request(prompt, max_tokens=0))
        await ask(engine, request(prompt + tokens(N_QUESTION)))
        with_one = resident_bytes()
        for _ in range(15):
            heard = await ask(engine, request(prompt + tokens(N_QUESTION)))
            assert heard.n_cached >= len(prompt) - 1
        return {"engine.fork16_memory_ratio": resident_bytes() / with_one}


async def restart(path: Path, sizes: Sizes, tokens: Tokens) -> dict[str, float]:
    """From starting a killed engine again to the first token of a new question on the prompt, its
    cache from disk, all of it included: process, libraries, model, the 32 tokens of the question;
    against the prompt cold in a running engine.
    """
    prompt = tokens(sizes.prompt)
    found = []
    with served(path, n_ctx=2 * sizes.prompt) as engine:
        async with engine.client() as client:
            await engine.ask(client, request(tokens(8)))
            cold = await engine.ask(client, request(prompt))
            await _until_saved(engine, client)
        for _ in range(5):
            engine.kill()
            started = time.perf_counter()
            async with engine.client() as client:
                heard = await engine.ask(client, request(prompt + tokens(32)))
                found.append(time.perf_counter() - started)
                assert heard.n_cached > 0.95 * len(prompt), heard.n_cached
                await _until_saved(engine, client)
    seconds = statistics.median(found)
    return {"engine.restart_ratio": seconds / cold.first_s, "engine.restart_s": seconds}


async def _until_saved(engine: Served, client: httpx2.AsyncClient) -> None:
    """Waits until for two seconds nothing more was saved and written."""
    n_calm, before = 0, (-1, -1)
    while n_calm < 10:
        await asyncio.sleep(0.2)
        counters = (await engine.status(client))["counters"]
        now = (counters["saved"], counters["written"])
        n_calm = n_calm + 1 if now == before else 0
        before = now


async def interruptions(path: Path, sizes: Sizes, tokens: Tokens) -> dict[str, float]:
    """How soon a prefill ends that is cancelled, or that a question pre-empts."""
    cancel, preempt, idle = [], [], []
    async with awake(path, n_ctx=2 * sizes.prompt) as engine:
        question = tokens(256)
        await ask(engine, request(question))
        for n in range(sizes.interruptions):
            pause_s = 0.15 + 0.2 * (n * 0.618 % 1)
            async with aclosing(engine.generate(request(tokens(sizes.prompt // 2)))) as events:
                task = asyncio.ensure_future(anext(events))
                await asyncio.sleep(pause_s)
                started = time.perf_counter()
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            await _until_idle(engine)
            cancel.append(time.perf_counter() - started)

            heard = await ask(engine, request(question))
            idle.append(heard.first_s)
            background = request(
                tokens(sizes.prompt // 2), max_tokens=0, priority=Priority.BACKGROUND_WARM_UP
            )
            warming = asyncio.create_task(ask(engine, background))
            await asyncio.sleep(pause_s)
            heard = await ask(engine, request(question))
            assert heard.n_cached >= len(question) - 1
            preempt.append(heard.first_s)
            warming.cancel()
            await asyncio.gather(warming, return_exceptions=True)
            await _until_idle(engine)
    usual = statistics.median(idle)
    return {
        "engine.cancel_p99_ms": _percentile(cancel, 99) * 1000,
        "engine.cancel_median_ms": statistics.median(cancel) * 1000,
        "engine.preempt_p99_ms": (_percentile(preempt, 99) - usual) * 1000,
        "engine.preempt_median_ms": (statistics.median(preempt) - usual) * 1000,
    }


async def _until_idle(engine: Engine) -> None:
    while True:
        status = await engine.status()
        if not status.n_running and not status.n_waiting:
            return
        await asyncio.sleep(0.0005)


def _percentile(values: list[float], percent: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
