"""assist/index: vectors are paused and resumed, and what is indexed is made anew."""

from pathlib import Path
from typing import Any

from tests.server.conftest import Launch
from tests.server.editor import REAL, Editor
from tests.server.in_process import InProcess


async def index(editor: Editor) -> dict[str, Any]:
    """The state of the only folder."""
    status = await editor.send("assist/status", {})
    (found,) = status["indexes"]
    assert isinstance(found, dict)
    return found


async def until(editor: Editor, embedding: str) -> dict[str, Any]:
    """The state once vectors are so; the test's own time limit ends one that never comes."""
    while (found := await index(editor))["embedding"] != embedding or found["nWaiting"]:
        pass
    return found


async def symbols(editor: Editor, query: str) -> list[str]:
    found = await editor.send("assist/search", {"query": query})
    return [hit["symbol"] for hit in found["hits"]]


async def test_vectors_are_paused_resumed_and_made_anew(launch: Launch, root: Path) -> None:
    (root / "shop.py").write_text("def buy():\n    return 1\n", encoding="utf-8")
    editor = await launch(REAL)
    await editor.open_session()
    await editor.until_indexed()
    before = await until(editor, "ready")
    assert before["nVectors"] == before["nChunks"] > 0

    paused = await editor.send("assist/index", {"action": "pause"})
    assert [one["embedding"] for one in paused["indexes"]] == ["paused"]
    (root / "later.py").write_text("def later():\n    return 2\n", encoding="utf-8")
    while "later" not in await symbols(editor, "later"):
        pass
    assert (await index(editor))["nVectors"] == before["nVectors"]

    await editor.send("assist/index", {"action": "resume"})
    while (after := await until(editor, "ready"))["nVectors"] == before["nVectors"]:
        pass
    assert after["nVectors"] == after["nChunks"]

    await editor.send("assist/index", {"action": "rebuild"})
    await editor.until_indexed()
    while (anew := await until(editor, "ready"))["nVectors"] != after["nVectors"]:
        pass
    assert (anew["nFiles"], anew["nChunks"]) == (after["nFiles"], after["nChunks"])
    await editor.finish()


async def test_another_action_is_refused(server: InProcess, root: Path) -> None:
    await server.start(root)
    server.request("odd", "assist/index", {"action": "burn"})
    error = (await server.answer("odd"))["error"]
    assert error["code"] == -32602
    assert "pause, resume or rebuild" in error["message"]
