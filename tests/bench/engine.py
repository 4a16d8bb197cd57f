"""`make bench-engine`: what the engine is worth, each figure beside its bar.

Models of random weights in the shapes of real ones, made at the first run. Figures are medians of
several runs, ratios are taken within one run; threads = cores. `--quick` does a little of
everything; names of figures do only those. Some 20 minutes on two cores.
"""

import argparse
import asyncio
import inspect
import os
import time
from collections.abc import Awaitable, Callable, Mapping

from tests.bench import soak, speed, warmth
from tests.bench.asking import Tokens
from tests.bench.machine import n_cores
from tests.bench.models import LARGE, MICRO, model_file
from tests.bench.report import Bar, report
from tests.bench.sizes import FULL, QUICK, Sizes

BARS: dict[str, Bar] = {
    "engine.full_warm_ratio": ("<=", 1 / 300),
    "engine.context_warm_ratio": ("<=", 1 / 60),
    "engine.fork_ratio": ("<=", 1.1),
    "engine.fork_while_parent_decodes_ratio": ("<=", 1 / 30),
    "engine.fork_parent_speed": (">=", 1 / 3),
    "engine.fork_ms": ("<=", 5),
    "engine.fork16_memory_ratio": ("<=", 1.02),
    "engine.restart_ratio": ("<=", 1 / 40),
    "engine.cancel_p99_ms": ("<=", 60),
    "engine.preempt_p99_ms": ("<=", 60),
    "engine.batch16_ratio": (">=", 2),
    "engine.batch_worst_ratio": (">=", 0.95),
    "engine.parked_slowdown": ("<=", 1.1),
    "engine.busy_ratio": (">=", 0.3),
    "engine.speculative_enter_ms": ("<=", 15),
    "engine.prefill_vs_raw": (">=", 0.97),
    "engine.decode_vs_raw": (">=", 0.95),
    "engine.parity_mismatches": ("<=", 0),
    "engine.soak_lost": ("<=", 0),
    "engine.soak_rss_growth": ("<=", 1.05),
}

_Figures = Mapping[str, float]
_Measure = Callable[["_Run"], "_Figures | Awaitable[_Figures]"]


class _Run:
    """What the measurements share."""

    def __init__(self, sizes: Sizes) -> None:
        self.sizes = sizes
        self.large, self.micro = model_file(LARGE), model_file(MICRO)
        self.tokens = Tokens(MICRO.n_vocab)
        """Of both vocabularies."""


async def _busy(run: _Run) -> _Figures:
    return {"engine.busy_ratio": await speed.busy_ratio(run.large, run.sizes, run.tokens)}


def _fork(run: _Run) -> _Figures:
    return {"engine.fork_ms": speed.fork_ms(run.micro, run.sizes.prompt, run.tokens)}


MEASURES: dict[str, _Measure] = {
    "bare": lambda run: speed.versus_bare(run.large, run.sizes, run.tokens),
    "batch": lambda run: speed.batches(run.large, run.sizes, run.tokens),
    "interrupt": lambda run: warmth.interruptions(run.large, run.sizes, run.tokens),
    "enter": lambda run: soak.enter_ms(run.large, run.sizes, run.tokens),
    "busy": _busy,
    "crowd": lambda run: speed.crowd(run.large, run.sizes, run.tokens),
    "fork": _fork,
    "memory": lambda run: warmth.many_forks(run.large, run.sizes, run.tokens),
    "parity": lambda run: speed.parity(run.large, run.sizes.prompt // 8, run.tokens),
    "soak": lambda run: soak.soak(run.micro, run.sizes, run.tokens),
    "first": lambda run: warmth.first_tokens(run.large, run.sizes, run.tokens),
    "restart": lambda run: warmth.restart(run.large, run.sizes, run.tokens),
}


def main() -> None:
    """Measure, print and write bench.json."""
    parser = argparse.ArgumentParser(prog="tests.bench.engine")
    parser.add_argument("--quick", action="store_true", help="small sizes; writes no bench.json")
    parser.add_argument("only", nargs="*", choices=[*MEASURES, []], metavar="figure")
    options = parser.parse_args()
    run = _Run(QUICK if options.quick else FULL)
    print(f"{n_cores()} cores, load {os.getloadavg()[0]:.1f}")
    for name in options.only or MEASURES:
        started, load = time.perf_counter(), os.getloadavg()[0]
        figures = MEASURES[name](run)
        if inspect.isawaitable(figures):
            figures = asyncio.run(_awaited(figures))
        print(f"-- {name}: {time.perf_counter() - started:.0f} s, load {load:.1f} before")
        report(figures, BARS, is_kept=not options.quick)


async def _awaited(figures: Awaitable[_Figures]) -> _Figures:
    return await figures


if __name__ == "__main__":
    main()
