"""`lsp-assist chat` as a shell runs it."""

import asyncio
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

from tests.backends.faulty import answering, event, http, stream_head
from tests.cli.test_commands import CODE, root, run

__all__ = ["root"]

LOG = """\
<!-- LOG METADATA {"size": 2} -->

---

<!-- MSG METADATA {"publisher": "user:tty", "created": 1727628402378506393} -->

I need your help.

---

<!-- MSG METADATA {"publisher": "agent:llm:anthropic:claude", "created": 1727628409870159439} -->

<meta hidden k=strat>
Outline: ask back
</meta>

With what?
"""


def chats(root: Path) -> list[dict[str, object]]:
    listed: list[dict[str, object]] = json.loads(run("chat", "list", "--json", "-d", root))
    return listed


def test_a_question_begins_a_chat_that_goes_on(root: Path) -> None:
    run("ask", "-d", root, "Where is a request sent again?")
    (chat,) = chats(root)
    assert chat["title"] == "Where is a request sent again?"
    run("chat", "ask", str(chat["id"])[:8], "And once?", "-d", root)
    shown = run("chat", "show", chat["id"], "-d", root)
    assert shown.index("sent again?") < shown.index("`retry` at") < shown.index("And once?")
    assert chats(root)[0]["turns"] == 2
    table = run("chat", "list", "-d", root)
    assert f"{chat['id']}  " in table
    assert "2 turns  Where" in table


def test_several_questions_are_typed_in_a_row(root: Path) -> None:
    out = run("chat", "new", "--mode", "explain", "-d", root, stdin="retry\n\nsend\n")
    assert out.index("`retry` at") < out.index("`send` at")
    (chat,) = chats(root)
    assert chat["turns"] == 2
    text = run("chat", "export", chat["id"], "-d", root)
    assert text.count('"mode": "explain"') == 2


def test_a_log_comes_in_and_goes_on_and_out(root: Path, tmp_path: Path) -> None:
    (tmp_path / "log.md").write_text(LOG)
    chat_id = run("chat", "import", tmp_path / "log.md", "-d", root).strip()
    shown = run("chat", "show", chat_id, "-d", root)
    assert "With what?" in shown
    assert "Outline" not in shown
    run("chat", "ask", chat_id, "With retry.", "-d", root)
    run("chat", "export", chat_id, tmp_path / "out.md", "-d", root)
    out = (tmp_path / "out.md").read_text()
    assert "Outline: ask back" in out
    assert '"created": 1727628409870159439' in out
    again = run("chat", "import", "-", "-d", root, stdin=out).strip()
    assert run("chat", "export", again, "-d", root) == out


def test_chats_are_found_forked_renamed_and_deleted(root: Path) -> None:
    run("ask", "-d", root, "Where is retry?")
    (chat,) = chats(root)
    assert str(chat["id"]) in run("chat", "search", "retr", "-d", root)
    assert "Nothing found" in run("chat", "search", "nothing", "such", "-d", root, code=1)
    fork = run("chat", "fork", chat["id"], "-d", root).strip()
    assert run("chat", "rename", fork, "My", "fork", "-d", root) == "My fork\n"
    run("chat", "delete", chat["id"], "-d", root, stdin="n\n", code=1)
    run("chat", "delete", chat["id"], "--yes", "-d", root)
    assert [c["title"] for c in chats(root)] == ["My fork"]
    assert "Where is retry?" in run("chat", "show", fork, "-d", root)


def test_bad_input_ends_with_a_message(root: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.md").write_text(LOG.replace('"publisher": "user', '"publisherr": "user'))
    assert "Line 5 of the log" in run("chat", "import", tmp_path / "bad.md", "-d", root, code=2)
    assert "cannot be read" in run("chat", "import", tmp_path / "none.md", "-d", root, code=2)
    for name in ("show", "export", "delete", "fork"):
        assert "There is no chat 'x'" in run("chat", name, "x", "-d", root, code=2)
    run("ask", "-d", root, "one")
    run("ask", "-d", root, "two")
    first, second = chats(root)
    assert "more of it" in run("chat", "show", "", "-d", root, code=2)
    assert "no turn" in run("chat", "show", first["id"], "--turn", "x", "-d", root, code=2)
    assert "cannot be written" in run("chat", "export", second["id"], "/", "-d", root, code=2)
    assert "no mode" in run("chat", "new", "q", "--mode", "shout", "-d", root, code=2)


async def test_an_edit_is_written_when_the_user_says_so(root: Path) -> None:
    """Shown as a diff, asked for, and made only after a yes."""
    reply = (
        "client.py\n<<<<<<< SEARCH\n    return request\n=======\n    return None\n>>>>>>> REPLACE\n"
    )
    stream = stream_head() + event(reply, "stop") + b"data: [DONE]\n\n"
    models = http(200, {"data": [{"id": "coder", "max_model_len": 4096}]})
    for answer, expected in (("n", CODE), ("y", CODE.replace("return request", "return None"))):
        async with answering(models, http(404, {}), stream) as (url, _):
            environ = {"LSP_ASSIST_MODEL_URL": url, "LSP_ASSIST_MODEL_NAME": "coder"}
            shown = await asyncio.to_thread(typed, root, answer, environ)
        assert "-    return request" in shown
        assert (root / "client.py").read_text() == expected


def typed(root: Path, answer: str, environ: dict[str, str]) -> str:
    """What a terminal shows of a question whose edits are answered so."""
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "lsp_assist", "chat", "new", "retry", "-d", str(root)]
    with subprocess.Popen(
        command, stdin=follower, stdout=follower, stderr=follower, env={**os.environ, **environ}
    ) as child:
        os.close(follower)
        shown = ""
        while "Write these changes?" not in shown:
            shown += os.read(leader, 4096).decode()
        os.write(leader, f"{answer}\n".encode())
        assert child.wait() == 0
    os.close(leader)
    return shown
