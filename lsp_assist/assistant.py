"""Builds and owns everything: the public API without LSP.

One event loop uses it. Chats live in their store; what is read of one is as it is at that moment.
"""

import asyncio
import functools
import platform
from collections.abc import AsyncGenerator, Sequence
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, replace
from pathlib import Path

import lsp_assist
from lsp_assist import edits
from lsp_assist.chat import titles
from lsp_assist.chat.chats import Chats, Recorder
from lsp_assist.chat.hidden import Veil, visible
from lsp_assist.chat.tree import Chat, Turn, TurnStatus
from lsp_assist.config import Settings
from lsp_assist.context.modes import Mode, Modes
from lsp_assist.context.personalities import Personalities
from lsp_assist.context.pick import Wanted
from lsp_assist.context.tokens import TokenCounts
from lsp_assist.edits import Proposal
from lsp_assist.errors import BadInput, ModelError, StillAnswered
from lsp_assist.flows import Asked, Done, Event, Opened, Step, Text, Titled, question
from lsp_assist.flows.openings import Openings
from lsp_assist.flows.preview import Preview, preview
from lsp_assist.flows.question import Question, Selection, Workbench
from lsp_assist.flows.speeds import Estimate, Speeds
from lsp_assist.flows.warm import Warmed, Warmer
from lsp_assist.llm import Message, Model, ModelFacts, Sampling, Segment, Tells
from lsp_assist.models import open_embedders, open_model
from lsp_assist.workspace import IndexStatus, Workspace

__all__ = [
    "Assistant",
    "Estimate",
    "ModelChoice",
    "ModelStatus",
    "Preview",
    "Question",
    "Selection",
    "Status",
    "Warmed",
]


REWRITES = (
    "The chat template of this model rewrites earlier turns: a chat is read again from where it "
    "does."
)


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """The model that answers."""

    name: str
    path: str
    """Empty for a model that is in no file."""


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """A model that can be asked."""

    name: str
    path: str
    """Empty for a model that is in no file."""
    route: str
    """Why it is there."""
    facts: ModelFacts


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
        warmer: Warmer | None = None,
    ) -> None:
        self.settings = settings
        self.workspace = workspace or Workspace(
            settings, roots, functools.partial(open_embedders, settings)
        )
        self._model, self._route = (
            (model, "chosen by the caller") if model else open_model(settings)
        )
        config = settings.places.config
        self.chats = Chats(settings.places.data / "chats.sqlite3")
        self.modes = Modes(config / "modes")
        self.personalities = Personalities(config / "personalities")
        self._counts = TokenCounts(self._model.count)
        self._openings = Openings()
        self._warmer = warmer or Warmer()
        self._speeds = Speeds(settings.places.cache / "speeds.json")

    async def start(self) -> None:
        """Open what is on disk of every workspace folder. Reads no workspace file.

        Raises: IndexUnusable
        """
        await self.workspace.start()

    async def close(self) -> None:
        """Stop what runs, keep what was indexed, free the model. Idempotent."""
        await self._warmer.close()
        self._speeds.close()
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
        self._warmer.give_way()
        stored = await self.chats.load(asked.chat_id)
        chat = stored.chat if stored else Chat(asked.chat_id)
        if asked.turn_id in chat.turns:
            raise BadInput(
                f"Turn {asked.turn_id!r} is already in chat {asked.chat_id!r}; use a new id.",
                field="turnId",
            )
        at = await self._ready(chat, asked)
        question.check(at.question)
        if note := await self.workspace.freshness():
            yield Step(note)
        veil = Veil()
        recorder: Recorder | None = None
        sent: Turn | None = None
        status: TurnStatus = "error"
        opening, model = at.opening, self._model.name
        running = ExitStack()
        running.enter_context(self.workspace.question())
        try:
            async with aclosing(
                question.answer(at.bench, at.opening, at.path, at.question)
            ) as events:
                async for event in events:
                    match event:
                        case Opened():
                            opening = event.messages
                        case Asked():
                            sent = _turn(at, event.message, opening, model)
                            recorder = self._record(chat, sent)
                            await recorder.begun()
                            if stored is None:
                                yield Titled(_title(sent))
                        case Text() if recorder is not None:
                            recorder.add(event.text)
                            if shown := veil.feed(event.text):
                                yield Text(shown)
                            continue
                        case Done() if recorder is not None and sent is not None:
                            status, model = "done", event.usage.model or model
                            self._speeds.heard(event.usage)
                            await recorder.end(status, model)
                            path = [*at.path, replace(sent, reply=recorder.reply, status=status)]
                            self._warmer.after_reply(at.bench, opening, path, chat.id)
                            if shown := veil.rest():
                                yield Text(shown)
                            event = replace(event, text=visible(event.text))  # noqa: PLW2901
                    yield event
        except (asyncio.CancelledError, GeneratorExit):
            status = "done" if status == "done" else "cancelled"
            raise
        finally:
            running.close()
            if status != "done" and recorder is not None:
                await recorder.end(status, model)

    async def edits_of(self, chat_id: str, turn_id: str) -> Proposal:
        """The edits that a turn proposes, fitted to the files as they are now. Changes nothing.

        Raises: ChatsUnusable, UnknownTurn
        """
        chat = (await self.chats.existing(chat_id)).chat
        turn = chat.turn(turn_id)
        shown = [*turn.opening, *(earlier.question for earlier in chat.path(turn_id))]
        known = {s.source.path for m in shown for s in m.segments if s.source is not None}
        return await edits.propose(
            self.workspace,
            visible(turn.reply.text),
            known_paths=sorted(known),
            takes_whole_files=(await asyncio.to_thread(self._mode_of, turn)).edits,
        )

    async def warm(self, asked: Question, after_s: float = 0.0) -> Warmed:
        """Have the model read what this question would be asked with; see `flows.warm`.

        Makes no turn and no chat: what the chat would begin with is kept for its first question.

        Raises: BadInput, ModelError, IndexUnusable, ChatsUnusable
        """
        try:
            at = await self._ready(await self._chat(asked.chat_id), asked)
        except StillAnswered as error:
            return Warmed(reason=str(error))
        await self.workspace.freshness()
        return await self._warmer.warm(
            at.bench, at.opening, at.path, at.question, self._speeds.heard, after_s
        )

    async def context(self, asked: Question) -> tuple[Preview, Estimate]:
        """What the question would be asked with, and what that would take.

        Raises: BadInput, ModelError, IndexUnusable, ChatsUnusable
        """
        at = await self._ready(await self._chat(asked.chat_id), asked)
        await self.workspace.freshness()
        found = await preview(at.bench, at.opening, at.path, at.question)
        n_warm, is_append_only = None, True
        if isinstance(self._model, Tells):
            n_warm = await self._model.n_warm(found.prompt)
            is_append_only = await self._model.is_append_only() is not False
        estimate = self._speeds.estimate(self._model.name, found.n_tokens, n_warm)
        return found, estimate if is_append_only else replace(estimate, note=REWRITES)

    async def models(self) -> tuple[ModelChoice, ...]:
        """The models that a question can name, the usual one first. Loads none."""
        facts = ModelFacts()
        if isinstance(self._model, Tells):
            try:
                facts = await self._model.facts()
            except ModelError as error:
                facts = ModelFacts("unusable", str(error))
        path = self.settings.model.path
        return (ModelChoice(self._model.name, str(path or ""), self._route, facts),)

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

    async def _chat(self, chat_id: str) -> Chat:
        stored = await self.chats.load(chat_id)
        return stored.chat if stored else Chat(chat_id)

    async def _ready(self, chat: Chat, asked: Question) -> "_Ready":
        """The one way of a question to its flow, whether it is asked, warmed or looked at.

        Raises: BadInput, for a model, mode or personality that there is not too; UnknownTurn
        """
        if asked.model not in ("", self._model.name):
            raise BadInput(
                f"There is no model {asked.model!r}; the one there is is {self._model.name!r}.",
                field="model",
            )
        parent_id, again = _place(chat, asked)
        path = chat.answered_path(parent_id)
        if again is not None:
            asked = replace(
                asked, mode=again.mode, personality=again.personality, again=again.question
            )
            mode = await asyncio.to_thread(self._mode_of, again)
            opening = again.opening
        else:
            mode, personality = await asyncio.to_thread(
                lambda: (self.modes.get(asked.mode), self.personalities.get(asked.personality))
            )
            asked = replace(asked, manner="\n\n".join(filter(None, (mode.text, personality.text))))
            if mode.context == "selection" and asked.wanted is None:
                asked = replace(asked, wanted=Wanted())
            opening = chat.opening_after(parent_id)
        return _Ready(parent_id, opening, tuple(path), asked, self._workbench(mode))

    def _workbench(self, mode: Mode) -> Workbench:
        model, workspace = self.settings.model, self.workspace
        temperature = model.temperature
        if mode.temperature is not None and temperature > 0:  # who wants 0 wants it always
            temperature = mode.temperature
        return Workbench(
            self._model,
            Sampling(temperature=temperature, max_tokens=mode.max_tokens(model.max_tokens)),
            model.max_tokens,
            self._route,
            workspace.find,
            workspace.symbol_at,
            workspace.related,
            workspace,
            self._counts,
            self._openings,
        )

    def _record(self, chat: Chat, turn: Turn) -> Recorder:
        roots = [str(root) for root in self.workspace.roots]
        return self.chats.record(chat, roots, _title(turn), turn)

    def _mode_of(self, turn: Turn) -> Mode:
        """The mode that a turn was asked in; the plain one if it was the user's and is gone."""
        try:
            return self.modes.get(turn.mode)
        except BadInput:
            return self.modes.get("")

    async def _file_warnings(self) -> tuple[str, ...]:
        return await asyncio.to_thread(
            lambda: (*self.modes.warnings(), *self.personalities.warnings())
        )


@dataclass(frozen=True, slots=True)
class _Ready:
    """A question with all that it is answered with."""

    parent_id: str | None
    opening: tuple[Message, ...]
    path: tuple[Turn, ...]
    question: Question
    bench: Workbench


def _place(chat: Chat, asked: Question) -> tuple[str | None, Turn | None]:
    """The turn to continue after, and the one to answer once more, if that is what is asked.

    Raises: BadInput, UnknownTurn
    """
    if asked.beside_turn_id is None:
        return asked.parent_turn_id or chat.last_turn_id(), None
    if asked.parent_turn_id is not None:
        raise BadInput("Name `parentTurnId` or `besideTurnId`, not both.", field="besideTurnId")
    beside = chat.turn(asked.beside_turn_id)
    is_said = asked.text.strip() or asked.selection is not None
    return beside.parent_id, None if is_said else beside


def _turn(at: _Ready, message: Message, opening: tuple[Message, ...], model: str) -> Turn:
    asked = at.question
    return Turn(
        asked.turn_id,
        at.parent_id,
        message,
        Message("assistant", (Segment("reply", ""),)),
        "running",
        opening,
        asked.mode,
        asked.personality,
        model,
    )


def _title(turn: Turn) -> str:
    return titles.first_words(turn.asked, instead="A question")
