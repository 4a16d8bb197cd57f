"""A process that holds an index, as the server's does: so that it can be weighed and killed.

`python -m tests.bench.index.process <what> <workspace> <store>`; answers with a line of JSON.
"""

import json
import sys
import time
from pathlib import Path

from lsp_assist.codebase.index import Index
from lsp_assist.config import IndexSettings
from tests.bench.index.trees import queries
from tests.bench.machine import resident_bytes

__all__ = ["main"]


def main() -> None:
    """Do what the command line says."""
    what, workspace, store = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    if what == "full":
        full(workspace, store)
    else:
        keep_fresh(workspace, store)


def full(workspace: Path, store: Path) -> None:
    """Index everything, ask, and say how long it took and what it weighs."""
    before = resident_bytes()
    started = time.perf_counter()
    index = Index(workspace, store, IndexSettings())
    done = index.refresh()
    full_s = time.perf_counter() - started
    hit = index.search(queries(1)[0], 10)[0]
    index.passage(hit)  # with who calls it
    ready_s = time.perf_counter() - started
    for query in queries(50):
        index.search(query, 10)
    counts = index.counts()
    answer = {
        "full_s": full_s,
        "ready_s": ready_s,
        "resident": resident_bytes() - before,
        "n_files": done.n_files,
        "n_lines": counts.n_lines,
        "n_chunks": counts.n_chunks,
    }
    index.close()
    print(json.dumps(answer), flush=True)


def keep_fresh(workspace: Path, store: Path) -> None:
    """Refresh the index again and again until somebody ends this process; says when it started."""
    print("{}", flush=True)
    while True:
        # Opened anew each time: that is where a process finds what another one left behind.
        index = Index(workspace, store, IndexSettings())
        for _ in range(3):
            index.refresh()
        index.close()


if __name__ == "__main__":
    main()
