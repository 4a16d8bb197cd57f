"""Messages as bytes: whatever comes in between, the next whole message is found."""

import asyncio
import os
import sys
import threading
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsp_assist.server.wire import Outbox, claim_stdio, frame, frames, read_fd


async def read(data: bytes) -> list[bytes]:
    """The bodies in a stream that ends with this data."""
    reader = asyncio.StreamReader(limit=2**16)
    reader.feed_data(data)
    reader.feed_eof()
    async with aclosing(frames(reader)) as bodies:
        return [body async for body in bodies]


@given(st.lists(st.binary(min_size=1)))
def test_what_is_framed_is_read(bodies: list[bytes]) -> None:
    assert asyncio.run(read(b"".join(map(frame, bodies)))) == bodies


@given(st.binary(max_size=200))
def test_any_bytes_end_the_stream_at_worst(noise: bytes) -> None:
    """Nothing is raised, whatever is sent."""
    asyncio.run(read(noise))


@pytest.mark.parametrize(
    "before",
    [
        b"\r\n\r\n",
        b"Content-Length: abc\r\n\r\n",
        b"Content-Length: 0\r\n\r\n",
        b"Content-Length: -5\r\n\r\n",
        b"hello\n\n",
        b"x" * 200_000 + b"\r\n",
        b"Content-Length: abc\r\n\r\n{}",
        b"Content-Length: 300000000\r\n\r\n" + b" " * 300_000_000,
    ],
)
async def test_a_damaged_message_costs_only_itself(before: bytes) -> None:
    assert await read(before + frame(b"{}")) == [b"{}"]


@pytest.mark.parametrize(
    "head",
    [
        b"content-length: 2\r\n\r\n",
        b"Content-Length:2\r\n\r\n",
        b"Content-Length: 2\n\n",
        b"Content-Type: application/vim-jsonrpc\r\nContent-Length: 2\r\n\r\n",
        b"Content-Length: 2\r\nContent-Type: application/vscode-jsonrpc; charset=utf-8\r\n\r\n",
    ],
)
async def test_headers_are_read_as_editors_write_them(head: bytes) -> None:
    assert await read(head + b"{}") == [b"{}"]


async def test_a_browser_is_not_listened_to() -> None:
    """A web page can make a browser post to a port of this machine."""
    post = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 40\r\n\r\n"

    assert await read(post + frame(b"{}") + b" " * 40) == []


async def test_a_message_cut_off_by_the_end_is_none() -> None:
    assert await read(frame(b"{}") + frame(b"{}")[:-1]) == [b"{}"]


async def test_a_client_that_does_not_read_does_not_stop_the_server() -> None:
    """Far more than a pipe holds is written at once, and read later, in order."""
    reading, writing = os.pipe()
    outbox = Outbox(writing, lambda: None)
    written = [frame(b"%d" % n + b" " * 1000) for n in range(1000)]
    for data in written:
        outbox.write(data)

    def close() -> None:
        outbox.close()
        os.close(writing)

    with os.fdopen(reading, "rb") as pipe:
        threading.Thread(target=close).start()
        assert await asyncio.to_thread(pipe.read) == b"".join(written)


async def test_a_client_that_is_gone_is_noticed() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    gone = threading.Event()
    outbox = Outbox(writing, gone.set)

    outbox.write(b"anyone?")

    assert await asyncio.to_thread(gone.wait, 30)
    outbox.close()
    os.close(writing)


async def test_a_descriptor_is_read_until_it_ends() -> None:
    reading, writing = os.pipe()
    reader = read_fd(reading)
    os.write(writing, b"first ")
    assert await reader.readexactly(6) == b"first "
    os.write(writing, b"last")
    os.close(writing)

    assert await reader.read() == b"last"
    os.close(reading)


def test_stdio_is_given_back() -> None:
    stdout = sys.stdout
    with claim_stdio() as (_, private):
        assert os.fstat(1) == os.fstat(2)
        assert os.fstat(private) != os.fstat(1) or os.fstat(private) == os.fstat(2)
        assert sys.stdout is sys.stderr
    assert sys.stdout is stdout
