"""Servers for the tests: in a process of their own, or in this one."""

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol

import pytest
import pytest_asyncio

from tests.server.editor import SCRIPTED, Editor
from tests.server.in_process import InProcess


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A workspace with two files."""
    folder = tmp_path / "work space"
    folder.mkdir()
    (folder / "a b.py").write_text("def f():\n    return 1\n", encoding="utf-8")
    (folder / "other.py").write_text("x = 1\n", encoding="utf-8")
    return folder


@pytest.fixture
def home() -> Path:
    """Where the server under test keeps its files."""
    return Path(os.environ["LSP_ASSIST_HOME"])


class Launch(Protocol):
    """Starts an editor with a server."""

    async def __call__(self, command: list[str] = SCRIPTED, **env: str) -> Editor: ...


@pytest_asyncio.fixture
async def launch(root: Path, home: Path) -> AsyncIterator[Launch]:
    """Start editors, each with its server; they are ended after the test."""
    async with AsyncExitStack() as stack:

        async def start(command: list[str] = SCRIPTED, **env: str) -> Editor:
            editor = Editor(root, home, command)
            stack.push_async_callback(editor.kill)
            await editor.launch(**env)
            return editor

        yield start


@pytest_asyncio.fixture
async def editor(launch: Launch) -> AsyncIterator[Editor]:
    """An editor with a server that is initialized, and that must end with nothing unread."""
    editor = await launch()
    await editor.open_session()
    yield editor
    await editor.finish()


@pytest_asyncio.fixture
async def server() -> AsyncIterator[InProcess]:
    """A server in this process, not initialized."""
    server = InProcess()
    yield server
    server.reader.feed_eof()
    await server.serving
