"""A reply that streams in while the user does something else disturbs nothing.

Each test brings Vim into a mode by real keys, lets text arrive in the middle, and goes on.
"""

from typing import Any

import pytest

from tests.editors.conftest import StartVim
from tests.editors.puppet import Puppet
from tests.editors.vim import Vim, needs_terminal

pytestmark = needs_terminal

Asked = dict[str, Any]

LAST_LINE = "get(getbufline(g:chat, '$'), 0, '')"


class Session:
    """A Vim with a reply that is running, in a window below the code."""

    def __init__(self, vim: Vim, puppet: Puppet) -> None:
        self.vim = vim
        self._puppet = puppet
        self.said = ""
        vim.command("Q tell me")
        puppet.accept()
        self.asked = puppet.next("assist/ask")
        vim.until_true("bufnr('lspassist:') > 0")
        vim.eval("execute('let g:chat = bufnr(\"lspassist:\")')")
        self.say("begin\n")

    def say(self, text: str) -> None:
        """More of the reply; it is in the buffer when this returns."""
        self.said += text
        self._puppet.say(self.asked, text)
        self.vim.until(lambda: self.vim.eval(f"{LAST_LINE} ==# {last_of(self.said)!r}"), bool, text)

    def finish(self) -> None:
        """The end of the reply; all of it is in the buffer."""
        self._puppet.finish(self.asked, self.said)
        self.vim.until_true("lsp_assist#chat#current().turns[0].status ==# 'done'")
        text = "\n".join(self.vim.eval("getbufline(g:chat, 1, '$')"))
        assert f"# Assistant\n\n{self.said}" in text


def last_of(text: str) -> str:
    return text.rsplit("\n", 1)[-1]


@pytest.fixture
def session(start_vim: StartVim, puppet: Puppet) -> Session:
    return Session(start_vim(puppet.command, files=["a b.py"]), puppet)


def test_typing_a_command(session: Session) -> None:
    session.vim.type(":let g:typed = 'ab")
    session.say("one\ntwo")
    session.vim.until_shown(":let g:typed = 'ab")
    session.say(" more")
    session.vim.type("cd'")
    session.vim.keys("Enter")

    session.vim.until_true("get(g:, 'typed', '') ==# 'abcd'")
    session.finish()


def test_answering_an_input(session: Session) -> None:
    session.vim.command("let g:typed = input('Name? ')")
    session.vim.type("ab")
    session.say("one\ntwo")
    session.vim.until_shown("Name? ab")
    session.vim.type("cd")
    session.vim.keys("Enter")

    session.vim.until_true("get(g:, 'typed', '') ==# 'abcd'")
    session.finish()


def test_inserting_text(session: Session) -> None:
    """What was inserted around a delta is still one change to undo."""
    session.vim.type("Oab")
    session.vim.until_true("getline(1) ==# 'ab'")
    session.say("one\ntwo")
    session.vim.type("cd")
    session.vim.keys("Escape")
    session.vim.until_true("getline(1) ==# 'abcd' && mode() ==# 'n'")
    session.vim.type("u")

    session.vim.until_true("getline(1) ==# 'def f():'")
    session.finish()


def test_selecting(session: Session) -> None:
    session.vim.type("ggvj")
    session.vim.until_true("mode() ==# 'v'")
    session.say("one\ntwo")
    session.vim.type("$y")

    session.vim.until_true("mode() ==# 'n'")
    assert session.vim.eval('@"') == "def f():\n    return 1\n"
    session.finish()


def test_in_the_middle_of_an_operator(session: Session) -> None:
    session.vim.type("ggd")
    session.vim.until_true("mode(1) ==# 'no'")
    session.say("one\ntwo")
    session.vim.type("d")

    session.vim.until_true("getline(1) ==# '    return 1'")
    session.finish()


def test_choosing_a_completion(session: Session) -> None:
    session.vim.command("set completeopt=menu,menuone")
    session.vim.type("Gore")
    session.vim.keys("C-p")
    session.vim.until_true("pumvisible()")
    session.say("one\ntwo")
    assert session.vim.eval("pumvisible()")
    session.vim.keys("C-y", "Escape")

    session.vim.until_true("getline('$') =~# 'return$' && mode() ==# 'n'")
    session.finish()


def test_working_in_a_terminal(session: Session) -> None:
    session.vim.command("terminal cat")
    session.vim.until_true("mode() ==# 't'")
    session.vim.type("ab")
    session.say("one\ntwo")
    session.vim.type("cd")
    session.vim.keys("Enter")

    session.vim.until_shown("abcd\nabcd")
    session.vim.keys("C-d")
    session.finish()


def test_reading_a_long_message(session: Session) -> None:
    """What is above "Press ENTER" stays readable."""
    session.vim.command('echo join(map(range(5), \'"line " .. v:val\'), "\\n")')
    session.vim.until_shown("Press ENTER")
    session.say("one\ntwo")
    screen = session.vim.screen()
    assert "line 0\nline 1\nline 2" in screen
    assert "Press ENTER" in screen
    session.vim.keys("Enter")

    session.vim.until_true("mode() ==# 'n'")
    session.finish()


def test_editing_in_the_command_line_window(session: Session) -> None:
    session.vim.type("q:ilet g:typed = 'ab")
    session.vim.until_true("getcmdwintype() ==# ':'")
    session.say("one\ntwo")
    session.vim.type("cd'")
    session.vim.keys("Escape", "Enter")

    session.vim.until_true("get(g:, 'typed', '') ==# 'abcd'")
    session.finish()


def test_working_in_another_tab_page(session: Session) -> None:
    session.vim.command("tabnew other.py")
    session.vim.until_true("expand('%') ==# 'other.py'")
    session.say("one\ntwo")
    session.vim.type("ione ")
    session.say(" more")
    session.vim.keys("Escape")

    session.vim.until_true("getline(1) ==# 'one x = 1'")
    assert session.vim.eval("tabpagenr()") == 2
    session.finish()


def test_reading_the_chat_above_its_end(session: Session) -> None:
    """The cursor of a reader stays where it is; one at the end follows."""
    session.vim.keys("C-w", "j")
    session.vim.type("gg")
    session.vim.until_true("bufnr('%') == g:chat && line('.') == 1")
    session.say("one\n" * 50)
    assert session.vim.eval("line('.')") == 1
    session.vim.type("G")
    session.vim.until_true("line('.') == line('$')")
    session.say("two\n" * 50)

    assert session.vim.eval("line('.') == line('$')")
    session.finish()


def test_the_code_window_shows_the_same_lines_before_and_after(session: Session) -> None:
    """An answer never moves the cursor, scrolls or steals the focus."""
    session.vim.type("3G")
    session.vim.until_true("line('.') == 3")
    before = session.vim.eval("[win_getid(), getcurpos(), winsaveview()]")
    session.say("one\n" * 30)
    session.finish()

    assert session.vim.eval("[win_getid(), getcurpos(), winsaveview()]") == before
