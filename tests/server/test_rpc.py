"""Each request is answered once, nothing is kept of the rest, and nothing kills a server."""

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lsprotocol import types
from pygls.exceptions import JsonRpcException

from lsp_assist.server.rpc import FIRST_SERVER_ID, ClientTimeout
from tests.server.editor import lines, question
from tests.server.in_process import InProcess

SHOW = types.ShowDocumentParams("file:///a")


def code(answer: dict[str, Any]) -> int:
    return int(answer["error"]["code"])


async def test_requests_before_initialize_are_refused(server: InProcess) -> None:
    server.request(1, "assist/status")
    server.notify("textDocument/didOpen", {"textDocument": {}})

    assert code(await server.answer(1)) == -32002
    assert len(server.sent) == 1


async def test_initialize_is_done_once(server: InProcess, root: Path) -> None:
    await server.start(root)
    server.request(2, "initialize", {"processId": None, "capabilities": {}, "rootUri": None})

    assert code(await server.answer(2)) == -32600


async def test_requests_after_shutdown_are_refused(server: InProcess) -> None:
    await server.start()
    server.request(2, "shutdown")
    server.request(3, "assist/status")

    assert (await server.answer(2))["result"] is None
    assert code(await server.answer(3)) == -32600
    server.notify("exit")
    assert await server.serving == 0


async def test_a_wrong_initialize_can_be_mended(server: InProcess) -> None:
    server.request(1, "initialize", {"capabilities": {}, "processId": "me"})
    answer = await server.answer(1)
    assert (code(answer), answer["error"]["data"]) == (-32602, {"field": "processId"})
    assert "result" in await server.start()


async def test_a_capability_that_cannot_be_read_costs_only_itself(server: InProcess) -> None:
    """Clients newer than our types exist, and such that write an empty object as a list."""
    wrong = {
        "general": {"positionEncodings": ["utf-32"]},
        "window": [],
        "textDocument": {"codeAction": {"codeActionLiteralSupport": 7}, "hover": {}},
        "workspace": {"symbol": {"symbolKind": {"valueSet": [1, 99]}}, "applyEdit": True},
    }

    answer = await server.start(capabilities=wrong)

    assert answer["result"]["capabilities"]["positionEncoding"] == "utf-32"
    kept = server.server.client.capabilities
    assert kept.window is None or kept.window.show_document is None
    assert kept.text_document is not None
    assert kept.text_document.hover is not None
    assert kept.text_document.code_action is None
    assert kept.workspace is not None
    assert kept.workspace.apply_edit is True


async def test_shutdown_cancels_what_runs(server: InProcess) -> None:
    await server.start()
    asked = question("hold")
    server.request(2, "assist/ask", asked)
    server.request(3, "shutdown")

    assert code(await server.answer(2)) == -32800
    await server.answer(3)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{", -32700),
        (b"\xff\xfe", -32700),
        (b"[" * 100_000, -32700),
        (b"[]", -32600),
        (b"null", -32600),
        (b"{}", -32600),
        (b'{"jsonrpc": "1.0", "id": 1, "method": "shutdown"}', -32600),
        (b'{"jsonrpc": "2.0", "id": 1}', -32600),
        (b'{"jsonrpc": "2.0", "id": 1, "method": 7}', -32600),
        (b'{"jsonrpc": "2.0", "id": null, "method": "shutdown"}', -32600),
        (b'{"jsonrpc": "2.0", "id": true, "method": "shutdown"}', -32600),
        (b'{"jsonrpc": "2.0", "id": {}, "method": "shutdown"}', -32600),
    ],
)
async def test_what_is_no_message_is_answered_without_id(
    server: InProcess, body: bytes, expected: int
) -> None:
    await server.start()
    server.put(body)

    answer = await server.answer(None)
    assert code(answer) == expected
    assert "id" in answer
    server.request(5, "assist/status")
    assert "result" in await server.answer(5)


async def test_an_unknown_method_is_refused_and_an_unknown_notification_is_not(
    server: InProcess,
) -> None:
    await server.start()
    server.notify("window/nothing", {"a": 1})
    server.notify("$/something")
    server.request(2, "textDocument/nothing", {})

    assert code(await server.answer(2)) == -32601


@pytest.mark.parametrize(
    ("method", "params", "field"),
    [
        ("textDocument/codeAction", {}, "textDocument"),
        ("textDocument/codeAction", None, None),
        ("textDocument/codeAction", [1], "textDocument"),
        (
            "textDocument/codeAction",
            {
                "textDocument": {"uri": "x"},
                "range": {"start": {"line": [], "character": 0}, "end": {}},
                "context": {"diagnostics": []},
            },
            "range.start.line",
        ),
        ("workspace/executeCommand", {"command": "lsp-assist.nothing"}, "command"),
        ("workspace/executeCommand", {"command": "lsp-assist.ask"}, "arguments"),
        ("workspace/executeCommand", {"command": "lsp-assist.ask", "arguments": [3]}, None),
        ("workspace/executeCommand", {"command": "lsp-assist.ask", "arguments": [{}]}, "uri"),
        (
            "workspace/executeCommand",
            {"command": "lsp-assist.fix", "arguments": [{"uri": "file:///x"}]},
            "range",
        ),
        (
            "workspace/executeCommand",
            {"command": "lsp-assist.send", "arguments": [{"uri": "file:///x.md"}]},
            "uri",
        ),
    ],
)
async def test_wrong_params_of_standard_requests_are_refused_by_field(
    server: InProcess, method: str, params: object, field: str | None
) -> None:
    await server.start()
    server.request(2, method, params)

    answer = await server.answer(2)
    assert code(answer) == -32602
    assert answer["error"].get("data") == ({"field": field} if field else None)


async def test_an_error_of_ours_is_told_without_its_words(
    server: InProcess, caplog: pytest.LogCaptureFixture
) -> None:
    """What an exception says may quote the user's code; neither log nor answer does."""
    await server.start()
    server.request(2, "assist/ask", question("crash SECRET"))

    answer = await server.answer(2)
    assert answer["result"]["status"] == "error"
    assert "RuntimeError" in answer["result"]["error"]["message"]
    assert "SECRET" not in json.dumps(server.sent)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "in ask" in caplog.text
    assert "SECRET" not in caplog.text


async def test_an_id_in_use_is_refused(server: InProcess) -> None:
    await server.start()
    server.request(2, "assist/ask", question("hold"))
    server.request(2, "assist/status")

    assert code(await server.answer(2)) == -32600


async def test_nothing_is_kept_of_notifications(server: InProcess) -> None:
    await server.start()
    uri = "file:///a.py"
    document = {"uri": uri, "languageId": "python", "version": 0, "text": ""}
    server.notify("textDocument/didOpen", {"textDocument": document})
    for version in range(1, 1001):
        change = {"range": lines((0, 0), (0, 0)), "text": "x"}
        server.notify(
            "textDocument/didChange",
            {"textDocument": {"uri": uri, "version": version}, "contentChanges": [change]},
        )
    server.request(2, "assist/status")

    assert (await server.answer(2))["result"]["nDocuments"] == 1
    connection = server.server.protocol
    assert not connection._request_futures
    assert not connection._running
    assert not connection._replies
    assert not connection._result_types
    assert len(server.server.assistant.workspace.documents.get(uri).text.content) == 1000  # type: ignore[union-attr]


async def test_questions_see_the_text_as_it_was_when_they_were_asked(server: InProcess) -> None:
    """Asks between changes, all in one read: each has the selection of its own moment."""
    await server.start()
    uri = "file:///a.py"
    document = {"uri": uri, "languageId": "python", "version": 0, "text": "0"}
    server.notify("textDocument/didOpen", {"textDocument": document})
    for n in range(1, 50):
        change = {"range": lines((0, 0), (0, 9)), "text": str(n)}
        server.notify(
            "textDocument/didChange",
            {"textDocument": {"uri": uri, "version": n}, "contentChanges": [change]},
        )
        context = {"selection": {"uri": uri, "range": lines((0, 0), (0, 9))}}
        server.request(n, "assist/ask", question("see", context=context))

    for n in range(1, 50):
        assert (await server.answer(n))["result"]["text"].endswith(f"|{n}")


async def test_requests_to_the_client_have_large_whole_ids_and_end(server: InProcess) -> None:
    await server.start()
    connection = server.server.protocol
    waiting = asyncio.ensure_future(connection.send_request_async("window/showDocument", SHOW))
    await asyncio.sleep(0)
    asked = server.sent[-1]
    assert type(asked["id"]) is int
    assert asked["id"] >= FIRST_SERVER_ID
    server.put({"jsonrpc": "2.0", "id": 77, "result": None})
    server.put({"jsonrpc": "2.0", "id": asked["id"], "result": {"success": True}})
    server.put({"jsonrpc": "2.0", "id": asked["id"], "result": {"success": False}})

    assert (await waiting).success is True
    with pytest.raises(ClientTimeout):
        await connection.send_request_async("window/showDocument", SHOW, timeout_s=0)
    assert not connection._replies


async def test_an_answer_of_the_client_of_a_wrong_type_is_an_error_of_its_own(
    server: InProcess,
) -> None:
    await server.start()
    connection = server.server.protocol
    answers: list[dict[str, object]] = [{"result": {}}, {"error": "no"}, {"error": {"code": "x"}}]
    for answer in answers:
        waiting = asyncio.ensure_future(
            connection.send_request_async("window/showDocument", SHOW, msg_id="w")
        )
        await asyncio.sleep(0)
        server.put({"jsonrpc": "2.0", "id": "w", **answer})
        with pytest.raises(JsonRpcException):
            await waiting


METHODS = [
    "initialize", "initialized", "textDocument/didOpen", "textDocument/didChange",
    "textDocument/didSave", "textDocument/didClose", "textDocument/codeAction",
    "textDocument/codeLens", "workspace/executeCommand", "workspace/didChangeWatchedFiles",
    "workspace/didChangeWorkspaceFolders", "window/workDoneProgress/cancel", "$/cancelRequest",
    "$/setTrace", "assist/ask", "assist/cancel", "assist/search", "assist/status", "no/such",
]  # fmt: skip

URIS = st.sampled_from(["file:///w/a.py", "untitled:1", "file://%00", "", "http://x/y", "file:"])
NUMBERS = st.integers(-2, 5) | st.sampled_from([2**31, 2**53, 10**30, 1.5, "1", None, True])
POSITIONS = st.fixed_dictionaries({"line": NUMBERS, "character": NUMBERS})
RANGES = st.fixed_dictionaries({"start": POSITIONS, "end": POSITIONS})
WORDS = st.sampled_from(["hold", "say x", "count 3", "refuse", "unavailable", "see", "", "\ud800"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "textDocument": st.fixed_dictionaries(
        {"uri": URIS},
        optional={"version": NUMBERS, "languageId": st.just("python"), "text": WORDS},
    ),
    "contentChanges": st.lists(
        st.fixed_dictionaries({"text": WORDS}, optional={"range": RANGES}), max_size=3
    ),
    "range": RANGES,
    "context": st.fixed_dictionaries(
        {"diagnostics": st.just([])},
        optional={"selection": st.fixed_dictionaries({"uri": URIS, "range": RANGES})},
    ),
    "command": st.sampled_from(["lsp-assist.ask", "lsp-assist.fix", "lsp-assist.send", "x"]),
    "arguments": st.lists(st.fixed_dictionaries({"uri": URIS}, optional={"range": RANGES})),
    "changes": st.lists(st.fixed_dictionaries({"uri": URIS, "type": NUMBERS}), max_size=2),
    "event": st.fixed_dictionaries(
        {
            key: st.lists(st.fixed_dictionaries({"uri": URIS, "name": WORDS}), max_size=1)
            for key in ("added", "removed")
        }
    ),
    "token": NUMBERS,
    "id": st.integers(0, 30),
    "value": st.sampled_from(["off", "verbose", 3]),
    "chatId": st.sampled_from(["c", "", 1]),
    "turnId": st.sampled_from(["t", "u", "v", ""]),
    "text": WORDS,
    "query": WORDS,
    "limit": NUMBERS,
}
PARAMS = st.fixed_dictionaries({}, optional=FIELDS) | st.fixed_dictionaries(FIELDS) | JSON
MESSAGES = st.lists(st.tuples(st.booleans(), st.sampled_from(METHODS), PARAMS), max_size=25)


@given(messages=MESSAGES, is_started=st.booleans())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_messages_leave_a_server_that_answers(
    messages: list[tuple[bool, str, object]],
    is_started: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Every request is answered once, none by an error of ours, and a goodbye ends the server."""

    async def play() -> None:
        server = InProcess()
        if is_started:
            await server.start()
        for number, (is_request, method, params) in enumerate(messages):
            if is_request:
                server.request(number, method, params)
            else:
                server.notify(method, params)
        server.request("alive", "assist/cancel", {"turnId": "t"})
        await server.answer("alive")
        server.request("stop", "shutdown")
        await server.answer("stop")
        asked = [number for number, (is_request, *_) in enumerate(messages) if is_request]
        for number in asked:
            await server.answer(number)
        server.notify("exit")
        await server.serving
        answered = [m["id"] for m in server.sent if "method" not in m and type(m["id"]) is int]
        assert sorted(answered) == asked
        assert all(m["error"]["code"] != -32603 for m in server.sent if "error" in m)

    caplog.clear()
    asyncio.run(play())
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR] == []
