"""Which embedder a setting opens, and what it says where it cannot."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsp_assist.backends.embedders import kinds, open_embedder
from lsp_assist.backends.embedders.hashing import HashingEmbedder
from lsp_assist.backends.embedders.openai import OpenAIEmbedder
from lsp_assist.backends.embedders.static import StaticEmbedder
from lsp_assist.backends.embedders.transformer import TransformerEmbedder
from lsp_assist.config import WORKSPACE_FILE, IndexSettings, resolve
from lsp_assist.errors import SettingError

LOCAL = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("static", StaticEmbedder),
        ("hashing:16", HashingEmbedder),
        ("openai:nomic-embed-text", OpenAIEmbedder),
        ("transformer:all-MiniLM-L6-v2", TransformerEmbedder),
        ("sentence-transformers/all-MiniLM-L6-v2", TransformerEmbedder),
    ],
)
def test_a_setting_opens_the_kind_that_it_names(said: str, kind: type) -> None:
    """A name that is no kind is one of a sentence-transformers model."""
    settings = IndexSettings(embedder=said, embedder_url=LOCAL)
    assert isinstance(open_embedder(settings), kind)


def test_none_opens_none_and_the_default_is_the_one_of_the_package() -> None:
    assert open_embedder(IndexSettings(embedder="none")) is None
    assert isinstance(open_embedder(IndexSettings()), StaticEmbedder)
    assert kinds() == {"static", "hashing", "openai", "transformer"}


@pytest.mark.parametrize(
    ("said", "url", "field"),
    [
        ("static:large", "", "index.embedder"),
        ("hashing:many", "", "index.embedder"),
        ("hashing:0", "", "index.embedder"),
        ("transformer:", "", "index.embedder"),
        ("openai", LOCAL, "index.embedder"),
        ("openai:m", "", "index.embedder_url"),
        ("openai:m", "http://example.com", "index.embedder_url"),
        ("openai:m", "https://127.0.0.1", "index.embedder_url"),
        ("openai:m", "http://127.0.0.1.example.com", "index.embedder_url"),
    ],
)
def test_what_cannot_be_opened_names_the_setting_at_fault(said: str, url: str, field: str) -> None:
    with pytest.raises(SettingError) as caught:
        open_embedder(IndexSettings(embedder=said, embedder_url=url))
    assert caught.value.field == field


def test_an_unknown_model_is_told_apart_before_anything_is_loaded() -> None:
    settings = replace(IndexSettings(), embedder="no/such-model")
    embedder = open_embedder(settings)
    assert embedder is not None
    assert embedder.name == "transformer-no/such-model"


def test_a_workspace_sets_no_embedder(tmp_path: Path) -> None:
    """A cloned repository could otherwise name a folder with a model of its own, or an address."""
    (tmp_path / WORKSPACE_FILE).write_text(
        "[index]\nembedder = './model'\nembedder_url = 'http://127.0.0.1:80'\n", "utf-8"
    )
    settings = resolve(workspace=tmp_path, environ={"LSP_ASSIST_HOME": str(tmp_path / "home")})
    assert settings.index == IndexSettings()
    assert "`index.embedder`, `index.embedder_url`" in settings.warnings[0]


@given(st.lists(st.text(), max_size=5), st.integers(1, 40))
def test_a_hashed_text_is_a_unit_vector_or_nothing(texts: list[str], n_dims: int) -> None:
    embedder = HashingEmbedder(n_dims)
    vectors = embedder.embed(texts)
    assert vectors.shape == (len(texts), n_dims)
    lengths = np.linalg.norm(vectors, axis=1)
    assert np.all(np.isclose(lengths, 1, atol=1e-5) | (lengths == 0))
    for text, vector in zip(texts, vectors, strict=True):
        assert np.array_equal(embedder.embed_query(text), vector)


def test_hashed_texts_are_alike_by_the_words_that_they_share() -> None:
    embedder = HashingEmbedder()
    near, far = embedder.embed(["def readFile(path): pass", "class Colour: red = 1"])
    question = embedder.embed_query("read a file")
    assert near @ question > far @ question
