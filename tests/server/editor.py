"""An editor for tests: pytest-lsp's client, which keeps what the server says until it is read.

`finish` fails on what nobody read, and on anything in the server's log.
"""

import asyncio
import os
import sys
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from lsprotocol import types
from pygls.lsp._base_client import BaseLanguageClient
from pytest_lsp import LanguageClient
from pytest_lsp.client import register_lsp_features

from lsp_assist.server.rpc import FIRST_SERVER_ID, converter

ROOT = Path(__file__).parents[2]
SCRIPTED = [sys.executable, "-m", "tests.server.scripted"]
REAL = [sys.executable, "-m", "lsp_assist", "serve"]


class Editor(LanguageClient):
    """A client that speaks the extension, or not, with documents that it keeps itself."""

    def __init__(self, root: Path, home: Path, command: list[str]) -> None:
        super().__init__(converter_factory=converter)
        register_lsp_features(self)
        register_lsp_features(self, {types.WORKSPACE_APPLY_EDIT: _apply_edit})
        # pygls takes no bound methods.
        self.feature(types.CLIENT_REGISTER_CAPABILITY)(partial(self._register))
        self.feature("assist/event")(partial(self._event))
        # The protocol calls these by name; what they do besides is wake up who waits.
        for method in (types.PROGRESS, types.WINDOW_SHOW_MESSAGE, types.WINDOW_SHOW_DOCUMENT):
            self.protocol.fm.features[method] = self._and_news(self.protocol.fm.features[method])
        self._count_requests()
        self.root = root
        self.home = home
        self.command = command
        self.log: list[str] = []
        self.registered: list[types.Registration] = []
        self.server_ids: list[object] = []
        self.texts: dict[str, tuple[int, str]] = {}
        self.untold: set[str] = set()
        """Documents that are open here and that the server is told nothing of."""
        self.refuses_edits = 0
        self.refused_documents: set[str] = set()
        self.edits: list[types.ApplyWorkspaceEditParams] = []
        self.reports: dict[types.ProgressToken, list[Any]] = self.progress_reports
        self._events: dict[str, list[dict[str, Any]]] = {}
        self._news = asyncio.Event()
        self._stderr: asyncio.Task[None] | None = None

    # Life

    async def launch(self, **env: str) -> None:
        """Start the server's process."""
        said = {"LSP_ASSIST_HOME": str(self.home), "PYTHONPATH": str(ROOT)}
        start = BaseLanguageClient.start_io
        await start(self, *self.command, env=os.environ | said | env, cwd=str(self.root))
        self._stderr = asyncio.create_task(self._read_stderr())

    async def open_session(
        self,
        capabilities: types.ClientCapabilities | None = None,
        *,
        options: object = None,
        folders: list[Path] | None = None,
        speaks_extension: bool = True,
    ) -> types.InitializeResult:
        """Initialize, with nothing but the extension declared unless told otherwise."""
        capabilities = capabilities or types.ClientCapabilities()
        if speaks_extension:
            capabilities.experimental = {"lspAssist": {"version": 1}}
        folders = [self.root] if folders is None else folders
        return await self.initialize_session(
            types.InitializeParams(
                capabilities=capabilities,
                process_id=os.getpid(),
                initialization_options=options,
                workspace_folders=[types.WorkspaceFolder(f.as_uri(), f.name) for f in folders],
            )
        )

    async def finish(self, *, expected_log: str = "") -> None:
        """Shut the server down; everything that it said was read, and it logged nothing else."""
        server = self._server
        assert server is not None
        if server.returncode is None:
            await self.shutdown_session()
        assert await server.wait() == 0
        await self.stop()  # type: ignore[no-untyped-call]
        await self.drain_stderr()
        assert self._events == {}, "unread events"
        assert self.messages == [], "unread messages"
        assert self.error is None
        left = [line for line in self.log if not (expected_log and expected_log in line)]
        assert left == [], "\n".join(["logged:", *left])
        assert all(type(i) is int and i >= FIRST_SERVER_ID for i in self.server_ids)

    async def drain_stderr(self) -> None:
        """Wait until the server has closed its stderr."""
        if self._stderr is not None:
            await self._stderr

    async def kill(self) -> None:
        """End the process, whatever state it is in."""
        if self._server is not None and self._server.returncode is None:
            self._server.kill()
            await self._server.wait()
        with suppress(Exception):
            await self.stop()  # type: ignore[no-untyped-call]
        if self._stderr is not None:
            self._stderr.cancel()

    async def _read_stderr(self) -> None:
        assert self._server is not None
        assert self._server.stderr is not None
        while line := await self._server.stderr.readline():
            self.log.append(line.decode(errors="replace").rstrip())

    # Turns

    async def ask(self, text: str, **params: object) -> Any:
        """The result of a question; its events are under `turn_id`."""
        return await self.send("assist/ask", question(text, **params))

    async def send(self, method: str, params: object = None, msg_id: str | None = None) -> Any:
        """The result of any request."""
        send: Any = self.protocol.send_request_async
        return await send(method, params, msg_id)

    def put(self, message: dict[str, object]) -> None:
        """Send a message as it is, well formed or not."""
        self.protocol._send_data(message)

    async def events(self, turn_id: str, kind: str | None = None) -> list[dict[str, Any]]:
        """The events of a turn up to its last one, or the first of a kind; they count as read."""
        ends = ("done", "cancelled", "error") if kind is None else (kind,)
        while not any(e["kind"] in ends for e in self._events.get(turn_id, ())):
            await self.news()
        if kind is not None:
            return list(self._events[turn_id])
        return self._events.pop(turn_id)

    async def until_progress_ends(self) -> None:
        """Wait until every progress that began has ended, and one has."""
        ended = types.WorkDoneProgressEnd
        await self.until(
            lambda: (
                any(self.reports.values())
                and all(r and isinstance(r[-1], ended) for r in self.reports.values())
            )
        )

    async def until_indexed(self) -> None:
        """Wait until the first index is done."""
        while any(i["state"] != "ready" for i in (await self.send("assist/status"))["indexes"]):
            pass

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Wait until the server has said something that makes it so."""
        while not is_so():
            await self.news()

    async def news(self) -> None:
        """Wait for the next message of the server that this editor keeps."""
        self._news.clear()
        await self._news.wait()

    def read_messages(self) -> list[str]:
        """What the user was shown; it counts as read."""
        said = [message.message for message in self.messages]
        self.messages.clear()
        return said

    # Documents

    def open(self, uri: str, text: str, language: str = "python", version: int = 1) -> None:
        """Open a document, here and at the server."""
        self.texts[uri] = (version, text)
        self.text_document_did_open(
            types.DidOpenTextDocumentParams(types.TextDocumentItem(uri, language, version, text))
        )

    def type(self, uri: str, text: str) -> None:
        """Replace the text of a document as a user would."""
        version = self.texts[uri][0] + 1
        self.texts[uri] = (version, text)
        self.change(uri, version, types.TextDocumentContentChangeWholeDocument(text))

    def change(self, uri: str, version: int, *changes: Any) -> None:
        """Tell the server of changes."""
        self.text_document_did_change(
            types.DidChangeTextDocumentParams(
                types.VersionedTextDocumentIdentifier(version, uri), list(changes)
            )
        )

    # What the server asks and says

    def _event(self, event: dict[str, Any]) -> None:
        self._events.setdefault(event["turnId"], []).append(event)
        self._news.set()

    def _register(self, params: types.RegistrationParams) -> None:
        self.registered += params.registrations
        self._news.set()

    def _and_news(self, handler: Callable[[Any], object]) -> Callable[[Any], object]:
        def handle(params: Any) -> object:
            result = handler(params)
            self._news.set()
            return result

        return handle

    def _count_requests(self) -> None:
        handle: Callable[[Any, str, Any], None] = self.protocol._handle_request

        def count(msg_id: Any, method: str, params: Any) -> None:
            self.server_ids.append(msg_id)
            handle(msg_id, method, params)

        self.protocol._handle_request = count  # type: ignore[method-assign]

    def handled(self) -> None:
        """A message has changed what a test may wait for."""
        self._news.set()


def _apply_edit(
    client: Editor, params: types.ApplyWorkspaceEditParams
) -> types.ApplyWorkspaceEditResult:
    """Apply an edit as editors do: one document after the other, until one has another version."""
    client.edits.append(params)
    for change in params.edit.document_changes or ():
        if isinstance(change, types.CreateFile):
            file_of(change.uri).parent.mkdir(exist_ok=True)
            file_of(change.uri).touch(exist_ok=False)
            continue
        assert isinstance(change, types.TextDocumentEdit)
        document = change.text_document
        if not _edit(client, document.uri, document.version, change.edits):
            return types.ApplyWorkspaceEditResult(applied=False)
    for uri, edits in (params.edit.changes or {}).items():
        if not _edit(client, uri, None, edits):
            return types.ApplyWorkspaceEditResult(applied=False)
    client.handled()
    return types.ApplyWorkspaceEditResult(applied=True)


def _edit(client: Editor, uri: str, version: int | None, edits: Sequence[Any]) -> bool:
    if uri not in client.texts:
        client.open(uri, file_of(uri).read_text(encoding="utf-8"))
    current, text = client.texts[uri]
    is_other = version is not None and version != current
    if client.refuses_edits or is_other or uri in client.refused_documents:
        client.refuses_edits = max(0, client.refuses_edits - 1)
        return False
    for edit in sorted(edits, key=lambda e: -e.range.start.line):
        start, end = (_offset(text, place) for place in (edit.range.start, edit.range.end))
        text = text[:start] + edit.new_text + text[end:]
    if uri in client.untold:
        client.texts[uri] = (current + 1, text)
    else:
        client.type(uri, text)
    return True


def _offset(text: str, position: types.Position) -> int:
    lines = text.split("\n")
    return sum(len(line) + 1 for line in lines[: position.line]) + position.character


def file_of(uri: str) -> Path:
    """The file that a URI names."""
    return Path(unquote(urlparse(uri).path))


def question(text: str, **params: object) -> dict[str, object]:
    """The params of `assist/ask`."""
    return {"chatId": str(uuid.uuid4()), "turnId": str(uuid.uuid4()), "text": text, **params}


def lines(start: tuple[int, int], end: tuple[int, int]) -> dict[str, object]:
    """A range as it travels."""
    return {
        "start": {"line": start[0], "character": start[1]},
        "end": {"line": end[0], "character": end[1]},
    }
