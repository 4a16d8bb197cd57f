"""`make bench-index`: what the index is worth, each figure beside its bar.

On public code that is downloaded once, or on the checkouts that `--code` names. Figures are medians
of several runs, ratios are taken within one run. `--quick` does a little of everything; names of
figures do only those.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.bench.index import changes, edits, faults, meaning, scale, whole
from tests.bench.index.sizes import FULL, QUICK, Sizes
from tests.bench.index.trees import sources
from tests.bench.machine import n_cores
from tests.bench.report import Bar, report

BARS: dict[str, Bar] = {
    "index.full_vs_ctags": ("<=", 4),
    "index.lexical_ready_s_per_100k_lines": ("<=", 10),
    "index.embed_chunks_per_s": (">=", 5_000),
    "index.change_p50_ms": ("<=", 15),
    "index.change_p99_ms": ("<=", 60),
    "index.change_to_vector_p95_ms": ("<=", 1_000),
    "index.search_100k_p95_ms": ("<=", 50),
    "index.search_1m_p95_ms": ("<=", 150),
    "index.day_slowdown": ("<=", 1.2),
    "index.rss_mb_per_100k_chunks": ("<=", 400),
    "index.disk_ratio": ("<=", 3),
    "index.rebuild_equals_incremental": (">=", 1),
    "index.faults_lost": ("<=", 0),
    "index.faults_crashes": ("<=", 0),
}

_Measure = Callable[[Sequence[Path], Sizes, Path], Mapping[str, float]]

MEASURES: dict[str, _Measure] = {
    "whole": whole.whole,
    "embed": meaning.embed,
    "change": changes.change,
    "vector": meaning.vector,
    "search": scale.search,
    "day": changes.day,
    "equal": edits.equal,
    "faults": faults.faults,
}


def main() -> None:
    """Measure, print and write bench.json."""
    parser = argparse.ArgumentParser(prog="tests.bench.index")
    parser.add_argument("--quick", action="store_true", help="small sizes; writes no bench.json")
    parser.add_argument("--code", type=Path, action="append", default=[], metavar="DIR")
    parser.add_argument("only", nargs="*", choices=[*MEASURES, []], metavar="figure")
    options = parser.parse_args()
    folders = sources(options.code)
    print(f"{n_cores()} cores, load {os.getloadavg()[0]:.1f}; {', '.join(f.name for f in folders)}")
    for name in options.only or MEASURES:
        started, load = time.perf_counter(), os.getloadavg()[0]
        with tempfile.TemporaryDirectory() as scratch:
            figures = MEASURES[name](folders, QUICK if options.quick else FULL, Path(scratch))
        print(f"-- {name}: {time.perf_counter() - started:.0f} s, load {load:.1f} before")
        report(figures, BARS, is_kept=not options.quick)


if __name__ == "__main__":
    main()
