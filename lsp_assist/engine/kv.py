"""Which token prefixes live in which sequence of the KV cache, and where new tokens should go.

Pure: a ledger beside the cache, told of every change. Sequences that share a prefix share its
cells, which count once. Knows no llama.cpp, no queue and no file.
"""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Ledger", "Plan", "Tokens", "as_tokens", "n_common"]

Tokens = NDArray[np.int32]


def as_tokens(tokens: Sequence[int] | Tokens) -> Tokens:
    """The tokens as an array, shape (n_tokens,)."""
    return np.asarray(tokens, np.int32)


def n_common(a: Tokens, b: Tokens) -> int:
    """The length of the longest common prefix; some microseconds for 20,000 tokens."""
    n = min(len(a), len(b))
    if n == 0:
        return 0
    differs = a[:n] != b[:n]
    at = int(differs.argmax())
    return at if differs[at] else n


@dataclass(frozen=True, slots=True)
class Plan:
    """Where some tokens will live, and how many of them are there already."""

    kind: Literal[
        "extend",  # in place, behind the first `n_shared` tokens of the sequence
        "copy",  # in a free sequence, which gets the first `n_shared` tokens of another one
        "start",  # in a free sequence, from the first token on
    ]
    seq: int
    source: int
    """The sequence that is copied; `seq` itself for the others."""
    n_shared: int


class Ledger:
    """The sequences of one cache: `plan` where tokens go, `begin`, `extend` and `release` them.

    A sequence in use belongs to a running request: it is read by copies and never chosen for
    anything else. `key` is what cells depend on beside the tokens before them (adapters); prefixes
    are shared under one key only.
    """

    def __init__(self, n_seqs: int, budget_tokens: int, *, can_roll_back: bool = True) -> None:
        """Without `can_roll_back` a sequence serves with all of its tokens or not at all."""
        self.budget_tokens = budget_tokens
        self.n_cells = 0
        """How many cells are taken; those of a shared prefix count once."""
        self._can_roll_back = can_roll_back
        self._seqs = [_Sequence() for _ in range(n_seqs)]
        self._clock = 0

    # ---- asking

    def tokens(self, seq: int) -> Tokens:
        """What a sequence holds; a view until its next change."""
        return self._seqs[seq].tokens

    def key(self, seq: int) -> Hashable:
        """What the cells of a sequence depend on beside the tokens."""
        return self._seqs[seq].key

    def is_in_use(self, seq: int) -> bool:
        """Whether a running request owns the sequence."""
        return self._seqs[seq].is_in_use

    def idle(self) -> list[int]:
        """Sequences that hold something and serve no request, least recently used first."""
        found = [n for n, s in enumerate(self._seqs) if s.n_tokens and not s.is_in_use]
        return sorted(found, key=lambda n: self._seqs[n].used_at)

    def match(self, tokens: Tokens, key: Hashable) -> tuple[int, int]:
        """The sequence that shares the longest prefix, and its length; (-1, 0) for none.

        Among equals an idle one, then one with nothing behind the prefix. O(sequences · tokens),
        by vector instructions.
        """
        best, best_rank = -1, (0, False, 0)
        for n, seq in enumerate(self._seqs):
            if seq.key != key or seq.n_tokens < max(1, best_rank[0]):
                continue
            n_shared = n_common(seq.tokens, tokens)
            if not self._can_roll_back and n_shared < seq.n_tokens:
                continue
            rank = (n_shared, not seq.is_in_use, -seq.n_tokens)
            if n_shared and rank > best_rank:
                best, best_rank = n, rank
        return best, best_rank[0]

    def plan(self, tokens: Tokens, key: Hashable, n_max: int | None = None) -> Plan | None:
        """How to compute the fewest of these tokens again; None while every sequence is in use.

        At most `n_max` are taken as given: the last token of a question is computed in any case,
        for its logits. An empty sequence is preferred for a copy or a start; without one, `seq` is
        the idle one that was used longest ago, and what it held is lost.
        """
        n_max = len(tokens) if n_max is None else n_max
        usable = tokens[:n_max]
        source, n_shared = self.match(usable, key)
        spare = self._spare(excluding=source)
        if source < 0:
            return None if spare < 0 else Plan("start", spare, spare, 0)
        seq = self._seqs[source]
        if not seq.is_in_use and (self._may_extend(seq, n_shared) or spare < 0):
            return Plan("extend", source, source, n_shared)
        return None if spare < 0 else Plan("copy", spare, source, n_shared)

    def victims(self, n_new: int) -> list[int] | None:
        """The idle sequences to forget so that `n_new` more cells fit; None if that is too few."""
        chosen: list[int] = []
        if self.n_cells + n_new <= self.budget_tokens:
            return chosen
        left = list(self._seqs)
        for n in self.idle():
            chosen.append(n)
            left.remove(self._seqs[n])
            if _n_cells(left) + n_new <= self.budget_tokens:
                return chosen
        return None

    def unrelated(self, seqs: Iterable[int]) -> list[int]:
        """Idle sequences that share less than half of their cells with any of these, least recently
        used first. All chats share the first tokens of the template.
        """
        others = [self._seqs[n] for n in seqs]

        def is_unrelated(seq: _Sequence) -> bool:
            return all(2 * seq.n_shared(other) < seq.n_tokens for other in others)

        return [n for n in self.idle() if is_unrelated(self._seqs[n])]

    def n_cells_of(self, seqs: Iterable[int]) -> int:
        """How many cells some sequences take together."""
        return _n_cells(self._seqs[n] for n in seqs)

    def reach(self, seqs: Iterable[int]) -> int:
        """About how high up in the cache the cells of some sequences lie.

        llama.cpp fills from the lowest free cell on and tells nobody which it took; this counts
        what was there before.
        """
        runs = [run for n in seqs for run in self._seqs[n].runs]
        return max((run.cells.base + run.end - run.cells.start for run in runs), default=0)

    # ---- telling

    def begin(self, plan: Plan, key: Hashable) -> None:
        """Carries out a plan: its sequence holds the shared tokens, and is in use."""
        target = self._seqs[plan.seq]
        assert not target.is_in_use, "a sequence in use is never disturbed"
        if plan.kind == "copy":
            source = self._seqs[plan.source]
            assert source.key == key, "copied under another key"
            self._cut(target, 0)
            target.copy(source, plan.n_shared)
            self._touch(source)
        else:
            self._cut(target, plan.n_shared)
        target.key = key
        target.is_in_use, target.is_draft = True, False
        self._touch(target)

    def extend(self, seq: int, tokens: Sequence[int] | Tokens) -> None:
        """Notes that tokens were computed behind what the sequence holds."""
        target = self._seqs[seq]
        assert target.is_in_use, "only a request computes"
        new = as_tokens(tokens)
        if not len(new):
            return
        at = target.n_tokens
        target.append(new)
        last = target.runs[-1] if target.runs else None
        if last is None or last.cells.end != at:
            # The cells behind the last one belong to another branch.
            last = _Run(_Cells(at, at, self.n_cells), at)
            target.runs.append(last)
        last.end = last.cells.end = at + len(new)
        self.n_cells += len(new)

    def cut(self, seq: int, n_tokens: int) -> None:
        """Notes that a sequence holds its first `n_tokens` only."""
        self._cut(self._seqs[seq], n_tokens)

    def release(self, seq: int, *, is_draft: bool = False) -> None:
        """Ends the use of a sequence, which keeps its tokens.

        The end of a draft is likely to change: it is overwritten where that of a chat is kept.
        """
        target = self._seqs[seq]
        target.is_in_use, target.is_draft = False, is_draft
        self._touch(target)

    def forget(self, seq: int) -> None:
        """Notes that a sequence holds nothing, whoever owned it."""
        target = self._seqs[seq]
        self._cut(target, 0)
        target.is_in_use = target.is_draft = False

    # ---- inside

    def _may_extend(self, seq: "_Sequence", n_shared: int) -> bool:
        """Whether nothing worth keeping lies behind the shared tokens."""
        if not self._can_roll_back:
            return False  # its state is the only way back to this point
        n_lost = seq.n_tokens - n_shared
        return n_lost == 0 or (seq.is_draft and n_lost <= _DRAFT_TOKENS)

    def _spare(self, excluding: int) -> int:
        """An empty sequence, else the idle one that was used longest ago; -1 for none."""
        for n, seq in enumerate(self._seqs):
            if not seq.n_tokens and not seq.is_in_use:
                return n
        return next((n for n in self.idle() if n != excluding), -1)

    def _cut(self, target: "_Sequence", n_tokens: int) -> None:
        assert n_tokens <= target.n_tokens, "cut to more than there is"
        target.n_tokens = n_tokens
        while target.runs and target.runs[-1].end > n_tokens:
            run = target.runs[-1]
            if run.cells.start >= n_tokens:
                target.runs.pop()
            else:
                run.end = n_tokens
            self._shrink(run.cells)

    def _shrink(self, cells: "_Cells") -> None:
        ends = [run.end for seq in self._seqs for run in seq.runs if run.cells is cells]
        end = max(ends, default=cells.start)
        self.n_cells -= cells.end - end
        cells.end = end

    def _touch(self, seq: "_Sequence") -> None:
        self._clock += 1
        seq.used_at = self._clock


_DRAFT_TOKENS = 64
"""A longer end of a draft than this is more than a changed word and the template behind it."""


@dataclass(eq=False, slots=True)
class _Cells:
    """Cells that were taken in one go, for the positions from `start` to `end`."""

    start: int
    end: int
    base: int
    """How many cells were taken before."""


@dataclass(eq=False, slots=True)
class _Run:
    """The part of some cells that a sequence holds: up to the position `end`."""

    cells: _Cells
    end: int


@dataclass(eq=False, slots=True)
class _Sequence:
    n_tokens: int = 0
    key: Hashable = ()
    is_in_use: bool = False
    is_draft: bool = False
    used_at: int = 0
    runs: list[_Run] = field(default_factory=list)
    _buffer: Tokens = field(default_factory=lambda: np.empty(64, np.int32))

    @property
    def tokens(self) -> Tokens:
        return self._buffer[: self.n_tokens]

    def append(self, tokens: Tokens) -> None:
        end = self.n_tokens + len(tokens)
        if end > len(self._buffer):
            grown = np.empty(2 * end, np.int32)
            grown[: self.n_tokens] = self.tokens
            self._buffer = grown
        self._buffer[self.n_tokens : end] = tokens
        self.n_tokens = end

    def n_shared(self, other: "_Sequence") -> int:
        """How many cells are those of another sequence as well."""
        n = 0
        for mine, theirs in zip(self.runs, other.runs, strict=False):
            if mine.cells is not theirs.cells:
                break
            n = min(mine.end, theirs.end)
        return n

    def copy(self, source: "_Sequence", n_tokens: int) -> None:
        self.append(source.tokens[:n_tokens])
        for run in source.runs:
            if run.cells.start >= n_tokens:
                break
            self.runs.append(_Run(run.cells, min(run.end, n_tokens)))


def _n_cells(seqs: Iterable[_Sequence]) -> int:
    ends: dict[int, tuple[int, int]] = {}
    for run in _runs(seqs):
        start, end = run.cells.start, max(run.end, ends.get(id(run.cells), (0, 0))[1])
        ends[id(run.cells)] = (start, end)
    return sum(end - start for start, end in ends.values())


def _runs(seqs: Iterable[_Sequence]) -> Iterator[_Run]:
    for seq in seqs:
        yield from seq.runs
