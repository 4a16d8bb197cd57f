"""What the benches ask of the machine: memory of a process, and programs that keep it busy."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["busy", "n_cores", "resident_bytes"]


def n_cores() -> int:
    """How many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def resident_bytes(pid: int | None = None) -> int:
    """What a process has in memory that is its own: without the pages of mapped files."""
    status = Path(f"/proc/{pid or os.getpid()}/status").read_text("ascii")
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return int(fields["RssAnon"].split()[0]) * 1024


@contextlib.contextmanager
def busy() -> Iterator[None]:
    """Keeps every core busy with other processes."""
    with contextlib.ExitStack() as stack:
        for _ in range(n_cores()):
            process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield
