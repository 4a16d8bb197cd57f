"""Chats for editors without our extension: Markdown files that the editor shows and we append to.

What is appended goes through the editor where the file is open there and the editor takes edits,
so that the user's own typing is kept; else into the file. Knows the layout of a chat document only
through chat_document.py.
"""

import asyncio
import logging
import os
import re
import uuid
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from lsprotocol import types

from lsp_assist.assistant import Assistant, Question, Selection
from lsp_assist.codebase.documents import Document, Text
from lsp_assist.codebase.reading import Contents, read_text
from lsp_assist.errors import AssistError, BadInput
from lsp_assist.server import chat_document, edits, places, protocol
from lsp_assist.server.chat import Turn, Turns
from lsp_assist.server.chat_document import Pending, Quote
from lsp_assist.server.client import Client
from lsp_assist.server.protocol import CommandResult, EditInfo, EventKind, structure
from lsp_assist.server.tasks import Tasks

__all__ = ["ChatFiles"]

logger = logging.getLogger(__name__)

EDIT_INTERVAL_S = 0.1
_EDITOR_LAG_S = 2.0
"""How long an editor may take to say that it opened or changed a document."""
_N_ATTEMPTS = 3
_REPLY = f"\n\n{chat_document.ANSWER}\n\n"
"""What a reply begins with; nothing that a model says gets through as this heading."""
_LIMIT_BYTES = 20_000_000
_FILE_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{0,63}")


class ChatFiles:
    """The chat documents of one client."""

    def __init__(self, assistant: Assistant, client: Client, turns: Turns, tasks: Tasks) -> None:
        self._assistant = assistant
        self._client = client
        self._turns = turns
        self._tasks = tasks
        self._folder = assistant.settings.places.data.resolve() / "chats"
        self._running: dict[Path, Turn] = {}
        self._unattached: set[Path] = set()
        self._edits: dict[Path, tuple[str, str]] = {}
        self._changed = asyncio.Event()

    def path(self, uri: str) -> Path | None:
        """The chat document that a URI names, if it is one."""
        path = places.path_of(uri)
        if path is None or path.suffix != ".md" or path.name.startswith("."):
            return None
        return path if self._folder in (path.parent, path.parent.resolve()) else None

    def document_changed(self) -> None:
        """Some document was opened, changed or closed."""
        self._changed.set()
        self._changed = asyncio.Event()

    def is_running(self, path: Path) -> bool:
        """Whether a reply is being written into the document."""
        return path in self._running

    def pending(self, path: Path) -> Pending | None:
        """What there is to send in the document."""
        text = self._text(path)
        return chat_document.pending(text.content) if text is not None else None

    def has_edits(self, path: Path) -> bool:
        """Whether the last reply in the document proposes edits that were not made yet."""
        return path in self._edits and path not in self._running

    def propose(self, path: Path, turn_id: str, edit_id: str) -> None:
        """The reply that is being written into the document proposes edits."""
        self._edits[path] = (turn_id, edit_id)

    def apply(self, path: Path) -> CommandResult:
        """Make the edits that the last reply proposes. The document showed them.

        Raises: BadInput if there are none
        """
        if not self.has_edits(path):
            raise BadInput("The last reply proposes no edits, or they were made.", field="uri")
        turn_id, edit_id = self._edits.pop(path)
        self._tasks.start(self._apply(path, turn_id, edit_id), "making edits")
        return CommandResult(path.stem, turn_id, path.as_uri())

    async def _apply(self, path: Path, turn_id: str, edit_id: str) -> None:
        try:
            is_done = await edits.accept(
                self._assistant, self._client, path.stem, turn_id, edit_id, is_reviewed=False
            )
        except AssistError as error:
            self._client.tell(str(error), types.MessageType.Error)
            return
        if not is_done:
            self._edits.setdefault(path, (turn_id, edit_id))
            self._client.tell("The editor did not take the edits.", types.MessageType.Warning)

    def open(self, selection: Selection, uri: str) -> CommandResult:
        """Show a new chat about the selection, for the user to type a question."""
        quote = _quote(selection, uri)
        path = self._new(chat_document.new(quote))
        self._tasks.start(self._show(path), "showing a chat")
        return CommandResult(path.stem, uri=path.as_uri())

    def ask(self, question: Question, uri: str) -> CommandResult:
        """Show a new chat with this question and write the reply into it.

        Raises: BadInput if the chat has a document already
        """
        quote = _quote(question.selection, uri) if question.selection else None
        title = question.text.strip() or f"{question.mode.capitalize()} this code."
        path = self._new(chat_document.asked(title, quote), question.chat_id)
        # What is sent from the document later goes on with this chat.
        question = replace(question, chat_id=path.stem)
        self._start(path, question, is_shown=False)
        return CommandResult(question.chat_id, question.turn_id, path.as_uri())

    def send(self, path: Path) -> CommandResult:
        """Answer what stands below the last heading of a chat document.

        Raises: BadInput if there is nothing, or a reply is still coming
        """
        if path in self._running:
            raise BadInput("The reply is still coming; send when it has ended.", field="uri")
        question = self.typed(path)
        if question is None:
            raise BadInput("There is no question below the last heading.", field="uri")
        self._start(path, question, is_shown=True)
        return CommandResult(question.chat_id, question.turn_id, path.as_uri())

    def typed(self, path: Path) -> Question | None:
        """The question below the last heading, as it would be sent now."""
        pending = self.pending(path)
        if pending is None:
            return None
        return Question(
            text=pending.text,
            chat_id=path.stem,
            turn_id=str(uuid.uuid4()),
            selection=self._selection(pending.quote),
        )

    def cancel(self, path: Path) -> None:
        """Stop the reply that is being written into the document, if one is."""
        if turn := self._running.get(path):
            turn.cancel()

    def _start(self, path: Path, question: Question, *, is_shown: bool) -> None:
        self._edits.pop(path, None)
        scribe = _Scribe(self, path, question.turn_id)
        turn = self._turns.start(self._assistant, question, scribe.emit, EDIT_INTERVAL_S)
        self._running[path] = turn
        self._tasks.start(self._show_and_write(path, scribe, is_shown=is_shown), "writing a reply")

    async def _show_and_write(self, path: Path, scribe: "_Scribe", *, is_shown: bool) -> None:
        try:
            if not is_shown:
                await self._show(path)
            await scribe.run()
            if not self._client.can_edit:
                self._client.tell(f"The reply is in {path}")
        finally:
            self._running.pop(path, None)

    def _selection(self, quote: Quote | None) -> Selection | None:
        """The quoted lines as they are now."""
        if quote is None:
            return None
        lines = protocol.Range(
            protocol.Position(quote.start_line, 0), protocol.Position(quote.end_line + 1, 0)
        )
        return places.selection(self._assistant, "utf-32", quote.uri, lines)

    def _new(self, content: str, chat_id: str = "") -> Path:
        """A chat document, named by its chat where that can name a file.

        Raises: BadInput if there is one already
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        stem = chat_id if _FILE_NAME.fullmatch(chat_id) else str(uuid.uuid4())
        path = self._folder / f"{stem}.md"
        try:
            _write(path, content, os.O_EXCL)
        except FileExistsError:
            raise BadInput(
                f"Chat {chat_id!r} has a document; type the question there: {path}", field="chatId"
            ) from None
        return path

    async def _show(self, path: Path) -> None:
        if not await self._client.show_document(path.as_uri()):
            self._client.tell(f"The chat is in {path}")
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(_EDITOR_LAG_S):
                while self.opened(path) is None:
                    await self._changed.wait()
                return
        # Neovim starts a server of its own for a file outside of the workspace, and tells us
        # nothing of it; it takes our edits all the same.
        self._unattached.add(path)

    def opened(self, path: Path) -> Document | None:
        """The document, if the editor has it open."""
        return self._assistant.workspace.documents.by_path(path)

    def _text(self, path: Path) -> Text | None:
        if document := self.opened(path):
            return document.text
        contents = read_text(path, _LIMIT_BYTES, follow_link=True)
        return Text.of(contents.text) if isinstance(contents, Contents) else None

    async def append(self, path: Path, text: str, assumed: Text | None) -> Text | None:
        """Write behind the running reply, or begin one at the end.

        Gives the text that the editor should have by now if it did not say so; that is `assumed`
        the next time.
        """
        for _ in range(_N_ATTEMPTS):
            document = self.opened(path)
            now = assumed or (document.text if document else self._text(path))
            if now is None or not self._client.can_edit:
                break
            if document is None and path not in self._unattached:
                break
            is_first = text.startswith(_REPLY)
            at = len(now.content) if is_first else chat_document.tail(now.content)
            line, character = now.position_at(at, self._client.encoding)
            position = types.Position(line, character)
            if document is None:
                if await self._client.insert(path.as_uri(), None, position, text):
                    return now.replaced(at, at, text)
                break
            applied = await self._client.insert(document.uri, document.version, position, text)
            has_changed = await self._wait_for_change(path, document.revision)
            if applied:
                return None if has_changed else now.replaced(at, at, text)
            assumed = None  # refused: the user typed, and that change is here or on its way
        _write(path, text, os.O_APPEND)
        return None

    async def _wait_for_change(self, path: Path, revision: int) -> bool:
        """Whether the editor has said, within a time, that the document is another one now."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_EDITOR_LAG_S):
                while (document := self.opened(path)) and document.revision == revision:
                    await self._changed.wait()
                return True
        return False


class _Scribe:
    """Gathers the events of a turn and writes them one piece after another."""

    def __init__(self, files: ChatFiles, path: Path, turn_id: str) -> None:
        self._files = files
        self._path = path
        self._turn_id = turn_id
        self._remark = ""
        self._shield = chat_document.Shield()
        self._text = _REPLY
        self._is_ended = False
        self._news = asyncio.Event()

    def emit(self, kind: EventKind, fields: dict[str, object]) -> None:
        """Take an event of the turn."""
        match kind:
            case "delta":
                self._text += self._shield.feed(str(fields["text"]))
            case "edit":
                self._propose(fields)
                return
            case "done":
                self._end(self._remark)
            case "cancelled":
                self._end("*Cancelled.*")
            case "error":
                error = fields["error"]
                self._end(f"*{error['message']}*" if isinstance(error, dict) else "")
            case _:
                return
        self._news.set()

    def _propose(self, fields: dict[str, object]) -> None:
        """Say what can be applied and what not, below the reply."""
        said = structure(EditInfo, fields)
        remarks = [f"*{refused.path}: {refused.reason}*" for refused in said.refused]
        if said.files:
            self._files.propose(self._path, self._turn_id, said.edit_id)
            paths = ", ".join(file.path for file in said.files)
            remarks.append(f'*"{chat_document.APPLY}" changes {paths}.*')
        self._remark = "\n\n".join(remark.replace("\n", " ") for remark in remarks)

    def _end(self, remark: str) -> None:
        said = f"\n\n{remark}" if remark else ""
        self._text += f"{self._shield.rest()}{said}\n\n{chat_document.QUESTION}\n\n"
        self._is_ended = True

    async def run(self) -> None:
        """Write until the turn has ended."""
        assumed: Text | None = None
        self._news.set()
        while not self._is_ended or self._text:
            await self._news.wait()
            self._news.clear()
            text, self._text = self._text, ""
            if text:
                assumed = await self._files.append(self._path, text, assumed)


def _write(path: Path, text: str, flags: int) -> None:
    """Write the text into a file that only the user can read."""
    with os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY | flags, 0o600), "wb") as file:
        file.write(text.encode(errors="replace"))


def _quote(selection: Selection, uri: str) -> Quote:
    return Quote(
        uri,
        selection.path,
        selection.start_line,
        selection.end_line,
        selection.text,
        selection.language,
    )
