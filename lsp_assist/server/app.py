"""The language server: its life, the text of open documents, and which message goes where.

Everything that it knows of the user's code it tells the assistant, which does the work. Nothing
here waits for the assistant on the way of a notification: order is kept by doing little.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Any

from lsprotocol import types
from pygls.capabilities import ServerCapabilitiesBuilder
from pygls.lsp.server import LanguageServer

import lsp_assist
from lsp_assist.assistant import Assistant, Question
from lsp_assist.codebase.documents import Change, Encoding, Position, Range
from lsp_assist.codebase.reading import Contents, read_text
from lsp_assist.errors import AssistError, BadInput
from lsp_assist.server import (
    actions,
    asking,
    chat_requests,
    edits,
    logs,
    options,
    parent,
    places,
    protocol,
)
from lsp_assist.server.chat import Turns
from lsp_assist.server.chat_files import ChatFiles
from lsp_assist.server.client import Client
from lsp_assist.server.protocol import (
    APPLY_EDIT,
    ASK,
    CANCEL,
    CONTEXT,
    EDITS,
    EXPERIMENTAL,
    INDEX,
    MODELS,
    SEARCH,
    STATUS,
    VERSION,
    WARM,
    Found,
    IndexParams,
    SearchParams,
    SearchResult,
    structure,
    unstructure,
)
from lsp_assist.server.rpc import Connection, converter
from lsp_assist.server.tasks import Tasks
from lsp_assist.server.wire import frames
from lsp_assist.workspace import Filter, Progress

__all__ = ["AssistServer"]

logger = logging.getLogger(__name__)

MAX_HITS = 200
SHOWN_CHUNKS = 2_000  # what is embedded within a second or two needs no bar
MAX_SYMBOLS = 200
MAX_SAVED_BYTES = 100_000_000
SELECTED_AFTER_S = 0.3
"""A selection that stands so long is worth a warm-up."""
_CLOSE_S = 5.0
_LINGER_S = 15.0

_ENCODINGS: dict[str, Encoding] = {"utf-8": "utf-8", "utf-16": "utf-16", "utf-32": "utf-32"}


class AssistServer(LanguageServer):
    """The server of one client, from its first message to its last."""

    protocol: Connection

    def __init__(
        self, overrides: options.Options, make_assistant: options.OpenAssistant = Assistant
    ) -> None:
        """`overrides` are settings that win over the client's, as `config.resolve` takes them."""
        super().__init__(
            "lsp-assist",
            lsp_assist.__version__,
            protocol_cls=Connection,
            converter_factory=converter,
        )
        self._overrides = overrides
        self._make_assistant = make_assistant
        self.client = Client(self.protocol)
        self._tasks = Tasks()
        self._turns = Turns(self.protocol, self._tasks)
        self._assistant: Assistant | None = None
        self._chats: ChatFiles | None = None
        self._indexing: asyncio.Task[None] | None = None
        self._warnings: list[str] = []
        self._stopped = asyncio.Event()
        self._exit_code = 1
        self.protocol.requests = self._requests()
        self.protocol.notifications = self._notifications()

    async def serve(self, reader: asyncio.StreamReader) -> int:
        """Handle messages until the client says goodbye or is gone; the exit code."""
        reading = asyncio.ensure_future(self._read(reader))
        stopped = asyncio.ensure_future(self._stopped.wait())
        try:
            await asyncio.wait((reading, stopped), return_when=asyncio.FIRST_COMPLETED)
        finally:
            reading.cancel()
            stopped.cancel()
            await asyncio.gather(reading, stopped, return_exceptions=True)
            await self._close()
        return self._exit_code

    def stop(self, exit_code: int) -> None:
        """End `serve`."""
        if not self._stopped.is_set():
            self._exit_code = exit_code
            self._stopped.set()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        async with aclosing(frames(reader)) as bodies:
            await self.protocol.read(bodies)
        self.stop(0 if self.protocol.phase == "shutdown" else 1)

    async def _close(self) -> None:
        self.protocol.hang_up()
        await self._tasks.cancel()
        if self._assistant is not None:
            try:
                async with asyncio.timeout(_CLOSE_S):
                    await self._assistant.close()
            except TimeoutError:
                logger.warning("The assistant did not close within %.0f s.", _CLOSE_S)

    def _requests(self) -> dict[str, Callable[[Any], object]]:
        return {
            types.INITIALIZE: self._initialize,
            types.SHUTDOWN: self._shutdown,
            types.TEXT_DOCUMENT_CODE_ACTION: self._code_action,
            types.TEXT_DOCUMENT_CODE_LENS: self._code_lens,
            types.WORKSPACE_EXECUTE_COMMAND: self._execute_command,
            types.WORKSPACE_SYMBOL: self._symbols,
            ASK: self._ask,
            WARM: self._warm,
            CONTEXT: self._context,
            MODELS: self._models,
            CANCEL: self._turns.cancel,
            APPLY_EDIT: self._apply_edit,
            EDITS: self._edits,
            INDEX: self._change_index,
            SEARCH: self._search,
            STATUS: self._status,
            **{
                method: partial(self._on_chats, handle)
                for method, handle in chat_requests.HANDLERS.items()
            },
        }

    def _notifications(self) -> dict[str, Callable[[Any], None]]:
        return {
            types.INITIALIZED: self._initialized,
            types.EXIT: self._exit,
            types.SET_TRACE: _ignore,
            types.WORKSPACE_DID_CHANGE_CONFIGURATION: _ignore,
            types.TEXT_DOCUMENT_DID_OPEN: self._did_open,
            types.TEXT_DOCUMENT_DID_CHANGE: self._did_change,
            types.TEXT_DOCUMENT_DID_SAVE: self._did_save,
            types.TEXT_DOCUMENT_DID_CLOSE: self._did_close,
            types.WORKSPACE_DID_CHANGE_WATCHED_FILES: self._did_change_watched_files,
            types.WORKSPACE_DID_CHANGE_WORKSPACE_FOLDERS: self._did_change_folders,
            types.WINDOW_WORK_DONE_PROGRESS_CANCEL: self._cancel_progress,
        }

    @property
    def assistant(self) -> Assistant:
        """The assistant; there is one between the answers to `initialize` and `shutdown`."""
        assert self._assistant is not None, self.protocol.phase
        return self._assistant

    @property
    def chats(self) -> ChatFiles:
        """The chat documents."""
        assert self._chats is not None, self.protocol.phase
        return self._chats

    # The life of a server

    async def _initialize(self, params: types.InitializeParams) -> types.InitializeResult:
        roots, warnings = options.folders(params)
        chosen = options.settings(
            params.initialization_options, self._overrides, roots[0] if roots else None
        )
        if problem := logs.configure(chosen.log):
            warnings.append(problem)
        assistant = self._make_assistant(chosen, roots)
        try:
            await assistant.start()
        except BaseException:
            await assistant.close()
            raise
        self._assistant = assistant
        self._warnings = [*warnings, *assistant.settings.warnings]
        self.client.capabilities = params.capabilities
        picked = ServerCapabilitiesBuilder.choose_position_encoding(params.capabilities)
        self.client.encoding = _ENCODINGS[str(getattr(picked, "value", picked))]
        self._chats = ChatFiles(assistant, self.client, self._turns, self._tasks)
        if params.process_id is not None:
            self._tasks.start(self._outlive(params.process_id), "watching the editor")
        return types.InitializeResult(
            capabilities=self._capabilities(picked),
            server_info=types.ServerInfo(self.name, self.version),
        )

    def _capabilities(self, encoding: types.PositionEncodingKind | str) -> types.ServerCapabilities:
        code_actions = types.CodeActionOptions(code_action_kinds=list(actions.KINDS))
        builder = ServerCapabilitiesBuilder(
            self.client.capabilities,
            {*self.protocol.requests, *self.protocol.notifications},
            {types.TEXT_DOCUMENT_CODE_ACTION: code_actions},
            list(actions.COMMANDS),
            types.TextDocumentSyncKind.Incremental,
            None,
            encoding,
        )
        capabilities: types.ServerCapabilities = builder.build()  # type: ignore[no-untyped-call]
        capabilities.experimental = EXPERIMENTAL
        return capabilities

    def _initialized(self, _params: object) -> None:
        if self._warnings:
            self.client.tell("\n".join(self._warnings), types.MessageType.Warning)
        self.assistant.workspace.keeps_ready = True
        self._index()
        self._tasks.start(self._watch_files(), "watching files")
        self._tasks.start(self._open_chats(), "opening the chats")

    async def _open_chats(self) -> None:
        await self.assistant.chats.start()
        for warning in self.assistant.chats.warnings:
            self.client.tell(warning, types.MessageType.Warning)

    async def _watch_files(self) -> None:
        workspace = self.assistant.workspace
        workspace.watches_files = workspace.watches_files or await self.client.watch_files()
        if not workspace.watches_files:
            await workspace.watch()

    def _shutdown(self, _params: object) -> None:
        self.protocol.phase = "shutdown"
        self.protocol.cancel_requests()

    def _exit(self, _params: object) -> None:
        self.stop(0 if self.protocol.phase == "shutdown" else 1)

    async def _outlive(self, process_id: int) -> None:
        await parent.has_ended(process_id)
        logger.warning("The editor (process %d) is gone; so is its server.", process_id)
        # Nobody would end a process that does not end by itself.
        last = threading.Timer(_LINGER_S, os._exit, (1,))
        last.daemon = True
        last.start()
        self.stop(1)

    # The index

    def _index(self) -> None:
        """Bring the index up to date in the background; anew if that is under way."""
        if self._indexing is not None:
            self._indexing.cancel()
        self._indexing = self._tasks.start(self._refresh(), "indexing")

    async def _refresh(self) -> None:
        task = asyncio.current_task()
        assert task is not None

        with self.client.progress("Indexing", task.cancel) as bar:

            def report(progress: Progress) -> None:
                bar.report(progress.n_done, progress.n_total)

            # The work does not wait until the editor shows it.
            async with asyncio.TaskGroup() as group:
                group.create_task(bar.begin())
                try:
                    await self.assistant.workspace.refresh(report)
                except AssistError as error:
                    self.client.tell(str(error), types.MessageType.Error)
        await self._show_embedding()

    async def _show_embedding(self) -> None:
        """Show how far the vectors are, if that takes long; the work does not depend on it."""
        workspace = self.assistant.workspace
        if not workspace.embeds:
            return

        def pause() -> None:
            self._tasks.start(workspace.pause(True), "pausing")

        with self.client.progress("Embedding", pause, "chunks") as bar:
            beginning: asyncio.Task[None] | None = None

            def report(progress: Progress) -> None:
                nonlocal beginning
                if beginning is None and progress.n_total - progress.n_done > SHOWN_CHUNKS:
                    beginning = self._tasks.start(bar.begin(), "showing progress")
                bar.report(progress.n_done, progress.n_total)

            await workspace.embedded(report)

    def _cancel_progress(self, params: types.WorkDoneProgressCancelParams) -> None:
        self.client.cancel_progress(params.token)

    def _did_change_watched_files(self, params: types.DidChangeWatchedFilesParams) -> None:
        for change in params.changes:
            if path := places.path_of(change.uri):
                self.assistant.workspace.file_changed(path)

    def _did_change_folders(self, params: types.DidChangeWorkspaceFoldersParams) -> None:
        for folder in params.event.removed:
            if path := places.path_of(folder.uri):
                self.assistant.workspace.remove_root(path)
        for folder in params.event.added:
            try:
                if path := places.path_of(folder.uri):
                    self.assistant.workspace.add_root(path)
            except AssistError as error:
                self.client.tell(str(error), types.MessageType.Warning)
        self._index()
        self._tasks.start(self._watch_files(), "watching files")

    # Documents

    def _did_open(self, params: types.DidOpenTextDocumentParams) -> None:
        said = params.text_document
        self.assistant.workspace.documents.open(
            said.uri, places.path_of(said.uri), said.language_id, said.version, said.text
        )
        self._document_changed(said.uri)

    def _did_change(self, params: types.DidChangeTextDocumentParams) -> None:
        changes = [_change(change) for change in params.content_changes]
        said = params.text_document
        self.assistant.workspace.documents.change(
            said.uri, said.version, changes, self.client.encoding
        )
        self._document_changed(said.uri)

    def _did_save(self, params: types.DidSaveTextDocumentParams) -> None:
        uri = params.text_document.uri
        document = self.assistant.workspace.documents.get(uri)
        text = params.text
        if text is None and document is not None and document.is_out_of_sync and document.path:
            saved = read_text(document.path, MAX_SAVED_BYTES, follow_link=True)
            text = saved.text if isinstance(saved, Contents) else None
        if document is not None:
            self.assistant.workspace.documents.save(uri, text)
            self._document_changed(uri)
        if path := places.path_of(uri):
            self.assistant.workspace.file_changed(path)

    def _did_close(self, params: types.DidCloseTextDocumentParams) -> None:
        self.assistant.workspace.documents.close(params.text_document.uri)
        self._document_changed(params.text_document.uri)

    def _document_changed(self, uri: str) -> None:
        self.assistant.workspace.document_changed(uri)
        self.chats.document_changed()
        self._warm_typed(uri)

    # Requests

    def _ask(self, params: object) -> Awaitable[object]:
        return self._turns.ask(self.assistant, self.client.encoding, params)

    def _warm(self, params: object) -> Awaitable[object]:
        question = asking.question_of(self.assistant, self.client.encoding, params)
        return asking.warm(self.assistant, question)

    def _models(self, _params: object) -> Awaitable[object]:
        return asking.models(self.assistant)

    def _context(self, params: object) -> Awaitable[object]:
        question = asking.question_of(self.assistant, self.client.encoding, params)
        return asking.context(self.assistant, question)

    def _edits(self, params: object) -> Awaitable[object]:
        return edits.preview(self.assistant, params)

    def _apply_edit(self, params: object) -> Awaitable[object]:
        return edits.apply(self.assistant, self.client, params)

    def _on_chats(self, handle: chat_requests.Handler, params: object) -> Awaitable[object]:
        return handle(self.assistant, self._turns, params)

    def _search(self, params: object) -> Awaitable[object]:
        asked = structure(SearchParams, params)
        if not asked.query.strip():
            raise BadInput("`query` must not be empty", field="query")
        if not 1 <= asked.limit <= MAX_HITS:
            raise BadInput(f"`limit` must be from 1 to {MAX_HITS}", field="limit")
        return self._hits(asked)

    async def _hits(self, asked: SearchParams) -> object:
        where = Filter(asked.path, asked.language)
        hits = await self.assistant.workspace.search(asked.query, asked.limit, where)
        found = [
            Found(
                uri=places.uri_of(self.assistant, str(hit.root), hit.path),
                path=hit.path,
                start_line=hit.start_line,
                end_line=hit.end_line,
                symbol=hit.symbol,
                kind=hit.kind,
                score=hit.score,
            )
            for hit in hits
        ]
        return unstructure(SearchResult(tuple(found)))

    def _change_index(self, params: object) -> Awaitable[object]:
        asked = structure(IndexParams, params)
        if asked.action not in ("pause", "resume", "rebuild"):
            raise BadInput("`action` must be pause, resume or rebuild", field="action")
        return self._changed_index(asked.action)

    async def _changed_index(self, action: str) -> object:
        workspace = self.assistant.workspace
        if action == "rebuild":
            await workspace.clear()
            self._index()
        else:
            await workspace.pause(action == "pause")
        return unstructure({"indexes": await workspace.status()})

    async def _symbols(self, params: types.WorkspaceSymbolParams) -> list[types.SymbolInformation]:
        found = await self.assistant.workspace.symbols(params.query, MAX_SYMBOLS)
        return [places.symbol(self.assistant, root, symbol) for root, symbol in found]

    async def _status(self, _params: object) -> object:
        status = await self.assistant.status()
        return {"protocol": VERSION, **unstructure(status)}

    def _code_action(
        self, params: types.CodeActionParams
    ) -> list[types.Command | types.CodeAction]:
        offered = actions.code_actions(self.assistant, self.client, self.chats, params)
        if offered and self.chats.path(params.text_document.uri) is None:
            self._warm_selection(params)
        return offered

    def _warm_selection(self, params: types.CodeActionParams) -> None:
        """What is selected is read before it is asked about; whichever chat asks finds it warm."""
        start, end = params.range.start, params.range.end
        if start == end:
            return
        selected = protocol.Range(
            protocol.Position(start.line, start.character),
            protocol.Position(end.line, end.character),
        )
        uri = params.text_document.uri
        try:
            selection = places.selection(self.assistant, self.client.encoding, uri, selected)
        except BadInput:  # closed meanwhile, or outside of the workspace
            return
        question = Question("", "selection", "selection", selection=selection)
        self._tasks.start(self._warm_quietly(question, SELECTED_AFTER_S), "warming a selection")

    def _warm_typed(self, uri: str) -> None:
        """What is typed in a chat document is read while it is typed."""
        path = self.chats.path(uri)
        if path is None or self.chats.is_running(path):
            return
        if (question := self.chats.typed(path)) is not None:
            self._tasks.start(self._warm_quietly(question), "warming a chat")

    async def _warm_quietly(self, question: Question, after_s: float = 0.0) -> None:
        """Warm what nobody waits for: an error is told by the question that follows."""
        try:
            await self.assistant.warm(question, after_s)
        except AssistError as error:
            logger.debug("Nothing was warmed: %s", error)

    def _code_lens(self, params: types.CodeLensParams) -> list[types.CodeLens]:
        return actions.code_lenses(self.chats, params.text_document.uri)

    def _execute_command(self, params: types.ExecuteCommandParams) -> object:
        return actions.execute(self.assistant, self.client, self._turns, self.chats, params)


def _ignore(_params: object) -> None:
    """Nothing is to be done; the message is known all the same."""


def _change(change: types.TextDocumentContentChangeEvent) -> Change:
    if isinstance(change, types.TextDocumentContentChangeWholeDocument):
        return Change(change.text)
    start, end = change.range.start, change.range.end
    return Change(
        change.text,
        Range(Position(start.line, start.character), Position(end.line, end.character)),
    )
