"""Models that cannot be cut back like others: recurrent layers and sliding windows."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lsp_assist.engine.gguf import read_model_file
from lsp_assist.engine.llama import Context, Weights
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
    return Context(weights, n_ctx=n_ctx, n_batch=64, n_seq_max=4, n_threads=1)


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
    assert (windowed.can_roll_back, windowed.n_window) == (True, WINDOW)
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


@pytest.mark.parametrize("n_kept", [10, WINDOW - 1, WINDOW, 150, 199])
def test_a_sliding_window_is_cut_back_anywhere(windowed: Weights, n_kept: int) -> None:
    """What lies outside of the window is there still when the window moves back."""
    with pool(windowed) as context:
        feed(context, TOKENS)
        context.share(0, 1, n_kept)
        kept = context.keep(0, n_kept)
        assert kept == n_kept
        cut, forked = feed(context, TOKENS[5:15]), feed(context, TOKENS[5:15], seq=1)
    for after in (cut, forked):
        np.testing.assert_allclose(
            after, expected(windowed, TOKENS[:n_kept] + TOKENS[5:15]), atol=1e-4
        )


def test_a_sliding_window_is_cut_back_in_a_crowded_pool(windowed: Weights) -> None:
    """Cells outside of a window may be taken by others; what is left is right, or nothing is."""
    with pool(windowed, n_ctx=256) as context:
        feed(context, TOKENS[:120])
        for seq in (1, 2, 3):
            feed(context, TOKENS[seq : seq + 40], seq=seq)
        for n_kept in (110, 80, 20):
            if context.keep(0, n_kept) == 0:
                feed(context, TOKENS[:n_kept])
            after = feed(context, TOKENS[50:55])
            np.testing.assert_allclose(
                after, expected(windowed, TOKENS[:n_kept] + TOKENS[50:55]), atol=1e-4
            )
            context.keep(0, n_kept)
