"""Messages as bytes: framed by Content-Length, over stdio or one TCP connection.

Reading and writing stdio have a thread each, so that a client which is slow to read never stops
the loop: were both sides to wait for the other to read, both would wait for ever. Knows no
JSON-RPC and no method.
"""

import asyncio
import logging
import os
import queue
import re
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager

__all__ = ["Outbox", "claim_stdio", "frame", "frames", "read_fd"]

logger = logging.getLogger(__name__)

LIMIT_BYTES = 256 * 2**20
"""A longer message is skipped; no editor sends one."""
_FLUSH_S = 2.0

# Searched for anywhere in a line: after a message of which the length was wrong, the next header
# may stand behind the rest of that message.
_CONTENT_LENGTH = re.compile(rb"content-length:[ \t]*(\d{1,18})[ \t]*\r?\n$", re.IGNORECASE)

# A web page can make a browser send a message of its choice to a port of this machine, but not
# without this line before it.
_HTTP = re.compile(rb" HTTP/\d[.\d]*\r?\n$")


def frame(body: bytes) -> bytes:
    """The body behind its header."""
    return b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


async def frames(reader: asyncio.StreamReader) -> AsyncGenerator[bytes, None]:
    """The bodies of the messages, until the stream ends.

    Header fields may come in any case; what is no header and no body is skipped, so that a
    damaged message costs itself and not those behind it.
    """
    while True:
        n_bytes = 0
        while True:
            try:
                line = await reader.readline()
            except ValueError:  # longer than any header
                continue
            if not line.endswith(b"\n"):
                return
            if _HTTP.search(line):
                logger.warning("The client speaks HTTP, not LSP.")
                return
            if match := _CONTENT_LENGTH.search(line):
                n_bytes = int(match[1])
            elif not line.strip():
                break
        try:
            if n_bytes > LIMIT_BYTES:
                logger.error("A message of %d bytes was skipped.", n_bytes)
                await _skip(reader, n_bytes)
            elif n_bytes:
                yield await reader.readexactly(n_bytes)
        except asyncio.IncompleteReadError:
            return


async def _skip(reader: asyncio.StreamReader, n_bytes: int) -> None:
    while n_bytes > 0:
        n_bytes -= len(await reader.readexactly(min(n_bytes, 2**20)))


def read_fd(fd: int) -> asyncio.StreamReader:
    """A stream fed from the file descriptor by a thread that ends with it, or with the process.

    The thread reads the descriptor itself: one that waits inside `sys.stdin.buffer` holds a lock
    which the interpreter needs to exit.
    """
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=2**16, loop=loop)

    def pump() -> None:
        while True:
            try:
                data = os.read(fd, 2**16)
            except OSError:
                data = b""
            try:
                if not data:
                    loop.call_soon_threadsafe(reader.feed_eof)
                    return
                loop.call_soon_threadsafe(reader.feed_data, data)
            except RuntimeError:  # the loop is closed
                return

    threading.Thread(target=pump, name="lsp-assist-stdin", daemon=True).start()
    return reader


class Outbox:
    """Writes to a file descriptor, in order, on a thread of its own."""

    def __init__(self, fd: int, on_lost: Callable[[], object]) -> None:
        """`on_lost` is called on that thread, once, when nobody reads any more."""
        self._fd = fd
        self._on_lost = on_lost
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._pump, name="lsp-assist-stdout", daemon=True)
        self._thread.start()

    def write(self, data: bytes) -> None:
        """Write the data after all that was given before; returns at once."""
        self._queue.put(data)

    def close(self) -> None:
        """Wait, for a limited time, until all is written."""
        self._queue.put(None)
        self._thread.join(_FLUSH_S)

    def _pump(self) -> None:
        while (data := self._queue.get()) is not None:
            view = memoryview(data)
            try:
                while view:
                    view = view[os.write(self._fd, view) :]
            except OSError:
                self._on_lost()
                return


@contextmanager
def claim_stdio() -> Iterator[tuple[int, int]]:
    """Descriptors of stdin and stdout that nothing else in this process can use.

    Meanwhile whatever prints, native libraries and child processes included, prints to stderr,
    and whatever reads stdin finds it empty.
    """
    sys.stdout.flush()
    stdin, stdout = os.dup(0), os.dup(1)
    saved = sys.stdout
    try:
        stderr = os.dup(2)
    except OSError:  # closed by the editor
        stderr = os.open(os.devnull, os.O_WRONLY)
    nothing = os.open(os.devnull, os.O_RDONLY)
    try:
        os.dup2(nothing, 0)
        os.dup2(stderr, 1)
        sys.stdout = sys.stderr
        yield stdin, stdout
    finally:
        sys.stdout = saved
        os.dup2(stdin, 0)
        os.dup2(stdout, 1)
        os.close(nothing)
        os.close(stderr)
        os.close(stdout)
        # The reading thread may still wait on `stdin`; closing it under a read is undefined.
