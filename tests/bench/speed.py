"""Tokens per second: against a bare loop, several branches at once, in company."""

import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lsp_assist.engine.gguf import read_model_file
from lsp_assist.engine.llama import Context, Weights
from lsp_assist.engine.service import Engine
from tests.bench.asking import Heard, Tokens, ask, awake, request
from tests.bench.bare import Bare
from tests.bench.machine import busy
from tests.bench.sizes import Sizes

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["batches", "busy_ratio", "crowd", "fork_ms", "parity", "versus_bare"]


async def versus_bare(path: Path, sizes: Sizes, tokens: Tokens) -> dict[str, float]:
    """Our engine against the bare loop, taken in turns since the machine changes."""
    n_prompt, n_ctx = sizes.prompt // 8, 2 * sizes.prompt
    bare = Bare(path, n_ctx=n_ctx)
    prefill, decode = [], []
    async with awake(path, n_ctx=sizes.prompt) as engine:
        for _ in range(sizes.runs):
            prompt = tokens(n_prompt)
            heard = await ask(engine, request(prompt, max_tokens=sizes.decoded))
            bare_s = bare.prefill_s(prompt)
            prefill.append(bare_s / heard.first_s)
            bare_s = bare.decode_s(len(heard.pieces) - 1) / (len(heard.pieces) - 1)
            decode.append(heard.tokens_per_s * bare_s)
    bare.close()
    return {
        "engine.prefill_vs_raw": statistics.median(prefill),
        "engine.decode_vs_raw": statistics.median(decode),
    }


async def batches(path: Path, sizes: Sizes, tokens: Tokens) -> dict[str, float]:
    """Tokens per second of several branches together against one."""
    speeds: dict[int, list[float]] = {n: [] for n in (1, 2, 3, 4, 8, 16)}
    async with awake(path, n_ctx=sizes.prompt) as engine:
        for _ in range(3):
            for n, found in speeds.items():
                prompt = tokens(128)
                heard = await ask(engine, request(prompt, max_tokens=sizes.decoded, n=n))
                assert heard.n_tokens == n * sizes.decoded
                found.append((heard.n_tokens - n) / (heard.ended_s - heard.first_s))
    medians = {n: statistics.median(found) for n, found in speeds.items()}
    return {
        "engine.batch16_ratio": medians[16] / medians[1],
        "engine.batch_worst_ratio": min(medians[n] / medians[1] for n in (2, 3, 4, 8)),
        **{f"engine.batch{n}_tokens_per_s": medians[n] for n in speeds},
    }


async def crowd(path: Path, sizes: Sizes, tokens: Tokens) -> dict[str, float]:
    """Decoding with 12 unrelated chats known against decoding alone, two engines in turns."""
    chat, n_ctx = tokens(sizes.chat), 2 * sizes.prompt
    found: tuple[list[Heard], list[Heard]] = ([], [])
    async with awake(path, n_ctx=n_ctx) as alone, awake(path, n_ctx=n_ctx) as crowded:
        await _decode(alone, chat, sizes)
        await _decode(crowded, chat, sizes)
        for _ in range(12):
            await ask(crowded, request(tokens(sizes.chat), max_tokens=4))
        for _ in range(sizes.runs):
            found[0].append(await _decode(alone, chat, sizes))
            found[1].append(await _decode(crowded, chat, sizes))
            # The next time the chat is come back to, not gone on with.
            await ask(crowded, request(tokens(sizes.chat // 4), max_tokens=1))
    speeds = [statistics.median(heard.tokens_per_s for heard in each) for each in found]
    work = [statistics.median(heard.cpu_s for heard in each) for each in found]
    return {
        "engine.parked_slowdown": speeds[0] / speeds[1],
        "engine.parked_slowdown_cpu": work[1] / work[0],
    }


async def busy_ratio(path: Path, sizes: Sizes, tokens: Tokens) -> float:
    """Decoding with every core kept busy by others against decoding on an idle machine."""
    async with awake(path, n_ctx=sizes.prompt) as engine:
        chat = tokens(256)
        idle, loaded = [], []
        for _ in range(3):
            idle.append((await _decode(engine, chat, sizes)).tokens_per_s)
            with busy():
                loaded.append((await _decode(engine, chat, sizes)).tokens_per_s)
    return statistics.median(loaded) / statistics.median(idle)


async def _decode(engine: Engine, chat: tuple[int, ...], sizes: Sizes) -> Heard:
    return await ask(engine, request(chat, max_tokens=sizes.decoded))


def fork_ms(path: Path, n_tokens: int, tokens: Tokens) -> float:
    """What the fork of a sequence takes by itself: the cells are those of any model."""
    weights = Weights(path, n_gpu_layers=0)
    with Context(weights, n_ctx=n_tokens, n_batch=512, n_seq_max=20) as context:
        prompt = tokens(n_tokens - 1)
        for at in range(0, len(prompt), 512):
            context.clear()
            context.add(prompt[at : at + 512], seq=0, position=at)
            assert context.decode() == "ok"
        found = []
        for seq in range(1, 20):
            started = time.perf_counter()
            context.share(0, seq, len(prompt))
            found.append(time.perf_counter() - started)
    weights.close()
    return statistics.median(found) * 1000


def parity(path: Path, n_tokens: int, tokens: Tokens) -> dict[str, float]:
    """Logits from a cache, a fork and a state put back, against those of the same prompt cold.

    Where cells of others lie in between, llama.cpp adds up in another order, and its 8-bit
    activations make more of that: `engine.parity_noise` is the difference to a prompt that was
    computed cold as well, but in other cells. Every other likeliest token counts as a mismatch;
    `engine.parity_near_ties` says how many of them were closer than the noise.
    """
    weights = Weights(path, n_gpu_layers=0)
    head_dim = read_model_file(path).head_dim
    prompt, whole = tokens(n_tokens), tokens(n_tokens) + tokens(48)
    with (
        weights,
        Context(weights, n_ctx=6 * n_tokens, n_batch=128, n_seq_max=8, head_dim=head_dim) as pool,
    ):

        def rest(seq: int) -> "NDArray[np.float32]":
            """The logits of the last 48 tokens, after computing what the sequence lacks."""
            while (at := pool.n_held(seq)) < n_tokens:
                pool.clear()
                pool.add(whole[at : min(at + 128, n_tokens)], seq=seq, position=at)
                assert pool.decode() == "ok"
            found = []
            for at in range(n_tokens, len(whole)):
                pool.clear()
                index = pool.add([whole[at]], seq=seq, position=at, wants_logits=True)
                assert pool.decode() == "ok"
                found.append(pool.logits(index).copy())
            return np.array(found)

        cold = rest(0)
        pool.keep(0, n_tokens)
        ways = {"cached": rest(0)}
        pool.share(0, 1, n_tokens)
        ways["forked"] = rest(1)
        pool.keep(1, 0)
        pool.keep(0, n_tokens)
        state = pool.state(0)
        pool.keep(0, 0)
        assert pool.load_state(2, state)
        ways["restored"] = rest(2)
        pool.share(2, 3, n_tokens // 2)
        ways["half"] = rest(3)
        pool.clear()
        pool.keep(3, 0)
        pool.add(prompt[:100], seq=4, position=0)
        assert pool.decode() == "ok"
        elsewhere = rest(5)
    noise = float(np.abs(elsewhere - cold).max())
    best = np.sort(cold, axis=1)[:, -2:]
    is_tie = best[:, 1] - best[:, 0] <= noise
    differs = {name: way.argmax(1) != cold.argmax(1) for name, way in ways.items()}
    return {
        "engine.parity_mismatches": float(sum(d.sum() for d in differs.values())),
        "engine.parity_near_ties": float(sum((d & is_tie).sum() for d in differs.values())),
        "engine.parity_noise": noise,
        **{
            f"engine.parity_{name}_difference": float(np.abs(way - cold).max())
            for name, way in ways.items()
        },
    }
