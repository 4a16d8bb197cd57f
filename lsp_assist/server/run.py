"""A server on stdio or on one loopback connection, from start to exit code.

Knows how a process begins and ends; nothing of the messages.
"""

import asyncio
import contextlib
import ipaddress
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn

from lsp_assist.errors import BadInput
from lsp_assist.server import logs
from lsp_assist.server.app import AssistServer
from lsp_assist.server.wire import Outbox, claim_stdio, read_fd

__all__ = ["run"]

logger = logging.getLogger(__name__)


def run(make_server: Callable[[], AssistServer], *, tcp: str | None = None) -> NoReturn:
    """Serve one client, and end the process with the exit code.

    Raises: BadInput for an address that cannot be listened on
    """
    logs.start()
    if tcp is not None:
        host, port = _address(tcp)
        _end(asyncio.run(_over_tcp(make_server, host, port)))
    with claim_stdio() as (stdin, stdout):
        code = asyncio.run(_over_stdio(make_server, stdin, stdout))
    _end(code)


def _end(code: int) -> NoReturn:
    """End the process without taking Python apart.

    Everything is closed. What may still run is a thread that imports a large library, and Python
    would end it in the middle of C++, which aborts the process.
    """
    logging.shutdown()
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    os._exit(code)


async def _over_stdio(make_server: Callable[[], AssistServer], stdin: int, stdout: int) -> int:
    loop = asyncio.get_running_loop()
    server = make_server()
    outbox = Outbox(stdout, lambda: loop.call_soon_threadsafe(server.stop, 1))
    server.protocol.set_writer(outbox)
    try:
        with _stopped_by_signals(server):
            return await server.serve(read_fd(stdin))
    finally:
        outbox.close()


async def _over_tcp(make_server: Callable[[], AssistServer], host: str, port: int) -> int:
    """Serve the first client that connects; no other is let in."""
    exit_code: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    connected = False

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connected
        if connected:
            writer.close()
            return
        connected = True
        listening.close()
        server = make_server()
        server.protocol.set_writer(writer)
        try:
            with _stopped_by_signals(server):
                code = await server.serve(reader)
            with contextlib.suppress(ConnectionError):
                await writer.drain()
            writer.close()
            exit_code.set_result(code)
        except BaseException as error:  # noqa: BLE001  whatever ends the client ends the server
            if not exit_code.done():
                exit_code.set_exception(error)

    try:
        listening = await asyncio.start_server(serve, host, port)
    except OSError as error:
        raise BadInput(
            f"{host}:{port} cannot be listened on: {error.strerror or error}.", field="tcp"
        ) from error
    host, port = listening.sockets[0].getsockname()[:2]
    sys.stderr.write(f"Listening on {host}:{port}\n")
    sys.stderr.flush()
    return await exit_code


def _address(tcp: str) -> tuple[str, int]:
    """Host and port, of this machine only: whoever connects can read what the user can.

    Raises: BadInput
    """
    host, _, digits = tcp.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    if not (digits.isascii() and digits.isdigit() and int(digits) < 2**16):
        raise BadInput(f"{tcp!r} is no address; use `host:port` or `port`.", field="tcp")
    with contextlib.suppress(ValueError):
        if host == "localhost" or ipaddress.ip_address(host).is_loopback:
            return host, int(digits)
    raise BadInput(
        f"{host!r} is not this machine's own address; use 127.0.0.1, ::1 or localhost, and reach "
        "it from elsewhere through ssh.",
        field="tcp",
    )


@contextlib.contextmanager
def _stopped_by_signals(server: AssistServer) -> Iterator[None]:
    """SIGTERM and SIGINT end the server as a goodbye would, with the usual exit codes."""
    loop = asyncio.get_running_loop()
    added: list[signal.Signals] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        # Neither on Windows nor off the main thread; there the default is kept.
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, server.stop, 128 + number)
            added.append(number)
    try:
        yield
    finally:
        for number in added:
            loop.remove_signal_handler(number)
