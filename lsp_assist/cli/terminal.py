"""What the commands share: running a coroutine, errors as messages, progress, clickable places.

Knows the terminal; neither LSP nor a model.
"""

import asyncio
import logging
import os
import re
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import NoReturn, TypeVar

import click

from lsp_assist.assistant import Assistant
from lsp_assist.config import Settings, resolve
from lsp_assist.errors import AssistError, BadInput, ContextTooLong, ModelFileError
from lsp_assist.llm import Source
from lsp_assist.workspace import Progress, Refreshed

__all__ = [
    "assistant",
    "camel_case",
    "clean",
    "embedded",
    "fail",
    "folder_option",
    "link",
    "place",
    "progress_bar",
    "refreshed",
    "run",
    "settings_for",
    "start_logging",
    "warn",
]

T = TypeVar("T")

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130  # as shells report a command that Ctrl-C ended

folder_option = click.option(
    "--dir",
    "-d",
    "folder",
    type=click.Path(path_type=Path),
    default=Path(),
    help="The folder that holds the code; the current one if left out.",
)

# Control characters could move the cursor or retitle the terminal, bidirectional ones reorder what
# is read; both may stand in code and in what a model says about it.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")


def run(work: Coroutine[object, object, T]) -> T:
    """The coroutine's result; errors end the process with a message, Ctrl-C with 130."""
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        click.echo("\nCancelled.", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except AssistError as error:
        fail(error)


def fail(error: AssistError) -> NoReturn:
    """End the process with the error's message: 2 for what the caller can mend, else 1."""
    click.echo(f"Error: {clean(str(error))}", err=True)
    is_bad_input = isinstance(error, BadInput | ModelFileError | ContextTooLong)
    sys.exit(EXIT_BAD_INPUT if is_bad_input else EXIT_FAILED)


def warn(sentence: str) -> None:
    """Tell the user something that does not end the command."""
    click.echo(f"Warning: {clean(sentence)}", err=True)


def settings_for(folder: Path | None, **model: object) -> Settings:
    """The settings for a command, with logging set up by them. Ends the process if they are wrong.

    `model` are options of the section [model]; None stands for what was not said.
    """
    said = {name: value for name, value in model.items() if value is not None}
    try:
        settings = resolve({"model": said} if said else None, workspace=folder)
    except AssistError as error:
        fail(error)
    start_logging(settings)
    for sentence in settings.warnings:
        warn(sentence)
    return settings


@asynccontextmanager
async def assistant(
    settings: Settings, folder: Path, *, refresh: bool = True, embeds: bool = True
) -> AsyncGenerator[Assistant, None]:
    """An assistant for one folder, its index brought up to date unless told otherwise."""
    made = Assistant(settings, [folder])
    made.workspace.embeds &= embeds
    made.workspace.watches_files = (
        True  # nothing changes behind a command that ends with its answer
    )
    try:
        await made.start()
        if refresh:
            await refreshed(made)
        yield made
    finally:
        await made.close()


async def refreshed(made: Assistant) -> Refreshed:
    """Bring the index up to date, with a bar while it takes long."""
    with progress_bar("Indexing") as report:
        return await made.workspace.refresh(report)


async def embedded(made: Assistant) -> bool:
    """Wait until code is found by its meaning too, with a bar while it takes long."""
    with progress_bar("Embedding") as report:
        return await made.workspace.embedded(report)


def camel_case(value: object) -> object:
    """The value with its keys as JSON has them, `n_files` as `nFiles`."""
    if isinstance(value, Mapping):
        return {_camel(key): camel_case(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [camel_case(v) for v in value]
    return value


def start_logging(settings: Settings) -> None:
    """Log to stderr or to the file of the settings, never to stdout; other libraries only warn."""
    handler: logging.Handler
    if settings.log.file is not None:
        handler = logging.FileHandler(settings.log.file, encoding="utf-8", delay=True)
    else:
        handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("lsp_assist").setLevel(settings.log.level.upper())


def clean(text: str) -> str:
    """The text without characters that a terminal would obey."""
    return _UNSAFE.sub("\N{REPLACEMENT CHARACTER}", text)


def place(source: Source) -> str:
    """`path:line` that a terminal opened in the current folder can follow."""
    path = Path(source.root, source.path)
    try:
        shown = path.relative_to(Path.cwd())
    except ValueError:
        shown = path
    return clean(f"{shown}:{source.start_line + 1}")


def link(text: str, source: Source) -> str:
    """The text as a hyperlink to the source where the terminal shows them, else as it is."""
    if not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        return text
    target = Path(source.root, source.path).as_uri()
    return f"\x1b]8;;{target}\x1b\\{text}\x1b]8;;\x1b\\"


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[Progress], None]]:
    """A bar on stderr that the reports of a refresh move; nothing where nobody watches."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    import rich.console
    import rich.progress

    columns = (
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeRemainingColumn(),
    )
    console = rich.console.Console(stderr=True)
    with rich.progress.Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=None, visible=False)

        def report(progress: Progress) -> None:
            visible = progress.n_total > 0
            bar.update(task, completed=progress.n_done, total=progress.n_total, visible=visible)

        yield report


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
