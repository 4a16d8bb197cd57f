"""assist/warm and assist/context over a real connection, with a real model of random weights."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from lsprotocol import types
from pygls.exceptions import JsonRpcException

from tests.engine.tiny import make_model
from tests.server.conftest import Launch
from tests.server.editor import REAL, Editor, lines, question


@pytest_asyncio.fixture
async def real(launch: Launch, tmp_path: Path) -> AsyncIterator[Editor]:
    """An editor with a server as users have it, and a model."""
    model = make_model(tmp_path / "tiny.gguf", context_length=4096)
    editor = await launch(
        REAL,
        LSP_ASSIST_MODEL_PATH=str(model),
        LSP_ASSIST_MODEL_N_CTX="4096",
        LSP_ASSIST_MODEL_MAX_TOKENS="16",
    )
    await editor.open_session()
    await editor.until_indexed()
    yield editor
    await editor.finish()


@pytest_asyncio.fixture
async def bare(launch: Launch) -> AsyncIterator[Editor]:
    """An editor with a server without a model."""
    editor = await launch(REAL)
    await editor.open_session()
    await editor.until_indexed()
    yield editor
    await editor.finish()


async def test_what_was_typed_is_read_and_the_question_finds_it(real: Editor) -> None:
    asked = question("What does f return?")
    warmed = await real.send("assist/warm", asked)
    assert warmed["tokens"] > 100
    assert warmed["cached"] < warmed["tokens"]
    assert "reason" not in warmed

    shown = await real.send("assist/context", asked)
    assert shown["warm"] == shown["tokens"] - shown["cold"]
    assert shown["cold"] <= 0.15 * shown["tokens"], "counts by segment are a little high"
    assert shown["seconds"] < 60

    usage = (await real.send("assist/ask", asked))["usage"]
    await real.events(str(asked["turnId"]))
    assert usage["cachedTokens"] >= usage["promptTokens"] - 1
    assert usage["promptTokens"] == warmed["tokens"]


async def test_the_model_is_listed_and_another_name_is_refused(real: Editor) -> None:
    (before,) = (await real.send("assist/models", {}))["models"]
    assert before["name"] == "tiny"
    assert before["state"] in ("asleep", "ready")  # counting tokens may have woken it
    assert (before["window"], before["canForkCheaply"]) == (4096, True)
    await real.send("assist/warm", question("Why?", model="tiny"))
    (after,) = (await real.send("assist/models", {}))["models"]
    assert (after["state"], after["rewritesTurns"]) == ("ready", False)
    for method in ("assist/ask", "assist/warm", "assist/context"):
        asked = question("Why?", model="nope")
        with pytest.raises(JsonRpcException) as raised:
            await real.send(method, asked)
        assert raised.value.code == -32602
        assert raised.value.data == {"field": "model"}
        assert "There is no model 'nope'" in raised.value.message
        if method == "assist/ask":
            (event,) = await real.events(str(asked["turnId"]))
            assert event["kind"] == "error"


async def test_without_a_model_what_answers_is_listed(bare: Editor) -> None:
    (listed,) = (await bare.send("assist/models", {}))["models"]
    assert (listed["name"], listed["state"]) == ("extractive", "ready")
    assert "window" not in listed


async def test_the_context_shows_each_piece_with_its_reason(real: Editor) -> None:
    uri = (real.root / "a b.py").as_uri()
    said = {"selection": {"uri": uri, "range": lines((0, 0), (2, 0))}}
    shown = await real.send("assist/context", question("Why?", context=said))
    by_kind: dict[str, Any] = {piece["kind"]: piece for piece in shown["pieces"]}
    assert {"system", "pack", "selection", "question"} <= by_kind.keys()
    assert by_kind["selection"]["uri"] == uri
    assert by_kind["selection"]["why"] == "you selected it"
    whole = [p for p in shown["pieces"] if p["kind"] == "pack" and p.get("path")]
    assert {(p["path"], p["level"]) for p in whole} == {("a b.py", "whole"), ("other.py", "whole")}
    assert "fits" in shown["reason"]
    assert shown["nFilesNotShown"] == shown["nLeftOut"] == 0
    assert shown["window"] == 4096 - 16


async def test_what_is_named_is_shown_and_nothing_else(real: Editor) -> None:
    said = {
        "files": [(real.root / "other.py").as_uri()],
        "diagnostics": [
            {
                "uri": (real.root / "a b.py").as_uri(),
                "range": lines((1, 0), (1, 4)),
                "message": "unused",
            }
        ],
        "text": [{"title": "The log", "text": "it broke"}],
    }
    shown = await real.send("assist/context", question("Why?", context=said))
    kinds = [piece["kind"] for piece in shown["pieces"]]
    assert kinds == ["system", "note", "diagnostics", "file", "question"]


async def test_what_is_selected_when_code_actions_are_asked_for_is_warmed(real: Editor) -> None:
    uri = (real.root / "a b.py").as_uri()
    real.open(uri, "def f():\n    return 1\n")
    selected = lines((0, 0), (2, 0))
    params = types.CodeActionParams(
        types.TextDocumentIdentifier(uri),
        types.Range(types.Position(0, 0), types.Position(2, 0)),
        types.CodeActionContext([]),
    )
    assert await real.text_document_code_action_async(params)
    asked = question("Why?", context={"selection": {"uri": uri, "range": selected}})
    while True:
        shown = await real.send("assist/context", asked)
        if shown["cold"] < 0.2 * shown["tokens"]:
            break


async def test_a_server_without_a_model_warms_nothing_and_says_so(bare: Editor) -> None:
    warmed = await bare.send("assist/warm", question("What"))
    assert warmed["tokens"] == 0
    assert "keeps nothing" in warmed["reason"]
    shown = await bare.send("assist/context", question("Where is f?"))
    assert "warm" not in shown
    assert [p["path"] for p in shown["pieces"] if p["kind"] == "hit"] == ["a b.py"]


@pytest.mark.parametrize("method", ["assist/warm", "assist/context"])
@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"files": ["file:///elsewhere/x.py"]}, "context.files"),
        ({"files": "x"}, "context.files"),
        ({"buffers": 1}, "context.buffers"),
        ({"text": [{"title": "x"}]}, "context.text[0].text"),
        ({"diagnostics": [{}]}, "context.diagnostics[0].uri"),
    ],
)
async def test_a_wrong_context_is_refused_by_field(
    bare: Editor, method: str, said: dict[str, object], field: str
) -> None:
    with pytest.raises(JsonRpcException) as raised:
        await bare.send(method, question("Why?", context=said))
    assert raised.value.code == -32602
    assert raised.value.data == {"field": field}
