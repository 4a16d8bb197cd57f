"""The API over a fake engine, as the official client and a plain HTTP client use it."""

import asyncio
import base64
import contextlib
import json
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import openai
import pytest
import pytest_asyncio

from lsp_assist.engine.api import MAX_BODY_BYTES, Activity, Lifecycle, app
from lsp_assist.engine.gate import gated
from lsp_assist.engine.requests import Adapter, Priority
from lsp_assist.engine.template import Turn
from tests.engine.fake import FakeEngine
from tests.engine.served import on_loopback, on_unix_socket, unix_client


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest_asyncio.fixture
async def http(
    engine: FakeEngine, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the API over a unix socket."""
    path = tmp_path_factory.mktemp("s") / "e.sock"
    api = gated(app(engine, adapters=[Path("style.gguf"), Path("tone.gguf")]))
    async with on_unix_socket(api, path), unix_client(path) as client:
        yield client


@pytest_asyncio.fixture
async def official(http: httpx2.AsyncClient) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(api_key="none", base_url="http://engine/v1", http_client=http)


def said(text: str, **more: object) -> dict[str, object]:
    return {"model": "tiny", "messages": [{"role": "user", "content": text}], **more}


async def refused(
    http: httpx2.AsyncClient, place: str, body: object
) -> tuple[int, dict[str, object]]:
    response = await http.post(place, json=body)
    error = response.json()["error"]
    assert isinstance(error, dict)
    assert response.headers["x-should-retry"] == "false"
    return response.status_code, error


# ---- the official client ---------------------------------------------------------------------


async def test_the_official_client_gets_a_reply_with_usage(official: openai.AsyncOpenAI) -> None:
    reply = await official.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": "say one two"}]
    )
    assert reply.choices[0].message.content == "one two "
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (10, 2)
    assert reply.usage.prompt_tokens_details is not None
    assert reply.usage.prompt_tokens_details.cached_tokens == 7
    assert reply.model_extra is not None
    assert reply.model_extra["timings"] == {
        "cache_n": 7,
        "prompt_n": 3,
        "predicted_n": 2,
        "queue_ms": 1.0,
        "prefill_ms": 2.0,
        "first_token_ms": 4.0,
        "decode_ms": 30.0,
        "per_token_ms": 30.0,
    }


async def test_the_official_client_streams_several_completions(
    official: openai.AsyncOpenAI,
) -> None:
    texts = ["", ""]
    ends: list[tuple[int, str]] = []
    usage = None
    stream = await official.chat.completions.create(
        model="tiny",
        messages=[{"role": "user", "content": "say one two"}],
        n=2,
        stream=True,
        stream_options={"include_usage": True},
    )
    async with stream:
        async for chunk in stream:
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
                if choice.finish_reason:
                    ends.append((choice.index, choice.finish_reason))
            usage = chunk.usage or usage
    assert texts == ["one two ", "one two "]
    assert ends == [(0, "stop"), (1, "stop")]
    assert usage is not None
    assert usage.completion_tokens == 4


async def test_the_official_client_reads_log_probabilities(official: openai.AsyncOpenAI) -> None:
    reply = await official.chat.completions.create(
        model="tiny",
        messages=[{"role": "user", "content": "say one two"}],
        logprobs=True,
        top_logprobs=2,
    )
    logprobs = reply.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert [token.token for token in logprobs.content] == ["one ", "two "]
    assert [top.token for top in logprobs.content[0].top_logprobs] == ["t0", "t1"]
    older = await official.completions.create(model="tiny", prompt="say one two", logprobs=1)
    assert older.choices[0].logprobs is not None
    assert older.choices[0].logprobs.text_offset == [0, 4]
    assert older.choices[0].logprobs.top_logprobs == [{"t0": -1.0}, {"t0": -1.0}]


async def test_the_official_client_lists_models_and_embeds(official: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in await official.models.list()] == ["tiny", "other"]
    assert (await official.models.retrieve("other")).id == "other"
    with pytest.raises(openai.NotFoundError):
        await official.models.retrieve("third")
    # It asks for base64 where the caller says nothing.
    embedded = await official.embeddings.create(model="tiny", input=["a", "bc"])
    assert [e.embedding for e in embedded.data] == [[1.0, 0.5], [2.0, 0.5]]
    assert embedded.usage.prompt_tokens == 3


@pytest.mark.parametrize(
    ("question", "error", "code"),
    [
        ("long", openai.BadRequestError, "context_length_exceeded"),
        ("unloadable", openai.InternalServerError, "model_unavailable"),
        ("broken", openai.InternalServerError, "model_file_error"),
        ("crash", openai.InternalServerError, "model_unavailable"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_the_official_client_sees_failures_once(
    official: openai.AsyncOpenAI,
    engine: FakeEngine,
    question: str,
    error: type[openai.APIStatusError],
    code: str,
    stream: bool,
) -> None:
    """A failure before the first text has its status, and is not asked again."""
    with pytest.raises(error) as raised:
        await official.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": question}], stream=stream
        )
    assert raised.value.code == code
    assert len(engine.requests) == 1


async def test_a_failure_in_mid_stream_ends_it_with_an_error(official: openai.AsyncOpenAI) -> None:
    stream = await official.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": "half one"}], stream=True
    )
    texts: list[str] = []
    with pytest.raises(openai.APIError, match="The model broke; ask again"):  # noqa: PT012  # the stream fails on its way
        async for chunk in stream:
            texts += [choice.delta.content or "" for choice in chunk.choices]
    assert "".join(texts) == "one "


async def test_closing_the_official_client_s_stream_cancels(
    official: openai.AsyncOpenAI, engine: FakeEngine
) -> None:
    stream = await official.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": "hold one"}], stream=True
    )
    async for chunk in stream:
        if chunk.choices[0].delta.content:
            break
    await stream.close()
    assert await engine.cancelled.get() is engine.requests[0]


# ---- a plain client --------------------------------------------------------------------------


async def test_a_stream_is_server_sent_events(http: httpx2.AsyncClient) -> None:
    response = await http.post("/v1/chat/completions", json=said("say one", stream=True))
    assert response.headers["content-type"].startswith("text/event-stream")
    assert "access-control-allow-origin" not in response.headers
    events = response.text.split("\n\n")
    assert events.pop() == ""
    assert events.pop() == "data: [DONE]"
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert chunks[1]["choices"][0]["delta"] == {"content": "one "}
    assert chunks[2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[2]["timings"]["cache_n"] == 7
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert all("usage" not in chunk for chunk in chunks)


async def test_a_plain_completion_streams_text(http: httpx2.AsyncClient) -> None:
    body = {"prompt": "say one two", "stream": True, "stream_options": {"include_usage": True}}
    response = await http.post("/v1/completions", json=body)
    chunks = [json.loads(line[6:]) for line in response.text.split("\n\n")[:-2]]
    assert [c["choices"][0]["text"] for c in chunks if c["choices"]] == ["one ", "two ", ""]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == 12


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "n_predict"])
async def test_no_tokens_is_a_warm_up(
    http: httpx2.AsyncClient, engine: FakeEngine, name: str
) -> None:
    body = said("say one", **{name: 0}, priority="typed_warm_up", speculative=True)
    reply = (await http.post("/v1/chat/completions", json=body)).json()
    assert reply["choices"][0]["message"]["content"] == ""
    assert reply["choices"][0]["finish_reason"] == "length"
    assert reply["usage"]["prompt_tokens_details"]["cached_tokens"] == 7
    assert reply["usage"]["completion_tokens"] == 0
    request = engine.requests[0]
    assert request.sampling.max_tokens == 0
    assert request.priority is Priority.TYPED_WARM_UP
    assert request.is_speculative


@pytest.mark.parametrize("stream", [False, True])
async def test_a_dropped_connection_cancels_at_once(
    http: httpx2.AsyncClient, engine: FakeEngine, stream: bool
) -> None:
    """Also before there is any event to send."""
    body = said("wait one", stream=stream)
    asking = asyncio.create_task(http.post("/v1/chat/completions", json=body))
    await engine.arrived.wait()
    asking.cancel()
    assert await engine.cancelled.get() is engine.requests[0]
    with contextlib.suppress(asyncio.CancelledError):
        await asking


async def test_a_stream_that_waits_says_that_it_lives(
    engine: FakeEngine, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The status is sent and comments follow, so that no client gives up on a long prefill."""
    path = tmp_path_factory.mktemp("s") / "e.sock"
    api = gated(app(engine, ping_after_s=0.01))
    body = said("wait one", stream=True)
    async with (
        on_unix_socket(api, path),
        unix_client(path) as client,
        client.stream("POST", "/v1/chat/completions", json=body) as response,
    ):
        lines = response.aiter_lines()
        assert await anext(lines) == ": still at work"
        engine.released.set()
        rest = [line async for line in lines]
    assert json.loads(next(line for line in rest if line.startswith("data: "))[6:])
    assert rest[-2] == "data: [DONE]"


async def test_everything_that_can_be_said_reaches_the_engine(
    http: httpx2.AsyncClient, engine: FakeEngine
) -> None:
    body = {
        "model": "other",
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "say "}, {"text": "x"}]},
            {"role": "assistant", "content": ""},
            {"role": "user", "content": "say \ud800 \N{PILE OF POO}"},
        ],
        "temperature": 0,
        "top_p": 0.5,
        "top_k": 7,
        "min_p": 0.1,
        "repeat_penalty": 1.1,
        "seed": 3,
        "max_tokens": 5,
        "stop": "END",
        "grammar": 'root ::= "x"',
        "lora": [{"id": 1, "scale": 0.5}, {"path": "style", "scale": 0}],
        "priority": "summary",
        "n": 2,
        "tools": [{"type": "function"}],
        "something_else": {"is": "ignored"},
    }
    response = await http.post("/v1/chat/completions", content=json.dumps(body))
    assert response.status_code == 200
    request = engine.requests[0]
    assert isinstance(request.prompt, tuple)
    assert request.prompt[:2] == (Turn("system", "Be brief."), Turn("user", "say x"))
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.0, 0.5, 7)
    assert (sampling.min_p, sampling.repeat_penalty, sampling.seed) == (0.1, 1.1, 3)
    assert (sampling.max_tokens, sampling.stop) == (5, ("END",))
    assert (request.model, request.n, request.grammar) == ("other", 2, 'root ::= "x"')
    assert request.adapters == (Adapter(Path("tone.gguf"), 0.5),)
    assert request.priority is Priority.SUMMARY


CHAT = "/v1/chat/completions"


@pytest.mark.parametrize(
    ("place", "change", "param"),
    [
        (CHAT, {"messages": []}, "messages"),
        (CHAT, {"messages": "hello"}, "messages"),
        (CHAT, {"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        (CHAT, {"messages": [{"role": "user"}]}, "messages[0].content"),
        (
            CHAT,
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages[0].content[0]",
        ),
        (CHAT, {"temperature": "hot"}, "temperature"),
        (CHAT, {"temperature": True}, "temperature"),
        (CHAT, {"top_p": 1.5}, "top_p"),
        (CHAT, {"top_k": 1.5}, "top_k"),
        (CHAT, {"max_tokens": -1}, "max_tokens"),
        (CHAT, {"n": 0}, "n"),
        (CHAT, {"seed": "x"}, "seed"),
        (CHAT, {"stop": ["a", ""]}, "stop"),
        (CHAT, {"stream": 1}, "stream"),
        (CHAT, {"stream_options": {"include_usage": "yes"}}, "stream_options.include_usage"),
        (CHAT, {"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        (CHAT, {"priority": "first"}, "priority"),
        (CHAT, {"lora": [{"path": "/etc/passwd"}]}, "lora[0]"),
        (CHAT, {"lora": [{"id": 0, "scale": "x"}]}, "lora[0].scale"),
        (CHAT, {"grammar": 1}, "grammar"),
        (CHAT, {"response_format": {"type": "xml"}}, "response_format.type"),
        (CHAT, {"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema"),
        (CHAT, {"model": 3}, "model"),
        ("/v1/completions", {}, "prompt"),
        ("/v1/completions", {"prompt": ["a", "b"]}, "prompt"),
        ("/v1/completions", {"prompt": [1, -1]}, "prompt"),
        ("/v1/completions", {"prompt": "x", "logprobs": "y"}, "logprobs"),
        ("/v1/embeddings", {"input": [1]}, "input"),
        ("/v1/embeddings", {"input": "x", "encoding_format": "hex"}, "encoding_format"),
        ("/tokenize", {}, "content"),
        ("/detokenize", {"tokens": ["x"]}, "tokens"),
        ("/apply-template", {"messages": [1]}, "messages[0]"),
    ],
)
async def test_a_wrong_value_is_refused_by_name(
    engine: FakeEngine, place: str, change: dict[str, object], param: str
) -> None:
    transport = httpx2.ASGITransport(app(engine))
    async with httpx2.AsyncClient(transport=transport, base_url="http://engine") as client:
        body = (said("say x") if place == CHAT else {}) | change
        status, error = await refused(client, place, body)
    assert status == 400
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"
    assert str(error["message"]).endswith(".")
    assert not engine.requests


async def test_an_unknown_model_is_404_and_names_the_known_ones(http: httpx2.AsyncClient) -> None:
    status, error = await refused(http, CHAT, said("say x", model="gpt-9"))
    assert (status, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert "'tiny', 'other'" in str(error["message"])


async def test_a_prompt_that_is_too_long_names_both_numbers(http: httpx2.AsyncClient) -> None:
    status, error = await refused(http, CHAT, said("long"))
    assert (status, error["code"]) == (400, "context_length_exceeded")
    assert (error["n_prompt_tokens"], error["n_ctx"]) == (9000, 512)
    assert "9,000" in str(error["message"])
    assert "512" in str(error["message"])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[1]",
        b'"text"',
        b"\xff\xfe",
        b'{"messages": ' + b"[" * 100_000,
        b'{"messages": ' + b"[" * 70 + b"]" * 70 + b"}",
        b'{"n": ' + b"9" * 5000 + b"}",
    ],
    ids=["empty", "cut", "list", "text", "not utf-8", "endless", "deep", "long number"],
)
async def test_a_body_that_is_no_object_is_refused(http: httpx2.AsyncClient, body: bytes) -> None:
    response = await http.post(CHAT, content=body)
    assert response.status_code == 400
    assert "body" in response.json()["error"]["message"]


async def test_numbers_that_json_does_not_know_are_refused(http: httpx2.AsyncClient) -> None:
    for value in ("NaN", "Infinity", "1e999"):
        body = f'{{"messages": [{{"role": "user", "content": "x"}}], "temperature": {value}}}'
        response = await http.post(CHAT, content=body)
        assert response.json()["error"]["param"] == "temperature"


async def test_a_body_that_is_too_large_is_413(http: httpx2.AsyncClient) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(MAX_BODY_BYTES // 2**20 + 1):
            yield b" " * 2**20

    response = await http.post(CHAT, content=parts())
    assert response.status_code == 413
    assert "16 MiB" in response.json()["error"]["message"]


async def test_tokens_and_templates(http: httpx2.AsyncClient) -> None:
    tokens = await http.post("/tokenize", json={"content": "ab", "parse_special": True})
    assert tokens.json() == {"tokens": [97, 98, 0]}
    pieces = await http.post("/tokenize", json={"content": "ab", "with_pieces": True})
    assert pieces.json() == {"tokens": [{"id": 97, "piece": "a"}, {"id": 98, "piece": "b"}]}
    text = await http.post("/detokenize", json={"tokens": [97, 98]})
    assert text.json() == {"content": "ab"}
    prompt = await http.post("/apply-template", json=said("hello"))
    assert prompt.json() == {"prompt": "<user>hello"}
    warmth = await http.post("/warmth", json=said("hello"))
    assert warmth.json() == {"n_prompt": 1, "n_warm": 1, "is_append_only": True}
    plain = await http.post("/v1/embeddings", json={"input": "abc", "encoding_format": "base64"})
    packed = base64.b64decode(plain.json()["data"][0]["embedding"])
    assert struct.unpack("<2f", packed) == (3.0, 0.5)


async def test_what_is_not_there_says_so(http: httpx2.AsyncClient) -> None:
    response = await http.get("/v1/audio")
    assert response.status_code == 404
    assert response.json()["error"]["message"] == "GET /v1/audio is not part of this API."
    assert (await http.get(CHAT)).status_code == 405


async def test_a_model_file_is_added_by_the_user_s_own_processes(
    http: httpx2.AsyncClient, engine: FakeEngine
) -> None:
    assert (await http.post("/v1/models", json={"path": "/m/new.gguf"})).json() == {"id": "new"}
    assert (await http.post(CHAT, json=said("say x", model="new"))).status_code == 200
    status, error = await refused(http, "/v1/models", {"path": "relative.gguf"})
    assert (status, error["param"]) == (400, "path")
    status, error = await refused(http, "/v1/models", {"path": "/m/missing.gguf"})
    assert (status, error["code"]) == (503, "model_file_error")


async def test_status_and_life(tmp_path_factory: pytest.TempPathFactory) -> None:
    engine, activity = FakeEngine(), Activity()
    stopped = asyncio.Event()
    lifecycle = Lifecycle(lambda: {"version": "1.2", "pid": 7}, stopped.set)
    path = tmp_path_factory.mktemp("s") / "e.sock"
    api = gated(app(engine, activity=activity, lifecycle=lifecycle))
    async with on_unix_socket(api, path), unix_client(path) as client:
        used_at = activity.last_at
        assert (await client.get("/health")).json() == {"status": "ok", "version": "1.2", "pid": 7}
        status = (await client.get("/status")).json()
        assert [model["name"] for model in status["models"]] == ["tiny", "other"]
        assert (status["pid"], activity.last_at) == (7, used_at)
        async with client.stream("POST", CHAT, json=said("hold one", stream=True)) as response:
            await anext(response.aiter_lines())
            assert (activity.n_running, activity.idle_s) == (1, 0.0)
        await engine.cancelled.get()
        assert (await client.post("/shutdown")).json() == {"status": "stopping"}
        assert stopped.is_set()
    assert activity.last_at > used_at


# ---- the gate --------------------------------------------------------------------------------


async def test_a_port_wants_a_token_and_a_loopback_host(engine: FakeEngine) -> None:
    api = gated(app(engine), private_token="mine", public_token="given")
    async with on_loopback(api) as port:
        base = f"http://127.0.0.1:{port}"
        async with httpx2.AsyncClient(base_url=base) as client:

            async def status(place: str, **headers: str) -> int:
                return (await client.get(place, headers=headers)).status_code

            assert await status("/health") == 401
            assert await status("/v1/models", authorization="Bearer wrong") == 401
            assert await status("/v1/models", authorization="Basic given") == 401
            assert await status("/v1/models", authorization="Bearer given") == 200
            assert await status("/v1/models", authorization="bearer mine") == 200
            for host in ("evil.example", "127.0.0.1.evil.example", f"evil.example:{port}"):
                assert await status("/v1/models", authorization="Bearer given", host=host) == 403
            assert await status("/v1/models", authorization="Bearer mine", host="localhost") == 200
            body = {"path": "/m/new.gguf"}
            for token, expected in (("given", 400), ("mine", 200)):
                headers = {"authorization": f"Bearer {token}"}
                response = await client.post("/v1/models", json=body, headers=headers)
                assert response.status_code == expected
                stop = await client.post("/shutdown", headers=headers)
                assert stop.status_code == expected


async def test_a_gate_without_tokens_lets_nobody_in(engine: FakeEngine) -> None:
    async with on_loopback(gated(app(engine))) as port, httpx2.AsyncClient() as client:
        for token in ("None", "x"):
            headers = {"authorization": f"Bearer {token}"}
            response = await client.get(f"http://127.0.0.1:{port}/health", headers=headers)
            assert response.status_code == 401


async def test_a_hostile_header_is_no_token(engine: FakeEngine) -> None:
    async with on_loopback(gated(app(engine), private_token="mine")) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"GET /health HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer \xff\r\n\r\n"
        )
        assert b"401" in await reader.readline()
        writer.close()
        await writer.wait_closed()
