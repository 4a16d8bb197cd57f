from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lsp_assist.engine.embedding import EmbeddingContext
from lsp_assist.engine.llama import Weights
from tests.engine.tiny import make_model


@pytest.fixture(scope="module")
def pooled(models: Path) -> Iterator[Weights]:
    with Weights(make_model(models / "pooled.gguf", is_pooled=True), n_gpu_layers=0) as weights:
        yield weights


@pytest.fixture(scope="module")
def embeddings(pooled: Weights) -> Iterator[EmbeddingContext]:
    with EmbeddingContext(pooled, n_threads=1) as made:
        yield made


def test_vectors_are_of_unit_length_and_depend_on_their_text_only(
    embeddings: EmbeddingContext,
) -> None:
    """Not on what stands beside it in the batch, nor on what was computed before."""
    texts = [f"def function_{n}(): return {n}" * (1 + n % 5) for n in range(20)]
    together = embeddings.embed(texts)
    alone = np.concatenate([embeddings.embed([text]) for text in texts])
    assert together.shape == (20, 64)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(together, alone, atol=1e-4)
    assert len(np.unique(together.round(3), axis=0)) == 20


def test_a_text_of_any_length_has_a_vector(embeddings: EmbeddingContext) -> None:
    vectors = embeddings.embed(["", "word " * 5000, "<|im_end|>"])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert embeddings.embed([]).shape == (0, 64)


def test_the_work_can_be_given_up_between_batches(embeddings: EmbeddingContext) -> None:
    class Enough(Exception):
        pass

    n_batches = 0

    def count() -> None:
        nonlocal n_batches
        n_batches += 1
        if n_batches == 2:
            raise Enough

    with pytest.raises(Enough):
        embeddings.embed(["a text"] * 30, count)
    assert embeddings.embed(["a text"]).shape == (1, 64)
