"""What the editor can do, and what is asked of it.

Each request is made only if the client declared that it answers it, and ends after a time: there
are clients that never answer. None of them raises; each says whether it was done.
"""

import itertools
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from lsprotocol import types
from pygls.exceptions import JsonRpcException

from lsp_assist.codebase.documents import Encoding
from lsp_assist.server.rpc import ClientTimeout, Connection

__all__ = ["Bar", "Client"]

logger = logging.getLogger(__name__)

EDIT_TIMEOUT_S = 10.0
CONFIRM_TIMEOUT_S = 600.0
_TOLD_AFTER_S = 3.0


@dataclass(slots=True)
class Client:
    """The editor at the other end."""

    connection: Connection
    capabilities: types.ClientCapabilities = field(default_factory=types.ClientCapabilities)
    encoding: Encoding = "utf-16"
    _tokens: Iterator[int] = field(default_factory=itertools.count)
    _bars: dict[str, "Bar"] = field(default_factory=dict)

    @property
    def speaks_extension(self) -> bool:
        """Whether the client understands `assist/event`."""
        experimental = self.capabilities.experimental
        said = experimental.get("lspAssist") if isinstance(experimental, dict) else None
        return isinstance(said, dict) and isinstance(said.get("version"), int)

    @property
    def takes_code_actions(self) -> bool:
        """Whether a code action may be more than a command."""
        documents = self.capabilities.text_document
        actions = documents.code_action if documents else None
        return bool(actions and actions.code_action_literal_support)

    @property
    def can_edit(self) -> bool:
        """Whether the client applies edits that we send."""
        workspace = self.capabilities.workspace
        return bool(workspace and workspace.apply_edit)

    def tell(self, text: str, kind: types.MessageType = types.MessageType.Info) -> None:
        """Show a sentence to the user."""
        self.connection.notify(
            types.WINDOW_SHOW_MESSAGE, types.ShowMessageParams(type=kind, message=text)
        )

    async def show_document(self, uri: str) -> bool:
        """Open a document in the editor."""
        window = self.capabilities.window
        if not (window and window.show_document and window.show_document.support):
            return False
        params = types.ShowDocumentParams(uri=uri, take_focus=True)
        result = await self._ask(types.WINDOW_SHOW_DOCUMENT, params)
        return isinstance(result, types.ShowDocumentResult) and result.success

    async def insert(
        self, uri: str, version: int | None, position: types.Position, text: str
    ) -> bool:
        """Insert text into an open document; the editor refuses if it has another version."""
        if not self.can_edit:
            return False
        change = types.TextEdit(types.Range(position, position), text)
        if self.edit_capabilities.document_changes:
            document = types.OptionalVersionedTextDocumentIdentifier(uri=uri, version=version)
            edit = types.WorkspaceEdit(
                document_changes=[types.TextDocumentEdit(document, [change])]
            )
        else:
            edit = types.WorkspaceEdit(changes={uri: [change]})
        return await self.apply(edit, "Reply")

    async def apply(self, edit: types.WorkspaceEdit, label: str, *, waits: bool = False) -> bool:
        """Have the editor make the edit. `waits`: a person is asked first, and may take a while."""
        params = types.ApplyWorkspaceEditParams(edit=edit, label=label)
        timeout_s = CONFIRM_TIMEOUT_S if waits else EDIT_TIMEOUT_S
        result = await self._ask(types.WORKSPACE_APPLY_EDIT, params, timeout_s)
        return isinstance(result, types.ApplyWorkspaceEditResult) and result.applied

    @property
    def edit_capabilities(self) -> types.WorkspaceEditClientCapabilities:
        """What edits the client understands."""
        workspace = self.capabilities.workspace
        said = workspace.workspace_edit if workspace else None
        return said or types.WorkspaceEditClientCapabilities()

    async def watch_files(self) -> bool:
        """Have the client say which files change on disk."""
        workspace = self.capabilities.workspace
        watched = workspace.did_change_watched_files if workspace else None
        if not (watched and watched.dynamic_registration):
            return False
        options = types.DidChangeWatchedFilesRegistrationOptions(
            watchers=[types.FileSystemWatcher(glob_pattern="**/*")]
        )
        registration = types.Registration(
            id="lsp-assist-files",
            method=types.WORKSPACE_DID_CHANGE_WATCHED_FILES,
            register_options=options,
        )
        params = types.RegistrationParams(registrations=[registration])
        return await self._ask(types.CLIENT_REGISTER_CAPABILITY, params) is not _NOTHING

    @contextmanager
    def progress(
        self, title: str, on_cancel: Callable[[], object], unit: str = "files"
    ) -> Iterator["Bar"]:
        """A progress bar of the editor, where it shows any; `on_cancel` is called by its button."""
        bar = Bar(self, f"lsp-assist/{next(self._tokens)}", title, on_cancel, unit)
        self._bars[bar.token] = bar
        try:
            yield bar
        finally:
            self._bars.pop(bar.token)
            bar.end()

    def cancel_progress(self, token: str | int) -> None:
        """The user pressed the button of a progress bar."""
        if isinstance(token, str) and (bar := self._bars.get(token)):
            bar.on_cancel()

    @property
    def shows_progress(self) -> bool:
        """Whether the client shows progress that a server begins."""
        window = self.capabilities.window
        return bool(window and window.work_done_progress)

    async def create_progress(self, token: str) -> bool:
        """Announce a progress bar."""
        params = types.WorkDoneProgressCreateParams(token=token)
        return await self._ask(types.WINDOW_WORK_DONE_PROGRESS_CREATE, params) is not _NOTHING

    async def _ask(self, method: str, params: object, timeout_s: float = 5.0) -> object:
        try:
            return await self.connection.send_request_async(method, params, timeout_s=timeout_s)
        except ClientTimeout as error:
            logger.warning("%s", error)
        except JsonRpcException as error:
            logger.info("The client refused %s: %d", method, error.code)
        return _NOTHING


_NOTHING = object()


@dataclass(slots=True)
class Bar:
    """A progress bar: `begin`, and `report` as often as one likes, before and after."""

    client: Client
    token: str
    title: str
    on_cancel: Callable[[], object]
    unit: str
    _began_at: float = field(default_factory=time.monotonic)
    _is_shown: bool = False
    _done: tuple[int, int] = (0, 0)
    _percent: int = -1

    async def begin(self) -> None:
        """Show the bar, if the client does such a thing, at where the work is by then."""
        if not self.client.shows_progress or not await self.client.create_progress(self.token):
            return
        self._is_shown = True
        self._send(types.WorkDoneProgressBegin(self.title, cancellable=True, percentage=0))
        self.report(*self._done)

    def report(self, n_done: int, n_total: int) -> None:
        """Move the bar; it is sent once per percent."""
        self._done = n_done, n_total
        percent = 100 * min(n_done, n_total) // max(n_total, 1)
        if self._is_shown and percent > self._percent:
            self._percent = percent
            message = f"{n_done:,} of {n_total:,} {self.unit}{self._left(n_done, n_total)}"
            self._send(types.WorkDoneProgressReport(message=message, percentage=percent))

    def _left(self, n_done: int, n_total: int) -> str:
        """How long the rest takes at the pace so far, once that can be told and is worth it."""
        took_s = time.monotonic() - self._began_at
        left_s = took_s * (n_total - n_done) / max(n_done, 1)
        if n_done <= 0 or took_s < _TOLD_AFTER_S or left_s < _TOLD_AFTER_S:
            return ""
        return f", {left_s:.0f} s left" if left_s < 120 else f", {left_s / 60:.0f} min left"

    def end(self) -> None:
        """Take the bar away."""
        if self._is_shown:
            self._is_shown = False
            self._send(types.WorkDoneProgressEnd())

    def _send(
        self,
        value: types.WorkDoneProgressBegin
        | types.WorkDoneProgressReport
        | types.WorkDoneProgressEnd,
    ) -> None:
        self.client.connection.notify(
            types.PROGRESS, types.ProgressParams(token=self.token, value=value)
        )
