from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lsp_assist.engine.adapters import Adapters
from lsp_assist.engine.llama import Context, Weights
from lsp_assist.engine.requests import Adapter
from lsp_assist.errors import ModelFileError
from tests.engine.tiny_kinds import make_adapter

TOKENS = list(range(40, 60))


@pytest.fixture
def context(weights: Weights) -> Iterator[Context]:
    with Context(weights, n_ctx=256, n_batch=64, n_threads=1) as made:
        yield made


@pytest.fixture
def adapters(weights: Weights, context: Context) -> Iterator[Adapters]:
    made = Adapters(weights, max_idle=1)
    yield made
    made.use(context, "")


def logits(context: Context) -> NDArray[np.float32]:
    context.keep(0, 0)
    context.clear()
    index = context.add(TOKENS, seq=0, position=0, wants_logits=True)
    assert context.decode() == "ok"
    return context.logits(index).copy()


def test_an_adapter_acts_while_it_is_set(
    context: Context, adapters: Adapters, tmp_path: Path
) -> None:
    one = Adapter(make_adapter(tmp_path / "one.gguf", seed=1))
    two = Adapter(make_adapter(tmp_path / "two.gguf", seed=2), scale=0.5)
    plain = logits(context)
    seen = [plain]
    for wanted in ([one], [two], [one, two]):
        acquired = adapters.acquire(wanted)
        adapters.use(context, acquired)
        seen.append(logits(context))
        adapters.release(acquired)
    for index, a in enumerate(seen):
        for b in seen[index + 1 :]:
            assert np.abs(a - b).max() > 1e-3
    adapters.use(context, "")
    np.testing.assert_array_equal(logits(context), plain)
    assert adapters.n_switches == 4
    assert adapters.switch_ms < 100


def test_a_set_is_named_by_its_files_and_scales(adapters: Adapters, tmp_path: Path) -> None:
    a, b = make_adapter(tmp_path / "a.gguf", seed=1), make_adapter(tmp_path / "b.gguf", seed=2)
    key = adapters.acquire([Adapter(a), Adapter(b)])
    assert key == adapters.acquire([Adapter(b), Adapter(a)])
    others = [[Adapter(a)], [Adapter(a, 0.5), Adapter(b)], [Adapter(a), Adapter(b), Adapter(b)]]
    assert len({key, *(adapters.acquire(other) for other in others)}) == 4
    assert adapters.acquire([Adapter(a, scale=0.0)]) == ""
    make_adapter(a, seed=3, rank=8)
    assert adapters.acquire([Adapter(a), Adapter(b)]) != key


def test_adapters_that_nobody_uses_are_freed(
    context: Context, adapters: Adapters, tmp_path: Path
) -> None:
    """But for `max_idle`, and what the context computes with."""
    files = [Adapter(make_adapter(tmp_path / f"{n}.gguf", seed=n)) for n in range(4)]
    held = [adapters.acquire([file]) for file in files]
    again = adapters.acquire([files[0]])
    adapters.use(context, held[3])
    for each in held:
        adapters.release(each)
    assert adapters.n_loaded == 3  # one in use, one set on the context, one idle
    adapters.use(context, again)
    logits(context)
    adapters.release(again)
    adapters.release(adapters.acquire([files[1]]))
    assert adapters.n_loaded == 2
    logits(context)


def test_what_is_no_adapter_for_the_model_is_refused(
    adapters: Adapters, tiny: Path, tmp_path: Path
) -> None:
    cases = {
        tmp_path / "none.gguf": "none.gguf' cannot be read: No such file",
        tiny: "is no LoRA adapter but 'a model'",
        make_adapter(tmp_path / "other.gguf", architecture="qwen2"): "for 'qwen2' models",
        make_adapter(tmp_path / "wide.gguf", n_embd=128): "wide.gguf' was refused by llama.cpp",
    }
    (damaged := tmp_path / "damaged.gguf").write_bytes(b"GGUF\3\0\0\0" + b"\xff" * 40)
    cases[damaged] = "damaged.gguf'"
    for path, complaint in cases.items():
        with pytest.raises(ModelFileError, match=complaint):
            adapters.acquire([Adapter(path)])
    assert adapters.n_loaded == 0
