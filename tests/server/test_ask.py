"""assist/ask, assist/cancel, assist/event, assist/search, assist/status over a real connection."""

import asyncio
from typing import Any

import pytest
from lsprotocol import types
from pygls.exceptions import JsonRpcException

from lsp_assist.server.protocol import EVENTS, REQUESTS, AskResult
from lsp_assist.server.protocol_tables import tables
from tests.server.editor import Editor, lines, question


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["kind"] for event in events]


def text_of(events: list[dict[str, Any]]) -> str:
    return "".join(event["text"] for event in events if event["kind"] == "delta")


async def test_an_answer_streams_and_ends_once(editor: Editor) -> None:
    """Events are numbered without gaps, the text of the deltas is the reply, the end is last."""
    asked = question("count 2000")

    result = await editor.send("assist/ask", asked)

    events = await editor.events(str(asked["turnId"]))
    assert [event["seq"] for event in events] == list(range(len(events)))
    assert {event["chatId"] for event in events} == {asked["chatId"]}
    assert kinds(events)[0] == "step"
    assert kinds(events)[-2:] == ["usage", "done"]
    assert text_of(events) == result["text"] == "".join(f"{n} " for n in range(2000))
    assert kinds(events).count("delta") < 500, "deltas are gathered"
    assert result["status"] == "done"
    assert result["usage"]["model"] == "scripted"
    assert result["sources"] == events[-1]["sources"]
    assert result["sources"][0]["uri"] == (editor.root / "a b.py").as_uri()


async def test_two_questions_run_side_by_side(editor: Editor) -> None:
    held, other = question("hold"), question("say hi")
    waiting = asyncio.ensure_future(editor.send("assist/ask", held))
    await editor.events(str(held["turnId"]), "delta")

    assert (await editor.send("assist/ask", other))["text"] == "hi"

    await editor.events(str(other["turnId"]))
    await editor.send("assist/cancel", {"turnId": held["turnId"]})
    assert (await waiting)["status"] == "cancelled"
    await editor.events(str(held["turnId"]))


async def test_cancelling_keeps_the_partial_text(editor: Editor) -> None:
    asked = question("hold")
    waiting = asyncio.ensure_future(editor.send("assist/ask", asked))
    await editor.events(str(asked["turnId"]), "delta")

    assert await editor.send("assist/cancel", {"turnId": asked["turnId"]}) == {}

    result = await waiting
    assert (result["status"], result["text"]) == ("cancelled", "held ")
    events = await editor.events(str(asked["turnId"]))
    assert kinds(events) == ["step", "delta", "cancelled"]
    assert (await editor.ask("say again", turnId="t", chatId=asked["chatId"]))["text"] == "again"
    await editor.events("t")


async def test_cancelling_before_the_turn_has_begun_still_ends_it(editor: Editor) -> None:
    """Both requests arrive in one read: the cancel comes before the first step of the turn."""
    asked = question("hold")
    waiting = asyncio.ensure_future(editor.send("assist/ask", asked))
    cancelled = asyncio.ensure_future(editor.send("assist/cancel", {"turnId": asked["turnId"]}))

    assert (await waiting)["status"] == "cancelled"
    assert await cancelled == {}
    assert kinds(await editor.events(str(asked["turnId"])))[-1] == "cancelled"


async def test_the_standard_cancel_is_honoured_too(editor: Editor) -> None:
    """The request is answered -32800 and the turn still ends with an event."""
    asked = question("hold")
    waiting = asyncio.ensure_future(editor.send("assist/ask", asked, msg_id="one"))
    await editor.events(str(asked["turnId"]), "delta")

    editor.cancel_request(types.CancelParams("one"))

    with pytest.raises(JsonRpcException) as caught:
        await waiting
    assert caught.value.code == -32800
    assert kinds(await editor.events(str(asked["turnId"])))[-1] == "cancelled"


async def test_cancelling_an_unknown_turn_is_no_error(editor: Editor) -> None:
    """The turn may have ended while the message was on its way."""
    assert await editor.send("assist/cancel", {"turnId": "never"}) == {}


async def test_a_turn_that_runs_cannot_be_asked_again(editor: Editor) -> None:
    asked = question("hold")
    waiting = asyncio.ensure_future(editor.send("assist/ask", asked))
    await editor.events(str(asked["turnId"]), "step")

    with pytest.raises(JsonRpcException) as caught:
        await editor.send("assist/ask", question("say x", turnId=asked["turnId"]))

    assert (caught.value.code, caught.value.data) == (-32602, {"field": "turnId"})
    await editor.send("assist/cancel", {"turnId": asked["turnId"]})
    await waiting
    await editor.events(str(asked["turnId"]))


@pytest.mark.parametrize(
    ("params", "field"),
    [
        (None, "chatId"),
        ([], ""),
        ("text", ""),
        ({"turnId": "t", "text": "x"}, "chatId"),
        ({"chatId": "c", "text": "x"}, "turnId"),
        ({"chatId": "c", "turnId": "t"}, "text"),
        ({"chatId": "", "turnId": "t", "text": "x"}, "chatId"),
        ({"chatId": "c", "turnId": 7, "text": "x"}, "turnId"),
        ({"chatId": "c", "turnId": "t", "text": ["x"]}, "text"),
        ({"chatId": "c", "turnId": "t", "text": "x", "mode": True}, "mode"),
        ({"chatId": "c", "turnId": "t", "text": "x", "context": 3}, "context"),
    ],
)
async def test_wrong_params_are_refused_by_field(
    editor: Editor, params: object, field: str
) -> None:
    with pytest.raises(JsonRpcException) as caught:
        await editor.send("assist/ask", params)

    assert caught.value.code == -32602
    assert caught.value.data == ({"field": field} if field else None)
    assert f"`{field}`" in caught.value.message or not field


@pytest.mark.parametrize(
    ("selection", "field"),
    [
        ({}, "uri"),
        ({"uri": "file:///x"}, "range"),
        ({"uri": "file:///x", "range": {}}, "range.start"),
        ({"uri": "file:///x", "range": lines((0, 0), (0, 0)) | {"end": {"line": 0}}},
         "range.end.character"),
        ({"uri": "file:///x", "range": lines((-1, 0), (0, 0))}, "range.start.line"),
        ({"uri": "file:///x", "range": lines((0, 0), (0, 2**60))}, "range.end.character"),
        ({"uri": "file:///x", "range": {"start": {"line": "1", "character": 0}}},
         "range.start.line"),
        ({"uri": "file:///etc/hostname", "range": lines((0, 0), (0, 1))}, "uri"),
        ({"uri": "untitled:1", "range": lines((0, 0), (0, 1))}, "uri"),
        ({"uri": "file://%00", "range": lines((0, 0), (0, 1))}, "uri"),
    ],
)  # fmt: skip
async def test_a_wrong_selection_is_refused_by_its_path(
    editor: Editor, selection: object, field: str
) -> None:
    with pytest.raises(JsonRpcException) as caught:
        await editor.ask("x", context={"selection": selection})

    assert caught.value.code == -32602
    assert caught.value.data == {"field": f"context.selection.{field}"}


async def test_unknown_keys_are_ignored(editor: Editor) -> None:
    """A newer client may say more; keys that are no Python names are kept from harm too."""
    said = question("say hello", **{"_meta": {"a-b": 1}, "class": 2, "src/a.py": 3})

    assert (await editor.send("assist/ask", said))["text"] == "hello"
    await editor.events(str(said["turnId"]))


async def test_a_model_that_fails_ends_the_turn_with_its_remedy(editor: Editor) -> None:
    asked = question("unavailable")

    result = await editor.send("assist/ask", asked)

    assert (result["status"], result["text"]) == ("error", "half ")
    assert result["error"] == {"message": "The model is asleep; wake it up."}
    events = await editor.events(str(asked["turnId"]))
    assert kinds(events) == ["step", "delta", "error"]
    assert events[-1]["error"] == result["error"]


async def test_a_question_that_cannot_be_asked_is_refused(editor: Editor) -> None:
    asked = question("refuse")

    with pytest.raises(JsonRpcException) as caught:
        await editor.send("assist/ask", asked)

    assert (caught.value.code, caught.value.data) == (-32602, {"field": "text"})
    assert kinds(await editor.events(str(asked["turnId"])))[-1] == "error"


async def test_search_gives_places(editor: Editor) -> None:
    await editor.until_indexed()

    hits = (await editor.send("assist/search", {"query": "f", "limit": 1}))["hits"]

    assert len(hits) == 1
    assert hits[0].pop("score") > 0
    assert hits[0] == {
        "uri": (editor.root / "a b.py").as_uri(),
        "path": "a b.py",
        "startLine": 0,
        "endLine": 1,
        "symbol": "f",
        "kind": "function",
    }


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({}, "query"),
        ({"query": " "}, "query"),
        ({"query": "x", "limit": 0}, "limit"),
        ({"query": "x", "limit": 201}, "limit"),
        ({"query": "x", "limit": 1.5}, "limit"),
    ],
)
async def test_a_wrong_search_is_refused_by_field(
    editor: Editor, params: object, field: str
) -> None:
    with pytest.raises(JsonRpcException) as caught:
        await editor.send("assist/search", params)

    assert (caught.value.code, caught.value.data) == (-32602, {"field": field})


async def test_status_has_the_documented_fields(editor: Editor) -> None:
    status = await editor.send("assist/status", {})

    documented = REQUESTS["assist/status"][1].__dataclass_fields__  # type: ignore[attr-defined]
    assert len(status) == len(documented)
    assert all(f"`{name}`" in tables() for name in status)
    assert status["protocol"] == 1


async def test_results_and_events_have_the_documented_fields(editor: Editor) -> None:
    """What is sent is what PROTOCOL.md lists, in names and in presence."""
    asked = question("count 3")
    result = await editor.send("assist/ask", asked)

    assert set(result) == {f for f in AskResult.__dataclass_fields__ if f != "error"}
    for event in await editor.events(str(asked["turnId"])):
        body = EVENTS[event["kind"]][0]
        fields = set(body.__dataclass_fields__)  # type: ignore[attr-defined]
        assert set(event) == {"chatId", "turnId", "seq", "kind"} | fields
