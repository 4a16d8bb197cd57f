from hypothesis import given, settings
from hypothesis import strategies as st

from lsp_assist.engine.pace import Pace

# What a token costs in a batch of 2 to 8, as a multiple of what it costs alone.
COSTS = st.lists(st.floats(0.1, 3.0), min_size=7, max_size=7)


def seconds_per_token(pace: Pace, seconds: list[float], n_branches: int, n_tokens: int) -> float:
    """What each branch waits for a token, on a machine where a step for n takes `seconds[n-1]`."""
    total = 0.0
    n_left = n_branches * n_tokens
    while n_left > 0:
        n = pace.group(n_branches)
        total += seconds[n - 1]
        pace.measured(n, seconds[n - 1])
        n_left -= n
    return total / n_tokens


def test_one_branch_is_decoded_alone() -> None:
    assert Pace().group(1) == 1


@settings(max_examples=100, deadline=None)
@given(costs=COSTS, n_branches=st.integers(2, 8))
def test_batching_and_slicing_are_chosen_by_what_they_take(
    costs: list[float], n_branches: int
) -> None:
    """In the long run never much slower than the better of the two."""
    pace = Pace()
    times = [0.02, *(0.02 * n * cost for n, cost in enumerate(costs, 2))]
    seconds_per_token(pace, times, n_branches, 50)
    best = min(times[n_branches - 1], n_branches * times[0])
    assert seconds_per_token(pace, times, n_branches, 300) <= 1.1 * best


def test_a_machine_that_changes_is_followed() -> None:
    pace = Pace()
    fast_batches = [0.02, *[0.025] * 7]
    slow_batches = [0.02, *[0.2] * 7]
    for times, best in ((fast_batches, 0.025), (slow_batches, 0.08), (fast_batches, 0.025)):
        seconds_per_token(pace, times, 4, 2000)
        assert seconds_per_token(pace, times, 4, 100) <= 1.2 * best


def test_a_step_that_was_held_up_says_little() -> None:
    pace = Pace()
    for _ in range(20):
        pace.measured(1, 0.02)
        pace.measured(2, 0.03)
    pace.measured(2, 60.0)
    for _ in range(5):
        pace.measured(2, 0.03)
    assert [pace.group(2) for _ in range(10)].count(2) >= 9
