"""The client of OpenAI-compatible servers: over our own API, over broken servers, over a kill."""

import asyncio
import contextlib
import json
import math
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from lsp_assist.backends.openai import OpenAIModel, Server
from lsp_assist.backends.sse import MAX_LINE_BYTES, BrokenStream, data_of
from lsp_assist.config import Settings, resolve
from lsp_assist.engine import process
from lsp_assist.engine.api import app
from lsp_assist.engine.gate import gated
from lsp_assist.engine.requests import Priority
from lsp_assist.engine.template import Turn
from lsp_assist.errors import ContextTooLong, ModelError, ModelFileError, ModelUnavailable
from lsp_assist.llm import Message, Prompt, Sampling, Segment, Usage
from tests.backends.faulty import HOLD, answering, event, http, parts, stream_head
from tests.engine.fake import FakeEngine
from tests.engine.fake_process import COMMAND
from tests.engine.served import on_unix_socket


def prompt(text: str) -> Prompt:
    return Prompt((Message("user", (Segment("question", text),)),))


def model_at(server: Server, *, n_repeats: int = 0) -> OpenAIModel:
    async def find() -> Server:
        return server

    return OpenAIModel("tiny", find, n_repeats=n_repeats)


async def reply(model: OpenAIModel, text: str = "say one two", **sampling: object) -> str:
    said, _ = await reply_and_usage(model, text, **sampling)
    return said


async def reply_and_usage(
    model: OpenAIModel, text: str, **sampling: object
) -> tuple[str, Usage | None]:
    texts: list[str] = []
    usage = None
    drawn = replace(Sampling(), **sampling)  # type: ignore[arg-type]  # as the tests name them
    async with aclosing(model.stream(prompt(text), drawn)) as deltas:
        async for delta in deltas:
            texts.append(delta.text)
            usage = delta.usage or usage
    return "".join(texts), usage


# ---- our own API -----------------------------------------------------------------------------


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest_asyncio.fixture
async def model(
    engine: FakeEngine, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[OpenAIModel]:
    """A model of our API over a unix socket."""
    path = tmp_path_factory.mktemp("s") / "e.sock"
    server = Server("http://localhost", "tiny", path, takes_llama_keys=True)
    made = model_at(server)
    async with on_unix_socket(gated(app(engine, ping_after_s=0.01)), path):
        yield made
        await made.close()


async def test_a_reply_streams_with_its_usage(model: OpenAIModel, engine: FakeEngine) -> None:
    text, usage = await reply_and_usage(model, "say one two", stop=("END",), top_k=3)
    assert text == "one two "
    assert usage is not None
    assert (usage.model, usage.prompt_tokens, usage.cached_tokens) == ("tiny", 10, 7)
    assert usage.output_tokens == 2
    assert 0 < usage.ttft_ms <= usage.total_ms
    request = engine.requests[0]
    assert request.prompt == (Turn("user", "say one two"),)
    assert (request.sampling.stop, request.sampling.top_k) == (("END",), 3)
    assert request.sampling.seed is not None


async def test_a_lone_surrogate_is_asked_all_the_same(
    model: OpenAIModel, engine: FakeEngine
) -> None:
    assert await reply(model, "say caf\udce9") == "caf\udce9 "


async def test_a_warm_up_generates_nothing(model: OpenAIModel, engine: FakeEngine) -> None:
    usage = await model.warm(prompt("say one"), priority="typed_warm_up", speculative=True)
    assert (usage.prompt_tokens, usage.cached_tokens, usage.output_tokens) == (10, 7, 0)
    request = engine.requests[0]
    assert (request.sampling.max_tokens, request.is_speculative) == (0, True)
    assert request.priority is Priority.TYPED_WARM_UP


async def test_tokens_are_counted_by_the_server(model: OpenAIModel) -> None:
    assert await model.count("abcd") == 4
    assert await model.window() == 512


async def test_closing_the_stream_cancels(model: OpenAIModel, engine: FakeEngine) -> None:
    deltas = model.stream(prompt("hold one"), Sampling())
    async with aclosing(deltas):
        assert (await anext(deltas)).text == "one "
    assert await engine.cancelled.get() is engine.requests[0]


async def test_cancelling_the_task_cancels_before_the_first_text(
    model: OpenAIModel, engine: FakeEngine
) -> None:
    asking = asyncio.create_task(reply(model, "wait one"))
    await engine.arrived.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert await engine.cancelled.get() is engine.requests[0]


async def test_the_engine_s_errors_come_through(model: OpenAIModel) -> None:
    with pytest.raises(ContextTooLong) as too_long:
        await reply(model, "long")
    assert (too_long.value.n_tokens, too_long.value.n_ctx) == (9000, 512)
    with pytest.raises(ModelFileError, match=r"'x\.gguf' is damaged; download it again"):
        await reply(model, "broken")
    with pytest.raises(ModelUnavailable, match=r"^There is no room in memory"):
        await model.warm(prompt("unloadable"))
    with pytest.raises(ModelUnavailable, match="The model broke; ask again"):
        await reply(model, "half one")


async def test_pings_are_no_text(model: OpenAIModel, engine: FakeEngine) -> None:
    asking = asyncio.create_task(reply(model, "wait one"))
    await engine.arrived.wait()
    await asyncio.sleep(0.05)  # a few pings, which must not matter whether they come or not
    engine.released.set()
    assert await asking == "one "


async def test_a_closed_model_says_so(model: OpenAIModel) -> None:
    await reply(model)
    await model.close()
    with pytest.raises(ModelUnavailable, match="was closed"):
        await reply(model)


# ---- servers that fail -----------------------------------------------------------------------

DONE = b"data: [DONE]\n\n"


async def failure(*answers: bytes, text: str = "x", **server: object) -> str:
    """How a reply from such a server fails."""
    async with answering(*answers) as (url, _):
        made = model_at(Server(url, "m", **server))  # type: ignore[arg-type]  # as the tests name them
        with pytest.raises(ModelError) as raised:
            await reply(made, text)
        await made.close()
    message = str(raised.value)
    assert message.endswith(".")
    return message


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (
            http(401, {"error": {"message": "No key."}}),
            "refused the request (401: 'No key.'); set",
        ),
        (http(404, {"error": "not found"}), "has no model 'm', or is no OpenAI-compatible API"),
        (http(429, {}, Retry_After="7"), "too many requests (429); ask again in 7 s"),
        (http(429, b"busy"), "ask again later"),
        (http(500, b"<html>"), "failed (500); ask again, and see its log"),
        (
            http(503, {"error": {"message": "Loading model"}}),
            "failed (503: 'Loading model'); ",
        ),
        (http(302, {}, Location="http://127.0.0.1:1/"), "refused the request (302)"),
        (
            http(400, {"error": {"n_prompt_tokens": 900, "n_ctx": 512}}),
            "The prompt has 900 tokens and the context window holds 512",
        ),
        (http(200, {"choices": []}), "instead of a stream"),
        (stream_head() + event("one"), "was lost (it ended the reply in the middle)"),
        (stream_head() + b"data: {\xff}\n\n", "sent bytes that are no UTF-8"),
        (stream_head() + b"data: " + b"x" * (MAX_LINE_BYTES + 9), "sent a line of more than"),
        (stream_head() + b"data: hello\n\n", "sent something that is not JSON"),
        (stream_head() + b"data: [1]\n\n", "sent JSON that is no object"),
        (
            stream_head() + b'data: {"error": {"message": "Out of it."}}\n\n',
            "(200: 'Out of it.'); ",
        ),
        (b"", "was lost ("),
        (b"SSH-2.0-OpenSSH\r\n", "was lost ("),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
async def test_a_server_that_fails_says_what_to_do(answer: bytes, wanted: str) -> None:
    assert wanted in await failure(answer)


async def test_nobody_who_listens_is_named() -> None:
    made = model_at(Server("http://127.0.0.1:1", "m"))
    with pytest.raises(ModelUnavailable, match=r"http://127\.0\.0\.1:1 was lost.*check that it"):
        await reply(made)
    await made.close()


async def test_a_server_that_never_begins_is_given_up() -> None:
    head = stream_head()
    said = await failure(head + b": ping\n\n" + HOLD, first_text_s=0.05)
    assert "gave no text within 0.05 s" in said
    assert "was silent for 0.05 s" in await failure(head + HOLD, silence_s=0.05)
    assert "was silent for 0.05 s" in await failure(head + event("one") + HOLD, silence_s=0.05)


async def test_an_error_never_shows_the_key() -> None:
    said = await failure(http(403, {}), api_key="secret-key")
    assert "check its API key" in said
    assert "secret-key" not in said
    assert "secret-key" not in repr(Server("http://x", "m", api_key="secret-key"))


async def test_a_stream_without_done_or_usage_is_whole_when_it_says_so() -> None:
    """Some servers send neither; a finish reason is enough."""
    answer = stream_head() + event("one ") + event("two", "stop")
    async with answering(answer) as (url, _):
        made = model_at(Server(url, "m"))
        text, usage = await reply_and_usage(made, "x")
        await made.close()
    assert text == "one two"
    assert usage is not None
    assert usage.output_tokens == 2


async def test_a_plain_server_is_told_nothing_that_it_does_not_know() -> None:
    async with answering(stream_head() + event("x", "stop") + DONE) as (url, asked):
        plain, llama = model_at(Server(url, "m")), model_at(Server(url, "m", takes_llama_keys=True))
        await reply(plain)
        await reply(llama)
        await plain.close()
        await llama.close()
    assert "top_k" not in asked[0]
    assert asked[1]["top_k"] == 40


async def test_tokens_are_estimated_where_the_server_does_not_count() -> None:
    async with answering(http(404, {})) as (url, asked):
        made = model_at(Server(url, "m"))
        assert await made.count("abcdefg") == 3
        assert await made.count("abc") == 1
        assert len(asked) == 1
        assert await made.window() is None
        await made.close()


@pytest.mark.parametrize(
    ("answers", "window"),
    [
        ([{"data": [{"id": "n"}, {"id": "m", "max_model_len": 4096}]}], 4096),
        ([{"data": [{"id": "m", "meta": {"n_ctx": 2048}}]}], 2048),
        ([{"data": [{"id": "m", "max_context_length": 1024}]}], 1024),
        (
            [
                {"data": [{"id": "m", "meta": {"n_ctx_train": 32768}}]},
                {"default_generation_settings": {"n_ctx": 8192}},
            ],
            8192,
        ),
        ([{"data": "?"}, {}], None),
    ],
    ids=["vllm", "ours", "lm studio", "llama-server", "none"],
)
async def test_the_window_is_read_where_servers_have_it(
    answers: list[object], window: int | None
) -> None:
    async with answering(*(http(200, answer) for answer in answers)) as (url, _):
        made = model_at(Server(url, "m"))
        assert await made.window() == window
        await made.close()


async def test_a_server_that_refuses_no_tokens_is_warmed_with_one() -> None:
    refusal = http(400, {"error": {"message": "max_tokens must be at least 1"}})
    done = http(200, {"usage": {"prompt_tokens": 9, "completion_tokens": 1}})
    async with answering(refusal, done) as (url, asked):
        made = model_at(Server(url, "m"))
        assert (await made.warm(prompt("x"))).prompt_tokens == 9
        await made.warm(prompt("x"))
        await made.close()
    assert [body["max_tokens"] for body in asked] == [0, 1, 1]


async def test_a_reply_is_repeated_without_the_part_that_was_shown() -> None:
    cut = stream_head() + event("one ") + event("two ")
    whole = stream_head() + event("one t") + event("wo three") + event("", "stop") + DONE
    async with answering(cut, whole) as (url, asked):
        made = model_at(Server(url, "m"), n_repeats=1)
        pieces = [d.text async for d in made.stream(prompt("x"), Sampling()) if d.text]
        await made.close()
    assert pieces == ["one ", "two ", "three"]
    assert asked[0] == asked[1]
    assert isinstance(asked[0]["seed"], int)


@pytest.mark.parametrize("second", [event("one other"), event("one")], ids=["other", "shorter"])
async def test_a_repeated_reply_that_differs_is_an_error(second: bytes) -> None:
    cut = stream_head() + event("one two")
    async with answering(cut, stream_head() + second + event("", "stop") + DONE) as (url, _):
        made = model_at(Server(url, "m"), n_repeats=1)
        async with aclosing(made.stream(prompt("x"), Sampling())) as deltas:
            assert (await anext(deltas)).text == "one two"
            with pytest.raises(ModelUnavailable, match="began another one"):
                await anext(deltas)
        await made.close()


async def test_a_server_that_is_lost_again_and_again_is_given_up() -> None:
    async with answering(stream_head() + event("one")) as (url, asked):
        made = model_at(Server(url, "m"), n_repeats=2)
        with pytest.raises(ModelUnavailable, match="was lost 3 times"):
            await reply(made)
        await made.close()
    assert len(asked) == 3


# ---- the engine killed in the middle ---------------------------------------------------------


@pytest.fixture
def settings() -> Iterator[Settings]:
    made = resolve()
    yield made
    process.stopped(made)


def engine_model(settings: Settings) -> OpenAIModel:
    """A model of the engine process, started when it is needed."""

    async def find() -> Server:
        endpoint = await asyncio.to_thread(process.connected, settings, command=COMMAND)
        return Server(endpoint.url, "tiny", endpoint.socket, endpoint.token, first_text_s=math.inf)

    return OpenAIModel("tiny", find, n_repeats=2)


async def test_a_kill_in_mid_stream_loses_and_doubles_nothing(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine dies by SIGKILL after the second word; the reader sees one whole reply."""
    died = tmp_path / "died"
    monkeypatch.setenv("FAKE_DIES_ONCE", str(died))
    made = engine_model(settings)
    assert await reply(made, "say one two three four") == "one two three four "
    assert died.exists()
    await made.close()


async def test_a_kill_between_questions_is_not_noticed(settings: Settings) -> None:
    made = engine_model(settings)
    assert await reply(made) == "one two "
    found = process.running(settings)
    assert found is not None
    os.kill(found.pid, signal.SIGKILL)
    assert await reply(made) == "one two "
    assert await made.count("abc") == 3
    await made.close()


# ---- event streams ---------------------------------------------------------------------------


@given(
    st.lists(st.text(st.characters(exclude_characters="\r\n", codec="utf-8"))),
    st.lists(st.integers(0, 400)),
    st.sampled_from([b"\n", b"\r\n"]),
)
def test_events_are_the_same_however_the_bytes_are_cut(
    texts: list[str], cuts: list[int], end: bytes
) -> None:
    data = b"".join(
        b": ping" + end + end + b"data: " + json.dumps(text).encode() + end + end for text in texts
    )

    async def chunks() -> AsyncIterator[bytes]:
        for part in parts(data, cuts):
            yield part

    async def read() -> list[str]:
        return [json.loads(found) async for found in data_of(chunks())]

    assert asyncio.run(read()) == texts


@given(st.lists(st.binary(max_size=60)))
def test_any_bytes_give_events_or_a_broken_stream(received: list[bytes]) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for part in received:
            yield part

    async def read() -> None:
        async for found in data_of(chunks()):
            assert isinstance(found, str)

    with contextlib.suppress(BrokenStream):
        asyncio.run(read())
