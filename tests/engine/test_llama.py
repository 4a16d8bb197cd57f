import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lsp_assist.engine.llama import Context, Weights
from lsp_assist.engine.sampling import Sampler
from lsp_assist.errors import ModelFileError, ModelUnavailable
from lsp_assist.llm import Sampling
from tests.engine.tiny import make_model

TOKENS = list(range(40, 90))


@pytest.fixture
def context(weights: Weights) -> Iterator[Context]:
    with Context(weights, n_ctx=256, n_batch=64, n_seq_max=4, n_threads=1, head_dim=32) as made:
        yield made


def logits_after(context: Context, tokens: list[int], seq: int = 0) -> np.ndarray[
    tuple[int, ...], np.dtype[np.float32]
]:  # fmt: skip
    """The logits after extending a sequence by these tokens."""
    context.clear()
    index = context.add(tokens, seq=seq, position=context.n_held(seq), wants_logits=True)
    assert context.decode() == "ok"
    return context.logits(index).copy()


def test_a_sequence_grows_and_is_cut_back(context: Context) -> None:
    assert context.n_held(0) == 0
    whole = logits_after(context, TOKENS)
    assert context.n_held(0) == len(TOKENS)
    assert context.keep(0, 20) == 20
    assert context.n_held(0) == 20
    np.testing.assert_allclose(logits_after(context, TOKENS[20:]), whole, atol=1e-4)
    assert context.keep(0, 999) == len(TOKENS)
    assert context.keep(0, 0) == 0
    assert context.n_held(0) == 0


def test_sequences_share_what_they_have_in_common(weights: Weights) -> None:
    """More sequences than the pool could hold apart."""
    with Context(weights, n_ctx=256, n_batch=256, n_seq_max=4, n_threads=1) as pool:
        logits_after(pool, list(itertools.islice(itertools.cycle(TOKENS), 200)))
        for seq in (1, 2, 3):
            pool.share(0, seq, 200)
        forks = [logits_after(pool, [7, 8, 9], seq=seq) for seq in (1, 2, 3)]
        assert [pool.n_held(seq) for seq in range(4)] == [200, 203, 203, 203]
        np.testing.assert_allclose(forks[0], forks[1], atol=1e-4)


def test_a_full_pool_is_told_and_nothing_is_changed(context: Context) -> None:
    for _ in range(4):
        logits_after(context, TOKENS)
    context.clear()
    context.add(range(30, 90), seq=1, position=0)
    assert context.decode() == "full"
    assert (context.n_held(0), context.n_held(1)) == (200, 0)


def test_a_state_comes_back_as_base_and_the_rest(context: Context, weights: Weights) -> None:
    """In another context, into cells that are not in a row, with the same logits after it."""
    whole = logits_after(context, [*TOKENS, 7])
    context.share(0, 1, 20)
    context.share(0, 2, len(TOKENS), start=20)
    base, rest = context.state(1), context.state(2)
    with Context(weights, n_ctx=256, n_batch=64, n_seq_max=4, n_threads=1, head_dim=32) as other:
        for seq in (0, 1):
            logits_after(other, TOKENS[:9], seq=seq)
        other.keep(0, 0)
        assert other.load_state(2, base)
        assert other.load_state(3, rest)
        other.share(3, 2, len(TOKENS), start=20)
        other.keep(3, 0)
        assert other.n_held(2) == len(TOKENS)
        np.testing.assert_allclose(logits_after(other, [7], seq=2), whole, atol=1e-4)


def test_a_state_of_another_kind_or_without_room_is_refused(
    context: Context, weights: Weights
) -> None:
    logits_after(context, TOKENS)
    state = context.state(0)
    with Context(weights, n_ctx=256, n_batch=64, n_threads=1) as unquantised:
        assert not unquantised.load_state(0, state)
        assert unquantised.n_held(0) == 0
    for seq in (1, 1, 2, 2):
        logits_after(context, TOKENS, seq=seq)
    assert not context.load_state(3, state)
    assert [context.n_held(seq) for seq in range(4)] == [50, 100, 100, 0]


def test_an_aborted_decode_leaves_what_was_there_before(context: Context) -> None:
    logits_after(context, TOKENS[:20])
    context.clear()
    index = context.add(TOKENS[20:], seq=0, position=20, wants_logits=True)
    context.abort()
    assert context.decode() == "aborted"
    assert context.n_held(0) == 20
    context.resume()
    assert context.decode() == "ok"
    again = context.logits(index).copy()
    context.keep(0, 0)
    np.testing.assert_allclose(again, logits_after(context, TOKENS), atol=1e-4)


def test_an_abort_needs_no_strlen(weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the C library cannot be found, a function of Python's is asked."""
    monkeypatch.setattr("lsp_assist.engine.llama.strlen", lambda: None)
    with Context(weights, n_ctx=64, n_batch=64, n_threads=1) as slow:
        slow.add(TOKENS, seq=0, position=0)
        slow.abort()
        assert slow.decode() == "aborted"
        slow.resume()
        assert slow.decode() == "ok"


@pytest.mark.parametrize("head_dim", [16, 32])
def test_keys_are_quantised_where_heads_divide_into_blocks(tmp_path: Path, head_dim: int) -> None:
    path = make_model(tmp_path / "model.gguf", head_dim=head_dim)
    with (
        Weights(path, n_gpu_layers=0) as weights,
        Context(weights, n_ctx=256, n_batch=64, head_dim=head_dim) as quantised,
        Context(weights, n_ctx=256, n_batch=64, head_dim=0) as exact,
    ):
        difference = np.abs(logits_after(quantised, TOKENS) - logits_after(exact, TOKENS)).max()
    assert (difference > 0) == (head_dim == 32)
    assert difference < 0.5


def test_everything_may_be_closed_twice(tiny: Path) -> None:
    weights = Weights(tiny, n_gpu_layers=0)
    context = Context(weights, n_ctx=64, n_batch=64)
    sampler = Sampler(weights, Sampling())
    for thing in (sampler, context, weights) * 2:
        thing.close()


def test_a_file_that_llama_cpp_refuses_names_its_reason(tmp_path: Path) -> None:
    path = make_model(tmp_path / "model.gguf")
    path.write_bytes(path.read_bytes().replace(b"llama", b"alpac"))
    with pytest.raises(ModelFileError, match=r"model\.gguf' was refused .*alpac"):
        Weights(path)


def test_loading_can_be_given_up(tiny: Path) -> None:
    with pytest.raises((ModelFileError, ModelUnavailable)):
        Weights(tiny, on_progress=lambda _part: False)


def test_metadata_of_any_length(weights: Weights) -> None:
    assert weights.metadata("general.architecture") == "llama"
    assert (weights.metadata("tokenizer.chat_template") or "").endswith("{% endif %}")
    assert weights.metadata("no.such.key") is None


def test_special_names_are_those_of_control_tokens(weights: Weights) -> None:
    names = weights.special_names()
    assert {"<|im_start|>", "<|im_end|>", "<|eot_id|>"} <= set(names)
    assert list(names) == sorted(names, key=lambda name: (-len(name), name))


def draw(context: Context, weights: Weights, sampling: Sampling, n: int) -> list[int]:
    context.keep(0, 0)
    logits_after(context, TOKENS)
    with Sampler(weights, sampling) as sampler:
        return [sampler.sample(context, -1) for _ in range(n)]


def test_temperature_0_takes_the_likeliest_token(context: Context, weights: Weights) -> None:
    best = int(logits_after(context, TOKENS).argmax())
    assert draw(context, weights, Sampling(temperature=0, seed=1), 3) == [best] * 3
    assert draw(context, weights, Sampling(temperature=2, top_k=1, seed=1), 3) == [best] * 3


def test_a_seed_repeats_a_draw_and_none_does_not(context: Context, weights: Weights) -> None:
    hot = Sampling(temperature=3, top_k=0, top_p=1, min_p=0)
    seeded = Sampling(temperature=3, top_k=0, top_p=1, min_p=0, seed=7)
    assert draw(context, weights, seeded, 20) == draw(context, weights, seeded, 20)
    assert draw(context, weights, hot, 20) != draw(context, weights, hot, 20)


@pytest.mark.parametrize(
    "narrow",
    [Sampling(temperature=3, top_k=5), Sampling(temperature=3, top_p=0.05, top_k=0),
     Sampling(temperature=3, min_p=0.5, top_k=0)],
)  # fmt: skip
def test_unlikely_tokens_are_left_out(context: Context, weights: Weights, narrow: Sampling) -> None:
    wide = Sampling(temperature=3, top_k=0, top_p=1, min_p=0, seed=1)
    assert len(set(draw(context, weights, narrow, 100))) < len(
        set(draw(context, weights, wide, 100))
    )


def test_a_repeat_penalty_makes_a_said_token_less_likely(
    context: Context, weights: Weights
) -> None:
    drawn = draw(context, weights, Sampling(temperature=0, repeat_penalty=5.0), 4)
    assert len(set(drawn)) > 1


@pytest.mark.parametrize("said", [None, "ACTIVE"])
def test_openmp_threads_sleep_unless_the_user_says_otherwise(said: str | None) -> None:
    """It must be said before anything loads the OpenMP library, so in a process of its own."""
    code = "import os; from lsp_assist.engine.libllama import library; library(); "
    code += "print(os.environ['OMP_WAIT_POLICY'])"
    environ = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    if said:
        environ["OMP_WAIT_POLICY"] = said
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environ,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.strip() == (said or "PASSIVE")


def test_the_log_of_llama_cpp_is_ours(tiny: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At DEBUG, and nowhere else."""
    with caplog.at_level("DEBUG", logger="lsp_assist.engine.libllama"):
        Weights(tiny, n_gpu_layers=0).close()
    assert "general.architecture" in caplog.text
    assert {record.levelname for record in caplog.records} == {"DEBUG"}
