"""Training the table: what is learnt, that it is repeatable, and what int8 loses."""

from importlib.util import find_spec

import numpy as np
import pytest

from lsp_assist.micro.pairs import Pair

if find_spec("torch") is None:
    pytest.skip("torch is not installed", allow_module_level=True)

from lsp_assist.micro import static_embedding as training

# Each topic is asked for in words that its code does not have.
TOPICS = {
    "remove": "unlink", "folder": "directory", "wait": "sleep", "send": "socket",
    "colour": "rgba", "number": "integer", "text": "str", "network": "tcp",
}  # fmt: skip
RECIPE = training.Recipe(
    n_entries=100, n_dims=16, n_epochs=30, batch_size=16, block_size=4, learning_rate=0.05
)


def pairs() -> list[Pair]:
    words = list(TOPICS)
    return [
        Pair("doc", "python", f"please {a} the {b}", f"a.py\nf\nself {TOPICS[a]} {TOPICS[b]} x")
        for a in words
        for b in words
        if a != b
    ]


def embedded(text: str, table: training.Table) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    numbers = table.vocabulary.numbers(text)
    vector = (table.vectors[numbers] * table.scales[numbers][:, None]).sum(axis=0)
    unit: np.ndarray[tuple[int], np.dtype[np.float32]] = vector / np.linalg.norm(vector)
    return unit


def test_words_that_answer_each_other_come_to_lie_together_and_idle_ones_grow_short() -> None:
    table = training.table_of(pairs(), RECIPE)
    for word, code in TOPICS.items():
        scores = [embedded(word, table) @ embedded(other, table) for other in TOPICS.values()]
        assert scores.index(max(scores)) == list(TOPICS.values()).index(code)
    numbers = {word: table.vocabulary.numbers(word)[0] for word in ("please", "remove")}
    lengths = np.linalg.norm(table.vectors * table.scales[:, None], axis=1)
    assert lengths[numbers["please"]] < lengths[numbers["remove"]]


def test_the_same_pairs_and_seed_give_the_same_table() -> None:
    first, second = (training.table_of(pairs(), RECIPE) for _ in range(2))
    assert np.array_equal(first.vectors, second.vectors)
    assert first.vocabulary.entries == second.vocabulary.entries


def test_progress_ends_at_the_last_step() -> None:
    reports: list[training.TrainProgress] = []
    training.table_of(pairs(), RECIPE, reports.append)
    assert reports[-1].step == reports[-1].n_steps == 30 * (len(pairs()) // 16)
    assert reports[-1].loss < reports[0].loss


def test_whole_numbers_lose_less_than_a_step() -> None:
    table = np.random.default_rng(1).standard_normal((50, 8)).astype(np.float32)
    table[7] = 0
    vectors, scales = training.quantised(table)
    assert np.abs(vectors * scales[:, None] - table).max() <= scales.max() / 2 + 1e-6
