"""A language server that is played by whoever listens: bytes go through, both ways.

`python -S relay.py PORT`. Imports next to nothing, so that an editor under test does not wait.
"""

import os
import socket
import sys
import threading


def main() -> None:
    """Copy stdin to the port of this machine, and what comes from there to stdout."""
    with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as connection:
        threading.Thread(target=_upwards, args=(connection,), daemon=True).start()
        while data := connection.recv(2**16):
            view = memoryview(data)
            while view:
                view = view[os.write(1, view) :]


def _upwards(connection: socket.socket) -> None:
    while data := os.read(0, 2**16):
        connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    main()
