"""Tiny models for all tests of the engine, made once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lsp_assist.engine.llama import Weights
from tests.engine.templates import MISTRAL
from tests.engine.tiny import make_model


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for models."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def tiny(models: Path) -> Path:
    """A model with ChatML and a context window of 512 tokens."""
    return make_model(models / "tiny.gguf")


@pytest.fixture(scope="session")
def roomy(models: Path) -> Path:
    """The same with a window that takes a while to fill."""
    return make_model(models / "roomy.gguf", context_length=16384)


@pytest.fixture(scope="session")
def sentencepiece(models: Path) -> Path:
    """A model with a vocabulary as of Llama 2."""
    return make_model(models / "spm.gguf", tokenizer="sentencepiece", template=MISTRAL)


@pytest.fixture(scope="session")
def weights(tiny: Path) -> Iterator[Weights]:
    with Weights(tiny, n_gpu_layers=0) as loaded:
        yield loaded


@pytest.fixture(scope="session")
def sentencepiece_weights(sentencepiece: Path) -> Iterator[Weights]:
    with Weights(sentencepiece, n_gpu_layers=0) as loaded:
        yield loaded
