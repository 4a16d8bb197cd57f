"""How many branches to decode in one step: whichever was fastest, as measured while running.

Batching shares the reading of the weights; yet on a CPU a step for two may take longer than two
steps for one, depending on quantisation, length and machine (LOG.md, 2026-11). Pure: is told the
seconds. Knows no branch and no clock.
"""

from dataclasses import dataclass, field

__all__ = ["Pace"]


@dataclass(slots=True)
class Pace:
    """Seconds per step by the number of branches in it, and what follows from them."""

    _seconds: dict[int, float] = field(default_factory=dict)
    _n_measured: dict[int, int] = field(default_factory=dict)
    _measured_at: dict[int, int] = field(default_factory=dict)
    _n_asked: int = 0

    def group(self, n_branches: int) -> int:
        """How many of the branches to decode together in the next step, at most all of them.

        The size that needs the least time for a token of each; now and then another one that is
        not known yet, or was measured long ago and was close; rarely any other one.
        """
        sizes = _sizes(n_branches)
        self._n_asked += 1
        unknown = [size for size in sizes if self._n_measured.get(size, 0) < _N_FIRST]
        if unknown:
            return max(unknown)
        costs = {size: self._round(n_branches, size) for size in sizes}
        best = min(costs, key=lambda size: (costs[size], -size))
        if self._n_asked % _EXPLORE_EVERY == 0:
            is_any = self._n_asked % _EXPLORE_FAR_EVERY == 0
            others = [s for s in sizes if s != best and (is_any or costs[s] < _CLOSE * costs[best])]
            if others:
                return min(others, key=lambda size: self._measured_at[size])
        return best

    def measured(self, n_branches: int, seconds: float) -> None:
        """Notes how long a step for so many branches took."""
        self._measured_at[n_branches] = self._n_asked
        n = self._n_measured.get(n_branches, 0)
        before = self._seconds.get(n_branches, seconds)
        if n < _N_FIRST:  # the first ones of a size also fill caches; take the best
            self._seconds[n_branches] = min(before, seconds)
        else:
            # One that was held up by another program says little.
            seconds = min(seconds, _OUTLIER * before)
            self._seconds[n_branches] = before + _WEIGHT * (seconds - before)
        self._n_measured[n_branches] = n + 1

    def _round(self, n_branches: int, size: int) -> float:
        n_full, n_rest = divmod(n_branches, size)
        rest = self._seconds.get(n_rest, self._seconds[size]) if n_rest else 0.0
        return n_full * self._seconds[size] + rest


_N_FIRST = 2
_EXPLORE_EVERY = 48
_EXPLORE_FAR_EVERY = 16 * _EXPLORE_EVERY
_CLOSE = 1.5
_OUTLIER = 3.0
_WEIGHT = 0.2


def _sizes(n_branches: int) -> list[int]:
    """All of them, and the powers of two below: 6 gives 1, 2, 4, 6."""
    sizes = [1]
    while sizes[-1] * 2 < n_branches:
        sizes.append(sizes[-1] * 2)
    return sizes if n_branches == 1 else [*sizes, n_branches]
