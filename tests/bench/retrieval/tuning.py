"""Settles the weights of the ranking on the dev split, one at a time, coarsely.

What each question finds in the store and in the vectors is kept (`frozen.py`), so a set of weights
costs only the ranking itself, which is the product's. Nothing here sees the test split. Prints;
changes no file.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from lsp_assist.codebase.index import Index
from lsp_assist.codebase.ranking import Hit
from lsp_assist.config import IndexSettings
from tests.bench.retrieval import material, measures, questions
from tests.bench.retrieval.frozen import Frozen, freeze
from tests.bench.retrieval.opened import embedders, follow
from tests.bench.retrieval.rankers import FILE_HITS, Weights, current, file_ranking, weighted

__all__ = ["GRID", "main"]

GRID: dict[str, tuple[float, ...]] = {
    "LEXICAL_WEIGHT": (0.3, 0.4, 0.5, 0.6, 0.7),
    "STANDING_OUT": (1, 1.5, 2, 2.5, 3, 4),
    "MIN_CANDIDATES": (80, 160, 320),
    "MIN_NEAREST": (50, 100, 200),
    "TEST_PRIOR": (0.2, 0.3, 0.4, 0.5, 0.6, 0.75, 1),
    "PROSE_PRIOR": (0.2, 0.35, 0.5, 0.7, 1),
    "VENDOR_PRIOR": (0.3, 0.5, 0.7, 1),
    "VALUE_PRIOR": (0.5, 0.6, 0.75, 0.9, 1),
    "NO_SYMBOL_PRIOR": (0.5, 0.6, 0.75, 0.9, 1),
    "NAMED_BONUS": (1, 1.1, 1.25, 1.5, 2),
    "NAME_WEIGHT": (1, 1.5, 2, 3, 4, 6),
    "K1": (0.5, 0.8, 1.2, 1.6, 2.2),
    "B": (0.2, 0.4, 0.6, 0.75, 0.9),
}
N_ROUNDS = 2
LEAST_GAIN = 0.002
"""Of the objective; less is noise, and the simpler or earlier weight stays."""
GUARD_LOSS = 0.02
"""Of the guard's MRR, against where it started: what loses more is not taken."""

_Rank = Callable[[Sequence[Hit]], int]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question with its answer."""

    task: str
    repository: str
    frozen: Frozen
    rank: _Rank


def main() -> None:
    """Search, and print what each step is worth."""
    parser = argparse.ArgumentParser(prog="tests.bench.retrieval.tuning")
    parser.add_argument("--code", type=Path, action="append", default=[], metavar="DIR")
    parser.add_argument("--history", type=Path, action="append", default=[], metavar="DIR")
    parser.add_argument("--questions", type=int, default=120, help="of each repository and task")
    parser.add_argument("only", nargs="*", choices=[*GRID, []], metavar="weight")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        asked = [*_asked(options, Path(scratch))]
        started = time.perf_counter()
        best = current()
        worth = first = _worth(asked, best)
        print(f"{len(asked)} questions; at first {_shown(first)}", flush=True)
        print(f"{time.perf_counter() - started:.0f} s for one set of weights", flush=True)
        for _ in range(N_ROUNDS):
            before = dict(best)
            for name in options.only or GRID:
                best, worth = _settled(asked, best, worth, name, first["guard"])
            if best == before:
                break
    print(f"\nat first   {_shown(first)}\nat last    {_shown(worth)}")
    for name, value in best.items():
        print(f"{name:16} {value:g}")


def _settled(
    asked: Sequence[_Asked], best: Weights, worth: Weights, name: str, guard: float
) -> tuple[Weights, Weights]:
    """The best value of one weight while the others stay, if it is worth a change."""
    for value in GRID[name]:
        if value == best[name]:
            continue
        tried = best | {name: value}
        found = _worth(asked, tried)
        is_taken = (
            found["objective"] > worth["objective"] + LEAST_GAIN
            and found["guard"] >= guard - GUARD_LOSS
        )
        print(f"{name:16} {value:5g}  {_shown(found)}{'  taken' if is_taken else ''}", flush=True)
        if is_taken:
            best, worth = tried, found
    return best, worth


def _worth(asked: Sequence[_Asked], weights: Weights) -> dict[str, float]:
    """Mean reciprocal ranks by task, each repository counting alike; and what is to be raised."""
    ranks: dict[tuple[str, str], list[int]] = {}
    with weighted(weights):
        for question in asked:
            found = question.rank(question.frozen.ranked())
            ranks.setdefault((question.task, question.repository), []).append(found)
    by_task: dict[str, list[float]] = {}
    for (task, _), own in ranks.items():
        by_task.setdefault(task, []).append(float(measures.reciprocal_ranks(own).mean()))
    worth = {task: statistics.mean(each) for task, each in by_task.items()}
    return worth | {"objective": (worth["doc2func"] + worth["commit"]) / 2}


def _shown(worth: dict[str, float]) -> str:
    return "  ".join(f"{task} {value:.4f}" for task, value in worth.items())


def _asked(options: argparse.Namespace, scratch: Path) -> Iterator[_Asked]:
    def opened(folder: Path, kind: str) -> Index:
        store = scratch / f"{repository.name}-{kind}" / "index.sqlite3"
        return Index(folder, store, IndexSettings(), own)

    own = embedders(with_minilm=False)
    pinned = list(material.pinned("dev"))
    code = [r for path in options.code if (r := material.given(path, "dev"))]
    for repository in (*pinned, *code):
        folder = scratch / repository.name
        asked = questions.symbol_questions(repository, folder, options.questions)
        with closing(opened(folder, "code")) as index:
            follow(index)
            for each in asked:
                frozen = freeze(index, each.text, measures.AT)
                places = [(each.path, each.ordinal)]
                yield _Asked("doc2func", repository.name, frozen, _rank_of(places))
        guarded = questions.guard_questions(repository)
        with closing(opened(repository.path, "guard")) as index:
            if guarded:
                follow(index)
            for guard in guarded:
                frozen = freeze(index, guard.text, measures.AT)
                yield _Asked("guard", repository.name, frozen, _answer(guard))
    for repository in [r for path in options.history if (r := material.given(path, "dev"))]:
        folder = scratch / f"{repository.name}-history"
        with closing(opened(folder, "past")) as index:
            for commit in questions.trees(repository, folder, options.questions):
                follow(index)
                frozen = freeze(index, commit.text, FILE_HITS)
                yield _Asked("commit", repository.name, frozen, _file_rank(commit))


def _rank_of(places: Sequence[tuple[str, int]]) -> _Rank:
    return lambda hits: next(
        (at for at, hit in enumerate(hits, 1) if (hit.path, hit.ordinal) in places), 0
    )


def _answer(guard: questions.PlaceQuestion) -> _Rank:
    return lambda hits: next(
        (at for at, hit in enumerate(hits, 1) if guard.is_answered_by(hit.path, hit.symbol)), 0
    )


def _file_rank(commit: questions.FileQuestion) -> _Rank:
    return lambda hits: next(
        (at for at, path in enumerate(file_ranking(hits), 1) if path in commit.paths), 0
    )


if __name__ == "__main__":
    main()
