"""An app that listens, in this process: all between it and a client is real."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2

from lsp_assist.engine.serving import loopback_socket, serve, unix_socket

if TYPE_CHECKING:
    from starlette.types import ASGIApp

__all__ = ["on_loopback", "on_unix_socket", "unix_client"]


@asynccontextmanager
async def on_unix_socket(app: "ASGIApp", path: Path) -> AsyncIterator[None]:
    """Serves at this path while the block runs."""
    stopping = asyncio.Event()
    serving = asyncio.create_task(serve(app, [unix_socket(path)], stopping))
    try:
        yield
    finally:
        stopping.set()
        await serving


@asynccontextmanager
async def on_loopback(app: "ASGIApp") -> AsyncIterator[int]:
    """Serves on a free port, which it gives, while the block runs."""
    stopping = asyncio.Event()
    listener = loopback_socket(0)
    port: int = listener.getsockname()[1]
    serving = asyncio.create_task(serve(app, [listener], stopping))
    try:
        yield port
    finally:
        stopping.set()
        await serving


def unix_client(path: Path) -> httpx2.AsyncClient:
    """A client that talks through this socket."""
    return httpx2.AsyncClient(
        transport=httpx2.AsyncHTTPTransport(uds=str(path)), base_url="http://engine", timeout=30
    )
