"""`make bench-editors`: what the plugins cost the person who types.

Vim runs in a terminal of its own and tells over a channel what it has done; the server is played by
this process, through a relay, so that one clock times both ends. Every figure holds the way there
and back, and is an upper bound on a busy machine.
"""

import contextlib
import fcntl
import json
import os
import pty
import queue
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.bench.report import Bar, report
from tests.editors.nvim import EXECUTABLES, Neovim
from tests.editors.puppet import Puppet, framed
from tests.editors.vim import environ, rc

DEADLINE_S = 60.0
N_DELTAS = 200
DELTA_PAUSE_S = 0.03
FLOOD_PER_S = 5_000
FLOOD_S = 2.0
N_FLOODS = 5
N_KEYS = 300
N_STARTS = 5

BARS: dict[str, Bar] = {
    "editors.vim_delta_p95_ms": ("<=", 20),
    "editors.vim_flood_max_freeze_ms": ("<=", 50),
    "editors.vim_keystroke_p95_ms": ("<=", 5),
    "editors.nvim_delta_p95_ms": ("<=", 20),
    "editors.server_ready_ms": ("<=", 700),
}

# Vim reports each change of the chat just before it draws it, each key when its text is there, and
# the longest time for which nothing else could be done.
WATCH = """\
function! Watch() abort
  let g:chat = bufnr('lspassist:')
  call listener_add({-> ch_sendexpr(g:probe, ['seen', getbufline(g:chat, '$')[0]])}, g:chat)
endfunction
function! Tick(timer) abort
  let l:gap = reltimefloat(reltime(g:ticked)) * 1000
  let g:longest = l:gap > g:longest ? l:gap : g:longest
  let g:ticked = reltime()
endfunction
function! Clock() abort
  let g:ticked = reltime()
  let g:longest = 0.0
  call timer_stop(get(g:, 'clock', -1))
  let g:clock = timer_start(1, 'Tick', {'repeat': -1})
endfunction
autocmd TextChangedI * call ch_sendexpr(g:probe, ['typed', col('.')])
"""


class TimedVim:
    """A Vim on a pseudo-terminal, with a channel to this process."""

    def __init__(self, folder: Path, command: Sequence[str], *, has_plugin: bool = True) -> None:
        self.told: queue.Queue[tuple[float, list[Any]]] = queue.Queue()
        self._answers: queue.Queue[tuple[int, Any]] = queue.Queue()
        self._n_asked = 0
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.settimeout(DEADLINE_S)
            port = listening.getsockname()[1]
            probe = f"let g:probe = ch_open('127.0.0.1:{port}', {{'mode': 'json'}})\n"
            text = rc(command) if has_plugin else "set nocompatible encoding=utf-8\n"
            (folder / "bench.vim").write_text(text + WATCH + probe, "utf-8")
            (folder / "code.py").write_text("x = 1\n" * 5_000, "utf-8")
            self._terminal, theirs = pty.openpty()
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
            self._process = subprocess.Popen(
                ["vim", "-u", "bench.vim", "-i", "NONE", "-n", "code.py"],
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
                env={**environ(), "TERM": "xterm-256color"},
                cwd=folder,
                start_new_session=True,
            )
            os.close(theirs)
            threading.Thread(target=self._drain, daemon=True).start()
            self._probe, _ = listening.accept()
        threading.Thread(target=self._listen, daemon=True).start()

    def keys(self, text: str) -> None:
        """Press keys."""
        os.write(self._terminal, text.encode())

    def eval(self, expression: str) -> Any:
        """The value of an expression.

        Vim 9.0 leaves messages unread when a round of callbacks took more than 100 ms, until the
        next one arrives (`channel_parse_messages`): so the question is repeated.
        """
        self._n_asked += 1
        said = json.dumps(["expr", expression, -self._n_asked])
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            self._probe.sendall(said.encode() + b"\n")
            with contextlib.suppress(queue.Empty):
                while (answer := self._answers.get(timeout=1.0))[0] != -self._n_asked:
                    pass
                return answer[1]
        raise TimeoutError(expression)

    def until_true(self, expression: str) -> None:
        """Wait until an expression is true."""
        deadline = time.monotonic() + DEADLINE_S
        while not self.eval(expression):
            assert time.monotonic() < deadline, expression
            time.sleep(0.01)

    def close(self) -> None:
        """End Vim."""
        self._probe.close()
        self.keys("\x1b\x1b:qall!\r")
        self._process.wait()
        os.close(self._terminal)

    def _drain(self) -> None:
        try:
            while os.read(self._terminal, 2**16):
                pass
        except OSError:  # the terminal is closed
            return

    def _listen(self) -> None:
        with self._probe.makefile("rb") as lines:
            decoder = json.JSONDecoder()
            while data := lines.readline():
                now = time.perf_counter()
                text = data.decode().strip()
                while text:
                    (number, value), end = decoder.raw_decode(text)
                    text = text[end:].lstrip()
                    if number < 0:
                        self._answers.put((number, value))
                    else:
                        self.told.put((now, value))


def main() -> None:
    """Measure, print and write bench.json."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["LSP_ASSIST_HOME"] = str(folder / "home")
        figures = {
            **streaming(folder),
            **neovim_streaming(folder),
            "editors.server_ready_ms": statistics.median(
                server_ready_ms(folder) for _ in range(N_STARTS)
            ),
        }
    report(figures, BARS)


def streaming(folder: Path) -> dict[str, float]:
    """What a reply that streams in costs."""
    bare = TimedVim(folder, [], has_plugin=False)
    bare_ms = keystrokes_ms(bare)
    bare.close()
    with asked(folder) as (vim, puppet, request):
        delta_ms = deltas_ms(vim, puppet, request)
        with streamed(puppet, request):
            typed_ms = keystrokes_ms(vim)
        floods = [flood_freeze_ms(vim, puppet, request) for _ in range(N_FLOODS)]
    return {
        "editors.vim_delta_p50_ms": statistics.median(delta_ms),
        "editors.vim_delta_p95_ms": p95(delta_ms),
        "editors.vim_bare_keystroke_p95_ms": p95(bare_ms),
        "editors.vim_keystroke_p95_ms": p95(typed_ms) - p95(bare_ms),
        "editors.vim_idle_max_freeze_ms": statistics.median(idle for idle, _ in floods),
        "editors.vim_flood_max_freeze_ms": statistics.median(flooded for _, flooded in floods),
    }


def neovim_streaming(folder: Path) -> dict[str, float]:
    """What a delta takes in the newest Neovim that is found; nothing if there is none."""
    if not EXECUTABLES:
        print("no Neovim is found: it is left out", file=sys.stderr)
        return {}
    executable = EXECUTABLES.get("wheel") or EXECUTABLES["system"]
    puppet = Puppet()
    neovim = Neovim(executable, folder, folder, puppet.command, files=["code.py"])
    neovim.keys(":Q why<CR>")
    puppet.accept()
    request = puppet.next("assist/ask")
    neovim.until_true("bufnr('lspassist:') > 0")
    neovim.rpc.call("nvim_buf_attach", neovim.eval("bufnr('lspassist:')"), False, {})
    waited = []
    for n in range(N_DELTAS):
        sent = time.perf_counter()
        puppet.say(request, f"\nword {n}")
        while f"word {n}" not in str(neovim.rpc.next_news()):
            pass
        waited.append((time.perf_counter() - sent) * 1000)
        time.sleep(max(0.0, DELTA_PAUSE_S - (time.perf_counter() - sent)))
    neovim.close()
    puppet.close()
    return {
        "editors.nvim_delta_p50_ms": statistics.median(waited),
        "editors.nvim_delta_p95_ms": p95(waited),
    }


@contextmanager
def asked(folder: Path) -> Iterator[tuple[TimedVim, Puppet, dict[str, Any]]]:
    """A Vim that has asked, and the server that is to answer."""
    puppet = Puppet()
    vim = TimedVim(folder, puppet.command)
    vim.keys(":Q why\r")
    puppet.accept()
    request = puppet.next("assist/ask")
    vim.until_true("bufnr('lspassist:') > 0")
    vim.eval("Watch()")
    yield vim, puppet, request
    vim.close()
    puppet.close()


def deltas_ms(vim: TimedVim, puppet: Puppet, request: dict[str, Any]) -> list[float]:
    """From sending a delta to its text being in the buffer, at the server's own pace."""
    waited = []
    for n in range(N_DELTAS):
        sent = time.perf_counter()
        puppet.say(request, f"\nword {n}")
        while True:
            seen, told = vim.told.get(timeout=DEADLINE_S)
            if told == ["seen", f"word {n}"]:
                break
        waited.append((seen - sent) * 1000)
        time.sleep(max(0.0, DELTA_PAUSE_S - (time.perf_counter() - sent)))
    return waited


@contextmanager
def streamed(puppet: Puppet, request: dict[str, Any]) -> Iterator[None]:
    """Deltas as a quick model sends them, all the while."""
    is_over = threading.Event()

    def stream() -> None:
        while not is_over.wait(DELTA_PAUSE_S):
            puppet.say(request, "some more of it\n")

    thread = threading.Thread(target=stream)
    thread.start()
    yield
    is_over.set()
    thread.join()


def keystrokes_ms(vim: TimedVim) -> list[float]:
    """From pressing a key in insert mode to its character being in the buffer."""
    vim.keys("\x1bgg0O")
    vim.until_true("mode() ==# 'i'")
    waited = []
    for n in range(N_KEYS):
        sent = time.perf_counter()
        vim.keys("a")
        while True:
            seen, told = vim.told.get(timeout=DEADLINE_S)
            if told == ["typed", n + 2]:
                break
        waited.append((seen - sent) * 1000)
        time.sleep(0.005)
    vim.keys("\x1b")
    vim.until_true("mode() ==# 'n'")
    return waited


def flood_freeze_ms(vim: TimedVim, puppet: Puppet, request: dict[str, Any]) -> tuple[float, float]:
    """The longest time for which Vim did nothing else: idle, and in a flood that arrives whole."""
    vim.eval("Clock()")
    time.sleep(FLOOD_S)
    idle_ms = float(vim.eval("g:longest"))
    pieces = ["🙂", "漢字 ", "half ", "a line\n", "é\r\n"]
    started = time.perf_counter()
    text = ""
    n_sent = 0
    vim.eval("Clock()")
    while (elapsed := time.perf_counter() - started) < FLOOD_S:
        batch = []
        while n_sent < elapsed * FLOOD_PER_S:
            piece = pieces[n_sent % len(pieces)]
            text += piece
            batch.append(puppet.delta(request, piece))
            n_sent += 1
        puppet.send_raw(b"".join(batch))
        time.sleep(0.002)
    puppet.say(request, "\nthe end")
    vim.until_true("get(getbufline(g:chat, '$'), 0, '') ==# 'the end'")
    freeze_ms = float(vim.eval("g:longest"))
    shown = "\n".join(vim.eval("getbufline(g:chat, 1, '$')"))
    assert text in shown, "the text is not that which was sent"
    return idle_ms, freeze_ms


def server_ready_ms(folder: Path) -> float:
    """From starting the server's process to the answer to its first request of ours."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "lsp_assist", "serve"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environ(),
        cwd=folder,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    initialize: dict[str, object] = {
        "processId": None,
        "rootUri": folder.as_uri(),
        "capabilities": {},
    }
    process.stdin.write(
        framed({"id": 1, "method": "initialize", "params": initialize})
        + framed({"method": "initialized", "params": {}})
        + framed({"id": 2, "method": "assist/status", "params": {}})
    )
    process.stdin.flush()
    answer: dict[str, Any] = {}
    while answer.get("id") != 2:
        n_bytes = 0
        while (line := process.stdout.readline()).strip():
            name, _, value = line.partition(b":")
            n_bytes = int(value) if name.lower() == b"content-length" else n_bytes
        answer = json.loads(process.stdout.read(n_bytes))
    ready_ms = (time.perf_counter() - started) * 1000
    process.stdin.write(framed({"id": 3, "method": "shutdown"}) + framed({"method": "exit"}))
    process.stdin.close()
    process.stdout.read()
    process.wait()
    return ready_ms


def p95(values: Sequence[float]) -> float:
    """The value that 95 of 100 do not exceed."""
    return statistics.quantiles(values, n=20)[-1]


if __name__ == "__main__":
    main()
