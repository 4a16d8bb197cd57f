"""A server on the loopback that answers with the bytes that a test gives it."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

__all__ = ["HOLD", "answering", "event", "http", "parts", "stream_head"]

HOLD = b"<hold>"
"""As an answer's last part: the connection stays open and silent."""


def http(status: int, body: object, **headers: str) -> bytes:
    """A whole response, with a JSON body unless it is bytes."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} X", "Content-Type: application/json"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines += [f"Content-Length: {len(data)}", "Connection: close", "", ""]
    return "\r\n".join(lines).encode() + data


def stream_head(kind: str = "text/event-stream") -> bytes:
    """The head of a stream that ends with its connection."""
    return f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nConnection: close\r\n\r\n".encode()


def event(text: str, finish_reason: str | None = None) -> bytes:
    """A chunk with this text."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


@asynccontextmanager
async def answering(*answers: bytes) -> AsyncIterator[tuple[str, list[dict[str, object]]]]:
    """The URL of a server, and what it was asked.

    Each connection is given the next answer, the last one again and again.
    """
    left = list(answers)
    asked: list[dict[str, object]] = []
    tasks: set[asyncio.Task[None]] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            n_bytes = int(head.partition("content-length: ")[2].split("\r\n")[0] or 0)
            body = await reader.readexactly(n_bytes)
            asked.append(json.loads(body) if body else {})
            said = left.pop(0) if len(left) > 1 else left[0]
            writer.write(said.removesuffix(HOLD))
            await writer.drain()
            if said.endswith(HOLD):
                await reader.read()  # until the client hangs up
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}", asked
    await asyncio.gather(*tasks)


def parts(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """The bytes cut at these places."""
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(places)]
