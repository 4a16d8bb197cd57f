"""The KV cache of one context, put in order: prefixes shared, idle chats parked, states stored.

Does to the cache what `kv.Ledger` plans, on the thread that owns the context. Knows no queue, no
request and no text.
"""

import logging
from dataclasses import dataclass

from lsp_assist.engine.kv import Ledger, Plan, Tokens
from lsp_assist.engine.llama import Context
from lsp_assist.engine.states import Part, State, StateStore

__all__ = ["Counters", "Pool"]

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Counters:
    """What happened to the cache since it was made."""

    n_forks: int = 0
    n_evictions: int = 0
    n_parked: int = 0
    n_saved: int = 0
    n_restored: int = 0
    n_compactions: int = 0


class Pool:
    """Sequences with their tokens: `acquire`, `advance`, `release`. One more sequence than those
    is needed for moving states, so the context has `n_seqs + 1`.
    """

    def __init__(
        self,
        context: Context,
        *,
        n_seqs: int,
        budget_tokens: int,
        can_roll_back: bool,
        states: StateStore,
        is_crowding_slow: bool,
    ) -> None:
        """`is_crowding_slow`: cells of unrelated chats slow everyone down (without flash attention,
        2.4 times with 12 chats; LOG.md, 2026-11), so they are parked.
        """
        self._context = context
        self._ledger = Ledger(n_seqs, budget_tokens, can_roll_back=can_roll_back)
        self._scratch = n_seqs
        self._can_roll_back = can_roll_back
        self._states = states
        self._is_crowding_slow = is_crowding_slow
        self._unsaved: set[int] = set()
        self._prepared: dict[int, State] = {}
        self.counters = Counters()

    @property
    def n_cells(self) -> int:
        """How many cells are taken, shared ones counted once."""
        return self._ledger.n_cells

    # ---- sequences for requests

    def acquire(
        self, tokens: Tokens, key: str, n_max: int, n_reserved: int = 0
    ) -> tuple[int, int] | None:
        """A sequence for these tokens, and how many of them it holds, at most `n_max`; now in use.

        None while there is no sequence, or no room for the tokens and `n_reserved` more, without
        disturbing one in use.
        """
        plan = self._ledger.plan(tokens, key, n_max)
        if plan is None:
            return None
        seq = self._begin(plan, key)
        n_held = len(self._ledger.tokens(seq))
        parts = self._states.match(tokens[:n_max], key, is_whole=not self._can_roll_back)
        if self._is_crowding_slow:
            self._park_unrelated(len(tokens))
        if parts and parts[-1].end >= n_held + _MIN_RESTORED:
            n_held = self._restore(seq, tokens, parts)
        if not self.make_room(len(tokens) - n_held + n_reserved):
            self.release(seq, is_draft=True)
            return None
        if self._is_crowding_slow:
            self._compact(seq)
        return seq, n_held

    def fork(self, seq: int) -> int | None:
        """Another sequence with all that this one holds; None while there is none to spare."""
        tokens, key = self._ledger.tokens(seq).copy(), str(self._ledger.key(seq))
        plan = self._ledger.plan(tokens, key)
        return None if plan is None else self._begin(plan, key)

    def n_ahead(self, tokens: Tokens, key: str, n_max: int) -> int:
        """How many of these tokens some sequence holds by now."""
        return self._ledger.match(tokens[:n_max], key)[1]

    def n_warm(self, tokens: Tokens, key: str) -> int:
        """How many of these tokens a sequence or a saved state holds."""
        parts = self._states.match(tokens, key, is_whole=not self._can_roll_back)
        return max(self._ledger.match(tokens, key)[1], parts[-1].end if parts else 0)

    def advance(self, seq: int, tokens: Tokens) -> None:
        """Notes that tokens were computed."""
        self._prepared.pop(seq, None)
        self._ledger.extend(seq, tokens)
        self._unsaved.add(seq)

    def n_to_compute(self, n_left: int) -> int:
        """How many of a prompt's last tokens may be computed in one go: where states cannot be
        rolled back, the last one alone, so that there is a state before it.
        """
        return n_left if self._can_roll_back or n_left <= 1 else n_left - 1

    def checkpoint(self, seq: int) -> None:
        """Keeps the state of a sequence as it is now, where it could not be rolled back to."""
        if not self._can_roll_back and (kept := self.fork(seq)) is not None:
            self.release(kept)

    def prepare(self, seq: int) -> None:
        """Notes what `settle` goes back to, where an aborted decode leaves a state half written."""
        if not self._can_roll_back and len(self._ledger.tokens(seq)):
            self._prepared[seq] = self._context.checkpoint(seq)

    def settle(self, seq: int, tokens: Tokens) -> int:
        """How many tokens a sequence holds after a decode of these behind it was aborted.

        None, where it cannot roll back and was not prepared.
        """
        context, n_before = self._context, len(self._ledger.tokens(seq))
        prepared = self._prepared.pop(seq, None)
        if self._can_roll_back:
            n_held = context.n_held(seq)
        elif prepared is not None and context.return_to(seq, prepared, n_before):
            n_held = n_before
        else:
            n_held = context.keep(seq, 0)
        if n_held > n_before:
            self._ledger.extend(seq, tokens[: n_held - n_before])
        else:
            self._ledger.cut(seq, n_held)
        return n_held

    def release(self, seq: int, *, is_draft: bool = False) -> None:
        """Ends the use of a sequence; what it holds serves others until its cells are needed."""
        self._ledger.release(seq, is_draft=is_draft)

    def make_room(self, n_new: int) -> bool:
        """Whether `n_new` more tokens fit, after parking idle sequences as needed."""
        victims = self._ledger.victims(n_new)
        if victims is None:
            return False
        for seq in victims:
            self._evict(seq)
        return True

    def evict_one(self) -> bool:
        """Parks the idle sequence that was used longest ago; False if there is none."""
        idle = self._ledger.idle()
        if idle:
            self._evict(idle[0])
        return bool(idle)

    # ---- states

    def save_some(self) -> bool:
        """Stores a part of what is in no store yet, some milliseconds of work; False when all is.

        For when nobody waits; of sequences in use as well, since the next process may need them.
        """
        if not self._unsaved:
            return False
        seq = min(self._unsaved)
        if not self._save(seq, _SAVED_AT_ONCE):
            self._unsaved.discard(seq)
        return True

    def save_all(self) -> None:
        """Stores all that no request uses."""
        for seq in self._ledger.idle():
            while self._save(seq, _SAVED_AT_ONCE):
                pass
        self._unsaved.clear()

    # ---- inside

    def _begin(self, plan: Plan, key: str) -> int:
        ledger, context, seq = self._ledger, self._context, plan.seq
        if plan.kind != "extend":
            if len(ledger.tokens(seq)):
                self._evict(seq)
            ledger.begin(plan, key)
            if plan.kind == "copy":
                context.share(plan.source, seq, plan.n_shared)
                self.counters.n_forks += 1
            return seq
        if plan.n_shared < len(ledger.tokens(seq)) - _MIN_SAVED:
            self._save(seq)
        ledger.begin(plan, key)
        n_kept = context.keep(seq, plan.n_shared)
        if n_kept < plan.n_shared:
            ledger.cut(seq, n_kept)
        return seq

    def _evict(self, seq: int) -> None:
        self._save(seq)
        self._context.keep(seq, 0)
        self._ledger.forget(seq)
        self._unsaved.discard(seq)
        self.counters.n_evictions += 1

    def _save(self, seq: int, n_most: int | None = None) -> bool:
        """Stores what of a sequence is not stored; whether more is left than `n_most` tokens."""
        tokens, key = self._ledger.tokens(seq), str(self._ledger.key(seq))
        parts = self._states.match(tokens, key, is_whole=not self._can_roll_back)
        start = parts[-1].end if parts else 0
        if len(tokens) - start < _MIN_SAVED:
            return False
        if not self._can_roll_back:
            if start < len(tokens):
                self._states.add(tokens, key, self._context.state(seq))
                self.counters.n_saved += 1
            return False
        end = len(tokens) if n_most is None else min(len(tokens), start + n_most)
        self._context.share(seq, self._scratch, end, start=start)
        state = self._context.state(self._scratch)
        self._context.keep(self._scratch, 0)
        self._states.add(tokens[:end], key, state, parent=parts[-1] if parts else None)
        self.counters.n_saved += 1
        return end < len(tokens)

    def _restore(self, seq: int, tokens: Tokens, parts: tuple[Part, ...]) -> int:
        """Fetches the parts beyond what the sequence holds; how many tokens it holds then."""
        context, ledger = self._context, self._ledger
        for part in parts:
            n_held = len(ledger.tokens(seq))
            if part.end <= n_held:
                continue
            state = self._states.load(part.stored)
            n_cells = len(part.stored.tokens) - part.stored.start
            if state is None or not self.make_room(n_cells):
                break
            if not self._can_roll_back:
                context.keep(seq, 0)
                ledger.cut(seq, 0)
                if not context.load_state(seq, state):
                    break
                n_held = 0
            elif context.load_state(self._scratch, state):
                context.share(self._scratch, seq, part.end, start=n_held)
                context.keep(self._scratch, 0)
            else:
                break
            ledger.extend(seq, tokens[n_held : part.end])
            self.counters.n_restored += 1
        return len(ledger.tokens(seq))

    def _park_unrelated(self, n_tokens: int) -> None:
        """Parks idle sequences that share nothing with those in use, if they are in the way."""
        in_use = [n for n in range(self._scratch) if self._ledger.is_in_use(n)]
        unrelated = self._ledger.unrelated(in_use)
        n_own = max(n_tokens, self._ledger.n_cells_of(in_use))
        if self._ledger.n_cells_of(unrelated) > max(_CROWD, n_own // 8):
            for other in unrelated:
                self._evict(other)
                self.counters.n_parked += 1

    def _compact(self, seq: int) -> None:
        """Moves a sequence that lies high up in an almost empty cache to its lower end.

        Attention runs over all cells up to the highest one that is taken.
        """
        ledger = self._ledger
        n_cells = ledger.n_cells
        if ledger.reach([seq]) <= 1.25 * n_cells + _CROWD:
            return
        if any(ledger.is_in_use(n) for n in range(self._scratch) if n != seq):
            return
        tokens, key = ledger.tokens(seq).copy(), str(ledger.key(seq))
        state = self._context.state(seq)
        for other in ledger.idle():
            self._evict(other)
        self._context.keep(seq, 0)
        ledger.forget(seq)
        ledger.begin(Plan("start", seq, seq, 0), key)
        if self._context.load_state(seq, state):
            ledger.extend(seq, tokens)
            self._unsaved.add(seq)
        self.counters.n_compactions += 1


_MIN_SAVED = 32
"""Fewer tokens are computed about as fast as they are read, and the store stays small."""
_MIN_RESTORED = 16
_SAVED_AT_ONCE = 2048
"""Tokens; some 10 ms of copying, which a request may have to wait for."""
_CROWD = 256
"""Cells of others that nobody notices."""
