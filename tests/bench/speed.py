"""Tokens per second: against a bare loop, several branches at once, in company."""

import statistics
import time
from pathlib import Path

from lsp_assist.engine.gguf import read_model_file
from lsp_assist.engine.llama import Context, Weights
from lsp_assist.engine.service import Engine
from tests.bench.asking import Heard, Tokens, ask, awake, request
from tests.bench.bare import Bare
from tests.bench.machine import busy
from tests.bench.sizes import Sizes

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
                prompt = tokens(256)
                # Long enough that what is tried at the start does not count for much.
                n_each = max(sizes.decoded * 2 // n, 24)
                heard = await ask(engine, request(prompt, max_tokens=n_each, n=n))
                assert heard.n_tokens == n * n_each
                found.append((heard.n_tokens - n) / (heard.ended_s - heard.first_s))
    medians = {n: statistics.median(found) for n, found in speeds.items()}
    return {
        "engine.batch16_ratio": medians[16] / medians[1],
        "engine.batch_worst_ratio": min(medians[n] / medians[1] for n in (2, 3, 4, 8)),
        **{f"engine.batch{n}_tokens_per_s": medians[n] for n in speeds},
    }


async def crowd(path: Path, sizes: Sizes, tokens: Tokens) -> dict[str, float]:
    """Decoding with 12 unrelated chats known against decoding alone."""
    async with awake(path, n_ctx=2 * sizes.prompt) as engine:
        chat = tokens(sizes.chat)
        alone = [await _decode(engine, chat, sizes) for _ in range(4)][1:]
        for _ in range(12):
            await ask(engine, request(tokens(sizes.chat), max_tokens=4))
        crowded = [await _decode(engine, chat, sizes) for _ in range(3)]
        again = [await _decode(engine, chat, sizes) for _ in range(3)]
    return {
        "engine.parked_slowdown": statistics.median(alone) / statistics.median(crowded),
        "engine.parked_noise": statistics.median(crowded) / statistics.median(again),
    }


async def busy_ratio(path: Path, sizes: Sizes, tokens: Tokens) -> float:
    """Decoding with every core kept busy by others against decoding on an idle machine."""
    async with awake(path, n_ctx=sizes.prompt) as engine:
        chat = tokens(256)
        idle, loaded = [], []
        for _ in range(3):
            idle.append(await _decode(engine, chat, sizes))
            with busy():
                loaded.append(await _decode(engine, chat, sizes))
    return statistics.median(loaded) / statistics.median(idle)


async def _decode(engine: Engine, chat: tuple[int, ...], sizes: Sizes) -> float:
    heard: Heard = await ask(engine, request(chat, max_tokens=sizes.decoded))
    return heard.tokens_per_s


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
    """Logits from a cache, a fork and a state put back, against those of a cold context."""
    weights = Weights(path, n_gpu_layers=0)
    head_dim = read_model_file(path).head_dim
    prompt, question = tokens(n_tokens), tokens(48)
    with (
        weights,
        Context(
            weights, n_ctx=4 * n_tokens, n_batch=128, n_seq_max=8, head_dim=head_dim
        ) as context,
    ):

        def feed(seq: int, start: int) -> list[int]:
            whole = prompt + question
            argmaxes = []
            for at in range(start, len(whole)):
                if at >= n_tokens:  # token by token, to compare the logits of each
                    context.clear()
                    index = context.add([whole[at]], seq=seq, position=at, wants_logits=True)
                    assert context.decode() == "ok"
                    logits = context.logits(index).copy()
                    argmaxes.append(int(logits.argmax()))
                    found.setdefault(at, []).append(logits)
                elif (at - start) % 128 == 0:
                    end = min(at + 128, n_tokens)
                    context.clear()
                    context.add(whole[at:end], seq=seq, position=at)
                    assert context.decode() == "ok"
            return argmaxes

        found: dict[int, list[object]] = {}
        cold = feed(0, 0)
        ways = []
        context.keep(0, n_tokens)
        ways.append(feed(0, n_tokens))  # cache, cut back
        context.share(0, 1, n_tokens)
        ways.append(feed(1, n_tokens))  # fork
        context.keep(1, n_tokens)
        state = context.state(1)
        context.keep(1, 0)
        assert context.load_state(2, state)
        ways.append(feed(2, n_tokens))  # spilled and restored
        half = n_tokens // 2
        context.share(0, 3, half)
        ways.append(feed(3, half))  # computed from the middle on
    import numpy as np

    largest = max(
        float(np.abs(np.asarray(other) - np.asarray(logits[0])).max())
        for logits in found.values()
        for other in logits[1:]
    )
    n_other = sum(a != b for way in ways for a, b in zip(way, cold, strict=True))
    return {"engine.parity_mismatches": n_other, "engine.parity_largest_difference": largest}
