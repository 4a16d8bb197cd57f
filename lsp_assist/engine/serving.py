"""The listeners of the engine: sockets that only the user can reach, and uvicorn over them.

Knows no route and no model.
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from lsp_assist.errors import BadInput

if TYPE_CHECKING:
    from starlette.types import ASGIApp

__all__ = ["loopback_socket", "serve", "unix_socket"]

logger = logging.getLogger(__name__)

KEEP_ALIVE_S = 60  # longer than clients keep theirs, so that none is closed under a request
GRACE_S = 5
"""How long running replies may go on after a stop."""


async def serve(app: "ASGIApp", sockets: Sequence[socket.socket], stopping: asyncio.Event) -> None:
    """Serve on these sockets, which are listening, until told to stop; closes them."""
    config = uvicorn.Config(
        app,
        access_log=False,
        http="h11",
        lifespan="off",
        log_config=None,
        loop="asyncio",
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
        timeout_keep_alive=KEEP_ALIVE_S,
        ws="none",
    )
    server = _Server(config)
    serving = asyncio.ensure_future(server.serve(sockets=list(sockets)))
    stop = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait({serving, stop}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop.cancel()
        server.should_exit = True
        await serving


class _Server(uvicorn.Server):
    """Leaves signals to the process: uvicorn would end it before the engine is closed."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def unix_socket(path: Path) -> socket.socket:
    """A listening socket in the file system, for this user only. Replaces a stale one.

    Its folder must be the user's own: between `bind` and `chmod` it is what keeps others out.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


def loopback_socket(port: int) -> socket.socket:
    """A listening socket on the loopback; port 0 takes a free one.

    Raises: BadInput if the port is taken
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # on Windows it would let two servers share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise BadInput(
            f"Port {port} cannot be listened on ({error.strerror}); name another one.",
            field="port",
        ) from error
    return listener
