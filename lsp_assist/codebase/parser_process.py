"""The process that parses, from the inside: jobs come on standard input, replies leave on output.

A grammar is C code that meets texts nobody has seen: it may hang, crash or take all memory. So it
runs here, and whoever asked goes on without. A job that takes too long ends the process from
below Python, because a grammar that hangs holds the interpreter's lock. Ends with its starter.

Knows no store and no index. `parser_worker.py` is the other side.
"""

import faulthandler
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lsp_assist.codebase import ingest, reading
from lsp_assist.codebase.frames import FrameError, read_frame, write_frame
from lsp_assist.codebase.open_files import OpenFiles
from lsp_assist.codebase.packing import Packed, packed
from lsp_assist.codebase.parser_worker import UP
from lsp_assist.codebase.store import FileRecord

__all__ = ["main"]


def main() -> None:
    """Do jobs until the starter is gone. `sys.argv` holds the limits: seconds, bytes, niceness."""
    limit_s, memory_bytes, niceness = float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    jobs, replies = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the starter, which ends us
    _be_modest(memory_bytes, niceness)
    handlers: dict[str, Callable[..., tuple[Any, ...]]] = {
        "file": _file,
        "text": OpenFiles().text,
    }
    try:
        write_frame(replies, UP)
        while (job := read_frame(jobs)) is not None:
            kind, *values = job
            with _limited(limit_s):
                reply = handlers[kind](*values)
            write_frame(replies, reply)
    except (BrokenPipeError, FrameError):
        os._exit(0)  # the starter is gone; flushing what nobody reads would only fail again


def _file(
    root: str, path: str, max_bytes: int, size: int, mtime_ns: int, known_hash: str, problem: str
) -> tuple[str, Packed | None]:
    """The hash of a file's text, and the file as it is to be kept; None if the hash is known.

    With a problem the grammar is left alone.
    """
    contents = reading.read(Path(root, path), max_bytes)
    digest = ingest.digest(contents)
    record = FileRecord(size, mtime_ns, digest)
    if isinstance(contents, reading.Skipped):
        return digest, packed(ingest.left_out(path, record))
    if known_hash == digest:
        return digest, None
    if problem:
        return digest, packed(ingest.unparsed(path, contents.text, record, problem))
    return digest, packed(ingest.indexed(path, contents.text, record))


@contextmanager
def _limited(limit_s: float) -> Iterator[None]:
    """Ends the process where what is within takes too long. In C, for Python may not get a turn.

    Counts the time that we compute, so that a busy machine costs nobody a file; where the platform
    has no such clock, the time on the wall.
    """
    if sys.platform != "win32":
        signal.setitimer(signal.ITIMER_PROF, limit_s)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    else:
        faulthandler.dump_traceback_later(limit_s, exit=True)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()


def _be_modest(memory_bytes: int, niceness: int) -> None:
    if sys.platform != "win32":
        import resource

        os.nice(niceness)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if sys.platform == "linux":  # macOS takes the limit and does not keep it
            resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
