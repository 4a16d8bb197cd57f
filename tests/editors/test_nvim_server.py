"""Neovim with a real server in a process of its own; only the model's words are scripted."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.editors.nvim import Neovim, each_neovim
from tests.server.editor import SCRIPTED

pytestmark = each_neovim

Start = Callable[..., Neovim]


@pytest.fixture
def start(executable: str, tmp_path: Path, workspace: Path) -> Iterator[Start]:
    with ExitStack() as stack:

        def started(command: list[str] = SCRIPTED, **options: Any) -> Neovim:
            neovim = Neovim(executable, tmp_path, workspace, command, **options)
            stack.callback(neovim.close)
            return neovim

        yield started


@pytest.fixture
def neovim(start: Start) -> Neovim:
    return start(files=["a b.py"])


def ask(neovim: Neovim, text: str, command: str = "Q") -> dict[str, Any]:
    """The turn of a question, when it has ended."""
    n_turns = len(neovim.turns())
    neovim.command(f"{command} {text}")
    return neovim.until_ended(1 if "-n" in text else n_turns + 1)


def test_a_question_is_answered_in_a_chat(neovim: Neovim) -> None:
    """The reply and the places that it was given to read, which are folded; nobody is moved."""
    assert not neovim.eval("exists('g:loaded_lsp_assist')"), "the plugin for Vim is not for it"
    here = neovim.eval("win_getid()")
    assert ask(neovim, "count 4")["reply"] == "0 1 2 3 "

    chat = ["# You", "", "count 4", "", "# Assistant", "", "0 1 2 3 ", ""]
    assert neovim.chat() == [*chat, "▏ 1 source", "▏   a b.py:1-2  f", ""]
    assert neovim.eval("win_getid()") == here
    neovim.command("wincmd w")
    assert neovim.eval("map(range(1, 11), 'foldclosed(v:val)')") == [-1] * 8 + [9, 9, -1]
    assert neovim.eval("foldtextresult(9)") == "▸ 1 source"
    assert "scripted · 10 tokens, 6 cold" in neovim.eval("&l:statusline")
    neovim.keys("10Gzogf")
    neovim.until_true("expand('%') ==# 'a b.py' && line('.') == 1")


def test_what_is_selected_is_what_is_asked_about(neovim: Neovim) -> None:
    """Whole lines, or characters exactly, whatever stands before them."""
    neovim.command("""call setline(3, 'wide = "🙂é漢" + two')""")
    lines = ask(neovim, "/explain why", "1,2Q")["reply"]
    neovim.keys("3Gf🙂vf漢<Esc>")
    neovim.until_true('getpos("\'>")[1] == 3')
    characters = ask(neovim, "-n what", "'<,'>Q")["reply"]
    neovim.keys("3Gftv$<Esc>")
    neovim.until_true('getpos("\'>")[2] > 20')
    to_the_end = ask(neovim, "-ns what")["reply"]

    assert lines == "explain|why|a b.py:0-1|def f():\n    return 1\n"
    assert characters == "|what|a b.py:2-2|🙂é漢"
    assert to_the_end == "|what|a b.py:2-2|two"
    assert neovim.chat()[2] == "▏ a b.py:3"


def test_a_flag_that_is_none_is_told(neovim: Neovim) -> None:
    neovim.command("Q -sx what")
    neovim.command("Q -s what")

    assert "there is no flag -x" in neovim.said()[0]
    assert neovim.said()[1] == "lsp-assist: nothing was selected in this buffer"
    assert neovim.turns() == []


def test_unsaved_text_of_all_buffers_is_at_the_server(neovim: Neovim) -> None:
    """Before the question is, however short the time between."""
    ask(neovim, "documents")
    neovim.command("call setline(1, 'unsaved🙂') | edit other.py | call setline(1, 'y = 2')")
    told = json.loads(ask(neovim, "documents")["reply"])

    texts = {Path(uri).name: text for uri, text in told.items()}
    assert texts["a%20b.py"].splitlines()[0] == "unsaved🙂"
    assert texts["other.py"] == "y = 2\n"


def test_one_server_for_all_buffers_and_folders(neovim: Neovim, tmp_path: Path) -> None:
    ask(neovim, "count 1")
    other = tmp_path / "elsewhere"
    (other / ".git").mkdir(parents=True)
    (other / "x.py").write_text("x = 1\n", "utf-8")
    neovim.command(f"edit {other}/x.py")

    assert json.loads(ask(neovim, "roots")["reply"]) == ["work space", "elsewhere"]
    clients = "vim.lsp.get_clients and vim.lsp.get_clients() or vim.lsp.get_active_clients()"
    assert neovim.lua(f"return #({clients})") == 1


def test_a_reply_is_cancelled_and_an_urgent_question_takes_its_place(neovim: Neovim) -> None:
    neovim.command("Q hold")
    neovim.until(neovim.chat, lambda lines: "held " in lines, "the first words")
    neovim.command("Q count 2")
    assert neovim.said() == ["lsp-assist: asked when the reply that is running has ended"]
    neovim.command("QX")
    assert neovim.until_ended()["status"] == "cancelled"
    assert "*Cancelled.*" in neovim.chat()

    neovim.command("Q hold")
    neovim.until(neovim.turns, lambda turns: len(turns) == 2 and turns[1]["reply"], "words")
    neovim.command("Q! count 3")
    assert neovim.until_ended(3)["reply"] == "0 1 2 "


def test_a_question_that_cannot_be_answered_says_why(neovim: Neovim) -> None:
    refused = ask(neovim, "refuse")
    half = ask(neovim, "unavailable")

    assert refused["error"] == "The question is refused; ask another one."
    assert (half["reply"], half["error"]) == ("half ", "The model is asleep; wake it up.")
    assert "*The model is asleep; wake it up.*" in neovim.chat()


def test_a_killed_server_is_started_again(neovim: Neovim) -> None:
    """What ran ends with the reason; the next question finds a server that has the text."""
    neovim.command("Q hold")
    neovim.until(neovim.chat, lambda lines: "held " in lines, "the first words")
    neovim.command("call setline(1, 'unsaved')")
    children = Path(f"/proc/{neovim.eval('getpid()')}/task/{neovim.eval('getpid()')}/children")
    [pid] = children.read_text().split()
    os.kill(int(pid), signal.SIGKILL)

    assert "it is started again" in neovim.until_ended()["error"]
    told = json.loads(ask(neovim, "documents")["reply"])
    assert next(iter(told.values())).startswith("unsaved\n")


def test_a_server_that_is_not_there_is_told_with_the_remedy(start: Start) -> None:
    neovim = start(["/nowhere/lsp-assist", "serve"])
    turn = ask(neovim, "count 1")

    assert turn["status"] == "error"
    assert "pipx install" in turn["error"]


def test_the_chat_reads_the_same_after_it_was_loaded_again(neovim: Neovim) -> None:
    """After :edit, and in a second tab."""
    ask(neovim, "count 3")
    ask(neovim, "why", "1,2Q")
    before = neovim.chat()
    neovim.command("wincmd w | edit")
    assert neovim.chat() == before
    neovim.command("tabnew | wincmd p")
    ask(neovim, "count 1")
    assert neovim.eval("tabpagewinnr(2, '$')") == 2


def test_turns_are_walked_and_the_window_closed(neovim: Neovim) -> None:
    for n in (1, 2, 3):
        ask(neovim, f"count {n}")
    neovim.command("wincmd w")
    neovim.keys("gg]]")
    neovim.until_true("getline(line('.') + 2) ==# 'count 2'")
    neovim.keys("]]")
    neovim.until_true("getline(line('.') + 2) ==# 'count 3'")
    neovim.keys("2[[")
    neovim.until_true("line('.') == 1")
    neovim.keys("q")
    neovim.until_true("winnr('$') == 1 && expand('%') ==# 'a b.py'")


def test_places_are_found(neovim: Neovim) -> None:
    def found() -> list[Any]:
        neovim.command("QS def g")
        return list(neovim.eval("map(getqflist(), {_, one -> [bufname(one.bufnr), one.lnum]})"))

    neovim.until(found, lambda places: ["a b.py", 5] in places, "the place")
    assert neovim.eval("&buftype") == ""


def test_code_actions_are_asked_in_a_chat(neovim: Neovim) -> None:
    neovim.lua(
        "vim.ui.select = function(items, opts, done)"
        " Titles = vim.tbl_map(opts.format_item, items) done(items[2]) end"
    )
    neovim.command("1,2QA")

    assert neovim.until_ended()["reply"] == "explain||a b.py:0-1|def f():\n    return 1\n"
    assert neovim.lua("return Titles")[:3] == ["ask about this", "explain", "refactor"]
    assert neovim.chat()[0] == "# You /explain"


def test_the_editors_own_code_actions_are_too(neovim: Neovim) -> None:
    ask(neovim, "count 1")
    neovim.lua(
        "vim.ui.select = function(items, opts, done)"
        " for _, one in ipairs(items) do"
        " local action = one.action or one[2] if action.title:match('explain') then done(one) end"
        " end end"
    )
    action = "code_action()" if neovim.eval("has('nvim-0.8')") else "range_code_action()"
    neovim.keys(f"ggVj<Cmd>lua vim.lsp.buf.{action}<CR>")
    neovim.keys("<Esc>")
    if not neovim.eval("has('nvim-0.8')"):
        neovim.command("lua vim.lsp.buf.range_code_action()")
    reply = "explain||a b.py:0-1|def f():\n    return 1"

    neovim.until(neovim.turns, lambda turns: turns and reply in turns[-1]["reply"], "the reply")


def test_the_doctor_tells_what_is_there(neovim: Neovim) -> None:
    neovim.command("QDoctor")
    page = "\n".join(neovim.eval("getline(1, '$')"))

    assert "Server" in page
    assert "protocol 1" in page
    assert "model: " in page
    assert "ERROR" not in page


def test_settings_reach_the_server(start: Start) -> None:
    neovim = start(setup={"settings": {"model": {"n_ctx": 4096}}, "modle": "q"})

    assert json.loads(ask(neovim, "settings")["reply"])[0] == 4096
    assert "setup{} knows no modle" in neovim.said()[0]


def test_the_server_starts_with_the_first_file_where_that_is_wanted(start: Start) -> None:
    neovim = start(setup={"autostart": True}, extra="vim.cmd('filetype on')", files=["a b.py"])

    neovim.until(
        lambda: neovim.lua("return require('lsp_assist.server').state()"),
        lambda state: state == "ready",
        "the server",
    )
    assert json.loads(ask(neovim, "roots")["reply"]) == ["work space"]
