"""Models that cannot be cut back like others: recurrent layers and sliding windows."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from numpy.typing import NDArray

from lsp_assist.engine.gguf import read_model_file
from lsp_assist.engine.llama import Context, Weights
from lsp_assist.engine.requests import GenerateRequest, Piece, Priority
from lsp_assist.engine.service import Engine, EngineSettings
from lsp_assist.llm import Sampling
from tests.engine.tiny_kinds import make_hybrid, make_windowed

TOKENS = [40 + n * 7 % 200 for n in range(200)]
WINDOW = 32


@pytest.fixture(scope="module")
def hybrid(models: Path) -> Iterator[Weights]:
    path = make_hybrid(models / "hybrid.gguf")
    assert read_model_file(path).architecture == "lfm2"
    with Weights(path, n_gpu_layers=0) as weights:
        yield weights


@pytest.fixture(scope="module")
def windowed(models: Path) -> Iterator[Weights]:
    path = make_windowed(models / "windowed.gguf", window=WINDOW)
    assert read_model_file(path).architecture == "gemma2"
    with Weights(path, n_gpu_layers=0) as weights:
        yield weights


def pool(weights: Weights, n_ctx: int = 512) -> Context:
    return Context(weights, n_ctx=n_ctx, n_batch=64, n_seq_max=8, n_threads=1)


def feed(context: Context, tokens: list[int], seq: int = 0) -> NDArray[np.float32]:
    """The logits after extending a sequence by these tokens."""
    index = -1
    for at in range(0, len(tokens), 64):
        context.clear()
        part = tokens[at : at + 64]
        index = context.add(part, seq=seq, position=context.n_held(seq), wants_logits=True)
        assert context.decode() == "ok"
    return context.logits(index).copy()


def expected(weights: Weights, tokens: list[int]) -> NDArray[np.float32]:
    """The same by a context that knows nothing."""
    with pool(weights) as fresh:
        return feed(fresh, tokens)


def test_kinds_are_told_apart(hybrid: Weights, windowed: Weights, weights: Weights) -> None:
    assert (weights.can_roll_back, weights.n_window) == (True, 0)
    assert (windowed.can_roll_back, windowed.n_window) == (False, WINDOW)
    assert not hybrid.can_roll_back


def test_a_hybrid_is_cut_back_to_nothing_only(hybrid: Weights) -> None:
    with pool(hybrid) as context:
        feed(context, TOKENS[:50])
        assert context.keep(0, 50) == 50
        assert context.keep(0, 30) == 0
        assert context.n_held(0) == 0


def test_a_hybrid_is_forked_at_its_end(hybrid: Weights) -> None:
    with pool(hybrid) as context:
        feed(context, TOKENS[:50])
        context.share(0, 1, 50)
        mine, theirs = feed(context, TOKENS[60:70]), feed(context, TOKENS[80:95], seq=1)
    np.testing.assert_allclose(mine, expected(hybrid, TOKENS[:50] + TOKENS[60:70]), atol=1e-4)
    np.testing.assert_allclose(theirs, expected(hybrid, TOKENS[:50] + TOKENS[80:95]), atol=1e-4)


def test_a_hybrid_returns_to_a_checkpoint(hybrid: Weights) -> None:
    """As often as is wanted, and exactly."""
    with pool(hybrid) as context:
        feed(context, TOKENS[:50])
        checkpoint = context.checkpoint(0)
        assert checkpoint.size < context.state(0).size
        for start in (60, 100):
            feed(context, TOKENS[start : start + 30])
            assert context.return_to(0, checkpoint, 50)
            assert context.n_held(0) == 50
            feed(context, TOKENS[70:80])
            assert context.return_to(0, checkpoint, 50)
            after = feed(context, TOKENS[20:30])
            np.testing.assert_allclose(
                after, expected(hybrid, TOKENS[:50] + TOKENS[20:30]), atol=1e-4
            )
            assert context.return_to(0, checkpoint, 50)


def test_a_checkpoint_that_is_none_empties_the_sequence(hybrid: Weights) -> None:
    with pool(hybrid) as context:
        feed(context, TOKENS[:50])
        assert not context.return_to(0, np.zeros(8, np.uint8), 50)
        assert context.n_held(0) == 0
        after = feed(context, TOKENS[:20])
    np.testing.assert_allclose(after, expected(hybrid, TOKENS[:20]), atol=1e-4)


def test_a_sliding_window_is_forked_at_its_end_in_a_crowded_pool(windowed: Weights) -> None:
    """llama.cpp gives cells that are out of sight to others: never one that is still needed."""
    random = Random(1)
    for _ in range(10):
        with pool(windowed, n_ctx=256) as context:
            feed(context, TOKENS[:120])
            for _ in range(20):
                seq = random.randint(1, 5)
                if random.random() < 0.5 or context.n_held(seq) > 60:
                    context.keep(seq, 0)
                elif sum(context.n_held(other) for other in range(1, 6)) < 90:
                    feed(context, TOKENS[:40], seq=seq)
            for seq in range(1, 6):
                context.keep(seq, 0)
            context.share(0, 6, 120)
            after = feed(context, TOKENS[5:15], seq=6)
            np.testing.assert_allclose(
                after, expected(windowed, TOKENS[:120] + TOKENS[5:15]), atol=1e-4
            )


@pytest.mark.parametrize("kind", ["hybrid", "windowed"])
def test_an_aborted_decode_is_gone_back_behind(kind: str, request: pytest.FixtureRequest) -> None:
    weights: Weights = request.getfixturevalue(kind)
    with pool(weights) as context:
        feed(context, TOKENS[:100])
        for _ in range(3):
            checkpoint = context.checkpoint(0)
            context.clear()
            context.add(TOKENS[:64], seq=0, position=100)
            context.abort()
            assert context.decode() == "aborted"
            context.resume()
            assert context.return_to(0, checkpoint, 100)
            assert context.n_held(0) == 100
        after = feed(context, TOKENS[20:30])
    np.testing.assert_allclose(after, expected(weights, TOKENS[:100] + TOKENS[20:30]), atol=1e-4)


@pytest.mark.parametrize("make", [make_hybrid, make_windowed])
async def test_the_engine_answers_as_a_fresh_one_would(
    make: Callable[[Path], Path], tmp_path: Path
) -> None:
    """Forks, interrupted prompts and long warm-ups notwithstanding."""
    path = make(tmp_path / "model.gguf")
    sampling = Sampling(temperature=0, max_tokens=6)
    shared = tuple(TOKENS[:150])
    prompts = [shared, (*shared, 50, 51), shared[:80], (*shared, 50, 51, 52), shared[:80]]

    async def reply(engine: Engine, prompt: tuple[int, ...]) -> str:
        asked = GenerateRequest("kind", prompt, sampling)
        async with aclosing(engine.generate(asked)) as events:
            return "".join([event.text async for event in events if isinstance(event, Piece)])

    async def fresh(prompt: tuple[int, ...]) -> str:
        engine = Engine(replace(settings, state_folder=tmp_path / "fresh", state_budget_bytes=0))
        try:
            return await reply(engine, prompt)
        finally:
            await engine.close()

    settings = EngineSettings({"kind": path}, tmp_path / "states", n_threads=1)
    engine = Engine(settings)
    try:
        assert not (await engine.models())[0].can_fork_cheaply
        for prompt in prompts:
            background = GenerateRequest(
                "kind", tuple(TOKENS[7:]) + prompt, Sampling(max_tokens=0),
                Priority.BACKGROUND_WARM_UP,
            )  # fmt: skip
            async with aclosing(engine.generate(background)) as events:
                warming = asyncio.ensure_future(anext(events))
                assert await reply(engine, prompt) == await fresh(prompt)
                await warming
        assert not (await engine.models())[0].can_fork_cheaply
    finally:
        await engine.close()
