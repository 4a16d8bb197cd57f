"""Measures what the context of questions costs and saves; names of figures do only those."""

import argparse
import asyncio
import os
import time
from collections.abc import Awaitable, Callable

from tests.bench.context import enter, picking, reuse
from tests.bench.machine import n_cores
from tests.bench.report import Bar, report

BARS: dict[str, Bar] = {
    "context.typed_reuse": (">=", 0.99),
    "context.session_reuse": (">=", 0.97),
    "context.new_chat_after_edits_ratio": (">=", 2),
    "context.pick_20k_p95_ms": ("<=", 50),
    "context.pick_1m_p95_ms": ("<=", 200),
    "context.first_event_p99_ms": ("<=", 20),
    "context.key_to_token_ratio": ("<=", 1 / 50),
}

_Measure = Callable[[bool], Awaitable[dict[str, float]]]

MEASURES: dict[str, _Measure] = {
    "session": lambda quick: reuse.session_reuse(4_000 if quick else 20_000),
    "edits": lambda quick: reuse.new_chat_after_edits(20_000, 1 if quick else 8),
    "pick": lambda quick: picking.picking_ms(n_tokens=20_000, n_runs=5 if quick else 60),
    "pick-large": lambda quick: picking.picking_ms(
        n_lines=50_000 if quick else 1_000_000, n_runs=5 if quick else 60
    ),
    "event": lambda quick: enter.first_event_ms(20 if quick else 300),
    "enter": lambda quick: enter.enter(
        1_000 if quick else 8_000, 1 if quick else 3, 3 if quick else 12
    ),
}


def main() -> None:
    """Measure, print and write bench.json."""
    parser = argparse.ArgumentParser(prog="tests.bench.context")
    parser.add_argument("--quick", action="store_true", help="small sizes; writes no bench.json")
    parser.add_argument("only", nargs="*", choices=[*MEASURES, []], metavar="figure")
    options = parser.parse_args()
    print(f"{n_cores()} cores, load {os.getloadavg()[0]:.1f}")
    for name in options.only or MEASURES:
        started, load = time.perf_counter(), os.getloadavg()[0]
        figures = asyncio.run(_awaited(MEASURES[name](options.quick)))
        print(f"-- {name}: {time.perf_counter() - started:.0f} s, load {load:.1f} before")
        report(figures, BARS, is_kept=not options.quick)


async def _awaited(figures: Awaitable[dict[str, float]]) -> dict[str, float]:
    return await figures


if __name__ == "__main__":
    main()
