"""`lsp-assist micro`: train the small models that come with the package.

Tells the training what the outline knows of languages, and writes the table as the embedder reads
it: neither knows of the other.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lsp_assist.cli import terminal
from lsp_assist.errors import AssistError

if TYPE_CHECKING:
    from lsp_assist.micro.pairs import Documented, GatherProgress
    from lsp_assist.micro.static_embedding import TrainProgress

__all__ = ["command"]

_LANGUAGES = frozenset(
    "python javascript typescript tsx go rust c cpp java kotlin csharp ruby php lua swift".split()
)

_folder = click.Path(path_type=Path, file_okay=False)


@click.group("micro")
def command() -> None:
    """Train the small models that come with the package."""


@command.command("gather")
@click.argument("downloads", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.argument("pairs", type=_folder)
def gather(downloads: Path, pairs: Path) -> None:
    """Gather questions and the code that answers them from the packages in DOWNLOADS into PAIRS.

    DOWNLOADS holds what `apt-get download` and `apt-get source --download-only` put there. Packages
    that are not permissively licensed, and those that search is measured on, are left out. Can be
    stopped at any time: the next run goes on from there.
    """
    from lsp_assist.micro.pairs import Reader
    from lsp_assist.micro.pairs import gather as gathered

    def report(progress: "GatherProgress") -> None:
        click.echo(
            f"{progress.n_done:,} of {progress.n_total:,} packages, {progress.n_pairs:,} pairs,"
            f" {progress.eta_s:.0f} s left"
        )

    reader = Reader(_is_wanted, _documented)
    gathered(downloads, pairs, reader, report, n_processes=os.cpu_count() or 1)


@command.command("train-embedder")
@click.argument("pairs", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.argument("table", type=_folder)
@click.option("--epochs", type=click.IntRange(1), help="Times that every pair is read.")
@click.option("--dims", type=click.IntRange(8, 1024), help="Length of a vector.")
@click.option("--seed", type=int, help="The same pairs and seed give the same table.")
def train_embedder(
    pairs: Path, table: Path, epochs: int | None, dims: int | None, seed: int | None
) -> None:
    """Train the table of the static embedder on the pairs in PAIRS and write it into TABLE.

    Minutes on two cores. A table that stands there already is replaced at the end.
    """
    try:
        _train(pairs, table, {"n_epochs": epochs, "n_dims": dims, "seed": seed})
    except AssistError as error:
        terminal.fail(error)
    except ImportError as error:
        terminal.fail(
            AssistError(f"Training needs torch ({error}): `pip install 'lsp-assist[embedding]'`.")
        )


def _train(pairs: Path, table: Path, said: dict[str, int | None]) -> None:
    from lsp_assist.backends.embedders.static import write_table
    from lsp_assist.micro import static_embedding as training
    from lsp_assist.micro.pairs import read_pairs

    def report(progress: "TrainProgress") -> None:
        click.echo(
            f"step {progress.step:,} of {progress.n_steps:,}, loss {progress.loss:.3f},"
            f" {progress.eta_s:.0f} s left"
        )

    recipe = training.Recipe(**{name: n for name, n in said.items() if n is not None})
    found = list(read_pairs(pairs))
    made = training.table_of(found, recipe, report)
    write_table(table, made.vocabulary.entries, made.vectors, made.scales)
    click.echo(f"{len(found):,} pairs, {len(made.vocabulary):,} words, {recipe.n_dims} dimensions")


def _is_wanted(path: str) -> bool:
    from lsp_assist.codebase.languages import language_of

    language = language_of(path)
    return language is not None and language.name in _LANGUAGES


def _documented(path: str, text: str) -> "list[Documented]":
    from lsp_assist.codebase.documented import documented

    return [*documented(path, text)]
