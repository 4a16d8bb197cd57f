"""A server in the test's own process, for what needs many messages or a look inside."""

import asyncio
import json
from pathlib import Path
from typing import Any

from lsp_assist.server.app import AssistServer
from lsp_assist.server.wire import frame
from tests.server.scripted import ScriptedAssistant


class InProcess:
    """A server, and the messages that it sent."""

    def __init__(self) -> None:
        self.server = AssistServer({}, ScriptedAssistant)
        self.server.protocol.set_writer(self)
        self.sent: list[dict[str, Any]] = []
        self.reader = asyncio.StreamReader()
        self.serving = asyncio.ensure_future(self.server.serve(self.reader))
        self._news = asyncio.Event()

    def write(self, data: bytes) -> None:
        """Take what the server sends: one framed message."""
        head, _, body = data.partition(b"\r\n\r\n")
        assert head == b"Content-Length: %d" % len(body)
        self.sent.append(json.loads(body))
        self._news.set()

    def close(self) -> None:
        """Nothing is to be closed."""

    def put(self, body: object) -> None:
        """Send the server a message, or bytes as they are."""
        said = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.reader.feed_data(frame(said))

    def request(self, msg_id: object, method: str, params: object = None) -> None:
        """Send the server a request."""
        self.put({"jsonrpc": "2.0", "id": msg_id, "method": method, "params": params})

    def notify(self, method: str, params: object = None) -> None:
        """Send the server a notification."""
        self.put({"jsonrpc": "2.0", "method": method, "params": params})

    async def answer(self, msg_id: object) -> dict[str, Any]:
        """The answer to a request, waited for."""
        while True:
            for message in self.sent:
                if message.get("id") == msg_id and "method" not in message:
                    return message
            self._news.clear()
            await self._news.wait()

    async def turn(self, turn_id: str) -> list[dict[str, Any]]:
        """The events of a turn, waited for to the last; each with its `message`."""
        while True:
            events = [
                {**message["params"], "message": message}
                for message in self.sent
                if message.get("method") == "assist/event"
                and message["params"]["turnId"] == turn_id
            ]
            if events and events[-1]["kind"] in ("done", "cancelled", "error"):
                return events
            self._news.clear()
            await self._news.wait()

    async def start(self, root: Path | None = None, **params: object) -> dict[str, Any]:
        """Initialize the server."""
        folders = [{"uri": root.as_uri(), "name": root.name}] if root else None
        said = {"processId": None, "capabilities": {}, "workspaceFolders": folders, **params}
        self.request("start", "initialize", said)
        answer = await self.answer("start")
        self.notify("initialized", {})
        return answer

    async def stop(self) -> int:
        """Say goodbye; the exit code."""
        self.request("stop", "shutdown")
        await self.answer("stop")
        self.notify("exit")
        return await self.serving
