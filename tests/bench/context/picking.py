"""How long it takes to pick and to lay out what a question is asked with."""

import os
import tempfile
import time
from pathlib import Path

from lsp_assist.config import Places, Settings
from lsp_assist.flows.openings import Openings
from lsp_assist.flows.prepare import Question, complete, prepare
from lsp_assist.models import engine_model
from tests.bench.context.player import opened
from tests.bench.context.projects import copy_python, sized_project
from tests.bench.context.reuse import CHARS_PER_TOKEN, N_CTX
from tests.bench.served import served
from tests.engine.tiny import make_model

__all__ = ["picking_ms"]


async def picking_ms(*, n_tokens: int = 0, n_lines: int = 0, n_runs: int) -> dict[str, float]:
    """p50 and p95 of a new chat's first question, one file edited before each.

    A project of so many tokens, or of so many lines; its index is warm and its texts were counted
    once, as after the first warm-up. `LSP_ASSIST_BENCH_LARGE` names a folder and a home beside it
    that hold the large one from an earlier run.
    """
    with tempfile.TemporaryDirectory() as folder:
        kept = os.environ.get("LSP_ASSIST_BENCH_LARGE") if n_lines else None
        root = Path(kept) if kept else Path(folder, "project")
        if not kept:
            if n_lines:
                copy_python(root, n_lines)
            else:
                sized_project(root, int(n_tokens * CHARS_PER_TOKEN), 40)
        path = make_model(Path(folder, "m.gguf"), context_length=N_CTX)
        with served(path, n_ctx=N_CTX) as engine:
            settings = engine.settings
            if kept:
                settings = Settings(Places.of_user({"LSP_ASSIST_HOME": str(root.parent / "home")}))
            model = engine_model(path, engine.settings)
            times, cpu = [], []
            async with opened(settings, [root], {"one": model}) as player:
                files = sorted(root.rglob("*.py"))
                for n in range(n_runs + 2):
                    file = files[(n * 37) % len(files)]
                    text = file.read_text("utf-8", "replace")
                    player.write(file, text + f"# run {n}\n")
                    await player.workspace.freshness()
                    player.openings = Openings() if n_tokens else player.openings
                    bench = player.bench("one")
                    asked = Question("Where is a request retried after a timeout?", "chat", str(n))
                    started, cpu_started = time.perf_counter(), time.process_time()
                    prepared = await prepare(bench, (), (), asked)
                    await complete(bench, prepared, asked)
                    times.append((time.perf_counter() - started) * 1000)
                    cpu.append((time.process_time() - cpu_started) * 1000)
                    file.write_text(text, "utf-8")
            print(f"   first ever {times[0]:.0f} ms, {prepared.pack and prepared.pack.reason}")
    times, cpu = sorted(times[2:]), sorted(cpu[2:])
    name = "1m" if n_lines else "20k"
    return {
        f"context.pick_{name}_p50_ms": times[len(times) // 2],
        f"context.pick_{name}_p50_cpu_ms": cpu[len(cpu) // 2],
        f"context.pick_{name}_p95_ms": times[min(len(times) - 1, int(len(times) * 0.95))],
    }
