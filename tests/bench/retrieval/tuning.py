"""Settles the weights of the ranking on the dev split, one at a time, coarsely.

What each question finds in the store is remembered, so a set of weights costs only the ranking
itself, which is the product's. Nothing here sees the test split. Prints; changes no file.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lsp_assist.codebase.index import Index
from lsp_assist.codebase.overlays import CountedChunk
from lsp_assist.codebase.ranking import Hit
from lsp_assist.codebase.store import StoredSymbol
from lsp_assist.codebase.view import View
from lsp_assist.config import IndexSettings
from tests.bench.retrieval import material, measures, questions
from tests.bench.retrieval.material import Repository
from tests.bench.retrieval.rankers import FILE_HITS, Weights, current, file_ranking, weighted

__all__ = ["GRID", "main"]

GRID: dict[str, tuple[float, ...]] = {
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

_SHARED: dict[Any, Any] = {}

_Rank = Callable[[Sequence[Hit]], int]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question with the view that it is asked of."""

    task: str
    repository: str
    index: Index
    view: "_Remembered"
    text: str
    limit: int
    rank: _Rank


@dataclass(slots=True)
class _Remembered:
    """A view that answers from memory what it was asked once. The workspace may be gone."""

    view: View
    shared: dict[Any, Any]
    """Chunks and symbols that other views remember too: most of them are the same."""
    known: dict[Any, Any] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def ask(*arguments: Any) -> Any:
            key = (name, *(tuple(a) if isinstance(a, list) else a for a in arguments))
            if key not in self.known:
                self.known[key] = self._kept(getattr(self.view, name)(*arguments))
            return self.known[key]

        return ask

    def _kept(self, answer: Any) -> Any:
        if isinstance(answer, tuple):
            return tuple(map(self._kept, answer))
        if isinstance(answer, list):
            kept = tuple(map(self._kept, answer))
            return kept if kept and isinstance(kept[0], CountedChunk) else self._same(kept, kept)
        if isinstance(answer, CountedChunk):
            return self._same(answer.candidate, answer)
        return self._same(answer, answer) if isinstance(answer, StoredSymbol) else answer

    def _same(self, key: Any, value: Any) -> Any:
        return self.shared.setdefault(key, value)


def main() -> None:
    """Search, and print what each step is worth."""
    parser = argparse.ArgumentParser(prog="tests.bench.retrieval.tuning")
    parser.add_argument("--code", type=Path, action="append", default=[], metavar="DIR")
    parser.add_argument("--history", type=Path, action="append", default=[], metavar="DIR")
    parser.add_argument("--questions", type=int, default=120, help="of each repository and task")
    parser.add_argument("only", nargs="*", choices=[*GRID, []], metavar="weight")
    options = parser.parse_args()
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        asked = [*_asked(options, scratch, stack)]
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
            # The product's search, over what the store said before.
            vars(question.index)["_view"] = lambda view=question.view: view
            found = question.rank(question.index.search(question.text, question.limit))
            ranks.setdefault((question.task, question.repository), []).append(found)
    by_task: dict[str, list[float]] = {}
    for (task, _), own in ranks.items():
        by_task.setdefault(task, []).append(float(measures.reciprocal_ranks(own).mean()))
    worth = {task: statistics.mean(each) for task, each in by_task.items()}
    return worth | {"objective": (worth["doc2func"] + worth["commit"]) / 2}


def _shown(worth: dict[str, float]) -> str:
    return "  ".join(f"{task} {value:.4f}" for task, value in worth.items())


def _asked(options: argparse.Namespace, scratch: Path, stack: ExitStack) -> Iterator[_Asked]:
    pinned = list(material.pinned("dev"))
    code = [r for path in options.code if (r := material.given(path, "dev"))]
    for repository in (*pinned, *code):
        folder = scratch / repository.name
        asked = questions.symbol_questions(repository, folder, options.questions)
        index = _open(folder, scratch / f"{repository.name}.db", stack)
        index.refresh()
        for each in asked:
            places = [(each.path, each.ordinal)]
            yield _ask("doc2func", repository, index, each.text, measures.AT, _rank_of(places))
        if guarded := questions.guard_questions(repository):
            index = _open(repository.path, scratch / f"{repository.name}-guard.db", stack)
            index.refresh()
            for guard in guarded:
                yield _ask("guard", repository, index, guard.text, measures.AT, _answer(guard))
    histories = [r for path in options.history if (r := material.given(path, "dev"))]
    for repository in histories:
        folder = scratch / f"{repository.name}-history"
        folder.mkdir()
        index = _open(folder, scratch / f"{repository.name}-history.db", stack)
        for commit in questions.trees(repository, folder, options.questions):
            index.refresh()
            yield _ask("commit", repository, index, commit.text, FILE_HITS, _file_rank(commit))


def _ask(
    task: str, repository: Repository, index: Index, text: str, limit: int, rank: _Rank
) -> _Asked:
    """The question, asked once so that its view remembers the answers as they are now."""
    vars(index).pop("_view", None)
    view = _Remembered(index._view(), _SHARED)
    asked = _Asked(task, repository.name, index, view, text, limit, rank)
    vars(index)["_view"] = lambda: view
    index.search(text, limit)
    vars(index).pop("_view")
    return asked


def _open(folder: Path, store: Path, stack: ExitStack) -> Index:
    index = Index(folder, store, IndexSettings())
    stack.callback(index.close)
    return index


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
