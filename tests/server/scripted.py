"""A server whose assistant does what the question says, for what a real one does too fast or never.

`python -m tests.server.scripted [ADDRESS]` serves with it; all between it and the client is real.
"""

import asyncio
import ctypes
import json
import logging
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from pathlib import Path

from lsp_assist.assistant import Assistant, Question
from lsp_assist.backends.extractive import ExtractiveModel
from lsp_assist.config import Settings
from lsp_assist.errors import BadInput, ModelUnavailable
from lsp_assist.flows import Done, Event, Step, Text
from lsp_assist.llm import Delta, Prompt, Sampling, Source, Usage
from lsp_assist.workspace import Progress, Refreshed, Workspace

N_FILES = 200


class ScriptedWorkspace(Workspace):
    """Remembers what it is told, and indexes as long as it is told."""

    def __init__(self, settings: Settings, roots: Sequence[Path]) -> None:
        super().__init__(settings, roots)
        self.changed_files: list[str] = []

    def file_changed(self, path: Path) -> None:
        """Note the file, for the question `files`."""
        self.changed_files.append(path.name)
        super().file_changed(path)

    async def refresh(self, report: Callable[[Progress], None] | None = None) -> Refreshed:
        """Report 200 files; a folder with a file HOLD is never done."""
        for n_done in range(N_FILES + 1):
            if report is not None:
                report(Progress(n_done, N_FILES, "file.py"))
            if n_done == N_FILES // 2 and any((root / "HOLD").exists() for root in self.roots):
                await asyncio.Event().wait()
        return await super().refresh()


class ScriptedAssistant(Assistant):
    """Answers by the first word of the question."""

    def __init__(self, settings: Settings, roots: Sequence[Path]) -> None:
        self._scripted = ScriptedWorkspace(settings, roots)
        super().__init__(settings, roots, workspace=self._scripted)

    async def ask(self, asked: Question) -> AsyncGenerator[Event, None]:
        """Do what the question's first word says."""
        verb, _, rest = asked.text.partition(" ")
        if verb == "reply":
            self._model = Saying(rest)
        if verb in ("really", "reply"):
            async with aclosing(super().ask(asked)) as events:
                async for event in events:
                    yield event
            return
        yield Step("Thinking")
        said: list[str] = []
        match verb:
            case "count":
                said = [f"{n} " for n in range(int(rest))]
            case "say":
                said = [rest]
            case "documents":
                said = [json.dumps({d.uri: d.text.content for d in self.workspace.documents})]
            case "files":
                said = [json.dumps(self._scripted.changed_files)]
            case "roots":
                said = [json.dumps([root.name for root in self.workspace.roots])]
            case "settings":
                said = [json.dumps([self.settings.model.n_ctx, self.settings.log.level])]
            case "hold":
                yield Text("held ")
                await asyncio.Event().wait()
            case "refuse":
                raise BadInput("The question is refused; ask another one.", field="text")
            case "unavailable":
                yield Text("half ")
                raise ModelUnavailable("The model is asleep; wake it up.")
            case "crash":
                raise RuntimeError(f"crashed over {rest}")
            case "print":
                _print()
            case "log":
                logging.getLogger("lsp_assist.test").debug("debugging is on")
                logging.getLogger("somebody.else").info("a library talks")
            case _ if asked.selection is not None:
                selection = asked.selection
                lines = f"{selection.path}:{selection.start_line}-{selection.end_line}"
                said = [f"{asked.mode}|{asked.text}|{lines}|{selection.text}"]
        for text in said:
            yield Text(text)
            await asyncio.sleep(0)
        source = (
            Source("a b.py", 0, 1, "f", str(self.workspace.roots[0]))
            if self.workspace.roots
            else None
        )
        usage = Usage("scripted", "told so", 10, 4, len(said), 1.0, 2.0)
        yield Done("".join(said), (source,) if source else (), usage)


class Saying(ExtractiveModel):
    """A model that says one thing."""

    def __init__(self, text: str) -> None:
        super().__init__("")
        self.text = text

    async def stream(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Delta, None]:
        """What it was told to say, a few characters a piece."""
        for at in range(0, len(self.text), 7):
            yield Delta(self.text[at : at + 7])
        yield Delta(usage=Usage("scripted"))


def _print() -> None:
    print("printed by Python")
    ctypes.CDLL(None).puts(b"printed by C")
    ctypes.CDLL(None).fflush(None)
    subprocess.run(["echo", "printed by a child"], check=True)


if __name__ == "__main__":
    from lsp_assist.server.app import AssistServer
    from lsp_assist.server.run import run

    address = sys.argv[1] if len(sys.argv) > 1 else None
    run(lambda: AssistServer({}, ScriptedAssistant), tcp=address)
