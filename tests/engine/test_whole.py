"""A model file answers through the engine process: real llama.cpp, real sockets, real kills."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import httpx2
import openai
import pytest
import pytest_asyncio

from lsp_assist.backends.openai import OpenAIModel
from lsp_assist.config import Settings, resolve
from lsp_assist.engine import process
from lsp_assist.engine.runtime import Endpoint
from lsp_assist.errors import ContextTooLong, ModelFileError, SettingError
from lsp_assist.llm import Message, Model, Prompt, Role, Sampling, Segment, Usage
from lsp_assist.models import engine_model, open_embedders
from tests.engine.served import unix_client
from tests.engine.tiny import make_model
from tests.engine.tiny_kinds import make_adapter

GREEDY = Sampling(temperature=0, max_tokens=24)
WARM = Sampling(max_tokens=0)
QUESTION = "Where is a request retried?"


def prompt(*texts: str) -> Prompt:
    """A conversation: system, user, assistant, user, ..."""
    roles: list[Role] = ["system", *(["user", "assistant"] * len(texts))]  # type: ignore[list-item]  # literals, widened
    return Prompt(
        tuple(
            Message(role, (Segment("question", text),))
            for role, text in zip(roles, texts, strict=False)
        )
    )


ASKED = prompt("You are helpful.", QUESTION)


async def answer(model: Model, asked: Prompt, sampling: Sampling = GREEDY) -> tuple[str, Usage]:
    texts: list[str] = []
    usage = None
    async with aclosing(model.stream(asked, sampling)) as deltas:
        async for delta in deltas:
            texts.append(delta.text)
            usage = delta.usage
    assert usage is not None
    return "".join(texts), usage


@pytest.fixture
def settings(tiny: Path) -> Iterator[Settings]:
    made = resolve({"model": {"path": str(tiny)}})
    yield made
    process.stopped(made)


@pytest_asyncio.fixture
async def model(settings: Settings, tiny: Path) -> AsyncIterator[Model]:
    made = engine_model(tiny, settings)
    yield made
    await made.close()


async def test_a_model_file_makes_vectors_for_the_index(settings: Settings, tmp_path: Path) -> None:
    """The engine is started for the first text; one that died is started again."""
    pooled = make_model(tmp_path / "pooled.gguf", is_pooled=True)
    named = replace(settings.index, embedder=f"engine:{pooled}")
    (embedder,) = open_embedders(replace(settings, index=named))
    texts = ["def retry(): pass", "class Basket: ..."]
    first = await asyncio.to_thread(embedder.embed, texts)
    assert first.shape == (2, await asyncio.to_thread(lambda: embedder.n_dims))
    assert abs(first @ first.T - 1).diagonal().max() < 1e-3
    kill(settings)
    again = await asyncio.to_thread(embedder.embed_query, texts[0])
    assert abs(again @ first[0] - 1) < 1e-3


async def test_a_broken_model_file_is_no_embedder(settings: Settings, tmp_path: Path) -> None:
    for name, error in (("", SettingError), (str(tmp_path / "missing.gguf"), ModelFileError)):
        named = replace(settings.index, embedder=f"engine:{name}")
        with pytest.raises(error):
            open_embedders(replace(settings, index=named))


def endpoint_of(settings: Settings) -> Endpoint:
    found = process.running(settings)
    assert found is not None
    return found.endpoint


def kill(settings: Settings) -> int:
    found = process.running(settings)
    assert found is not None
    os.kill(found.pid, signal.SIGKILL)
    return found.pid


async def test_a_prompt_is_computed_once_for_all_who_ask(
    model: Model, settings: Settings, tiny: Path
) -> None:
    """Also for another editor, which is another process's model."""
    text, usage = await answer(model, ASKED)
    assert (usage.model, usage.cached_tokens, usage.output_tokens) == ("tiny", 0, 24)
    other = engine_model(tiny, settings)
    again, usage_again = await answer(other, ASKED)
    await other.close()
    assert again == text
    assert usage_again.cached_tokens >= usage.prompt_tokens - 1


async def test_a_warm_up_leaves_the_question_next_to_nothing(model: Model) -> None:
    assert isinstance(model, OpenAIModel)
    usage = await model.warm(ASKED)
    assert (usage.cached_tokens, usage.output_tokens) == (0, 0)
    _, asked = await answer(model, ASKED)
    assert asked.cached_tokens >= asked.prompt_tokens - 1


async def test_window_and_count_are_the_model_s(model: Model) -> None:
    assert await model.window() == 512
    assert await model.count("") == 0
    assert await model.count("<|im_end|>") > 1


async def test_a_prompt_beyond_the_window_is_refused_with_both_numbers(model: Model) -> None:
    with pytest.raises(ContextTooLong, match=r"window holds 512\b") as raised:
        await answer(model, prompt("You are helpful.", QUESTION * 100))
    assert raised.value.n_tokens > raised.value.n_ctx == 512


async def test_closing_the_stream_ends_the_work(model: Model, settings: Settings) -> None:
    long = replace(GREEDY, max_tokens=400)
    async with aclosing(model.stream(ASKED, long)) as deltas:
        await anext(deltas)
    while True:
        status = await asyncio.to_thread(process.status_of, endpoint_of(settings))
        counters = status["counters"]
        assert isinstance(counters, dict)
        if counters["cancelled"] == 1 and status["n_running"] == 0:
            break


async def test_a_kill_in_mid_stream_loses_and_doubles_nothing(
    model: Model, settings: Settings
) -> None:
    """The seed is the client's, so the second reply is the first one, drawn with temperature."""
    warm = Sampling(temperature=1.0, max_tokens=400, seed=11)
    whole, usage = await answer(model, ASKED, warm)
    assert usage.output_tokens > 20
    first = kill(settings)
    texts: list[str] = []
    async with aclosing(model.stream(ASKED, warm)) as deltas:
        async for delta in deltas:
            texts.append(delta.text)
            if len(texts) == 5:
                assert kill(settings) != first
    assert "".join(texts) == whole


async def test_a_model_file_that_is_not_there_starts_no_engine(
    settings: Settings, tmp_path: Path
) -> None:
    missing = engine_model(tmp_path / "missing.gguf", settings)
    with pytest.raises(ModelFileError, match=r"missing\.gguf"):
        await answer(missing, ASKED)
    assert process.running(settings) is None


async def test_a_damaged_model_file_is_named_and_hurts_no_other(
    model: Model, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "damaged.gguf").write_bytes(b"GGUF" + bytes(100))
    damaged = engine_model(tmp_path / "damaged.gguf", settings)
    with pytest.raises(ModelFileError, match=r"damaged\.gguf"):
        await answer(damaged, ASKED)
    await damaged.close()
    assert (await answer(model, ASKED))[0]


# ---- other tools -----------------------------------------------------------------------------


@pytest_asyncio.fixture
async def http(settings: Settings, tiny: Path) -> AsyncIterator[httpx2.AsyncClient]:
    endpoint = await asyncio.to_thread(process.connected, settings)
    assert await asyncio.to_thread(process.model_served, endpoint, tiny) == "tiny"
    assert endpoint.socket is not None
    async with unix_client(endpoint.socket) as client:
        yield client


async def test_the_official_client_streams_from_a_real_model(http: httpx2.AsyncClient) -> None:
    official = openai.AsyncOpenAI(api_key="none", base_url="http://engine/v1", http_client=http)
    assert [model.id async for model in await official.models.list()] == ["tiny"]
    stream = await official.chat.completions.create(
        model="tiny",
        messages=[{"role": "user", "content": QUESTION}],
        temperature=0,
        max_tokens=8,
        n=2,
        stream=True,
        stream_options={"include_usage": True},
    )
    texts = ["", ""]
    usage = None
    async for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
        usage = chunk.usage or usage
    assert texts[0] == texts[1] != ""
    assert usage is not None
    assert usage.completion_tokens == 16


async def test_a_reply_obeys_a_json_schema(http: httpx2.AsyncClient) -> None:
    schema = {
        "type": "object",
        "properties": {"line": {"type": "integer"}, "kind": {"enum": ["call", "def"]}},
        "required": ["line", "kind"],
        "additionalProperties": False,
    }
    body = {
        "messages": [{"role": "user", "content": QUESTION}],
        "max_tokens": 200,
        "seed": 1,
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
    }
    reply = (await http.post("/v1/chat/completions", json=body)).json()
    found = json.loads(reply["choices"][0]["message"]["content"])
    assert set(found) == {"line", "kind"}
    assert found["kind"] in ("call", "def")
    bad = {
        **body,
        "response_format": {"type": "json_schema", "json_schema": {"schema": {"not": {}}}},
    }
    refused = await http.post("/v1/chat/completions", json=bad)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "response_format")


async def test_log_probabilities_are_those_of_the_tokens(http: httpx2.AsyncClient) -> None:
    body = {"prompt": "def retry(", "max_tokens": 4, "temperature": 0, "logprobs": 3}
    reply = (await http.post("/v1/completions", json=body)).json()
    logprobs = reply["choices"][0]["logprobs"]
    assert "".join(logprobs["tokens"]) == reply["choices"][0]["text"]
    for logprob, top in zip(logprobs["token_logprobs"], logprobs["top_logprobs"], strict=True):
        assert 1 <= len(top) <= 3  # parts of one character look the same
        assert logprob == pytest.approx(max(top.values()))


async def test_tokens_come_back_as_their_text(http: httpx2.AsyncClient) -> None:
    text = "def retry(request):\n    return <|im_end|> \N{SNOWMAN}"
    for parse_special in (False, True):
        body = {"content": text, "parse_special": parse_special}
        tokens = (await http.post("/tokenize", json=body)).json()["tokens"]
        said = await http.post("/detokenize", json={"tokens": tokens})
        assert said.json() == {"content": text}
    wrong = await http.post("/detokenize", json={"tokens": [10**6]})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "tokens")
    messages = [{"role": "user", "content": QUESTION}]
    rendered = await http.post("/apply-template", json={"messages": messages})
    assert rendered.json()["prompt"] == (
        f"<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
    )


async def test_what_is_warm_can_be_asked_and_is_what_a_question_then_finds(
    http: httpx2.AsyncClient,
) -> None:
    messages = [{"role": "user", "content": f"{QUESTION} (nobody asked this before)"}]
    before = (await http.post("/warmth", json={"messages": messages})).json()
    assert before["is_append_only"] is True
    assert before["n_warm"] < before["n_prompt"]
    warm = {"messages": messages, "max_tokens": 0}
    usage = (await http.post("/v1/chat/completions", json=warm)).json()["usage"]
    after = (await http.post("/warmth", json={"messages": messages})).json()
    assert after["n_warm"] == after["n_prompt"] == usage["prompt_tokens"]


async def test_a_wrong_grammar_is_the_caller_s_fault(http: httpx2.AsyncClient) -> None:
    body = {"prompt": "x", "max_tokens": 4, "grammar": "root ::= ("}
    response = await http.post("/v1/completions", json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "grammar")


async def test_an_adapter_acts_by_request_if_the_user_configured_it(
    tiny: Path, tmp_path: Path
) -> None:
    style = make_adapter(tmp_path / "style.gguf")
    settings = resolve({"engine": {"adapters": [str(style)]}})
    endpoint = await asyncio.to_thread(process.connected, settings)
    await asyncio.to_thread(process.model_served, endpoint, tiny)
    assert endpoint.socket is not None
    body = {"prompt": "def retry(request):", "max_tokens": 24, "temperature": 0}
    said: list[str] = []
    async with unix_client(endpoint.socket) as client:
        for lora in ([], [{"id": "style", "scale": 30}], [{"path": str(style), "scale": 0}]):
            reply = (await client.post("/v1/completions", json={**body, "lora": lora})).json()
            said.append(reply["choices"][0]["text"])
        wrong = await client.post("/v1/completions", json={**body, "lora": [{"id": "other"}]})
    assert said[0] == said[2] != said[1]
    assert wrong.json()["error"]["param"] == "lora[0]"


async def test_embeddings_come_from_a_model_that_was_made_for_them(
    http: httpx2.AsyncClient, settings: Settings, tmp_path: Path
) -> None:
    pooled = make_model(tmp_path / "vectors.gguf", is_pooled=True)
    await asyncio.to_thread(process.model_served, endpoint_of(settings), pooled)
    official = openai.AsyncOpenAI(api_key="none", base_url="http://engine/v1", http_client=http)
    embedded = await official.embeddings.create(model="vectors", input=["retry", "retry", "x"])
    one, same, other = (item.embedding for item in embedded.data)
    assert sum(x * x for x in one) == pytest.approx(1, abs=1e-3)
    assert one == pytest.approx(same, abs=1e-3)
    assert one != pytest.approx(other, abs=1e-2)
    with pytest.raises(openai.InternalServerError, match="gives no embeddings"):
        await official.embeddings.create(model="tiny", input="retry")


async def test_a_speculative_warm_up_answers_the_same_question(model: Model) -> None:
    assert isinstance(model, OpenAIModel)
    cold, _ = await answer(model, prompt("Other.", QUESTION))
    await model.warm(prompt("Other.", QUESTION), priority="typed_warm_up", speculative=True)
    warm, usage = await answer(model, prompt("Other.", QUESTION))
    assert warm == cold
    assert usage.cached_tokens >= usage.prompt_tokens - 1
