from collections.abc import Hashable

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lsp_assist.engine.kv import Ledger, Plan, as_tokens, n_common

TOKENS = st.lists(st.integers(0, 2), max_size=12)
KEYS = st.sampled_from([(), ("adapter",)])


@given(TOKENS, TOKENS)
def test_a_common_prefix_is_the_longest(a: list[int], b: list[int]) -> None:
    n = n_common(as_tokens(a), as_tokens(b))
    assert a[:n] == b[:n]
    assert n == min(len(a), len(b)) or a[n] != b[n]


def held(ledger: Ledger, tokens: list[int], key: Hashable = ()) -> int:
    """The sequence where the tokens are now held, in use."""
    plan = ledger.plan(as_tokens(tokens), key)
    assert plan is not None
    ledger.begin(plan, key)
    ledger.extend(plan.seq, tokens[plan.n_shared :])
    return plan.seq


def idle(ledger: Ledger, tokens: list[int], key: Hashable = (), *, is_draft: bool = False) -> int:
    seq = held(ledger, tokens, key)
    ledger.release(seq, is_draft=is_draft)
    return seq


def test_a_chat_is_extended_in_place_and_a_fork_is_copied() -> None:
    ledger = Ledger(4, 100)
    first = idle(ledger, [1, 2, 3])
    assert ledger.plan(as_tokens([1, 2, 3, 4]), ()) == Plan("extend", first, first, 3)
    fork = ledger.plan(as_tokens([1, 2, 5]), ())
    assert fork is not None
    assert (fork.kind, fork.source, fork.n_shared) == ("copy", first, 2)
    assert ledger.plan(as_tokens([1, 2, 3]), ("adapter",)) == Plan("start", 1, 1, 0)


def test_a_question_computes_its_last_token_again_and_the_chat_keeps_it() -> None:
    ledger = Ledger(4, 100)
    first = idle(ledger, [1, 2, 3])
    plan = ledger.plan(as_tokens([1, 2, 3]), (), n_max=2)
    assert plan is not None
    assert (plan.kind, plan.source, plan.n_shared) == ("copy", first, 2)


def test_the_end_of_a_draft_is_overwritten() -> None:
    """So typing takes one sequence, not one for each keystroke."""
    ledger = Ledger(4, 1000)
    draft = idle(ledger, [1, 2, 3], is_draft=True)
    assert ledger.plan(as_tokens([1, 2, 4]), ()) == Plan("extend", draft, draft, 2)
    long = idle(ledger, [1, 2, *[7] * 200], is_draft=True)
    fork = ledger.plan(as_tokens([1, 2, 7, 5]), ())
    assert fork is not None
    assert (fork.kind, fork.source) == ("copy", long)


def test_a_generating_parent_is_copied() -> None:
    ledger = Ledger(2, 100)
    parent = held(ledger, [1, 2, 3])
    fork = ledger.plan(as_tokens([1, 2, 3, 4]), ())
    assert fork is not None
    assert (fork.kind, fork.source, fork.n_shared) == ("copy", parent, 3)
    ledger.begin(fork, ())
    assert ledger.plan(as_tokens([1]), ()) is None


def test_what_cannot_roll_back_is_forked_at_its_end_only() -> None:
    ledger = Ledger(4, 100, can_roll_back=False)
    idle(ledger, [1, 2, 3])
    longer = ledger.plan(as_tokens([1, 2, 3, 4]), ())
    assert longer is not None
    assert (longer.kind, longer.n_shared) == ("copy", 3)
    other = ledger.plan(as_tokens([1, 2, 5]), ())
    assert other is not None
    assert (other.kind, other.n_shared) == ("start", 0)


def test_room_is_made_by_forgetting_what_was_used_longest_ago() -> None:
    ledger = Ledger(8, 20)
    first = idle(ledger, [1] * 8)
    second = idle(ledger, [2] * 8)
    third = held(ledger, [3] * 4)
    assert ledger.victims(0) == []
    assert ledger.victims(5) == [first]
    assert ledger.victims(16) == [first, second]
    assert ledger.victims(17) is None
    ledger.release(third)
    assert ledger.victims(20) == [first, second, third]


def test_a_shared_prefix_is_freed_with_its_last_branch() -> None:
    ledger = Ledger(8, 100)
    one, two = idle(ledger, [1, 1, 1, 2, 2]), idle(ledger, [1, 1, 1, 3])
    assert ledger.n_cells == 6
    ledger.forget(one)
    assert ledger.n_cells == 4
    ledger.forget(two)
    assert ledger.n_cells == 0


def test_unrelated_chats_are_told_from_branches() -> None:
    ledger = Ledger(8, 1000)
    root, fork = idle(ledger, [1, 1, 2]), held(ledger, [1, 1, 3])
    other = idle(ledger, [4, 4])
    assert root in ledger.idle()
    assert ledger.unrelated([fork]) == [other]
    assert ledger.reach([other]) == ledger.n_cells == 6


def test_matching_64_long_chats_reads_each_token_once() -> None:
    """The same answer as token by token, on the shape that the engine must serve."""
    random = np.random.default_rng(1)
    base = random.integers(0, 150_000, 20_000).astype(np.int32)
    ledger = Ledger(64, 10**7)
    for n in range(64):
        chat = base.copy()
        chat[10_000 + 100 * n] += 1
        idle(ledger, chat.tolist())
    assert ledger.match(base, ()) == (63, 16_300)


class Cache(RuleBasedStateMachine):
    """The ledger against a cache where every cell has a name of its own."""

    @initialize(can_roll_back=st.booleans(), budget=st.integers(5, 60))
    def make(self, can_roll_back: bool, budget: int) -> None:
        self.can_roll_back = can_roll_back
        self.ledger = Ledger(4, budget, can_roll_back=can_roll_back)
        self.tokens: list[list[int]] = [[] for _ in range(4)]
        self.cells: list[list[int]] = [[] for _ in range(4)]
        self.keys: list[Hashable] = [()] * 4
        self.in_use: set[int] = set()
        self.order: list[int] = []
        self.n_named = 0

    def compute(self, seq: int, tokens: list[int]) -> None:
        names = range(self.n_named, self.n_named + len(tokens))
        self.n_named += len(tokens)
        self.tokens[seq] += tokens
        self.cells[seq] += names

    def touch(self, seq: int) -> None:
        self.order = [n for n in self.order if n != seq] + [seq]

    def longest(self, tokens: list[int], key: Hashable) -> int:
        lengths = [0]
        for seq, there in enumerate(self.tokens):
            n = 0
            while n < min(len(there), len(tokens)) and there[n] == tokens[n]:
                n += 1
            if self.keys[seq] == key and (self.can_roll_back or n == len(there)):
                lengths.append(n)
        return max(lengths)

    @rule(tokens=TOKENS, key=KEYS, n_computed=st.integers(0, 12))
    def run(self, tokens: list[int], key: Hashable, n_computed: int) -> None:
        plan = self.ledger.plan(as_tokens(tokens), key)
        longest = self.longest(tokens, key)
        if plan is None:
            assert len(self.in_use) == 4
            return
        assert plan.n_shared == longest
        assert plan.seq not in self.in_use
        assert self.tokens[plan.source][: plan.n_shared] == tokens[: plan.n_shared] or not longest
        if plan.kind == "copy":
            is_any_empty = any(not t and n not in self.in_use for n, t in enumerate(self.tokens))
            assert not is_any_empty or not self.tokens[plan.seq]
            self.tokens[plan.seq] = self.tokens[plan.source][: plan.n_shared]
            self.cells[plan.seq] = self.cells[plan.source][: plan.n_shared]
            self.touch(plan.source)
        else:
            del self.tokens[plan.seq][plan.n_shared :]
            del self.cells[plan.seq][plan.n_shared :]
        self.ledger.begin(plan, key)
        self.in_use.add(plan.seq)
        self.keys[plan.seq] = key
        self.touch(plan.seq)
        new = tokens[plan.n_shared :][:n_computed]
        self.ledger.extend(plan.seq, new)
        self.compute(plan.seq, new)

    @precondition(lambda self: self.in_use)
    @rule(data=st.data(), new=TOKENS)
    def generate(self, data: st.DataObject, new: list[int]) -> None:
        seq = data.draw(st.sampled_from(sorted(self.in_use)))
        self.ledger.extend(seq, new)
        self.compute(seq, new)

    @precondition(lambda self: self.in_use)
    @rule(data=st.data())
    def lose_an_end(self, data: st.DataObject) -> None:
        seq = data.draw(st.sampled_from(sorted(self.in_use)))
        n = data.draw(st.integers(0, len(self.tokens[seq])))
        self.ledger.cut(seq, n)
        del self.tokens[seq][n:]
        del self.cells[seq][n:]

    @precondition(lambda self: self.in_use)
    @rule(data=st.data(), is_draft=st.booleans())
    def end(self, data: st.DataObject, is_draft: bool) -> None:
        seq = data.draw(st.sampled_from(sorted(self.in_use)))
        self.ledger.release(seq, is_draft=is_draft)
        self.in_use.remove(seq)
        self.touch(seq)

    @rule(n_new=st.integers(0, 30))
    def make_room(self, n_new: int) -> None:
        victims = self.ledger.victims(n_new)
        idle = [n for n in self.order if n not in self.in_use and self.tokens[n]]
        wanted: list[int] | None = []
        while self.n_distinct(excluding=wanted or []) + n_new > self.ledger.budget_tokens:
            if len(wanted or []) == len(idle):
                wanted = None
                break
            wanted = idle[: len(wanted or []) + 1]
        assert victims == wanted
        for seq in victims or []:
            self.ledger.forget(seq)
            self.tokens[seq], self.cells[seq] = [], []

    def n_distinct(self, excluding: list[int]) -> int:
        return len({c for n, cells in enumerate(self.cells) if n not in excluding for c in cells})

    @invariant()
    def everything_agrees(self) -> None:
        if not hasattr(self, "ledger"):
            return
        assert [self.ledger.tokens(n).tolist() for n in range(4)] == self.tokens
        assert self.ledger.n_cells == self.n_distinct(excluding=[])
        assert self.ledger.n_cells == self.ledger.n_cells_of(range(4))
        for seq in range(4):
            related = {
                n
                for n in range(4)
                if n not in self.in_use
                and self.tokens[n]
                and 2 * len(set(self.cells[n]) & set(self.cells[seq])) < len(self.cells[n])
            }
            assert set(self.ledger.unrelated([seq])) == related
            assert self.ledger.is_in_use(seq) == (seq in self.in_use)


Cache.TestCase.settings = settings(max_examples=300, stateful_step_count=30, deadline=None)
TestCache = Cache.TestCase
