"""Builds and owns everything: the public API without LSP.

One event loop uses it. Chats live in their store; what is read of one is as it is at that moment.
"""

import asyncio
import platform
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path

import lsp_assist
from lsp_assist import edits
from lsp_assist.chat import titles
from lsp_assist.chat.chats import Chats, Recorder
from lsp_assist.chat.hidden import Veil, visible
from lsp_assist.chat.tree import Chat, Turn, TurnStatus
from lsp_assist.codebase.index import Passage
from lsp_assist.config import Settings
from lsp_assist.context.modes import Mode, Modes
from lsp_assist.context.personalities import Personalities
from lsp_assist.edits import Proposal
from lsp_assist.errors import BadInput
from lsp_assist.flows import Asked, Done, Event, Opened, Step, Text, Titled, question
from lsp_assist.flows.question import Question, Selection
from lsp_assist.flows.regenerate import answer_again
from lsp_assist.llm import Message, Model, Sampling, Segment, Source
from lsp_assist.models import open_model
from lsp_assist.workspace import IndexStatus, Workspace

__all__ = ["Assistant", "ModelStatus", "Question", "Selection", "Status"]


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """The model that answers."""

    name: str
    path: str
    """Empty for a model that is in no file."""


@dataclass(frozen=True, slots=True)
class Status:
    """What `lsp-assist doctor` and `assist/status` show."""

    version: str
    python: str
    platform: str
    model: ModelStatus
    indexes: tuple[IndexStatus, ...]
    n_documents: int
    n_chats: int
    warnings: tuple[str, ...]


class Assistant:
    """Owns the workspace, the chats and the model of one server or command.

    Made on any thread, used on one event loop. `start` before anything else, `close` at the end.
    """

    def __init__(
        self,
        settings: Settings,
        roots: Sequence[Path],
        *,
        model: Model | None = None,
        workspace: Workspace | None = None,
    ) -> None:
        self.settings = settings
        self.workspace = workspace or Workspace(settings, roots)
        self._model, self._route = (
            (model, "chosen by the caller") if model else open_model(settings)
        )
        config = settings.places.config
        self.chats = Chats(settings.places.data / "chats.sqlite3")
        self.modes = Modes(config / "modes")
        self.personalities = Personalities(config / "personalities")

    async def start(self) -> None:
        """Open what is on disk of every workspace folder. Reads no workspace file.

        Raises: IndexUnusable
        """
        await self.workspace.start()

    async def close(self) -> None:
        """Stop what runs, keep what was indexed, free the model. Idempotent."""
        await self.workspace.close()
        await self.chats.close()
        await self._model.close()

    # Questions

    async def ask(self, asked: Question) -> AsyncGenerator[Event, None]:
        """The reply to a question, as events. Read it under `contextlib.aclosing`.

        The turn is kept in its chat from when it is sent, also when it is cancelled or the process
        killed: then with what was said. The text of events is what is shown; the chat keeps hidden
        blocks as well.

        Raises: BadInput, ModelError, IndexUnusable, ChatsUnusable
        """
        stored = await self.chats.load(asked.chat_id)
        chat = stored.chat if stored else Chat(asked.chat_id)
        parent_id, again = _place(chat, asked)
        path = chat.answered_path(parent_id)
        asked, bench = await self._ready(asked)
        if again is None:
            question.check(asked)
            opening = chat.opening_after(parent_id)
            answer = question.answer(bench, opening, path, asked)
        else:
            opening = again.opening
            answer = answer_again(bench, opening, path, again.question)
        if note := await self.workspace.freshness():
            yield Step(note)
        veil = Veil()
        recorder: Recorder | None = None
        status: TurnStatus = "error"
        model = self._model.name
        try:
            async with aclosing(answer) as events:
                async for event in events:
                    match event:
                        case Opened():
                            opening = event.messages
                        case Asked():
                            sent = _turn(asked, parent_id, event.message, opening, model)
                            recorder = self._record(chat, sent)
                            await recorder.begun()
                            if stored is None:
                                yield Titled(_title(sent))
                        case Text() if recorder is not None:
                            recorder.add(event.text)
                            if shown := veil.feed(event.text):
                                yield Text(shown)
                            continue
                        case Done() if recorder is not None:
                            status, model = "done", event.usage.model or model
                            await recorder.end(status, model)
                            if shown := veil.rest():
                                yield Text(shown)
                            event = replace(event, text=visible(event.text))  # noqa: PLW2901
                    yield event
        except (asyncio.CancelledError, GeneratorExit):
            status = "done" if status == "done" else "cancelled"
            raise
        finally:
            if status != "done" and recorder is not None:
                await recorder.end(status, model)

    async def edits_in(self, text: str, mode: str, sources: Sequence[Source]) -> Proposal:
        """The edits that a reply proposes, fitted to the files as they are now. Changes nothing.

        `text` is what is shown of it, `sources` what it was given to read.
        """
        takes_whole_files = await asyncio.to_thread(self._asks_for_edits, mode)
        known = [source.path for source in sources]
        return await edits.propose(
            self.workspace, text, known_paths=known, takes_whole_files=takes_whole_files
        )

    async def edits_of(self, chat_id: str, turn_id: str) -> Proposal:
        """The edits that a turn proposes, as `edits_in`; also after a restart.

        Raises: ChatsUnusable, UnknownTurn
        """
        turn = (await self.chats.existing(chat_id)).chat.turn(turn_id)
        sources = [s.source for s in turn.question.segments if s.source is not None]
        return await self.edits_in(visible(turn.reply.text), turn.mode, sources)

    async def status(self) -> Status:
        """What is there, and how it is."""
        model_path = self.settings.model.path
        return Status(
            version=lsp_assist.__version__,
            python=platform.python_version(),
            platform=platform.platform(),
            model=ModelStatus(self._model.name, str(model_path) if model_path else ""),
            indexes=await self.workspace.status(),
            n_documents=len(self.workspace.documents),
            n_chats=await self.chats.count(),
            warnings=(*self.settings.warnings, *self.chats.warnings, *await self._file_warnings()),
        )

    # Below: how it is done.

    async def _ready(self, asked: Question) -> tuple[Question, question.Workbench]:
        """The question with how it is to be answered, and what it is answered with.

        Raises: BadInput for a mode or a personality that there is not.
        """
        mode, personality = await asyncio.to_thread(
            lambda: (self.modes.get(asked.mode), self.personalities.get(asked.personality))
        )
        manner = "\n\n".join(text for text in (mode.text, personality.text) if text)
        return replace(asked, manner=manner), self._workbench(mode)

    def _workbench(self, mode: Mode) -> question.Workbench:
        model = self.settings.model
        temperature = model.temperature
        if mode.temperature is not None and temperature > 0:  # who wants 0 wants it always
            temperature = mode.temperature
        sampling = Sampling(temperature=temperature, max_tokens=mode.max_tokens(model.max_tokens))
        workspace = self.workspace
        find = workspace.find if mode.context == "auto" else _find_nothing
        return question.Workbench(self._model, sampling, self._route, find, workspace.symbol_at)

    def _record(self, chat: Chat, turn: Turn) -> Recorder:
        roots = [str(root) for root in self.workspace.roots]
        return self.chats.record(chat, roots, _title(turn), turn)

    def _asks_for_edits(self, mode: str) -> bool:
        try:
            return self.modes.get(mode).edits
        except BadInput:  # a mode of the user's that is gone
            return False

    async def _file_warnings(self) -> tuple[str, ...]:
        return await asyncio.to_thread(
            lambda: (*self.modes.warnings(), *self.personalities.warnings())
        )


async def _find_nothing(_query: str, _limit: int) -> Sequence[Passage]:
    """For a mode that shows nothing but what was selected."""
    return ()


def _place(chat: Chat, asked: Question) -> tuple[str | None, Turn | None]:
    """The turn to continue after, and the one to answer once more, if that is what is asked.

    Raises: BadInput, UnknownTurn
    """
    if asked.turn_id in chat.turns:
        raise BadInput(
            f"Turn {asked.turn_id!r} is already in chat {asked.chat_id!r}; use a new id.",
            field="turnId",
        )
    if asked.beside_turn_id is None:
        return asked.parent_turn_id or chat.last_turn_id(), None
    if asked.parent_turn_id is not None:
        raise BadInput("Name `parentTurnId` or `besideTurnId`, not both.", field="besideTurnId")
    beside = chat.turn(asked.beside_turn_id)
    is_said = asked.text.strip() or asked.selection is not None
    return beside.parent_id, None if is_said else beside


def _turn(
    asked: Question,
    parent_id: str | None,
    message: Message,
    opening: tuple[Message, ...],
    model: str,
) -> Turn:
    nothing = Message("assistant", (Segment("reply", ""),))
    return Turn(
        asked.turn_id,
        parent_id,
        message,
        nothing,
        "running",
        opening,
        asked.mode,
        asked.personality,
        model,
    )


def _title(turn: Turn) -> str:
    return titles.first_words(turn.asked, instead="A question")
