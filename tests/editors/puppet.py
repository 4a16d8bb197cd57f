"""A server whose every word a test decides. What the editor says is kept until it is read."""

import json
import queue
import socket
import sys
import threading
from pathlib import Path
from typing import Any

__all__ = ["DEADLINE_S", "Puppet"]

DEADLINE_S = 30.0
RELAY = Path(__file__).parent / "relay.py"


class Puppet:
    """Listens for the editor's server process, and is that server."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(DEADLINE_S)
        self.command = [sys.executable, "-I", "-S", str(RELAY), str(self.port)]
        self._connection: socket.socket | None = None
        self._received: queue.Queue[dict[str, Any]] = queue.Queue()
        self._kept: list[dict[str, Any]] = []
        self._n_events: dict[str, int] = {}
        self._n_requests = 1_000_000_000

    @property
    def port(self) -> int:
        """Where the relay connects to."""
        port: int = self._listening.getsockname()[1]
        return port

    def accept(self) -> dict[str, Any]:
        """Wait until the editor has started its server, and let it initialize; what it said."""
        connection, _ = self._listening.accept()
        self._connection = connection
        threading.Thread(target=self._read, args=(connection,), daemon=True).start()
        asked = self.next("initialize")
        self.answer(asked, {"capabilities": {}, "serverInfo": {"name": "puppet"}})
        self.next("initialized")
        params: dict[str, Any] = asked["params"]
        return params

    def next(self, method: str) -> dict[str, Any]:
        """The next message of a method that was not read yet; others are kept."""
        for message in self._kept:
            if message.get("method") == method:
                self._kept.remove(message)
                return message
        while True:
            message = self._received.get(timeout=DEADLINE_S)
            if message.get("method") == method:
                return message
            self._kept.append(message)

    def unread(self) -> list[str]:
        """Methods of what has arrived and was not read."""
        return [message.get("method", "") for message in self.kept()]

    def kept(self) -> list[dict[str, Any]]:
        """What has arrived and was not read."""
        while not self._received.empty():
            self._kept.append(self._received.get())
        return self._kept

    def answer(self, request: dict[str, Any], result: object) -> None:
        """The result of a request."""
        self.send({"id": request["id"], "result": result})

    def refuse(self, request: dict[str, Any], code: int = -32601, text: str = "refused") -> None:
        """An error instead of a result."""
        self.send({"id": request["id"], "error": {"code": code, "message": text}})

    def request(self, method: str, params: object) -> dict[str, Any]:
        """Ask the editor; its answer."""
        self._n_requests += 1
        self.send({"id": self._n_requests, "method": method, "params": params})
        while True:
            message = self._received.get(timeout=DEADLINE_S)
            if message.get("id") == self._n_requests and "method" not in message:
                return message
            self._kept.append(message)

    def event(self, asked: dict[str, Any], kind: str, **fields: object) -> None:
        """An event of the turn that was asked."""
        self.send_raw(self._event(asked, kind, **fields))

    def delta(self, asked: dict[str, Any], text: str) -> bytes:
        """A piece of the reply as it travels, to be sent with others at once."""
        return self._event(asked, "delta", text=text)

    def _event(self, asked: dict[str, Any], kind: str, **fields: object) -> bytes:
        turn_id = asked["params"]["turnId"]
        seq = self._n_events.get(turn_id, 0)
        self._n_events[turn_id] = seq + 1
        ids = {"chatId": asked["params"]["chatId"], "turnId": turn_id}
        params = {**ids, "seq": seq, "kind": kind, **fields}
        return framed({"method": "assist/event", "params": params})

    def say(self, asked: dict[str, Any], text: str) -> None:
        """A delta."""
        self.event(asked, "delta", text=text)

    def finish(self, asked: dict[str, Any], text: str, **fields: object) -> None:
        """The end of a turn, as event and as result."""
        result: dict[str, object] = {"usage": USAGE, "sources": [], **fields}
        self.event(asked, "usage", usage=result["usage"])
        self.event(asked, "done", sources=result["sources"])
        self.answer(asked, {"status": "done", "text": text, **result})

    def send(self, message: dict[str, object]) -> None:
        """Any message."""
        self.send_raw(framed(message))

    def send_raw(self, data: bytes) -> None:
        """Any bytes."""
        assert self._connection is not None, "the editor has started no server"
        self._connection.sendall(data)

    def hang_up(self) -> None:
        """The server's process ends."""
        assert self._connection is not None
        self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()

    def close(self) -> None:
        """Stop listening, and end what is connected."""
        self._listening.close()
        if self._connection is not None:
            self._connection.close()

    def _read(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as stream:
            while True:
                n_bytes = 0
                try:
                    while (line := stream.readline()).strip():
                        name, _, value = line.partition(b":")
                        n_bytes = int(value) if name.lower() == b"content-length" else n_bytes
                    if not line:
                        return
                    self._received.put(json.loads(stream.read(n_bytes)))
                except (OSError, ValueError):
                    return


def framed(message: dict[str, object]) -> bytes:
    """A message as it travels."""
    body = json.dumps({"jsonrpc": "2.0", **message}).encode()
    return b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


USAGE = {
    "promptTokens": 100,
    "cachedTokens": 90,
    "outputTokens": 10,
    "ttftMs": 100.0,
    "totalMs": 600.0,
    "tokensPerSecond": 18.0,
    "model": "puppet",
    "route": "a test",
}
