"""How much of a prompt is read already: over a session, and in a new chat after edits."""

import itertools
import random
import subprocess
import tempfile
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from pathlib import Path

from lsp_assist.config import ModelSettings
from lsp_assist.context import levels
from lsp_assist.context.code import FileKey, ProjectFile
from lsp_assist.context.pack import in_order
from lsp_assist.context.tokens import TokenCounts
from lsp_assist.llm import Usage
from lsp_assist.models import engine_model
from lsp_assist.workspace import Workspace
from tests.bench.context.player import Player, opened
from tests.bench.context.projects import commit, sized_project
from tests.bench.served import served
from tests.engine.tiny import make_model

__all__ = ["new_chat_after_edits", "session_reuse"]

N_CTX = 65_536
CHARS_PER_TOKEN = 1.3
"""Of the bench's vocabulary, which is small."""


async def session_reuse(n_tokens: int) -> dict[str, float]:
    """20 turns, 12 edits to 6 files, 3 forks, 2 modes, another model and back.

    Nothing is warmed. `context.session_reuse_warmed`: who picks another model has it read the chat
    at once, as `assist/warm` does.
    """
    warmed, unwarmed = [await _session(n_tokens, warms=warms) for warms in (True, False)]
    return {
        "context.session_reuse": _reuse(unwarmed[1:]),
        "context.session_reuse_warmed": _reuse(warmed[1:]),
        "context.session_first_prompt_tokens": float(unwarmed[0].prompt_tokens),
    }


async def _session(n_tokens: int, *, warms: bool) -> list[Usage]:
    usages: list[Usage] = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "project")
        files = sized_project(root, int(n_tokens * CHARS_PER_TOKEN), 24)
        paths = {
            name: make_model(Path(folder, f"{name}.gguf"), context_length=N_CTX, seed=seed)
            for name, seed in (("one", 1), ("two", 2))
        }
        with served(paths["one"], n_ctx=N_CTX) as engine:
            models = {
                name: engine_model(
                    path, replace(engine.settings, model=ModelSettings(path=path, n_ctx=N_CTX))
                )
                for name, path in paths.items()
            }
            async with opened(engine.settings, [root], models) as player:
                await _play(player, files, usages, warms=warms)
    return usages


async def _play(player: Player, files: Sequence[Path], usages: list[Usage], *, warms: bool) -> None:
    edited = [files[n] for n in (1, 5, 9, 13, 17, 21)]
    n_edits = 0
    for n in range(20):
        if n in (6, 11, 16):
            player.fork(len(player.path) - 2)
        if n % 2 or n in (2, 8):
            file = edited[n_edits % len(edited)]
            lines = file.read_text("utf-8").split("\n")
            lines.insert(10 + n, f"# edited in turn {n}")
            player.write(file, "\n".join(lines))
            n_edits += 1
        mode = {4: "explain", 14: "refactor"}.get(n, "")
        model = "two" if n == 12 else "one"
        text = f"Question {n}: where is the part that turn {n} is about, and who calls it?"
        if model == "two" and warms:
            await player.warm(model)
        usages.append(await player.ask(text, model, str(n), mode))
    assert n_edits == 12, n_edits


def _reuse(usages: Sequence[Usage]) -> float:
    return sum(u.cached_tokens for u in usages) / sum(u.prompt_tokens for u in usages)


async def new_chat_after_edits(n_tokens: int, n_sessions: int) -> dict[str, float]:
    """Tokens to read in a new chat after 10 edits: in the order of names against our order.

    What is edited follows the history: of the files, the k-th most active one is drawn with a
    weight of 1/k. Each of the 10 edits is drawn anew. With `_working_set`, 6 files are drawn for a
    session of 30 edits to them, with a new chat after each 10; `_working_set_first` is of the first
    of these chats alone, when nothing but the history is known. Both orders are of the same texts.
    """
    named, ours = await _to_read(n_tokens, n_sessions, _one_chat)
    set_named, set_ours = await _to_read(n_tokens, n_sessions, _working_set)
    print(f"   tokens to read: by name {named} and {set_named}, ours {ours} and {set_ours}")
    return {
        "context.new_chat_after_edits_ratio": named[0] / ours[0],
        "context.new_chat_after_edits_ratio_working_set": sum(set_named) / sum(set_ours),
        "context.new_chat_after_edits_ratio_working_set_first": set_named[0] / set_ours[0],
    }


_Shown = dict[FileKey, tuple[ProjectFile, str]]
_Session = Callable[[Player, Sequence[Path], random.Random], AsyncGenerator[_Shown, None]]
"""The workspace at its beginning and at each new chat."""


async def _one_chat(
    player: Player, files: Sequence[Path], chance: random.Random
) -> AsyncGenerator[_Shown, None]:
    yield await _shown(player.workspace)
    for n in range(10):
        file = _drawn(files, chance)
        player.write(file, file.read_text("utf-8") + f"# edit {n}\n")
    yield await _shown(player.workspace)


async def _working_set(
    player: Player, files: Sequence[Path], chance: random.Random
) -> AsyncGenerator[_Shown, None]:
    edited: set[Path] = set()
    while len(edited) < 6:
        edited.add(_drawn(files, chance))
    yield await _shown(player.workspace)
    for chat in range(3):
        for n in range(10):
            file = chance.choice(sorted(edited))
            player.write(file, file.read_text("utf-8") + f"# edit {chat}.{n}\n")
            await _shown(player.workspace)  # as a warm-up looks
        yield await _shown(player.workspace)


async def _to_read(
    n_tokens: int, n_sessions: int, session: _Session
) -> tuple[list[int], list[int]]:
    """Tokens to read in the new chats of sessions, by name and in our order, chat by chat."""
    chance = random.Random(7)
    named: list[int] = []
    ours: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "project")
        files = sized_project(root, int(n_tokens * CHARS_PER_TOKEN), 40)
        path = make_model(Path(folder, "m.gguf"), context_length=N_CTX)
        _make_history(root, files, chance)
        with served(path, n_ctx=N_CTX) as engine:
            model = engine_model(path, engine.settings)
            counts = TokenCounts(model.count)
            for _ in range(n_sessions):
                async with opened(engine.settings, [root], {}) as player:
                    states = [shown async for shown in session(player, files, chance)]
                pairs = list(itertools.pairwise(states))
                for tokens, order in ((ours, in_order), (named, _by_name)):
                    n_new = [await _n_new(order, *pair, counts) for pair in pairs]
                    tokens[:] = map(sum, itertools.zip_longest(tokens, n_new, fillvalue=0))
                commit(root)
            await model.close()
    return named, ours


def _by_name(files: Sequence[ProjectFile]) -> list[ProjectFile]:
    return sorted(files, key=lambda file: file.key)


async def _shown(workspace: Workspace) -> _Shown:
    await workspace.freshness()
    files = await workspace.files()
    texts = await workspace.texts([file.key for file in files])
    return {file.key: (file, texts[file.key]) for file in files}


async def _n_new(
    order: Callable[[Sequence[ProjectFile]], list[ProjectFile]],
    before: _Shown,
    after: _Shown,
    counts: TokenCounts,
) -> int:
    """Tokens of the new pack behind what it has in common with the old one, by whole files."""
    first, second = (
        [levels.whole(file, shown[file.key][1]).text for file in order(_files_of(shown))]
        for shown in (before, after)
    )
    n_same = 0
    while n_same < min(len(first), len(second)) and first[n_same] == second[n_same]:
        n_same += 1
    return sum(await counts.of_each(second[n_same:]))


def _files_of(shown: _Shown) -> list[ProjectFile]:
    return [file for file, _ in shown.values()]


def _make_history(root: Path, files: list[Path], chance: random.Random) -> None:
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    commit(root)
    for n in range(60):
        for file in {_drawn(files, chance) for _ in range(2)}:
            with file.open("a", encoding="utf-8") as out:
                out.write(f"# commit {n}\n")
        commit(root)


def _drawn(files: Sequence[Path], chance: random.Random) -> Path:
    """A file, the k-th of a fixed order with a weight of 1/k."""
    order = sorted(files, key=lambda f: f.name[::-1])
    return chance.choices(order, [1 / (k + 1) for k in range(len(order))])[0]
