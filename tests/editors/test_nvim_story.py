"""The whole story in Neovim: select, warm, ask, continue, fork, apply an edit, reopen.

Once with a scripted model, once with a real one of random weights.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.editors.nvim import Neovim, each_neovim
from tests.engine.tiny import make_model
from tests.server.editor import REAL, ROOT, SCRIPTED
from tests.server.test_edits import BOTH, NEW

pytestmark = each_neovim

Start = Callable[..., Neovim]

PICK = "vim.ui.select = function(items, opts, done) Lines = vim.tbl_map(opts.format_item, items)"


@pytest.fixture
def home() -> Iterator[Path]:
    """Chats and the engine of one story; a socket's path must be short."""
    with tempfile.TemporaryDirectory(prefix="la-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@pytest.fixture
def start(executable: str, tmp_path: Path, workspace: Path, home: Path) -> Iterator[Start]:
    with ExitStack() as stack:

        def started(command: list[str] = SCRIPTED, **env: str) -> Neovim:
            said = {"LSP_ASSIST_HOME": str(home), "LSP_ASSIST_INDEX_EMBEDDER": "none", **env}
            neovim = Neovim(executable, tmp_path, workspace, command, files=["a b.py"], env=said)
            stack.callback(neovim.close)
            return neovim

        yield started


def ask(neovim: Neovim, text: str, n_turns: int = 1) -> dict[str, Any]:
    """The n-th turn, when it has ended."""
    neovim.lua("require('lsp_assist.ask').command(..., nil, false)", text)
    return neovim.until_ended(n_turns)


def test_an_edit_is_looked_at_and_made(start: Start) -> None:
    """In all its files or in none, in buffers that `u` takes back; what fits no more is told."""
    neovim = start()
    assert ask(neovim, BOTH)["status"] == "done"
    assert "*Proposes changes of other.py, a b.py: ga shows them.*" in neovim.chat()
    neovim.command("wincmd w")
    neovim.keys("Gga")
    neovim.until_true("&filetype ==# 'diff'")
    assert "+    return 2" in neovim.eval("getline(1, '$')")
    assert neovim.eval("getbufline('a b.py', 2)") == ["    return 1"]
    neovim.keys("ga")
    neovim.until_true("getbufline('a b.py', 2) ==# ['    return 2']")
    neovim.until(neovim.said, bool, "a message")
    assert "the changes are made" in neovim.said()[0]
    assert neovim.eval("getbufline('other.py', 1)") == ["x = 2"]
    assert (neovim.cwd / "a b.py").read_text("utf-8").startswith("def f():\n    return 1\n")

    neovim.command("wincmd t | undo")
    assert neovim.eval("getline(2)") == "    return 1"
    neovim.command("buffer other.py | call setline(1, 'z = 0')")
    neovim.command("wincmd w")
    neovim.keys("ga")
    neovim.until_true("&filetype ==# 'diff'")
    page = neovim.eval("getline(1, '$')")
    assert any(line.startswith("! other.py: ") for line in page)
    assert "+    return 2" in page


def test_a_new_file_is_made(start: Start) -> None:
    neovim = start()
    ask(neovim, NEW)
    neovim.command("wincmd w")
    neovim.keys("Gga")
    neovim.until_true("&filetype ==# 'diff'")
    neovim.keys("ga")
    neovim.until(neovim.said, bool, "a message")
    assert "the changes are made" in neovim.said()[0]
    neovim.command("wall")

    assert (neovim.cwd / "new" / "c.py").read_text("utf-8") == "c = 3\n"


def test_a_chat_goes_on_forks_and_is_found_again(start: Start) -> None:
    neovim = start()
    ask(neovim, "reply one")
    ask(neovim, "reply two", 2)
    neovim.command("wincmd w")
    neovim.keys("gg")
    neovim.keys("gx")
    neovim.until_mode("i")
    neovim.keys("reply three<CR>")
    neovim.until(neovim.turns, lambda turns: turns[-1]["text"] == "reply three", "the fork")
    assert neovim.until_ended(2)["reply"] == "three"
    assert [turn["reply"] for turn in neovim.turns()] == ["one", "three"]
    neovim.close()

    again = start()
    again.lua(f"{PICK} done(items[2]) end")
    again.command("QC")
    again.until(again.chat, lambda lines: "two" in lines, "the first chat")
    assert again.lua("return #Lines") == 2
    assert ask(again, "reply four", 3)["reply"] == "four"


def test_what_would_be_shown_is_told(start: Start) -> None:
    neovim = start()
    neovim.command("1,2QI why")
    neovim.until_true("bufname() ==# 'lsp-assist:context'")
    page = "\n".join(neovim.eval("getline(1, '$')"))

    assert "tokens" in page.splitlines()[2]
    assert "a b.py:1-2" in page
    neovim.keys("q")
    neovim.until_true("bufname() ==# 'a b.py'")


def test_completion_knows_the_modes_and_models_of_the_server(start: Start) -> None:
    neovim = start()
    ask(neovim, "count 1")

    def completed(line: str) -> list[str]:
        words: list[str] = neovim.eval(f"getcompletion({line!r}, 'cmdline')")
        return words

    assert completed("Q /expl") == ["/explain"]
    assert completed("2Q -s") == ["-sb", "-sd", "-sf", "-sn", "-sp", "-st", "-sw"]
    assert completed("Q why /expl") == []
    neovim.until(lambda: completed("Q @"), bool, "models")
    assert completed("QM ") == [word[1:] for word in completed("Q @")]


@pytest.mark.slow
def test_with_a_real_model(start: Start, tmp_path: Path, home: Path) -> None:
    """Select, warm, ask, continue, fork, switch model, cancel, killed server, reopen."""
    model = make_model(tmp_path / "tiny.gguf", context_length=8192)
    env = {"LSP_ASSIST_MODEL_PATH": str(model), "LSP_ASSIST_MODEL_MAX_TOKENS": "16"}
    try:
        neovim = start(REAL, **env)
        neovim.command("1,2QW")
        neovim.until(neovim.said, bool, "what is warm")
        assert "warm: " in neovim.said()[0]
        neovim.command("1,2Q why?")
        assert neovim.until_ended()["status"] == "done"
        usage = neovim.lua("return require('lsp_assist.ask').current().turns[1].usage")
        assert usage["cachedTokens"] > 0.8 * usage["promptTokens"]
        assert ask(neovim, "and then?", 2)["status"] == "done"
        neovim.lua(f"{PICK} done(items[1]) end")
        neovim.command("QM")
        neovim.until(neovim.said, lambda said: "goes on with tiny" in said[-1], "the model")
        neovim.command("QF what else?")
        assert neovim.until_ended(3)["status"] == "done"
        neovim.lua("require('lsp_assist.ask').command('long', nil, false)")
        pid = neovim.eval("getpid()")
        [server] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        os.kill(int(server), signal.SIGKILL)
        assert neovim.until_ended(4)["status"] in ("error", "done")
        neovim.close()

        again = start(REAL, **env)
        again.lua(f"{PICK} done(items[1]) end")
        again.command("QC")
        again.until(again.turns, lambda turns: len(turns) >= 3, "the fork")
        assert "what else?" in again.chat()
        again.close()
    finally:
        stop = [sys.executable, "-m", "lsp_assist", "engine", "stop"]
        said = {"LSP_ASSIST_HOME": str(home), "PYTHONPATH": str(ROOT)}
        subprocess.run(stop, env={**os.environ, **said}, check=True, stdout=subprocess.DEVNULL)
