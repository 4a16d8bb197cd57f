"""Editors for the tests, each ended after its test."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.editors.puppet import Puppet
from tests.editors.vim import Terminals, Vim

StartVim = Callable[..., Vim]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A workspace with two files; its name has a blank in it."""
    folder = tmp_path / "work space"
    folder.mkdir()
    (folder / ".git").mkdir()
    (folder / "a b.py").write_text(
        "def f():\n    return 1\n\n\ndef g():\n    return f()\n", "utf-8"
    )
    (folder / "other.py").write_text("x = 1\n", "utf-8")
    return folder


@pytest.fixture(scope="session")
def terminals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminals]:
    """A tmux server."""
    terminals = Terminals(tmp_path_factory.mktemp("tmux"))
    yield terminals
    terminals.close()


@pytest.fixture
def puppet() -> Iterator[Puppet]:
    """A server that is played by the test."""
    puppet = Puppet()
    yield puppet
    puppet.close()


@pytest.fixture
def start_vim(terminals: Terminals, tmp_path: Path, workspace: Path) -> Iterator[StartVim]:
    """Starts Vims in terminals, in the workspace."""
    with ExitStack() as stack:

        def start(command: list[str], **options: object) -> Vim:
            vim = Vim(terminals, tmp_path, workspace, command, **options)  # type: ignore[arg-type]
            stack.callback(vim.close)
            return vim

        yield start
