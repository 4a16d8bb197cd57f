"""A chat that is played over a real workspace and a real engine, without an editor."""

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from lsp_assist.chat.tree import Turn
from lsp_assist.config import Settings
from lsp_assist.context.modes import Modes
from lsp_assist.context.tokens import TokenCounts
from lsp_assist.flows import Asked, Done, Opened, question
from lsp_assist.flows.openings import Openings
from lsp_assist.flows.prepare import Question, Workbench
from lsp_assist.flows.warm import Warmer
from lsp_assist.llm import Message, Model, Sampling, Segment, Usage
from lsp_assist.workspace import Workspace

__all__ = ["Player", "opened"]

MAX_TOKENS = 24


class Player:
    """Asks one model after another about one workspace, and keeps the turns."""

    def __init__(self, workspace: Workspace, models: dict[str, Model]) -> None:
        self.workspace = workspace
        self.models = models
        self.counts = {name: TokenCounts(model.count) for name, model in models.items()}
        self.openings = Openings()
        self.modes = Modes()
        self.opening: tuple[Message, ...] = ()
        self.path: list[Turn] = []

    def bench(self, model: str) -> Workbench:
        """What the model answers with."""
        sampling = Sampling(max_tokens=MAX_TOKENS, temperature=0.7)
        workspace = self.workspace
        return Workbench(
            self.models[model],
            sampling,
            MAX_TOKENS,
            "bench",
            workspace.find,
            workspace.symbol_at,
            workspace.related,
            workspace,
            self.counts[model],
            self.openings,
        )

    def begin(self) -> None:
        """A new chat."""
        self.opening, self.path = (), []

    def fork(self, n_turns: int) -> None:
        """Go on after this many turns."""
        self.path = self.path[:n_turns]

    def write(self, file: Path, text: str) -> None:
        """Save a file."""
        file.write_text(text, "utf-8")
        self.workspace.file_changed(file)

    async def warm(self, model: str) -> None:
        """Have a model read the chat, as when the prompt opens."""
        await Warmer().warm(self.bench(model), self.opening, self.path, Question("", "chat", "-"))

    async def ask(self, text: str, model: str, turn_id: str, mode: str = "") -> Usage:
        """One turn; what it took."""
        await self.workspace.freshness()
        asked = Question(text, "chat", turn_id, mode=mode, manner=self.modes.get(mode).text)
        message: Message | None = None
        flow = question.answer(self.bench(model), self.opening, self.path, asked)
        async with aclosing(flow) as events:
            async for event in events:
                match event:
                    case Opened():
                        self.opening = event.messages
                    case Asked():
                        message = event.message
                    case Done():
                        assert message is not None
                        reply = Message("assistant", (Segment("reply", event.text),))
                        self.path = [*self.path, Turn(turn_id, None, message, reply, "done")]
                        return event.usage
        raise AssertionError("a flow ended without Done")


@asynccontextmanager
async def opened(
    settings: Settings, roots: Sequence[Path], models: dict[str, Model]
) -> AsyncIterator[Player]:
    """A player over an indexed workspace."""
    workspace = Workspace(replace(settings), roots)
    workspace.watches_files = True
    await workspace.start()
    try:
        await workspace.refresh()
        yield Player(workspace, models)
    finally:
        await workspace.close()
        for model in models.values():
            await model.close()
