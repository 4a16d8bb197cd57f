"""How much a bench run does: all of it, or a little of everything for development."""

from dataclasses import dataclass

__all__ = ["FULL", "QUICK", "Sizes"]


@dataclass(frozen=True, slots=True)
class Sizes:
    """Lengths in tokens and numbers of runs."""

    prompt: int
    cold_runs: int
    runs: int
    interruptions: int
    decoded: int
    chat: int
    soak: int
    enters: int


FULL = Sizes(
    prompt=8192,
    cold_runs=3,
    runs=7,
    interruptions=40,
    decoded=48,
    chat=1000,
    soak=1000,
    enters=40,
)
QUICK = Sizes(
    prompt=1024, cold_runs=2, runs=3, interruptions=8, decoded=24, chat=256, soak=100, enters=8
)
