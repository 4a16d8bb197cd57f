"""The plugin as its user meets it: keys, windows, menus; the server is played by the test."""

from pathlib import Path
from typing import Any

import pytest

from tests.editors.conftest import StartVim
from tests.editors.puppet import USAGE, Puppet
from tests.editors.vim import Vim, needs_terminal

pytestmark = needs_terminal

CURRENT = "lsp_assist#chat#current()"


class Session:
    """A Vim in a file of the workspace, and its server."""

    def __init__(self, vim: Vim, puppet: Puppet) -> None:
        self.vim = vim
        self.puppet = puppet

    def ask(self, question: str) -> dict[str, Any]:
        """Ask in the first chat; the request."""
        self.vim.command(f"Q {question}")
        if self.vim.eval("lsp_assist#server#state()") != "ready":
            self.puppet.accept()
        return self.puppet.next("assist/ask")

    def answered(self, question: str, reply: str, **fields: object) -> dict[str, Any]:
        """Ask and answer at once; the request."""
        asked = self.ask(question)
        self.puppet.say(asked, reply)
        self.puppet.finish(asked, reply, **fields)
        self.vim.until_true(f"{CURRENT}.turns[-1].status ==# 'done'")
        return asked


@pytest.fixture
def session(start_vim: StartVim, puppet: Puppet) -> Session:
    return Session(start_vim(puppet.command, files=["a b.py"]), puppet)


def source(workspace: Path, line: int = 0) -> dict[str, object]:
    uri = (workspace / "a b.py").as_uri()
    return {"uri": uri, "path": "a b.py", "startLine": line, "endLine": line + 1, "symbol": "f"}


def test_a_question_is_warmed_while_it_is_typed(session: Session) -> None:
    """What is warmed is what will be asked, under the same ids; other commands warm nothing."""
    session.answered("first", "one")
    session.vim.type(":'<,'>s/a/b/")
    session.vim.keys("C-c")
    session.vim.type(":Q -f why is ")
    warmed = session.puppet.next("assist/warm")
    session.vim.type("it so")
    while (again := session.puppet.next("assist/warm"))["params"]["text"] != "why is it so":
        pass
    assert "assist/warm" not in session.puppet.unread()
    session.vim.keys("Enter")
    asked = session.puppet.next("assist/ask")

    assert warmed["params"]["text"].startswith("why")
    assert again["params"] == asked["params"]
    session.puppet.refuse(warmed)
    session.puppet.answer(again, {"tokens": 10, "cached": 0, "ms": 1.0})


def test_a_server_that_cannot_warm_is_not_asked_again_and_nobody_is_told(session: Session) -> None:
    session.answered("first", "one")
    session.vim.type(":Q why ")
    session.puppet.refuse(session.puppet.next("assist/warm"))
    session.vim.until_true("lsp_assist#server#lacks('assist/warm')")
    session.vim.type("is it so")
    session.vim.keys("Enter")
    session.puppet.next("assist/ask")

    assert "assist/warm" not in session.puppet.unread()
    assert "has no assist/warm" not in session.vim.eval("execute('messages')")
    session.vim.command("QW")
    session.puppet.refuse(session.puppet.next("assist/warm"))
    session.vim.until_shown("this server has no assist/warm yet")


def test_the_recommended_pair_warms_the_selection_and_waits_for_the_question(
    start_vim: StartVim, puppet: Puppet
) -> None:
    maps = "xmap \\w <Plug>(lsp-assist-warm-ask)"
    vim = start_vim(puppet.command, files=["a b.py"], extra_rc=maps)
    vim.type("ggVj\\w")
    puppet.accept()
    warmed = puppet.next("assist/warm")
    vim.until_shown(":'<,'>Q -st")
    vim.type("why")
    vim.keys("Enter")
    asked = puppet.next("assist/ask")

    selection = warmed["params"]["context"]["selection"]
    assert selection["range"] == {
        "start": {"line": 0, "character": 0},
        "end": {"line": 2, "character": 0},
    }
    assert warmed["params"]["context"] == asked["params"]["context"]
    assert asked["params"]["context"]["tags"] is True
    assert (warmed["params"]["turnId"], warmed["params"]["chatId"]) == (
        asked["params"]["turnId"],
        asked["params"]["chatId"],
    )


def test_flags_models_and_modes_are_completed(session: Session) -> None:
    session.vim.type(":Q /ex")
    session.vim.keys("Tab")
    session.vim.until_shown(":Q /explain")
    session.vim.type(" -f")
    session.vim.keys("C-c")
    assert session.vim.eval("getcompletion('Q -f', 'cmdline')") == [
        "-f" + letter for letter in "bdnpstw"
    ]
    assert session.vim.eval("getcompletion('Q why -', 'cmdline')") == []


def test_the_status_line_tells_what_runs_and_what_it_took(session: Session) -> None:
    session.vim.command("Q why")
    session.vim.until_shown("starting the server")
    session.puppet.accept()
    asked = session.puppet.next("assist/ask")
    session.puppet.event(asked, "step", text="Reading 3 places")
    session.vim.until_shown("Reading 3 places")
    session.puppet.say(asked, "so")
    session.vim.until_shown("answering")
    session.puppet.finish(asked, "so", usage={**USAGE, "costUsd": 0.0123})

    session.vim.until_shown("puppet · 100 tokens, 10 cold · 18.0 tokens/s · $0.0123")


def test_keys_of_the_chat_window(session: Session, workspace: Path) -> None:
    """`]]`, `[[`, `gf` on a source and on `path:line`, `<CR>` and `q`."""
    session.answered("one", "first", sources=[source(workspace, 4)])
    session.answered("two", "see other.py:1 for it")
    session.vim.keys("C-w", "j")
    session.vim.type("gg]]")
    session.vim.until_true("getline(line('.') + 2) ==# 'two'")
    session.vim.type("[[")
    session.vim.until_true("getline(line('.') + 2) ==# 'one'")
    session.vim.type("/other\ngf")
    session.vim.until_true("expand('%') ==# 'other.py'")
    session.vim.keys("C-w", "j")
    session.vim.type("gg/a b.py:5\ngf")
    session.vim.until_true("expand('%') ==# 'a b.py' && line('.') == 5")
    session.vim.keys("C-w", "j", "Enter")
    session.vim.until_true("getcmdline() ==# 'Q '")
    session.vim.type("three\n")
    assert session.puppet.next("assist/ask")["params"]["text"] == "three"
    session.vim.type("q")
    session.vim.until_true("winnr('$') == 1 && expand('%') ==# 'a b.py'")


def test_a_question_of_several_lines_is_typed_in_a_window(session: Session) -> None:
    """It is warmed as well, for the chat that it was opened from; the code window is left alone."""
    first = session.answered("one", "first")
    session.vim.keys("C-w", "j")
    session.vim.type("o-f why\nis it")
    while (warmed := session.puppet.next("assist/warm"))["params"]["text"] != "why\nis it":
        pass
    session.vim.keys("Escape", "Enter")
    asked = session.puppet.next("assist/ask")

    assert asked["params"] == warmed["params"]
    assert asked["params"]["chatId"] == first["params"]["chatId"]
    assert asked["params"]["context"]["files"]
    session.vim.until_true("&filetype ==# 'lspassist' && winnr('$') == 2")


def test_a_chat_is_forked_at_the_turn_at_the_cursor(session: Session) -> None:
    first = session.answered("one", "first")
    session.answered("two", "second")
    session.vim.keys("C-w", "j")
    session.vim.type("gg]][[gx")
    session.vim.until_true("getcmdline() ==# 'QF '")
    session.vim.type("other\n")
    forked = session.puppet.next("assist/fork")
    session.puppet.answer(forked, {})
    asked = session.puppet.next("assist/ask")

    assert forked["params"]["turnId"] == first["params"]["turnId"]
    assert asked["params"]["chatId"] == forked["params"]["newChatId"]
    session.puppet.finish(asked, "")
    session.vim.until_true(f"{CURRENT}.turns[-1].status ==# 'done'")
    assert session.vim.eval(f"map(copy({CURRENT}.turns), 'v:val.text')") == ["one", "other"]


def test_chats_are_listed_and_opened(session: Session, workspace: Path) -> None:
    """As the server tells them: the branch that a question would continue."""
    turn = {"reply": "so", "status": "done", "mode": "", "sources": [source(workspace)]}
    told = {
        "chatId": "an-older-chat",
        "title": "Why so",
        "turns": [
            {**turn, "turnId": "1", "text": "why"},
            {**turn, "turnId": "2", "text": "left", "parentTurnId": "1"},
            {**turn, "turnId": "3", "text": "right", "parentTurnId": "1"},
        ],
        "lastTurnId": "3",
    }
    session.vim.command("QC")
    session.puppet.accept()
    chats = [
        {"chatId": "x", "title": "Another", "nTurns": 2, "updatedMs": 1_700_000_000_000},
        {"chatId": "an-older-chat", "title": "Why so", "nTurns": 3, "updatedMs": 1},
    ]
    session.puppet.answer(session.puppet.next("assist/chats"), {"chats": chats})
    session.vim.until_shown("Another  (2 turns)")
    session.vim.keys("Down", "Enter")
    asked = session.puppet.next("assist/chat")
    session.puppet.answer(asked, told)
    session.vim.until_shown("# You")

    assert asked["params"] == {"chatId": "an-older-chat"}
    assert session.vim.eval(f"map(copy({CURRENT}.turns), 'v:val.text')") == ["why", "right"]
    session.vim.until_shown("▸ 1 source")


def test_a_model_is_picked_and_stays_with_the_chat(session: Session) -> None:
    session.answered("one", "first")
    session.vim.command("QM")
    models = [{"name": "small", "state": "ready"}, {"name": "large", "state": "asleep"}]
    session.puppet.answer(session.puppet.next("assist/models"), {"models": models})
    session.vim.until_shown("large  asleep")
    session.vim.keys("Down", "Enter")
    session.vim.until_shown("this chat goes on with large")

    assert session.ask("two")["params"]["model"] == "large"


def test_a_code_action_is_picked_for_the_selection(session: Session) -> None:
    """It runs in a chat of its own, whose ids are ours."""
    session.vim.type("ggVj:QA\n")
    session.puppet.accept()
    offered = session.puppet.next("textDocument/codeAction")
    argument = {
        "uri": offered["params"]["textDocument"]["uri"],
        "range": offered["params"]["range"],
    }
    commands = [
        {"title": "Assistant: explain", "command": "lsp-assist.explain", "arguments": [argument]},
        {"title": "Other", "command": "other.command"},
    ]
    session.puppet.answer(offered, commands)
    session.vim.until_shown("explain")
    session.vim.keys("Enter")
    run = session.puppet.next("workspace/executeCommand")
    [said] = run["params"]["arguments"]
    session.puppet.answer(run, {"chatId": said["chatId"], "turnId": said["turnId"]})
    session.puppet.event({"params": said}, "delta", text="It explains.")
    session.puppet.event({"params": said}, "done", sources=[])

    assert offered["params"]["range"]["end"] == {"line": 2, "character": 0}
    assert said | argument == said
    session.vim.until_shown("It explains.")
    session.vim.until_true(f"{CURRENT}.turns[0].status ==# 'done'")


def test_what_a_question_would_show_is_told(session: Session) -> None:
    session.answered("one", "first")
    session.vim.command("QI -f why")
    asked = session.puppet.next("assist/context")
    piece = {"kind": "file", "level": "whole", "tokens": 900, "why": "named", "path": "a b.py"}
    told: dict[str, object] = {"model": "small", "pieces": [piece], "tokens": 1000, "cold": 40}
    told |= {"historyTokens": 60, "reason": "It fits.", "note": "", "leftOut": []}
    told |= {"nLeftOut": 0, "nFilesNotShown": 1}
    session.puppet.answer(asked, told | {"seconds": 0.25, "window": 8192})

    assert asked["params"]["context"]["files"][0].endswith("/a%20b.py")
    session.vim.until_shown(
        "small · 1000 tokens · 40 of them cold · window 8192 · about 0.2 s to the first text"
    )
    session.vim.until_shown("   900  file       a b.py  whole  named")
    session.vim.type("q")
    session.vim.until_true("expand('%') ==# 'a b.py'")


def test_edits_are_made_after_their_diff_was_seen(session: Session, workspace: Path) -> None:
    """In the buffer, as one change to undo; refused if the buffer has changed meanwhile."""
    asked = session.answered("one", "first")
    uri = (workspace / "a b.py").as_uri().replace(" ", "%20")
    session.vim.keys("C-w", "j")
    session.vim.type("ga")
    wanted = session.puppet.next("assist/edits")
    diff = "--- a b.py\n+++ a b.py\n@@ -1,2 +1,2 @@\n-def f():\n+def é():\n"
    file = {"uri": uri, "path": "a b.py", "isNew": False, "diff": diff}
    told = {"editId": "e", "files": [file], "refused": []}
    session.puppet.answer(wanted, told)
    session.vim.until_shown("+def é():")
    session.vim.type("ga")
    accepted = session.puppet.next("assist/applyEdit")
    old = session.puppet.request("workspace/applyEdit", edit(uri, 7, ((0, 4), (0, 5)), "é"))
    made = session.puppet.request(
        "workspace/applyEdit",
        edit(uri, 1, ((5, 0), (6, 0)), "    return é()\n# end\n", ((0, 4), (0, 5)), "é"),
    )
    session.puppet.answer(accepted, {"applied": True})

    ids = {"chatId": asked["params"]["chatId"], "turnId": asked["params"]["turnId"]}
    assert wanted["params"] == ids
    assert accepted["params"] == {**ids, "editId": "e", "isReviewed": True}
    assert old["result"]["applied"] is False
    assert made["result"] == {"applied": True}
    session.vim.until_shown("the changes are made")
    lines = session.vim.eval("getbufline('a b.py', 1, '$')")
    assert lines == ["def é():", "    return 1", "", "", "def g():", "    return é()", "# end"]
    assert session.puppet.next("textDocument/didChange")["params"]["textDocument"]["version"] == 2
    session.vim.keys("C-w", "k")
    session.vim.type("u")
    session.vim.until_true("getline(1, '$') ==# readfile('a b.py')")


def edit(uri: str, version: int, *places_and_texts: Any) -> dict[str, object]:
    """What `workspace/applyEdit` takes."""
    edits = [
        {
            "range": {
                "start": {"line": start[0], "character": start[1]},
                "end": {"line": end[0], "character": end[1]},
            },
            "newText": text,
        }
        for (start, end), text in zip(places_and_texts[::2], places_and_texts[1::2], strict=True)
    ]
    document = {"uri": uri, "version": version}
    return {"edit": {"documentChanges": [{"textDocument": document, "edits": edits}]}}


def test_a_reply_of_which_an_event_was_lost_is_whole_at_its_end(session: Session) -> None:
    asked = session.ask("why")
    session.puppet.say(asked, "lost ")
    session.puppet.answer(
        asked, {"status": "done", "text": "never lost more", "usage": USAGE, "sources": []}
    )

    session.vim.until_shown("never lost more")
    assert "lost " not in session.vim.chat_lines()


def test_what_a_server_does_not_know_is_said_in_a_sentence(session: Session) -> None:
    session.answered("one", "first")
    for command, method in [("QF", "assist/fork"), ("QI why", "assist/context")]:
        session.vim.command(command)
        session.puppet.refuse(session.puppet.next(method))
        session.vim.until_shown(f"this server has no {method} yet")
    session.vim.type("ggV:QR\n")
    session.puppet.refuse(session.puppet.next("assist/repair"))
    session.vim.until_true(f"{CURRENT}.turns[-1].error =~# 'has no assist/repair yet'")


def test_a_request_with_any_id_is_answered(session: Session) -> None:
    """Vim's own channel takes no id that is a string."""
    session.ask("why")
    session.puppet.send({"id": "a string", "method": "window/unknown", "params": {}})
    answer = session.puppet.request("window/showDocument", {"uri": "untitled:x"})

    assert answer["result"] == {"success": False}
    assert {"id": "a string"} in [
        {"id": m.get("id")}
        for m in session.puppet.kept()
        if m.get("error", {}).get("code") == -32601
    ]


def test_a_flood_is_shown_to_the_byte(session: Session) -> None:
    """Whatever the pieces are cut like: emoji, wide characters, line ends of all kinds."""
    pieces = [
        "🙂",
        "é漢字\r\n",
        "half ",
        "a line\n",
        "\n",
        "\t",
        "e\u0301",
        "\r",
        "x" * 500,
        "\n\n\n",
    ]
    text = "".join(pieces) * 60
    asked = session.ask("why")
    session.puppet.send_raw(
        b"".join(session.puppet.delta(asked, piece) for _ in range(60) for piece in pieces)
    )
    session.puppet.finish(asked, text)
    session.vim.until_true(f"{CURRENT}.turns[0].status ==# 'done'")

    assert "\n".join(session.vim.chat_lines()) == f"# You\n\nwhy\n\n# Assistant\n\n{text}\n"
    assert session.vim.eval("lsp_assist#chat#reply(lsp_assist#chat#current().turns[0])") == text
