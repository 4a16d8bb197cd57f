"""What a ranking is worth: reciprocal ranks, hits, and how sure that is. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["AT", "Interval", "hits", "mean", "paired_ratio", "reciprocal_ranks"]

AT = 10
"""Places further down count as not found."""
N_RESAMPLES = 2_000


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def reciprocal_ranks(ranks: Sequence[int]) -> NDArray[np.float64]:
    """1 / rank, of ranks that count from one; 0 for what is not among the first `AT`."""
    found = np.asarray(ranks, dtype=np.float64)
    return np.where((found > 0) & (found <= AT), 1 / np.maximum(found, 1), 0.0)


def hits(ranks: Sequence[int]) -> NDArray[np.float64]:
    """1 for what is among the first `AT`, else 0."""
    found = np.asarray(ranks)
    return ((found > 0) & (found <= AT)).astype(np.float64)


def mean(worths: NDArray[np.float64], groups: Sequence[str]) -> Interval:
    """The mean, resampled within each group: questions of one repository are drawn from it."""
    means = worths[_resamples(groups)].mean(axis=1)
    return _interval(float(worths.mean()), means)


def paired_ratio(
    worths: NDArray[np.float64], to: NDArray[np.float64], groups: Sequence[str]
) -> Interval:
    """How many times better one is than another on the same questions, resampled together."""
    drawn = _resamples(groups)
    ratios = worths[drawn].mean(axis=1) / np.maximum(to[drawn].mean(axis=1), 1e-9)
    return _interval(float(worths.mean() / max(to.mean(), 1e-9)), ratios)


def _resamples(groups: Sequence[str]) -> NDArray[np.intp]:
    """Indices, shape (N_RESAMPLES, n): as many of each group as it has, drawn with replacement."""
    random = np.random.default_rng(0)
    named = np.asarray(groups)
    members = [np.flatnonzero(named == name) for name in np.unique(named)]
    return np.concatenate(
        [random.choice(each, size=(N_RESAMPLES, len(each))) for each in members], axis=1
    )


def _interval(value: float, resampled: NDArray[np.float64]) -> Interval:
    low, high = np.quantile(resampled, (0.025, 0.975))
    return Interval(value, float(low), float(high))
