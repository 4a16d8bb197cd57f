"""Vectors over HTTP: a server that answers, and servers that do otherwise."""

import asyncio

import numpy as np
import pytest

from lsp_assist.backends.embedders.openai import BATCH_TEXTS, MAX_TEXT_CHARS, OpenAIEmbedder
from lsp_assist.backends.openai_wire import Server
from lsp_assist.errors import ModelUnavailable
from tests.backends.faulty import answering, http


def said(*vectors: object, **more: object) -> bytes:
    data = [{"index": at, "embedding": vector} for at, vector in enumerate(vectors)]
    return http(200, {"data": data, **more})


def embedder(url: str) -> OpenAIEmbedder:
    return OpenAIEmbedder("e", lambda: Server(url, "e"))


async def test_vectors_come_as_unit_vectors_in_the_order_of_the_texts() -> None:
    """A server may answer in any order: `index` tells."""
    shuffled = {"data": [{"index": 1, "embedding": [0, 2]}, {"index": 0, "embedding": [3, 4]}]}
    async with answering(http(200, shuffled)) as (url, asked):
        vectors = await asyncio.to_thread(embedder(url).embed, ["a", ""])
    assert np.allclose(vectors, np.array([[0.6, 0.8], [0, 1]]))
    assert asked == [{"model": "e", "input": ["a", " "]}]


async def test_many_and_long_texts_go_in_batches_and_are_cut() -> None:
    texts = ["x" * (MAX_TEXT_CHARS + 9)] * (BATCH_TEXTS + 1)
    full, rest = said(*[[1, 0]] * BATCH_TEXTS), said([0, 1])
    async with answering(full, rest) as (url, asked):
        vectors = await asyncio.to_thread(embedder(url).embed, texts)
    assert vectors.shape == (BATCH_TEXTS + 1, 2)
    assert vectors[-1].tolist() == [0, 1]
    assert asked[1]["input"] == ["x" * MAX_TEXT_CHARS]


async def test_the_length_of_a_vector_is_asked_for_once() -> None:
    async with answering(said([0, 0, 5])) as (url, asked):
        opened = embedder(url)
        assert await asyncio.to_thread(lambda: (opened.n_dims, opened.n_dims)) == (3, 3)
        assert (await asyncio.to_thread(opened.embed, [])).shape == (0, 3)
        assert (await asyncio.to_thread(opened.embed_query, "q")).tolist() == [0, 0, 1]
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (said(), "0 vectors for 1 texts"),
        (said([1.0], [2.0]), "2 vectors for 1 texts"),
        (said(["a"]), "no numbers"),
        (said(None), "no numbers|empty"),
        (said([]), "empty"),
        (said([float("nan")]), "not finite"),
        (said([[1.0]]), "empty|not finite"),
        (http(200, {"data": [7]}), "0 vectors"),
        (http(200, {"object": "list"}), "0 vectors"),
        (http(200, b"<html>"), "not JSON"),
        (http(404, {"error": {"message": "no such model"}}), "no such model"),
        (http(503, {"error": {"message": "loading"}}), "loading"),
        (http(401, {}), "API key"),
        (b"", "was lost"),
    ],
)
async def test_whatever_a_server_does_is_an_error_with_a_remedy(
    answer: bytes, message: str
) -> None:
    async with answering(answer) as (url, _):
        with pytest.raises(ModelUnavailable, match=message):
            await asyncio.to_thread(embedder(url).embed, ["a"])


async def test_a_server_that_does_not_run_leaves_search_to_the_words() -> None:
    async with answering(said([1.0])) as (url, _):
        pass
    with pytest.raises(ModelUnavailable, match="search goes by words alone"):
        await asyncio.to_thread(embedder(url).embed, ["a"])
