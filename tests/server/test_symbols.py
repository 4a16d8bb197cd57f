"""`workspace/symbol`: symbols of the workspace by what was typed."""

from pathlib import Path
from typing import Any

from lsprotocol import types

from tests.server.conftest import Launch
from tests.server.editor import Editor
from tests.server.in_process import InProcess


async def names(editor: Editor, query: str) -> list[str]:
    found = await editor.workspace_symbol_async(types.WorkspaceSymbolParams(query))
    return [symbol.name for symbol in found or ()]


async def test_symbols_are_found_by_what_was_typed(launch: Launch, root: Path) -> None:
    """The closest name first, unsaved text included, and where it is."""
    uri = (root / "a b.py").as_uri()
    text = "class Session:\n    def get_user(self):\n        pass\n\ndef guess():\n    pass\n"
    (root / "other.py").write_text("def gu():\n    pass\n", encoding="utf-8")
    editor = await launch()
    await editor.open_session()
    await editor.until_indexed()
    editor.open(uri, text)

    assert await names(editor, "gu") == ["gu", "guess", "get_user"]
    assert await names(editor, "Session.gu") == ["get_user"]
    assert await names(editor, "zzz") == []
    found: Any = await editor.workspace_symbol_async(types.WorkspaceSymbolParams("get_user"))
    assert (found[0].location.uri, found[0].location.range.start.line) == (uri, 1)
    assert (found[0].container_name, found[0].kind.name) == ("Session", "Method")
    await editor.finish()


async def test_symbols_are_announced(server: InProcess, root: Path) -> None:
    capabilities = (await server.start(root))["result"]["capabilities"]
    assert capabilities["workspaceSymbolProvider"]


async def test_looking_for_symbols_can_be_cancelled(server: InProcess, root: Path) -> None:
    """The client hears -32800, or the answer if that was faster; and the next request works."""
    await server.start(root)
    server.request("first", "workspace/symbol", {"query": "f"})
    server.notify("$/cancelRequest", {"id": "first"})
    first = await server.answer("first")
    assert first.get("error", {}).get("code") == -32800 or "result" in first
    server.request("second", "workspace/symbol", {"query": "f"})
    assert "result" in await server.answer("second")
