"""Keys and code stay out of the log, at every level that a user can set."""

import stat
from pathlib import Path

import pytest
from lsprotocol import types

from tests.server.conftest import Launch
from tests.server.editor import REAL, SCRIPTED, lines

SECRET = "sk-5ecret-0f-the-user"
NOWHERE = types.Range(types.Position(0, 0), types.Position(0, 0))


@pytest.mark.parametrize("command", [SCRIPTED, REAL], ids=["scripted", "real"])
@pytest.mark.parametrize("level", ["debug", "info", "warning"])
async def test_a_secret_in_options_documents_and_questions_is_not_logged(
    launch: Launch, command: list[str], level: str
) -> None:
    editor = await launch(command, LSP_ASSIST_LOG_LEVEL=level)
    options = {"remote": {"key": SECRET}, "model": {"path": 5, SECRET: 1}, SECRET: SECRET}
    await editor.open_session(options=options)
    uri = (editor.root / "a b.py").as_uri()
    editor.open(uri, f"KEY = '{SECRET}'\n")
    editor.change(uri, 0, types.TextDocumentContentChangePartial(NOWHERE, SECRET))
    for method in ("textDocument/didChange", "assist/cancel", "x/y"):
        editor.put({"jsonrpc": "2.0", "method": method, "params": {"textDocument": SECRET}})
    context = {"selection": {"uri": uri, "range": lines((0, 0), (1, 0))}}
    # What an exception says may quote code, and stands in the log of those who debug.
    crash = "crash" if level == "debug" else f"crash {SECRET}"
    for text in (SECRET, crash, f"log {SECRET}"):
        await editor.ask(text, turnId=text[:4], context=context)
        await editor.events(text[:4])
    editor.read_messages()

    await editor.shutdown_session()
    await editor.drain_stderr()

    log = "\n".join(editor.log)
    assert SECRET not in log
    assert "a library talks" not in log
    if command is SCRIPTED:
        assert ("debugging is on" in log) == (level == "debug")


async def test_a_log_file_is_the_users_own(launch: Launch, tmp_path: Path) -> None:
    file = tmp_path / "logs" / "server.log"
    editor = await launch()
    await editor.open_session(options={"log": {"level": "debug", "file": str(file)}})
    await editor.ask("log", turnId="t")
    await editor.events("t")
    await editor.finish()

    assert "debugging is on" in file.read_text(encoding="utf-8")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_options_that_cannot_be_used_cost_only_themselves(launch: Launch) -> None:
    """The user is told which, and the others count."""
    options = {"model": {"n_ctx": 4096, "colour": "red"}, "index": 3, "what": {"x": 1}}
    editor = await launch()
    await editor.open_session(options=options)

    result = await editor.ask("settings", turnId="t")

    assert result["text"] == '[4096, "warning"]'
    await editor.events("t")
    (said,) = editor.read_messages()
    assert "`model.colour`" in said
    assert "`index`" in said
    assert "'what'" in said
    await editor.finish()


async def test_a_model_that_is_not_there_is_named_and_the_rest_works(launch: Launch) -> None:
    editor = await launch(REAL)
    await editor.open_session(options={"model": {"path": "/nowhere/model.gguf"}})

    result = await editor.ask("Where is f?", turnId="t")

    assert result["status"] == "error"
    assert "/nowhere/model.gguf" in result["error"]["message"]
    assert (await editor.events("t"))[-1]["error"] == result["error"]
    await editor.until_indexed()
    assert (await editor.send("assist/search", {"query": "f"}))["hits"]
    await editor.finish()


async def test_a_folder_that_is_not_there_is_said(launch: Launch, tmp_path: Path) -> None:
    editor = await launch(REAL)
    await editor.open_session(folders=[tmp_path / "gone"])

    await editor.until(lambda: bool(editor.messages))
    assert any("gone" in said for said in editor.read_messages())
    await editor.finish()
