"""Where figures go: printed beside their bar, and merged into bench.json."""

import json
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

__all__ = ["Bar", "report"]

FILE = Path(__file__).parents[2] / "bench.json"

Bar = tuple[Literal["<=", ">="], float]


def report(figures: Mapping[str, float], bars: Mapping[str, Bar], *, is_kept: bool = True) -> None:
    """Print each figure beside its bar and merge them into bench.json with date and load."""
    if is_kept:
        _keep(figures)
    for name, value in figures.items():
        bar = bars.get(name)
        verdict = ""
        if bar is not None:
            is_reached = value <= bar[1] if bar[0] == "<=" else value >= bar[1]
            verdict = f"  ({bar[0]} {bar[1]:.4g}: {'reached' if is_reached else 'MISSED'})"
        print(f"{name:38} {value:10.4f}{verdict}", flush=True)


def _keep(figures: Mapping[str, float]) -> None:
    known = json.loads(FILE.read_text("utf-8")) if FILE.exists() else {}
    known.update({name: round(value, 5) for name, value in figures.items()})
    known["machine"] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load": [round(load, 1) for load in os.getloadavg()],
    }
    FILE.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n", "utf-8")
