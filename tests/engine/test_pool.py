from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import numpy as np
import pytest
from numpy.typing import NDArray

from lsp_assist.engine.kv import Tokens, as_tokens
from lsp_assist.engine.llama import Context, Weights
from lsp_assist.engine.pool import Pool
from lsp_assist.engine.states import StateStore

N_SEQS = 6
N_CTX = 1024


@contextmanager
def opened(
    weights: Weights, folder: Path, *, can_roll_back: bool = True, budget: int = N_CTX
) -> Iterator[tuple[Context, Pool]]:
    """A pool over a context of its own."""
    store = StateStore(folder, "test", budget_bytes=1 << 30, memory_bytes=1 << 20)
    with Context(
        weights, n_ctx=N_CTX, n_batch=128, n_seq_max=N_SEQS + 1, n_threads=1, head_dim=32
    ) as context:
        pool = Pool(
            context,
            n_seqs=N_SEQS,
            budget_tokens=budget,
            can_roll_back=can_roll_back,
            states=store,
            is_crowding_slow=True,
        )
        yield context, pool
        store.close()


def compute(context: Context, pool: Pool, seq: int, tokens: Tokens) -> NDArray[np.float32]:
    """The logits after extending a sequence by these tokens."""
    index = -1
    for at in range(0, len(tokens), 128):
        part = tokens[at : at + 128]
        assert pool.make_room(len(part))
        context.clear()
        index = context.add(part, seq=seq, position=context.n_held(seq), wants_logits=True)
        assert context.decode() == "ok"
        pool.advance(seq, part)
    return context.logits(index).copy()


def ask(
    context: Context, pool: Pool, tokens: list[int], key: str = ""
) -> tuple[int, NDArray[np.float32]]:
    """How many tokens were there already, and the logits after all of them."""
    wanted = as_tokens(tokens)
    found = pool.acquire(wanted, key, len(wanted) - 1)
    assert found is not None
    seq, n_held = found
    assert context.n_held(seq) == n_held
    logits = compute(context, pool, seq, wanted[n_held:])
    pool.release(seq)
    return n_held, logits


def cold(weights: Weights, tokens: list[int]) -> NDArray[np.float32]:
    with Context(weights, n_ctx=N_CTX, n_batch=1024, n_threads=1, head_dim=32) as context:
        index = context.add(tokens, seq=0, position=0, wants_logits=True)
        assert context.decode() == "ok"
        return context.logits(index).copy()


def prompt(topic: int, *ends: int) -> list[int]:
    return [30 + topic] + [40 + (topic + n) % 50 for n in range(180)] + list(ends)


@pytest.mark.parametrize("can_roll_back", [True, False])
def test_logits_are_those_of_a_cold_cache_whatever_happened_before(
    weights: Weights, tmp_path: Path, can_roll_back: bool
) -> None:
    """Forks, parking, restoring, moving and the next process: the same argmax, and nearly the same
    numbers.
    """
    random = Random(1)
    n_reused = 0
    for _process in range(2):
        with opened(weights, tmp_path, can_roll_back=can_roll_back, budget=600) as (context, pool):
            for _ in range(40):
                ends = [50 + random.randrange(3) for _ in range(random.randrange(1, 60))]
                tokens = prompt(random.randrange(3), *ends)
                n_held, logits = ask(context, pool, tokens)
                n_reused += n_held
                expected = cold(weights, tokens)
                assert logits.argmax() == expected.argmax()
                # Keys are quantised, so a last bit may become one of 127 steps.
                np.testing.assert_allclose(logits, expected, atol=0.05)
            assert pool.n_cells <= 600
            counters = pool.counters
            pool.save_all()
        assert counters.n_parked > 0
        assert counters.n_saved > 0
        if can_roll_back:
            assert counters.n_restored > 0
            assert counters.n_forks > 0
    if can_roll_back:
        assert n_reused > 60 * 180


def test_what_cannot_roll_back_returns_to_its_checkpoint(weights: Weights, tmp_path: Path) -> None:
    with opened(weights, tmp_path, can_roll_back=False) as (context, pool):
        tokens = as_tokens(prompt(1))
        found = pool.acquire(tokens, "", len(tokens) - 1)
        assert found == (0, 0)
        n_first = pool.n_to_compute(len(tokens))
        assert n_first == len(tokens) - 1
        compute(context, pool, 0, tokens[:n_first])
        pool.checkpoint(0)
        assert pool.n_to_compute(1) == 1
        compute(context, pool, 0, tokens[n_first:])
        compute(context, pool, 0, as_tokens([7, 8, 9]))
        pool.release(0)
        assert ask(context, pool, tokens.tolist())[0] == len(tokens) - 1
        assert ask(context, pool, [*tokens.tolist(), 7, 8, 9, 10])[0] == len(tokens) + 3


def test_other_chats_are_parked_and_the_survivor_moves_down(
    weights: Weights, tmp_path: Path
) -> None:
    with opened(weights, tmp_path) as (context, pool):
        seqs = []
        for topic in range(4):  # all at once, so that none can be parked
            tokens = as_tokens(prompt(topic))
            found = pool.acquire(tokens, "", len(tokens) - 1)
            assert found is not None
            compute(context, pool, found[0], tokens)
            seqs.append(found[0])
        for seq in seqs:
            pool.release(seq)
        n_held, logits = ask(context, pool, prompt(3, 50))
        assert n_held == len(prompt(3))
        assert (pool.counters.n_parked, pool.counters.n_compactions) == (3, 1)
        assert pool.n_cells == len(prompt(3)) + 1
        np.testing.assert_allclose(logits, cold(weights, prompt(3, 50)), atol=0.05)


def test_adapters_share_nothing_with_the_bare_model(weights: Weights, tmp_path: Path) -> None:
    with opened(weights, tmp_path) as (context, pool):
        ask(context, pool, prompt(1))
        assert ask(context, pool, prompt(1), "adapter")[0] == 0
        pool.save_all()
        assert ask(context, pool, prompt(1), "another")[0] == 0


def test_an_aborted_prefill_is_believed(weights: Weights, tmp_path: Path) -> None:
    with opened(weights, tmp_path) as (context, pool):
        tokens = as_tokens(prompt(1))
        found = pool.acquire(tokens, "", len(tokens) - 1)
        assert found is not None
        seq = found[0]
        compute(context, pool, seq, tokens[:100])
        context.clear()
        context.add(tokens[100:], seq=seq, position=100)
        context.abort()
        assert context.decode() == "aborted"
        context.resume()
        assert pool.settle(seq, tokens[100:]) == 100 == context.n_held(seq)
        pool.release(seq)
        assert ask(context, pool, tokens.tolist())[0] == 100


def test_a_cache_in_use_gives_no_room(weights: Weights, tmp_path: Path) -> None:
    with opened(weights, tmp_path, budget=300) as (context, pool):
        tokens = as_tokens(prompt(1))
        found = pool.acquire(tokens, "", len(tokens) - 1)
        assert found is not None
        compute(context, pool, found[0], tokens)
        assert pool.acquire(as_tokens(prompt(2)), "", 180) is None
        assert not pool.evict_one()
        pool.release(found[0])
        assert pool.acquire(as_tokens(prompt(2)), "", 180) is not None
