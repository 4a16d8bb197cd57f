"""Server-sent events, as far as models stream their replies by them.

Knows no model. What comes over the wire is not trusted to be text, or to end.
"""

from collections.abc import AsyncGenerator, AsyncIterator

__all__ = ["MAX_LINE_BYTES", "BrokenStream", "data_of"]

MAX_LINE_BYTES = 2**20


class BrokenStream(Exception):
    """The bytes are no event stream; the text says why."""


async def data_of(chunks: AsyncIterator[bytes]) -> AsyncGenerator[str, None]:
    """The data of each event. Lines end with LF or CRLF; comments and other fields are left out.

    An event that the end of the stream cuts off is not given.

    Raises: BrokenStream
    """
    data: list[str] = []
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        if max(map(len, (*lines, rest))) > MAX_LINE_BYTES:
            raise BrokenStream(f"a line of more than {MAX_LINE_BYTES:,} bytes")
        for line in lines:
            stripped = line.removesuffix(b"\r")
            if stripped.startswith(b"data:"):
                data.append(_text(stripped[5:].removeprefix(b" ")))
            elif not stripped and data:
                yield "\n".join(data)
                data = []


def _text(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BrokenStream("bytes that are no UTF-8") from error
