"""The requests about chats, as an editor sends them to a server of its own."""

import asyncio
import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest
from lsprotocol import types
from pygls.exceptions import JsonRpcException

from lsp_assist.server import protocol
from tests.server.conftest import Launch
from tests.server.editor import Editor
from tests.server.test_chat_files import capabilities, ended, path, run, selected, shown


async def ask(editor: Editor, chat: str, turn: str, text: str = "f", **more: object) -> Any:
    params = {"chatId": chat, "turnId": turn, "text": f"really {text}", **more}
    result = await editor.send("assist/ask", params)
    events = await editor.events(turn)
    assert result["status"] == "done"
    return events


async def test_a_chat_is_listed_shown_renamed_and_deleted(editor: Editor) -> None:
    await editor.until_indexed()
    events = await ask(editor, "c", "1", mode="explain", personality="terse")
    assert [e["title"] for e in events if e["kind"] == "title"] == ["really f"]
    assert not [e for e in await ask(editor, "c", "2") if e["kind"] == "title"]
    (listed,) = (await editor.send("assist/chats"))["chats"]
    assert (listed["chatId"], listed["title"], listed["nTurns"]) == ("c", "really f", 2)
    assert listed["createdMs"] <= listed["updatedMs"]
    chat = await editor.send("assist/chat", {"chatId": "c"})
    first, second = chat["turns"]
    assert (first["mode"], first["personality"], first["text"]) == ("explain", "terse", "really f")
    assert "parentTurnId" not in first
    assert (second["parentTurnId"], second["status"]) == ("1", "done")
    assert first["sources"][0]["path"] == "a b.py"
    assert "`f` at a b.py:1" in first["reply"]
    assert chat["lastTurnId"] == "2"
    renamed = await editor.send("assist/renameChat", {"chatId": "c", "title": "About f\n"})
    assert renamed == {"title": "About f"}
    assert (await editor.send("assist/status"))["nChats"] == 1
    assert await editor.send("assist/deleteChat", {"chatId": "c"}) == {}
    assert (await editor.send("assist/chats")) == {"chats": [], "found": []}


async def test_a_chat_is_forked_and_both_go_on(editor: Editor) -> None:
    for turn in "12":
        await ask(editor, "c", turn)
    fork = {"chatId": "c", "turnId": "1", "newChatId": "f"}
    forked = await editor.send("assist/fork", fork)
    assert [turn["turnId"] for turn in forked["turns"]] == ["1"]
    assert forked["forkTurnId"] == forked["lastTurnId"] == "1"
    await ask(editor, "f", "3")
    await ask(editor, "c", "4", besideTurnId="2")
    chat = await editor.send("assist/chat", {"chatId": "f"})
    assert [turn["turnId"] for turn in chat["turns"]] == ["1", "3"]
    chat = await editor.send("assist/chat", {"chatId": "c"})
    assert [turn.get("parentTurnId") for turn in chat["turns"]] == [None, "1", "1"]


async def test_a_chat_goes_on_in_another_server(launch: Launch) -> None:
    first, second = await launch(), await launch()
    await first.open_session()
    await second.open_session()
    await ask(first, "c", "1", "alpha")
    await ask(second, "c", "2", "beta")
    await ask(first, "c", "3", "gamma")
    chat = await second.send("assist/chat", {"chatId": "c"})
    assert chat == await first.send("assist/chat", {"chatId": "c"})
    assert [turn.get("parentTurnId") for turn in chat["turns"]] == [None, "1", "2"]
    await first.finish()
    await second.finish()


async def test_a_killed_server_takes_no_turn_with_it(launch: Launch) -> None:
    first, second = await launch(), await launch()
    await first.open_session()
    await second.open_session()
    await ask(first, "c", "1")
    await first.kill()
    chat = await second.send("assist/chat", {"chatId": "c"})
    assert [turn["status"] for turn in chat["turns"]] == ["done"]
    await ask(second, "c", "2")
    await second.finish()


async def test_words_are_found_in_all_chats(editor: Editor) -> None:
    await ask(editor, "a", "1", "why is the sky blue")
    await ask(editor, "b", "2", "where is f")
    found = await editor.send("assist/chats", {"query": "sky blu"})
    (hit,) = found["found"]
    assert (hit["chatId"], hit["turnId"]) == ("a", "1")
    assert "sky blue" in hit["excerpt"]


async def test_chats_of_other_workspaces_are_listed_when_asked_for(
    launch: Launch, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    first, second = await launch(), await launch()
    await first.open_session()
    await second.open_session(folders=[other])
    await ask(first, "c", "1")
    assert (await second.send("assist/chats"))["chats"] == []
    everywhere = await second.send("assist/chats", {"everywhere": True})
    assert [chat["chatId"] for chat in everywhere["chats"]] == ["c"]
    await first.finish()
    await second.finish()


async def test_a_log_goes_out_and_comes_in_and_the_chat_goes_on(editor: Editor) -> None:
    await ask(editor, "c", "1")
    await ask(editor, "c", "2", besideTurnId="1")
    exported = (await editor.send("assist/exportChat", {"chatId": "c"}))["text"]
    assert exported.startswith('<!-- LOG METADATA {"size": 5, ')
    branch = (await editor.send("assist/exportChat", {"chatId": "c", "turnId": "1"}))["text"]
    assert branch.startswith('<!-- LOG METADATA {"size": 3, ')
    imported = await editor.send("assist/importChat", {"chatId": "d", "text": exported})
    original = await editor.send("assist/chat", {"chatId": "c"})
    assert imported["turns"] == original["turns"]
    assert (await editor.send("assist/exportChat", {"chatId": "d"}))["text"] == exported
    await ask(editor, "d", "3")


async def test_the_modes_are_those_of_now(editor: Editor, home: Path) -> None:
    folder = home / "config" / "modes"
    folder.mkdir(parents=True)
    (folder / "pirate.md").write_text('+++\ndescription = "Arr"\n+++\nTalk like a pirate.\n')
    (folder / "fix.md").write_text("+++\nbroken")
    said = await editor.send("assist/modes")
    modes = {mode["name"]: mode for mode in said["modes"]}
    assert said["modes"][0]["name"] == "ask"
    assert modes["pirate"]["description"] == "Arr"
    assert modes["brainstorm"]["hiddenStrategy"]
    assert modes["fix"]["edits"]
    assert "fix.md" in said["warnings"][0]
    assert {p["name"] for p in said["personalities"]} == {"buddy", "mentor", "terse"}
    assert "fix.md" in (await editor.send("assist/status"))["warnings"][0]
    await ask(editor, "c", "1", mode="pirate")


async def test_feedback_is_taken(editor: Editor) -> None:
    await ask(editor, "c", "1")
    said = {"turnId": "1", "verdict": "edited", "text": "better"}
    assert await editor.send("assist/feedback", said) == {}


@pytest.mark.parametrize(
    ("method", "params", "field"),
    [
        ("assist/chat", {"chatId": "x"}, "chatId"),
        ("assist/chat", {}, "chatId"),
        ("assist/fork", {"chatId": "x", "turnId": "1", "newChatId": "y"}, "chatId"),
        ("assist/fork", {"chatId": "c", "turnId": "x", "newChatId": "y"}, "parentTurnId"),
        ("assist/fork", {"chatId": "c", "turnId": "1", "newChatId": "c"}, "newChatId"),
        ("assist/renameChat", {"chatId": "x", "title": "t"}, "chatId"),
        ("assist/renameChat", {"chatId": "c", "title": " "}, "title"),
        ("assist/deleteChat", {"chatId": "x"}, "chatId"),
        ("assist/exportChat", {"chatId": "x"}, "chatId"),
        ("assist/exportChat", {"chatId": "c", "turnId": "x"}, "parentTurnId"),
        ("assist/importChat", {"chatId": "y", "text": "no log"}, "text"),
        ("assist/importChat", {"chatId": "c", "text": ""}, "newChatId"),
        ("assist/feedback", {"turnId": "x", "verdict": "accepted"}, "turnId"),
        ("assist/feedback", {"turnId": "1", "verdict": "great"}, "verdict"),
        ("assist/chats", {"limit": 0}, "limit"),
        ("assist/chats", {"everywhere": 1}, "everywhere"),
    ],
)
async def test_what_there_is_not_is_refused_by_field(
    editor: Editor, method: str, params: dict[str, object], field: str
) -> None:
    assert method in protocol.REQUESTS
    await ask(editor, "c", "1")
    with pytest.raises(JsonRpcException) as raised:
        await editor.send(method, params)
    assert raised.value.code == -32602
    assert raised.value.data == {"field": field}


async def test_a_chat_that_is_deleted_while_it_answers_ends(editor: Editor) -> None:
    reply = editor.send("assist/ask", {"chatId": "c", "turnId": "1", "text": "hold"})
    asking = asyncio.ensure_future(reply)
    await editor.events("1", "delta")
    await ask(editor, "c", "2")
    await editor.send("assist/deleteChat", {"chatId": "c"})
    assert (await asking)["status"] == "cancelled"
    await editor.events("1")


async def test_chats_that_cannot_be_used_are_told_and_questions_answered(
    launch: Launch, home: Path
) -> None:
    data = home / "data"
    data.mkdir(parents=True)
    with sqlite3.connect(data / "chats.sqlite3") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    editor = await launch()
    await editor.open_session()
    await editor.until(lambda: bool(editor.messages))
    assert "newer lsp-assist" in editor.read_messages()[0]
    await ask(editor, "c", "1")
    await editor.finish(expected_log="newer lsp-assist")


async def test_a_chat_document_goes_on_after_a_restart(launch: Launch, home: Path) -> None:
    first = await launch()
    await first.open_session(capabilities(), speaks_extension=False)
    result = await run(first, "lsp-assist.explain", selected(first) | {"text": "really f"})
    uri = await shown(first)
    assert path(uri).stem == result["chatId"]
    text = await ended(first, uri)
    await first.finish()

    second = await launch()
    await second.open_session(capabilities(), speaks_extension=False)
    path(uri).write_text(text + "really f, and why?", encoding="utf-8")
    second.open(uri, path(uri).read_text(encoding="utf-8"), "markdown")
    await run(second, "lsp-assist.send", {"uri": uri})
    await ended(second, uri, 3)
    chat = await second.send("assist/chat", {"chatId": result["chatId"]})
    assert [turn.get("parentTurnId") for turn in chat["turns"]] == [None, result["turnId"]]
    assert chat["turns"][1]["text"] == "really f, and why?"
    await second.finish()
    database = home / "data" / "chats.sqlite3"
    assert stat.S_IMODE(database.stat().st_mode) == 0o600


async def test_a_command_does_not_write_over_a_document(launch: Launch) -> None:
    editor = await launch()
    await editor.open_session(capabilities(), speaks_extension=False)
    argument = selected(editor) | {"text": "really f", "chatId": "mine"}
    result = await run(editor, "lsp-assist.explain", argument)
    await ended(editor, await shown(editor))
    assert result["chatId"] == "mine"
    with pytest.raises(JsonRpcException, match="type the question there"):
        await run(editor, "lsp-assist.explain", argument)
    odd = await run(editor, "lsp-assist.explain", argument | {"chatId": "../odd"})
    await ended(editor, await shown(editor))
    assert "/" not in odd["chatId"]
    assert isinstance(types.TextDocumentIdentifier(odd["uri"]).uri, str)
    await editor.finish()
