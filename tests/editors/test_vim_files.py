"""What the plugin's files promise each other: the help page, the protocol, the code."""

import re
import subprocess
from pathlib import Path

import pytest

from lsp_assist.server import protocol
from tests.editors.vim import PLUGIN, ROOT, needs_vim

SCRIPTS = sorted(PLUGIN.rglob("*.vim"))
HELP = (PLUGIN / "doc" / "lsp_assist.txt").read_text("utf-8")
CODE = "\n".join(path.read_text("utf-8") for path in SCRIPTS)


OPTIONS = {f"g:{name}" for name in re.findall(r"(?:g:|get\(g:, ')(lsp_assist_\w+)", CODE)}


def test_the_help_page_has_every_option_command_and_map() -> None:
    maps = set(re.findall(r"<Plug>\([\w-]+\)", CODE))
    suffixes = set(re.findall(r"s:q \.\. '(\w+)(?: |')", CODE))

    assert {option for option in OPTIONS if f"*{option}*" not in HELP} == set()
    assert {name for name in maps if name not in HELP} == set()
    commands = {suffix for suffix in suffixes if re.search(rf"s:q \.\. '{suffix}'?\s", CODE)}
    assert {c for c in commands if f"*:Q{c}*" not in HELP} == set()
    assert {"F", "W", "Doctor"} <= commands


def test_the_help_page_has_no_option_that_there_is_not() -> None:
    assert set(re.findall(r"\*(g:lsp_assist_\w+)\*", HELP)) == OPTIONS


@needs_vim
def test_the_help_page_has_tags(tmp_path: Path) -> None:
    """Vim makes them without complaint: none is there twice."""
    (tmp_path / "lsp_assist.txt").write_text(HELP, "utf-8")
    subprocess.run(
        ["vim", "-es", "-u", "NONE", "-c", f"helptags {tmp_path}", "-c", "qall"],
        stdin=subprocess.DEVNULL,
        check=True,
        timeout=30,
    )

    assert "lsp-assist\t" in (tmp_path / "tags").read_text()


def test_the_plugin_knows_no_method_but_those_of_the_protocol() -> None:
    """Those that are planned are asked for, too: a server without them is told as such."""
    document = (ROOT / "PROTOCOL.md").read_text("utf-8")
    planned = set(re.findall(r"`(assist/\w+)`", document.partition("## Not yet")[2]))
    used = set(re.findall(r"'(assist/\w+)'", CODE))

    assert used - planned <= {*protocol.REQUESTS, protocol.EVENT}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_says_what_it_is(script: Path) -> None:
    """Every function of another file is called by the name of that file."""
    text = script.read_text("utf-8")
    assert text.startswith('" ')
    for file, function in re.findall(r"\b(lsp_assist(?:#\w+)+)#(\w+)\(", text):
        home = PLUGIN / "autoload" / f"{file.replace('#', '/')}.vim"
        assert f"function! {file}#{function}(" in home.read_text("utf-8"), f"{file}#{function}"
