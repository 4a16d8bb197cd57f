"""Messages of plain values over a pipe, each with its length in front.

Knows nobody who sends them.
"""

import marshal
from typing import IO, Any

__all__ = ["FrameError", "read_frame", "write_frame"]

_LENGTH_BYTES = 4


class FrameError(Exception):
    """The other side ended in the middle of a message."""


def read_frame(stream: IO[bytes]) -> Any:  # whatever was sent
    """The next message, None at the end of the stream.

    Raises: FrameError
    """
    head = stream.read(_LENGTH_BYTES)
    if not head:
        return None
    n_bytes = int.from_bytes(head, "little")
    body = stream.read(n_bytes)
    if len(head) < _LENGTH_BYTES or len(body) < n_bytes:
        raise FrameError
    # Both sides are one version of one program, and nobody else writes into the pipe.
    return marshal.loads(body)  # noqa: S302


def write_frame(stream: IO[bytes], message: tuple[Any, ...]) -> None:
    """Send a message."""
    body = marshal.dumps(message)
    stream.write(len(body).to_bytes(_LENGTH_BYTES, "little") + body)
    stream.flush()
