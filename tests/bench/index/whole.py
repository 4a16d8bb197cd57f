"""A whole repository: how long until it can be asked, and what the index weighs."""

import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.bench.index.sizes import Sizes
from tests.bench.index.trees import copy_tree

__all__ = ["whole"]


def whole(folders: Sequence[Path], sizes: Sizes, scratch: Path) -> dict[str, float]:
    """Indexing against universal-ctags on the same tree, in turns; memory and disk."""
    tree = scratch / "tree"
    n_lines = copy_tree(folders, tree, sizes.tree_lines)
    n_bytes = sum(path.stat().st_size for path in tree.rglob("*") if path.is_file())
    print(f"   {n_lines} lines, {n_bytes / 1e6:.1f} MB; {ctags_version()}")
    ours, theirs, ready, weights, ratios = [], [], [], [], []
    for run in range(sizes.tree_runs):
        theirs.append(_ctags_s(tree, scratch / "tags"))
        folder = scratch / f"store{run}"
        command = (sys.executable, "-m", "tests.bench.index.process", "full", tree, folder / "i.db")
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found = json.loads(done.stdout)
        print(f"   {found}, ctags {theirs[-1]:.1f} s")
        ours.append(found["full_s"])
        ready.append(found["ready_s"] / found["n_lines"] * 100_000)
        weights.append(found["resident"] / 1e6 / found["n_chunks"] * 100_000)
        stored = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        ratios.append(stored / n_bytes)
        shutil.rmtree(folder)
    return {
        "index.full_s": statistics.median(ours),
        "index.full_vs_ctags": statistics.median(ours) / statistics.median(theirs),
        "index.lexical_ready_s_per_100k_lines": statistics.median(ready),
        "index.rss_mb_per_100k_chunks": statistics.median(weights),
        "index.disk_ratio": statistics.median(ratios),
    }


def ctags_version() -> str:
    """The first words of `ctags --version`.

    Raises: RuntimeError if it is missing or another ctags
    """
    command = (shutil.which("ctags") or "false", "--version")
    said = subprocess.run(command, check=False, capture_output=True, text=True).stdout
    if not said.startswith("Universal Ctags"):
        raise RuntimeError("universal-ctags is not installed (Debian: universal-ctags)")
    return said.partition(",")[0]


def _ctags_s(tree: Path, target: Path) -> float:
    started = time.perf_counter()
    subprocess.run(("ctags", "-R", "-f", target, tree), check=True, capture_output=True)
    return time.perf_counter() - started
