"""Builds and owns everything: the public API without LSP.

One event loop uses it, and chats and tasks are touched on it only.
"""

import asyncio
import functools
import platform
from collections.abc import AsyncGenerator, Sequence
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, replace
from pathlib import Path

import lsp_assist
from lsp_assist.chat.tree import Chat, Turn, TurnStatus
from lsp_assist.config import Settings
from lsp_assist.errors import BadInput
from lsp_assist.flows import Asked, Done, Event, Opened, Step, Text, question
from lsp_assist.flows.question import Question, Selection
from lsp_assist.llm import Message, Model, Sampling, Segment
from lsp_assist.models import open_embedders, open_model
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
        self.workspace = workspace or Workspace(
            settings, roots, functools.partial(open_embedders, settings)
        )
        self._model, self._route = (
            (model, "chosen by the caller") if model else open_model(settings)
        )
        self._chats: dict[str, Chat] = {}

    async def start(self) -> None:
        """Open what is on disk of every workspace folder. Reads no workspace file.

        Raises: IndexUnusable
        """
        await self.workspace.start()

    async def close(self) -> None:
        """Stop what runs, keep what was indexed, free the model. Idempotent."""
        await self.workspace.close()
        await self._model.close()

    # Questions

    async def ask(self, asked: Question) -> AsyncGenerator[Event, None]:
        """The reply to a question, as events. Read it under `contextlib.aclosing`.

        The turn joins its chat when it ends, also when it was cancelled: its partial reply is kept.

        Raises: BadInput, ModelError, IndexUnusable
        """
        question.check(asked)
        chat = self._chats.get(asked.chat_id, Chat(asked.chat_id))
        if asked.turn_id in chat.turns:
            raise BadInput(
                f"Turn {asked.turn_id!r} is already in chat {asked.chat_id!r}; use a new id.",
                field="turnId",
            )
        parent_id = asked.parent_turn_id or chat.last_turn_id()
        path = chat.path(parent_id)
        message: Message | None = None
        parts: list[str] = []
        status: TurnStatus = "error"
        if note := await self.workspace.freshness():
            yield Step(note)
        running = ExitStack()
        running.enter_context(self.workspace.question())
        try:
            answer = question.answer(self._workbench(), chat.opening, path, asked)
            async with aclosing(answer) as events:
                async for event in events:
                    match event:
                        case Opened():
                            begun = self._chats.get(asked.chat_id, chat)
                            self._chats[asked.chat_id] = replace(begun, opening=event.messages)
                        case Asked():
                            message = event.message
                        case Text():
                            parts.append(event.text)
                        case Done():
                            status = "done"
                            self._keep(asked, parent_id, message, parts, status)
                    yield event
        except (asyncio.CancelledError, GeneratorExit):
            status = "cancelled"
            raise
        finally:
            running.close()
            if status != "done":
                self._keep(asked, parent_id, message, parts, status)

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
            n_chats=len(self._chats),
            warnings=self.settings.warnings,
        )

    # Below: how it is done.

    def _workbench(self) -> question.Workbench:
        model = self.settings.model
        sampling = Sampling(temperature=model.temperature, max_tokens=model.max_tokens)
        workspace = self.workspace
        return question.Workbench(
            self._model, sampling, self._route, workspace.find, workspace.symbol_at
        )

    def _keep(
        self,
        asked: Question,
        parent_id: str | None,
        message: Message | None,
        parts: Sequence[str],
        status: TurnStatus,
    ) -> None:
        """Put the turn into its chat, unless it ended before it was sent."""
        if message is None:
            return
        reply = Message("assistant", (Segment("reply", "".join(parts)),))
        chat = self._chats.get(asked.chat_id, Chat(asked.chat_id))
        turn = Turn(asked.turn_id, parent_id, message, reply, status)
        self._chats[asked.chat_id] = chat.with_turn(turn)
