"""One parsing process as its starter sees it: started, sent jobs, heard, ended.

Knows no job. `parser_process.py` is the inside.
"""

import logging
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lsp_assist.codebase.frames import FrameError, read_frame, write_frame
from lsp_assist.errors import IndexUnusable

__all__ = ["LIMITS", "UP", "Limits", "Worker", "WorkerDied"]

logger = logging.getLogger(__name__)

_CODE = (
    "import sys; n = int(sys.argv.pop(1)); sys.path[:] = sys.argv[1:n + 1]; del sys.argv[1:n + 1];"
    "from lsp_assist.codebase.parser_process import main; main()"
)
_END_S = 5.0

UP = ("up",)
"""The first message from inside."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a file may take before the process that parses it is ended."""

    cpu_s: float = 4.0
    """Of the processor where that can be counted, else on the wall."""
    wait_s: float = 6.0
    """How long somebody waits for a single file, whatever keeps the process busy."""
    memory_bytes: int = 2_000_000_000
    """Of address space; on Linux only, for others do not keep such a limit."""


LIMITS = Limits()


class WorkerDied(Exception):
    """The process ended with a job undone; the text says why, as far as can be told."""


class Worker:
    """A parsing process. Jobs are answered in order; one thread at a time."""

    def __init__(self, limits: Limits, niceness: int) -> None:
        """Start it, and wait until it is up.

        Raises: IndexUnusable
        """
        self._limits = limits
        self._why = ""
        path = [str(Path(part).absolute()) for part in sys.path]
        values = (limits.cpu_s, limits.memory_bytes, niceness)
        # Neither `site` nor the environment has a say: it sees the modules that we see.
        command = [sys.executable, "-I", "-S", "-c", _CODE, str(len(path)), *path]
        try:
            self._process = subprocess.Popen(
                [*command, *map(str, values)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                # A traceback may hold somebody's code.
                stderr=None if logger.isEnabledFor(logging.DEBUG) else subprocess.DEVNULL,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
            assert self.receive() == UP
        except (OSError, WorkerDied) as error:
            raise IndexUnusable(
                f"No parsing process could be started: {error}. Check the memory that is free and "
                "that lsp-assist is installed whole."
            ) from error

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def send(self, job: tuple[Any, ...]) -> None:
        """Send a job; plain values as `marshal` takes them.

        Raises: WorkerDied
        """
        assert self._process.stdin is not None
        try:
            write_frame(self._process.stdin, job)
        except OSError as error:
            raise self._death() from error

    def receive(self) -> Any:  # plain values, as the job has them
        """The reply to the oldest job that was not answered.

        Raises: WorkerDied
        """
        assert self._process.stdout is not None
        try:
            reply = read_frame(self._process.stdout)
        except (FrameError, OSError) as error:
            raise self._death() from error
        if reply is None:
            raise self._death()
        return reply

    def kill(self, why: str = "") -> None:
        """End it now, whatever it does. Any thread may call; whoever listens hears why."""
        self._why = self._why or why
        with suppress(OSError):
            self._process.kill()

    def close(self) -> None:
        """End it and let go of its pipes. Not while another thread listens."""
        self.kill()
        with suppress(subprocess.TimeoutExpired):  # the system cannot end it; so be it
            self._process.wait(_END_S)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def _death(self) -> WorkerDied:
        self.close()
        code = self._process.returncode
        if self._why:
            return WorkerDied(f"{self._why}; no symbols")
        if code is not None and -code == getattr(signal, "SIGPROF", None):
            return WorkerDied(f"Parsing took more than {self._limits.cpu_s:g} s; no symbols")
        return WorkerDied(f"The parser ended with code {code}; no symbols")
