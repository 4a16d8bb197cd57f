"""How fast models read on this machine, as measured, and what a prompt would therefore take.

Keeps one number a model in a small file of the cache folder, so that a new process can tell before
it has asked anything. Knows no prompt and no model.
"""

import contextlib
import json
import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path

from lsp_assist.llm import Usage

__all__ = ["Estimate", "Speeds"]

logger = logging.getLogger(__name__)

MIN_TOKENS = 64
"""Fewer say more about the wire than about the model."""
_NEWEST_SHARE = 0.3
_MAX_BYTES = 100_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a prompt would take. None is what nobody knows."""

    model: str
    n_tokens: int
    n_warm: int | None
    seconds: float | None
    """To the first text; 0 for what is warm."""
    cost_usd: float | None = None
    """None where nothing is charged."""
    note: str = ""
    """What the user should know of the model, empty if there is nothing."""

    @property
    def n_cold(self) -> int:
        """Tokens that would be computed; all, where it is not known what is warm."""
        return self.n_tokens - min(self.n_tokens, self.n_warm or 0)


class Speeds:
    """Tokens that a model reads in a second, by its name."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._tokens_per_s: dict[str, float] | None = None
        self._is_changed = False

    def heard(self, usage: Usage) -> None:
        """Learn from a reply or a warm-up."""
        n_computed = usage.prompt_tokens - usage.cached_tokens
        if n_computed < MIN_TOKENS or usage.ttft_ms <= 0:
            return
        now = n_computed / usage.ttft_ms * 1000
        known = self._known()
        before = known.get(usage.model, now)
        known[usage.model] = before + (now - before) * _NEWEST_SHARE
        self._is_changed = True

    def estimate(self, model: str, n_tokens: int, n_warm: int | None) -> Estimate:
        """What a prompt of so many tokens would take, so many of them warm."""
        found = Estimate(model, n_tokens, n_warm, None)
        speed = self._known().get(model)
        return replace(found, seconds=found.n_cold / speed) if speed else found

    def close(self) -> None:
        """Keep what was learnt; idempotent."""
        if not self._is_changed:
            return
        self._is_changed = False
        part = self._file.with_suffix(f".{os.getpid()}")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            part.write_text(json.dumps(self._known(), indent=2, sort_keys=True), "utf-8")
            part.replace(self._file)
        except OSError as error:
            logger.warning("Measured speeds could not be kept: %s", error)
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)

    def _known(self) -> dict[str, float]:
        if self._tokens_per_s is None:
            self._tokens_per_s = _read(self._file)
        return self._tokens_per_s


def _read(file: Path) -> dict[str, float]:
    """The speeds in a file, without whatever else it may hold."""
    try:
        said = json.loads(file.read_text("utf-8")[:_MAX_BYTES])
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(said, dict):
        return {}
    return {
        name: float(speed)
        for name, speed in said.items()
        if isinstance(speed, int | float) and not isinstance(speed, bool) and 0 < speed < 1e9
    }
