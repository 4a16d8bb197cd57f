"""Vim for tests: in a terminal, with keys and a screen, or without one for a script.

What Vim holds is asked for over a channel that it opens to the test: that works in every mode, and
types nothing.
"""

import json
import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

__all__ = ["PLUGIN", "Terminals", "Vim", "needs_terminal", "needs_vim", "run_script"]

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "editors" / "vim"
DEADLINE_S = 30.0

needs_vim = pytest.mark.skipif(shutil.which("vim") is None, reason="vim is not installed")
needs_terminal = pytest.mark.skipif(
    not (shutil.which("vim") and shutil.which("tmux")), reason="vim or tmux is not installed"
)

RC = """\
set nocompatible encoding=utf-8 ttimeout ttimeoutlen=5 timeoutlen=300 noswapfile hidden
set runtimepath^={plugin}
set packpath=
let g:lsp_assist_cmd = json_decode({command})
{extra}
filetype plugin on
syntax on
runtime plugin/lsp_assist.vim
"""

SCRIPT = """\
let g:report = {{}}
function! Wait(IsSo) abort
  let l:started = reltime()
  while !a:IsSo()
    if reltimefloat(reltime(l:started)) > 30
      throw 'waited too long for ' .. string(a:IsSo)
    endif
    sleep 5m
  endwhile
endfunction
try
  source {script}
catch
  let g:report.error = v:exception .. ' at ' .. v:throwpoint
endtry
let g:report.messages = execute('messages')
call writefile([json_encode(g:report)], {out})
qall!
"""


def rc(command: Sequence[str], extra: str = "") -> str:
    """A vimrc with the plugin and its server."""
    said = "'" + json.dumps(list(command)).replace("'", "''") + "'"
    return RC.format(plugin=PLUGIN, command=said, extra=extra)


def environ() -> dict[str, str]:
    """What Vim and the server that it starts see."""
    clean = {k: v for k, v in os.environ.items() if k not in {"TMUX", "TMUX_PANE", "VIMINIT"}}
    return {**clean, "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8"}


def run_script(
    script: str, folder: Path, cwd: Path, command: Sequence[str], *, extra_rc: str = ""
) -> dict[str, Any]:
    """What a script put into `g:report`, run by a Vim without a screen; fails with its error."""
    files = {
        "rc.vim": rc(command, extra_rc),
        "scenario.vim": script,
        "run.vim": SCRIPT.format(
            script=folder / "scenario.vim", out=json.dumps(str(folder / "report.json"))
        ),
    }
    for name, text in files.items():
        (folder / name).write_text(text, "utf-8")
    enter = ["-c", f"cd {_escaped(cwd)}", "-S", str(folder / "run.vim")]
    done = subprocess.run(
        ["vim", "-es", "-u", "rc.vim", "-i", "NONE", "-n", *enter],
        cwd=folder,
        env=environ(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=90,
        check=False,
    )
    out = folder / "report.json"
    assert out.exists(), f"Vim ended with {done.returncode}: {done.stdout.decode()}"
    report: dict[str, Any] = json.loads(out.read_text("utf-8"))
    assert "error" not in report, report
    return report


class Terminals:
    """A tmux server of its own."""

    def __init__(self, folder: Path) -> None:
        self._socket = f"lsp-assist-{uuid.uuid4().hex[:12]}"
        self._folder = folder
        # While one session stays, ending another does not end the server under the next.
        self.tmux("-f", "/dev/null", "new-session", "-d", "-s", "idle", "cat")
        self.tmux("set-option", "-sg", "escape-time", "0")

    def tmux(self, *arguments: str) -> str:
        """Run a tmux command; what it prints."""
        done: subprocess.CompletedProcess[str] = subprocess.run(
            ["tmux", "-L", self._socket, *arguments],
            check=True,
            capture_output=True,
            text=True,
            env=environ(),
            cwd=self._folder,
            timeout=DEADLINE_S,
        )
        return done.stdout

    def close(self) -> None:
        """End the server and all that runs in it."""
        self.tmux("kill-server")


class Vim:
    """A Vim in a terminal, with the plugin and no other."""

    def __init__(
        self,
        terminals: Terminals,
        folder: Path,
        cwd: Path,
        command: Sequence[str],
        *,
        extra_rc: str = "",
        files: Sequence[str] = (),
        size: tuple[int, int] = (110, 32),
    ) -> None:
        self._terminals = terminals
        self._name = f"vim-{uuid.uuid4().hex[:8]}"
        self._n_asked = 0
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.settimeout(DEADLINE_S)
            port = listening.getsockname()[1]
            probe = f"let g:probe = ch_open('127.0.0.1:{port}', {{'mode': 'json'}})"
            path = folder / f"{self._name}.vim"
            path.write_text(f"{rc(command, extra_rc)}{probe}\n", "utf-8")
            variables = [f"{k}={v}" for k, v in environ().items() if k.startswith("LSP_ASSIST")]
            terminals.tmux(
                *("new-session", "-d", "-s", self._name, "-x", str(size[0]), "-y", str(size[1])),
                *("-c", str(cwd), "env", *variables, f"PYTHONPATH={ROOT}", "TERM=screen-256color"),
                *("vim", "-u", str(path), "-i", "NONE", *files),
            )
            self._probe, _ = listening.accept()
        self._probe.settimeout(DEADLINE_S)
        self._answers = self._probe.makefile("rb")

    def keys(self, *keys: str) -> None:
        """Press keys: names as tmux knows them (`Escape`, `Enter`, `C-v`)."""
        self._terminals.tmux("send-keys", "-t", self._name, *keys)

    def type(self, text: str) -> None:
        """Type the text."""
        self._terminals.tmux("send-keys", "-t", self._name, "-l", text)

    def command(self, text: str) -> None:
        """Type a command line and press Enter."""
        self.type(f":{text}")
        self.keys("Enter")

    def screen(self) -> str:
        """What stands on the screen."""
        return self._terminals.tmux("capture-pane", "-p", "-t", self._name)

    def until_shown(self, text: str) -> str:
        """Wait until the text stands on the screen; the screen."""
        shown: str = self.until(self.screen, lambda screen: text in screen, f"{text!r} shown")
        return shown

    def eval(self, expression: str) -> Any:
        """The value of an expression, whatever Vim is doing."""
        self._n_asked += 1
        said = json.dumps(["expr", expression, -self._n_asked])
        self._probe.sendall(said.encode() + b"\n")
        while True:
            answer = json.loads(self._answers.readline())
            if answer[0] == -self._n_asked:
                return answer[1]

    def until_true(self, expression: str) -> None:
        """Wait until an expression is true."""
        self.until(lambda: self.eval(expression), bool, expression)

    def until(self, look: Callable[[], Any], is_so: Callable[[Any], bool], what: str) -> Any:
        """What is seen when it is so. Fails with what was seen last."""
        deadline = time.monotonic() + DEADLINE_S
        while not is_so(seen := look()):
            assert time.monotonic() < deadline, f"not {what}; there is\n{seen}\n{self.screen()}"
            time.sleep(0.01)
        return seen

    def chat_lines(self) -> list[str]:
        """The lines of the chat's buffer; none if there is no chat."""
        lines: list[str] = self.eval("getbufline(bufnr('lspassist:'), 1, '$')")
        return lines

    def close(self) -> None:
        """End Vim."""
        self._answers.close()
        self._probe.close()
        self._terminals.tmux("kill-session", "-t", self._name)


def _escaped(path: Path) -> str:
    return str(path).replace(" ", "\\ ")
