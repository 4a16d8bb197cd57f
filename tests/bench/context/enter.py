"""From Enter to the first text, as an editor sees it: over LSP, with a real model."""

import asyncio
import os
import statistics
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

from lsp_assist.config import Places, Settings
from lsp_assist.engine.process import stopped
from tests.bench.context.projects import sized_project
from tests.bench.models import LARGE, model_file
from tests.server.editor import REAL, Editor

__all__ = ["enter", "first_event_ms"]

CHARS_PER_TOKEN = 1.3
WORDS = "Where in this project is number {} handled, and which of the callers rely on it?"


async def enter(n_tokens: int, n_cold: int, n_warm: int) -> dict[str, float]:
    """Enter to first delta, warmed while typed against not warmed, and what was warm by then."""
    with tempfile.TemporaryDirectory(prefix="lc-") as folder:
        root, home = Path(folder, "project"), Path(folder, "h")
        sized_project(root, int(n_tokens * CHARS_PER_TOKEN), 20)
        env = {
            "LSP_ASSIST_MODEL_PATH": str(model_file(LARGE)),
            "LSP_ASSIST_MODEL_N_CTX": str(2 * n_tokens + 2048),
            "LSP_ASSIST_MODEL_MAX_TOKENS": "32",
        }
        cold = []
        for n in range(n_cold):
            editor = await _editor(root, home, env)
            # The model is awake and knows nothing of the project.
            await editor.send("assist/context", _asked("hello", _ids()))
            cold.append((await _first_delta(editor, _asked(WORDS.format(n), _ids())))[0])
            await editor.finish()
            await _forget(home)
        editor = await _editor(root, home, env)
        await editor.send("assist/warm", _asked("", _ids()))
        warm, reuse = [], []
        for n in range(n_warm):
            ids, text = _ids(), WORDS.format(100 + n)
            typing = []
            for at in range(4, len(text) + 4, 4):
                typing.append(
                    asyncio.ensure_future(editor.send("assist/warm", _asked(text[:at], ids)))
                )
                await asyncio.sleep(0.06)  # as fast as people type
            await typing[-1]
            seconds, result = await _first_delta(editor, _asked(text, ids))
            warm.append(seconds)
            usage = result["usage"]
            reuse.append(usage["cachedTokens"] / usage["promptTokens"])
            await asyncio.gather(*typing)
        await editor.finish()
        await _forget(home)
    return {
        "context.key_to_token_ratio": statistics.median(warm) / statistics.median(cold),
        "context.key_to_token_cold_s": statistics.median(cold),
        "context.key_to_token_warm_ms": statistics.median(warm) * 1000,
        "context.typed_reuse": min(reuse),
    }


async def first_event_ms(n_runs: int) -> dict[str, float]:
    """The first event of a question, the server idle and no model."""
    with tempfile.TemporaryDirectory(prefix="lc-") as folder:
        root, home = Path(folder, "project"), Path(folder, "h")
        sized_project(root, 40_000, 20)
        editor = await _editor(root, home, {})
        times = []
        for n in range(n_runs + 5):
            asked = _asked(WORDS.format(n), _ids())
            started = time.perf_counter()
            waiting = asyncio.ensure_future(editor.send("assist/ask", asked))
            await editor.events(str(asked["turnId"]), "step")
            times.append((time.perf_counter() - started) * 1000)
            await waiting
            await editor.events(str(asked["turnId"]))
        await editor.finish()
    times = sorted(times[5:])
    return {
        "context.first_event_p50_ms": times[len(times) // 2],
        "context.first_event_p99_ms": times[int(len(times) * 0.99)],
    }


async def _editor(root: Path, home: Path, env: dict[str, str]) -> Editor:
    editor = Editor(root, home, REAL)
    await editor.launch(**env)
    await editor.open_session()
    while (await editor.send("assist/status"))["indexes"][0]["state"] != "ready":  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    return editor


async def _first_delta(editor: Editor, asked: dict[str, object]) -> tuple[float, Any]:
    started = time.perf_counter()
    waiting = asyncio.ensure_future(editor.send("assist/ask", asked))
    await editor.events(str(asked["turnId"]), "delta")
    seconds = time.perf_counter() - started
    result = await waiting
    await editor.events(str(asked["turnId"]))
    assert result["status"] == "done", result
    return seconds, result


async def _forget(home: Path) -> None:
    """End the engine and what it keeps, so that the next question is cold."""
    import shutil

    settings = Settings(Places.of_user({"LSP_ASSIST_HOME": str(home)}))
    await asyncio.to_thread(stopped, settings)
    for kept in (home / "cache").iterdir():
        if kept.name != "index" and kept.is_dir():
            shutil.rmtree(kept, ignore_errors=True)


def _ids() -> dict[str, object]:
    return {"chatId": str(uuid.uuid4()), "turnId": str(uuid.uuid4())}


def _asked(text: str, ids: dict[str, object]) -> dict[str, object]:
    return {"text": text, **ids}


assert os.name == "posix", "these benches start servers as a shell does"
