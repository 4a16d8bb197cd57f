"""How long until the first token: cold, warm, forked, restarted, interrupted, ahead of Enter."""

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Self

from lsp_assist.engine.requests import Priority
from lsp_assist.engine.service import Engine
from tests.bench.asking import Heard, Tokens, ask, awake, request
from tests.bench.machine import resident_bytes
from tests.bench.sizes import Sizes

__all__ = ["first_tokens", "fork_while_decoding", "interruptions", "many_forks", "restart_s"]

N_QUESTION = 32


async def first_tokens(path: Path, sizes: Sizes, tokens: Tokens) -> dict[str, float]:
    """Cold against warm, and a fork against the same question without one."""
    cold, full, context, fork, plain = [], [], [], [], []
    async with awake(path, n_ctx=2 * sizes.prompt) as engine:
        for _ in range(sizes.cold_runs):
            prompt = tokens(sizes.prompt)
            heard = await ask(engine, request(prompt))
            assert heard.n_cached == 0
            cold.append(heard.first_s)
        await ask(engine, request(prompt, max_tokens=0))
        chat = prompt
        for _ in range(sizes.runs):
            question = prompt + tokens(N_QUESTION)
            await ask(engine, request(question, max_tokens=0))
            heard = await ask(engine, request(question))
            assert heard.n_cached >= len(question) - 1
            full.append(heard.first_s)

            heard = await ask(engine, request(prompt + tokens(N_QUESTION)))
            assert heard.n_cached >= len(prompt) - 1
            context.append(heard.first_s)

            # The chat goes on at its end: nobody else needs what lies behind it.
            chat += tokens(N_QUESTION)
            await ask(engine, request(chat, max_tokens=0))
            longer = chat + tokens(N_QUESTION)
            heard = await ask(engine, request(longer))
            assert heard.n_cached >= len(chat) - 1
            plain.append(heard.first_s)
            # Another branch begins at the same place.
            heard = await ask(engine, request(chat + tokens(N_QUESTION)))
            assert heard.n_cached >= len(chat) - 1
            fork.append(heard.first_s)
            chat = longer
    cold_s = statistics.median(cold)
    return {
        "cold_s": cold_s,
        "engine.full_warm_ratio": statistics.median(full) / cold_s,
        "engine.full_warm_ms": statistics.median(full) * 1000,
        "engine.context_warm_ratio": statistics.median(context) / cold_s,
        "engine.context_warm_ms": statistics.median(context) * 1000,
        "engine.fork_ratio": statistics.median(fork) / statistics.median(plain),
    }


async def fork_while_decoding(
    path: Path, sizes: Sizes, tokens: Tokens, cold_s: float
) -> dict[str, float]:
    """The first token of a fork while its parent is generating, and what the parent keeps."""
    firsts, kept = [], []
    async with awake(path, n_ctx=2 * sizes.prompt) as engine:
        prompt = tokens(sizes.prompt)
        await ask(engine, request(prompt, max_tokens=0))
        for _ in range(sizes.runs):
            parent = Heard()
            wanted = request(prompt + tokens(4), max_tokens=1000)
            generating = asyncio.create_task(ask(engine, wanted, parent))
            began = time.perf_counter()
            while len(parent.pieces) < 30:  # noqa: ASYNC110 - a clock sets less apart than an event
                await asyncio.sleep(0.001)
            alone = parent.tokens_per_s
            n_before, forked_at = len(parent.pieces), time.perf_counter()
            fork = await ask(engine, request(prompt + tokens(N_QUESTION), max_tokens=24))
            elapsed = time.perf_counter() - forked_at
            kept.append((len(parent.pieces) - n_before) / elapsed / alone)
            assert fork.n_cached >= sizes.prompt - 1
            assert not generating.done(), f"ended after {time.perf_counter() - began} s"
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


def restart_s(path: Path, sizes: Sizes, tokens: Tokens) -> float:
    """Seconds from starting a killed engine again to its first token, its cache on disk."""
    prompt = tokens(sizes.prompt)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        settings = {"path": str(path), "folder": folder, "n_ctx": 2 * sizes.prompt}
        with _Process(settings) as first:
            first.do(op="ask", tokens=prompt)
            first.do(op="wait_until_saved")
            first.kill()
        for _ in range(3):
            started = time.perf_counter()
            with _Process(settings) as again:
                heard = again.do(op="ask", tokens=prompt + tokens(N_QUESTION))
                found.append(time.perf_counter() - started)
                assert heard["n_cached"] > 0.95 * len(prompt), heard
                again.kill()
    return statistics.median(found)


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


class _Process:
    """An engine in a process of its own, as `tests.bench.worker` is one."""

    def __init__(self, settings: Mapping[str, object]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.worker", json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def do(self, **command: object) -> dict[str, float]:
        """What it answers to a command."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        answer: dict[str, float] = json.loads(self._process.stdout.readline())
        return answer

    def kill(self) -> None:
        """As `kill -9`."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
