"""Two processes that write one index, killed at random moments: nothing may be lost or broken."""

import random
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from lsp_assist.codebase.index import Index
from lsp_assist.codebase.store import Store
from lsp_assist.config import IndexSettings
from lsp_assist.errors import AssistError
from tests.bench.index.sameness import differences, seen, seen_anew
from tests.bench.index.sizes import Sizes
from tests.bench.index.trees import copy_tree, edited

__all__ = ["faults"]

MAX_DELAY_S = 1.0
COMPARED_EVERY = 20
TOUCHED = (1, 3, 80, 200)
"""Files that change between two kills; of more than fifty, a refresh compacts the store."""


def faults(folders: Sequence[Path], sizes: Sizes, scratch: Path) -> dict[str, float]:
    """What was lost, and how often the index could not be opened again as it was."""
    workspace, store = scratch / "workspace", scratch / "faults.db"
    copy_tree(folders, workspace, sizes.fault_lines)
    paths = sorted(path for path in workspace.rglob("*") if path.is_file())
    texts = {path: path.read_text("utf-8", "replace") for path in paths}
    draw = random.Random(6)
    n_crashes = n_lost = 0
    writers = [_Writer(workspace, store, scratch / f"writer{n}.log") for n in range(2)]
    try:
        for kill in range(1, sizes.kills + 1):
            for path in draw.sample(paths, min(draw.choice(TOUCHED), len(paths))):
                texts[path] = edited(texts[path], draw)
                path.write_text(texts[path], "utf-8")
            time.sleep(draw.uniform(0, MAX_DELAY_S))
            writer = draw.choice(writers)
            n_crashes += writer.kill()
            n_crashes += not _opens_as_it_was(store)
            if kill % COMPARED_EVERY == 0:
                n_lost += len(_lost(workspace, store, scratch / f"{kill}.db"))
            writer.start()
    finally:
        n_crashes += sum(writer.kill() for writer in writers)
    for writer in writers:
        print(writer.said(), end="")
    return {"index.faults_lost": n_lost, "index.faults_crashes": n_crashes}


class _Writer:
    """A process that keeps the index fresh until it is killed."""

    def __init__(self, workspace: Path, store: Path, log: Path) -> None:
        self._command = (sys.executable, "-m", "tests.bench.index.process", "keep")
        self._places = (workspace, store)
        self._log = log
        self._log.touch()
        self.start()

    def start(self) -> None:
        """Start it, and wait until it is about to open the index."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                (*self._command, *self._places), stdout=subprocess.PIPE, stderr=log
            )
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def kill(self) -> int:
        """Kill it; returns 1 if it had ended by itself, which it never should."""
        has_ended = self._process.poll() is not None
        with suppress(ProcessLookupError):
            self._process.kill()
        self._process.communicate()
        return int(has_ended)

    def said(self) -> str:
        """What it complained about."""
        return self._log.read_text("utf-8")


def _opens_as_it_was(store: Path) -> bool:
    try:
        opened = Store(store)
        opened.counts()
        opened.close()
    except AssistError as error:
        print(f"   {error}")
        return False
    return not opened.was_rebuilt


def _lost(workspace: Path, store: Path, anew: Path) -> Sequence[str]:
    """What an index built from scratch has otherwise, once this one has caught up."""
    index = Index(workspace, store, IndexSettings())
    index.refresh()
    found = differences(seen(index, store), seen_anew(workspace, anew, ()))
    index.close()
    for path in anew.parent.glob(f"{anew.name}*"):
        path.unlink()
    for each in found[:5]:
        print(f"   differs: {each}")
    return found
