"""A reply that streams into Neovim while the user does something else disturbs nothing.

Each test brings it into a mode by keys, lets text arrive in the middle, and goes on. The server is
played by the test.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.editors.nvim import Neovim, each_neovim
from tests.editors.puppet import Puppet
from tests.editors.vim import Terminals

pytestmark = each_neovim

Start = Callable[..., Neovim]


@pytest.fixture
def start(executable: str, tmp_path: Path, workspace: Path, puppet: Puppet) -> Iterator[Start]:
    with ExitStack() as stack:

        def started(**options: Any) -> Neovim:
            neovim = Neovim(
                executable, tmp_path, workspace, puppet.command, files=["a b.py"], **options
            )
            stack.callback(neovim.close)
            return neovim

        yield started


class Session:
    """A Neovim with a reply that is running, in a window below the code."""

    def __init__(self, neovim: Neovim, puppet: Puppet) -> None:
        self.neovim = neovim
        self.puppet = puppet
        self.said = ""
        neovim.keys(":Q tell me<CR>")
        puppet.accept()
        self.asked = puppet.next("assist/ask")
        self.say("begin\n")

    def last_lines(self) -> str:
        lines: list[str] = self.neovim.lua(
            "return vim.fn.getbufline(vim.fn.bufnr('lspassist:'), 1, '$')"
        )
        return "\n".join(lines)

    def say(self, text: str) -> None:
        """More of the reply; it is in the buffer when this returns."""
        self.said += text
        self.puppet.say(self.asked, text)
        self.neovim.until(
            self.last_lines, lambda shown: bool(shown.endswith(self.said)), repr(self.said)
        )

    def finish(self) -> None:
        """The end of the reply; all of it is in the buffer."""
        self.puppet.finish(self.asked, self.said)
        assert self.neovim.until_ended()["status"] == "done"
        assert f"# Assistant\n\n{self.said}" in self.last_lines()
        assert self.neovim.eval("v:errmsg") == ""


@pytest.fixture
def session(start: Start, puppet: Puppet) -> Session:
    return Session(start(), puppet)


@pytest.mark.skipif(not shutil.which("tmux"), reason="tmux is not installed")
def test_typing_a_command(start: Start, puppet: Puppet, terminals: Terminals) -> None:
    """The text is drawn while the command line stays as it is."""
    session = Session(start(terminals=terminals), puppet)
    neovim = session.neovim
    neovim.keys(":let g:typed = 'ab")
    session.say("one\ntwo words")
    neovim.until_shown("two words")
    neovim.until_shown(":let g:typed = 'ab")
    neovim.keys("cd'<CR>")

    neovim.until_true("get(g:, 'typed', '') ==# 'abcd'")
    session.finish()


def test_answering_an_input(session: Session) -> None:
    session.neovim.keys(":let g:typed = input('Name? ')<CR>ab")
    session.say("one\ntwo")
    session.neovim.keys("cd<CR>")

    session.neovim.until_true("get(g:, 'typed', '') ==# 'abcd'")
    session.finish()


def test_inserting_text(session: Session) -> None:
    """What was inserted around a delta is still one change to undo."""
    session.neovim.keys("Oab")
    session.neovim.until_true("getline(1) ==# 'ab'")
    session.say("one\ntwo")
    session.neovim.keys("cd<Esc>")
    session.neovim.until_true("getline(1) ==# 'abcd' && mode() ==# 'n'")
    session.neovim.keys("u")

    session.neovim.until_true("getline(1) ==# 'def f():'")
    session.finish()


def test_selecting(session: Session) -> None:
    session.neovim.keys("ggvj")
    session.neovim.until_mode("v")
    session.say("one\ntwo")
    session.neovim.keys("$y")

    session.neovim.until_mode("n")
    assert session.neovim.eval('@"') == "def f():\n    return 1\n"
    session.finish()


def test_in_the_middle_of_an_operator(session: Session) -> None:
    """Neovim may put off what arrives until then; nothing of it is lost, nor of the command."""
    session.neovim.keys("ggd")
    session.neovim.until_mode("no")
    session.puppet.say(session.asked, "one\ntwo")
    session.said += "one\ntwo"
    session.neovim.keys("d")

    session.neovim.until_true("getline(1) ==# '    return 1'")
    session.finish()


def test_choosing_a_completion(session: Session) -> None:
    session.neovim.keys("<Cmd>set completeopt=menu,menuone<CR>Gore<C-p>")
    session.neovim.until_true("pumvisible()")
    session.say("one\ntwo")
    session.neovim.until_true("pumvisible()")
    session.neovim.keys("<C-y><Esc>")

    session.neovim.until_true("getline('.') ==# 'return'")
    session.finish()


def test_in_a_terminal(session: Session) -> None:
    session.neovim.command("terminal cat")
    session.neovim.keys("i")
    session.neovim.until_mode("t")
    session.neovim.keys("ab")
    session.say("one\ntwo")
    session.neovim.keys("cd<CR>")

    session.neovim.until_true("join(getline(1, '$'), ' ') =~# 'abcd'")
    assert session.neovim.mode() == "t"
    session.neovim.keys("<C-Bslash><C-n>")
    session.neovim.command("bwipeout!")
    session.finish()


def test_in_the_command_line_window(session: Session) -> None:
    session.neovim.keys("q:ilet g:typed = 'ab")
    session.neovim.until_true("getline('.') =~# 'ab$'")
    session.say("one\ntwo")
    session.neovim.keys("cd'<CR>")

    session.neovim.until_true("get(g:, 'typed', '') ==# 'abcd'")
    session.finish()


def test_in_another_tab(session: Session) -> None:
    session.neovim.command("tabnew other.py")
    session.say("one\ntwo")
    session.neovim.keys("ix<Esc>")

    session.neovim.until_true("getline(1) ==# 'xx = 1'")
    session.finish()


def test_reading_further_up(session: Session) -> None:
    """A window follows the reply only while its cursor is at the end; none loses its place."""
    session.neovim.command("wincmd w")
    session.say("one\n" * 50)
    session.neovim.until_true("line('.') == line('$')")
    session.neovim.keys("gg")
    session.neovim.until_true("line('.') == 1")
    session.say("two\n" * 50)

    assert session.neovim.eval("line('.')") == 1
    session.finish()


def test_leaving_in_the_middle(session: Session) -> None:
    """`:wqa` saves and leaves."""
    session.neovim.keys(":call setline(1, 'left')<CR>:wqa<CR>")

    session.puppet.next("shutdown")
    session.neovim.until_gone()
    assert session.neovim.cwd.joinpath("a b.py").read_text("utf-8").startswith("left\n")


def test_a_flood_arrives_to_the_byte(session: Session) -> None:
    """Halves of lines, wide characters, carriage returns; thousands of deltas at once."""
    pieces = ["🙂", "漢字 ", "half ", "a line\n", "é\r\n"]
    text = "".join(pieces[n % 5] for n in range(5_000))
    deltas = b"".join(session.puppet.delta(session.asked, pieces[n % 5]) for n in range(5_000))
    session.puppet.send_raw(deltas)
    session.said += text

    session.neovim.until(
        session.last_lines, lambda shown: bool(shown.endswith(session.said)), "the flood"
    )
    session.finish()


def test_what_is_typed_after_the_command_is_warmed(start: Start, puppet: Puppet) -> None:
    """Once it rests, as the turn that is then asked; nothing else that is typed is."""
    neovim = start()
    neovim.keys(":echo 'Q is no question'<CR>")
    neovim.keys(":2,1<BS>5Q -t what is")
    puppet.accept()
    warm = puppet.next("assist/warm")["params"]
    assert warm["text"] == "what is"
    assert warm["context"]["tags"] is True
    lines = warm["context"]["selection"]["range"]
    assert (lines["start"]["line"], lines["end"]["line"]) == (1, 5)
    neovim.keys(" this<CR>")
    asked = puppet.next("assist/ask")["params"]

    assert asked["text"] == "what is this"
    assert asked["turnId"] == warm["turnId"]
    assert asked["context"] == warm["context"]


def test_the_prompt_takes_several_lines_and_warms_them(start: Start, puppet: Puppet) -> None:
    """It opens over the selection, is warmed from its first moment on, and asks."""
    neovim = start(extra="vim.keymap.set('x', '<F5>', '<Plug>(lsp-assist-ask)', {remap = true})")
    neovim.keys("ggVj<F5>")
    puppet.accept()
    first = puppet.next("assist/warm")["params"]
    assert first["text"] == ""
    assert first["context"]["selection"]["range"]["end"] == {"line": 2, "character": 0}
    neovim.keys("/explain what")
    neovim.until(
        lambda: puppet.next("assist/warm")["params"],
        lambda warm: warm["text"] == "what" and warm["mode"] == "explain",
        "what was typed",
    )
    neovim.keys("<C-j>and why<CR>")
    asked = puppet.next("assist/ask")["params"]

    assert asked["text"] == "what\nand why"
    assert asked["turnId"] == first["turnId"]
    assert asked["context"] == first["context"]
    neovim.until_true("mode() ==# 'n' && &buftype ==# '' && winnr('$') == 2")
    assert neovim.chat()[2] == "▏ a b.py:1-2"


def test_a_closed_prompt_keeps_its_text(start: Start, puppet: Puppet) -> None:
    neovim = start()
    neovim.keys(":Q<CR>")
    neovim.until_mode("i")
    neovim.keys("half a quest<Esc>q")
    neovim.until_true("&filetype !=# 'lspassist_prompt'")
    neovim.keys(":Q<CR>")
    neovim.until_mode("i")
    neovim.keys("ion<CR>")
    puppet.accept()

    assert puppet.next("assist/ask")["params"]["text"] == "half a question"


def test_a_lost_delta_is_made_good_by_the_result(session: Session) -> None:
    session.puppet.answer(
        session.asked, {"status": "done", "text": "whole\nreply", "usage": None, "sources": []}
    )

    assert session.neovim.until_ended()["reply"] == "whole\nreply"
    assert "# Assistant\n\nwhole\nreply\n" in session.last_lines()


def test_a_server_that_dies_again_and_again_is_left(start: Start, puppet: Puppet) -> None:
    """Each start comes later than the one before; a new question begins anew."""
    neovim = start(extra="vim.defer_fn = function(run) vim.schedule(run) end")
    neovim.keys(":Q hold<CR>")
    for _ in range(6):
        puppet.accept()
        neovim.command("QC")
        puppet.next("assist/chats")
        puppet.hang_up()
    neovim.until(
        lambda: neovim.lua("return require('lsp_assist.server').state()"),
        lambda state: state == "off",
        "the end",
    )
    neovim.keys(":Q again<CR>")
    puppet.accept()
    puppet.next("assist/ask")
