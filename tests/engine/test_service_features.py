"""What may be asked of the engine beside a prompt: grammar, probabilities, adapters, vectors."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import numpy as np
import pytest

from lsp_assist.engine.requests import Adapter, Ended, GenerateRequest, Piece, Prefilled
from lsp_assist.engine.service import Engine, EngineSettings
from lsp_assist.errors import BadInput, ModelFileError, ModelUnavailable
from lsp_assist.llm import Sampling
from tests.engine.matching import fits
from tests.engine.tiny import make_model
from tests.engine.tiny_kinds import make_adapter

PROMPT = tuple(range(40, 80))
HOT = Sampling(temperature=2, top_k=0, top_p=1, min_p=0, seed=3, max_tokens=12)


@pytest.fixture
async def engine(tiny: Path, models: Path, tmp_path: Path) -> AsyncIterator[Engine]:
    pooled = models / "vectors.gguf"
    if not pooled.exists():
        make_model(pooled, is_pooled=True)
    settings = EngineSettings({"tiny": tiny, "pooled": pooled}, tmp_path, n_threads=1)
    engine = Engine(settings)
    yield engine
    await engine.close()


async def answer(engine: Engine, request: GenerateRequest) -> tuple[list[str], list[Piece], int]:
    """The text of each completion, all pieces, and how much was cached."""
    texts, pieces, n_cached = [""] * request.n, [], 0
    async with aclosing(engine.generate(request)) as events:
        async for event in events:
            match event:
                case Piece(index, text):
                    texts[index] += text
                    pieces.append(event)
                case Prefilled():
                    n_cached = event.n_cached
                case Ended():
                    pass
    return texts, pieces, n_cached


async def test_a_reply_obeys_the_grammar(engine: Engine) -> None:
    grammar = 'root ::= [a-z]{3} ("-" [0-9]){2}'
    texts, _, _ = await answer(engine, GenerateRequest("tiny", PROMPT, HOT, n=3, grammar=grammar))
    assert all(fits(text, grammar) for text in texts)


async def test_a_bad_grammar_is_told_and_the_model_goes_on(engine: Engine) -> None:
    with pytest.raises(BadInput, match="line 1"):
        await answer(engine, GenerateRequest("tiny", PROMPT, HOT, grammar="root ::= ["))
    assert (await answer(engine, GenerateRequest("tiny", PROMPT, HOT)))[0] != [""]


async def test_completions_differ_and_the_seed_repeats_them(engine: Engine) -> None:
    request = GenerateRequest("tiny", PROMPT, HOT, n=3)
    texts, _, _ = await answer(engine, request)
    assert len(set(texts)) == 3
    assert (await answer(engine, request))[0] == texts


async def test_each_piece_has_the_probabilities_of_its_tokens(engine: Engine) -> None:
    request = GenerateRequest("tiny", PROMPT, Sampling(temperature=0, max_tokens=8), n_logprobs=2)
    texts, pieces, _ = await answer(engine, request)
    drawn = [logprob for piece in pieces for logprob in piece.logprobs]
    assert "".join(piece.text for piece in pieces) == texts[0]
    assert 1 <= len(drawn) <= 8
    for logprob in drawn:  # the likeliest token is taken, so it is the first alternative
        assert logprob.top[0][0] == logprob.token
        assert logprob.top[0][2] == logprob.logprob <= 0
        assert len(logprob.top) == 2
    plain = GenerateRequest("tiny", PROMPT, Sampling(temperature=0, max_tokens=8))
    assert all(not piece.logprobs for piece in (await answer(engine, plain))[1])


async def test_adapters_answer_for_themselves_and_share_no_cells(
    engine: Engine, tmp_path: Path
) -> None:
    adapter = Adapter(make_adapter(tmp_path / "adapter.gguf"))
    sampling = Sampling(temperature=0, max_tokens=12)
    plain = GenerateRequest("tiny", PROMPT, sampling)
    adapted = GenerateRequest("tiny", PROMPT, sampling, adapters=(adapter,))
    (without, _, _), (with_it, _, n_cached) = await answer(engine, plain), await answer(
        engine, adapted
    )  # fmt: skip
    assert with_it != without
    assert n_cached == 0
    both = await asyncio.gather(answer(engine, plain), answer(engine, adapted))
    assert [texts for texts, _, _ in both] == [without, with_it]
    assert min(n_cached for _, _, n_cached in both) >= len(PROMPT) - 1
    assert (await engine.status()).counters["adapter_switches"] >= 2


async def test_a_missing_adapter_is_told(engine: Engine, tmp_path: Path) -> None:
    request = GenerateRequest("tiny", PROMPT, adapters=(Adapter(tmp_path / "none.gguf"),))
    with pytest.raises(ModelFileError, match=r"none\.gguf"):
        await answer(engine, request)


async def test_a_model_that_has_embeddings_gives_them(engine: Engine) -> None:
    states = {state.name: state for state in await engine.models()}
    assert (states["pooled"].has_embeddings, states["tiny"].has_embeddings) == (True, False)
    vectors = np.array(await engine.embed("pooled", ["def retry(): pass", "class Client: ..."]))
    assert vectors.shape == (2, 64)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    with pytest.raises(ModelUnavailable, match="gives no embeddings"):
        await engine.embed("tiny", ["a"])


async def test_embedding_can_be_given_up_and_the_engine_closed(engine: Engine) -> None:
    work = asyncio.create_task(engine.embed("pooled", ["some text " * 50] * 2000))
    await asyncio.sleep(0)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert len(await engine.embed("pooled", ["a"])) == 1
