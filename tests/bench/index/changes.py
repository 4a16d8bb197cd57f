"""Changes: how soon one is known, and what ten thousand of them leave behind."""

import random
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from lsp_assist.codebase.index import Index
from lsp_assist.config import IndexSettings
from tests.bench.index.sizes import Sizes
from tests.bench.index.trees import copy_tree, edited, long_text, queries

__all__ = ["change", "day", "opened"]

LANGUAGES = {"python": ".py", "c": ".c", "go": ".go", "typescript": ".ts", "java": ".java"}
N_QUERIES = 50


@contextmanager
def opened(workspace: Path, store: Path) -> Iterator[Index]:
    """An index of the workspace, up to date."""
    index = Index(workspace, store, IndexSettings())
    index.refresh()
    try:
        yield index
    finally:
        index.close()


def change(folders: Sequence[Path], sizes: Sizes, scratch: Path) -> dict[str, float]:
    """A change in a long file until its outline and its graph answer; the slowest language."""
    figures: dict[str, float] = {}
    medians, tails = [], []
    for language, suffix in LANGUAGES.items():
        text = long_text(folders, suffix, sizes.file_lines)
        if not text:
            print(f"   no {language} of {sizes.file_lines} lines in what was given")
            continue
        workspace = scratch / language
        workspace.mkdir()
        path = f"long{suffix}"
        (workspace / path).write_text(text, "utf-8")
        with opened(workspace, scratch / f"{language}.db") as index:
            taken = _change_ms(index, path, text, sizes.changes)
        medians.append(float(np.quantile(taken, 0.5)))
        tails.append(float(np.quantile(taken, 0.99)))
        figures[f"index.change_{language}_p50_ms"] = medians[-1]
        figures[f"index.change_{language}_p99_ms"] = tails[-1]
    return figures | {"index.change_p50_ms": max(medians), "index.change_p99_ms": max(tails)}


def day(folders: Sequence[Path], sizes: Sizes, scratch: Path) -> dict[str, float]:
    """Query time after many small changes against before; each tenth change is saved."""
    workspace = scratch / "workspace"
    copy_tree(folders, workspace, sizes.day_lines)
    paths = sorted(p.relative_to(workspace).as_posix() for p in workspace.rglob("*.*"))
    paths = [path for path in paths if (workspace / path).is_file()]
    draw = random.Random(4)
    texts: dict[str, str] = {}
    with opened(workspace, scratch / "day.db") as index:
        before = _search_ms(index)
        started = time.perf_counter()
        for step in range(sizes.day_changes):
            if step % 10 == 0:
                path = draw.choice(paths)
                texts.setdefault(path, (workspace / path).read_text("utf-8", "replace"))
            texts[path] = edited(texts[path], draw)
            index.overlay(path, texts[path])
            if step % 10 == 5:
                index.symbol_at(path, 0, 0)  # somebody asks, and what was marked is read
            if step % 10 == 9:
                (workspace / path).write_text(texts[path], "utf-8")
                index.refresh_file(path)
                index.overlay(path, None)
        spent_s = time.perf_counter() - started
        after = _search_ms(index)
        stored = sum(path.stat().st_size for path in scratch.glob("day.db*"))
        index.refresh()
    print(f"   {before:.1f} ms before, {after:.1f} ms after {spent_s:.0f} s of changes")
    return {"index.day_slowdown": after / before, "index.day_disk_mb": stored / 1e6}


def _change_ms(index: Index, path: str, text: str, n: int) -> list[float]:
    draw = random.Random(2)
    last_line = text.count("\n")
    index.overlay(path, text)
    index.symbol_at(path, 0, last_line)
    taken = []
    for _ in range(n):
        text = edited(text, draw)
        line = draw.randrange(last_line)
        started = time.perf_counter()
        index.overlay(path, text)
        index.symbol_at(path, line, line)
        taken.append((time.perf_counter() - started) * 1000)
    return taken


def _search_ms(index: Index) -> float:
    taken = []
    for query in queries(N_QUERIES) * 3:
        started = time.perf_counter()
        index.search(query, 10)
        taken.append((time.perf_counter() - started) * 1000)
    return statistics.median(taken)
