"""`lsp-assist doctor`: what is installed and configured, and what is wrong with it."""

import importlib.metadata
import itertools
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import click

import lsp_assist
from lsp_assist.cli import terminal
from lsp_assist.config import WORKSPACE_FILE, Settings
from lsp_assist.errors import AssistError

__all__ = ["command"]

LOW_DISK_BYTES = 500_000_000
_LIBRARIES = (
    "pygls",
    "lsprotocol",
    "lancedb",
    "tree-sitter",
    "tree-sitter-language-pack",
    "llama-cpp-python",
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    topic: str
    state: Literal["ok", "note", "problem"]
    text: str


@click.command("doctor")
@terminal.folder_option
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array instead of a table.")
def command(folder: Path, as_json: bool) -> None:
    """Show what is installed and configured, and what is wrong with it.

    Exits with 1 if there is a problem. Reads no code and loads no model.
    """
    settings = terminal.settings_for(folder)
    findings = [*_installed(), *_configured(settings, folder), *_model(settings)]
    findings.append(_engine(settings))
    findings.append(_embedder(settings))
    findings.append(_watching(folder))
    findings += terminal.run(_index(settings, folder))
    if as_json:
        click.echo(json.dumps([asdict(f) for f in findings], indent=2, ensure_ascii=False))
    else:
        _print(findings)
    if any(finding.state == "problem" for finding in findings):
        click.get_current_context().exit(1)


def _installed() -> Iterator[Finding]:
    yield Finding("lsp-assist", "ok", lsp_assist.__version__)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding(
        "machine", "ok", f"Python {platform.python_version()}, {platform.platform()}, {cores} cores"
    )
    for name in _LIBRARIES:
        try:
            yield Finding(name, "ok", importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, "problem", f"Not installed; run `pip install {name}`.")


def _configured(settings: Settings, folder: Path) -> Iterator[Finding]:
    config = settings.places.config / "config.toml"
    there = "" if config.is_file() else " (not there: the defaults apply)"
    yield Finding("settings", "ok", f"{config}{there}")
    if (folder / WORKSPACE_FILE).is_file():
        yield Finding("workspace settings", "ok", str(folder / WORKSPACE_FILE))
    for sentence in settings.warnings:
        yield Finding("settings", "note", sentence)
    for name, place in (("data", settings.places.data), ("cache", settings.places.cache)):
        existing = next(p for p in (place, *place.parents) if p.exists())
        if not os.access(existing, os.W_OK):
            yield Finding(name, "problem", f"{existing} is not writable; check its permissions.")
        elif shutil.disk_usage(existing).free < LOW_DISK_BYTES:
            yield Finding(name, "problem", f"The disk of {existing} is nearly full.")
        else:
            yield Finding(name, "ok", str(place))


def _model(settings: Settings) -> Iterator[Finding]:
    path = settings.model.path
    if settings.model.url:
        served = f"{settings.model.name!r} of the server at {settings.model.url}"
        yield Finding("model", "ok", served)
        return
    if path is None:
        config = settings.places.config / "config.toml"
        yield Finding(
            "model",
            "note",
            "None: questions are answered from the index. Set `model.path` to a GGUF file in"
            f" {config}, or use --model.",
        )
        return
    from lsp_assist.engine.gguf import read_model_file

    try:
        file = read_model_file(path)
    except AssistError as error:
        yield Finding("model", "problem", str(error))
        return
    described = (
        f"{path}: {file.name}, {file.architecture}, {file.n_params / 1e6:,.0f}M parameters,"
        f" {file.quantisation}, {file.n_bytes / 1e6:,.0f} MB,"
        f" trained with a window of {file.n_ctx_train:,} tokens"
    )
    yield Finding("model", "ok", described)


def _engine(settings: Settings) -> Finding:
    from lsp_assist.engine import process

    try:
        found = process.running(settings)
    except AssistError as error:
        return Finding("engine", "problem", str(error))
    if found is None:
        return Finding("engine", "ok", "Does not run; the first question to a model starts it.")
    text = f"{found.version}, process {found.pid}, log {process.log_file(settings)}"
    return Finding("engine", "ok", text)


def _embedder(settings: Settings) -> Finding:
    from lsp_assist.models import open_embedders

    try:
        names = [embedder.name for embedder in open_embedders(settings)]
    except AssistError as error:
        return Finding("embedder", "problem", str(error))
    if not names:
        return Finding("embedder", "ok", "None: code is found by words alone.")
    return Finding("embedder", "ok", ", ".join(names))


def _watching(folder: Path) -> Finding:
    """Whether the system lets all folders be watched, for editors that do not do it themselves."""
    from lsp_assist.codebase.watching import n_watchable

    limit = n_watchable()
    if limit is None:
        return Finding("file watching", "ok", "The system sets no limit to it.")
    n_folders = sum(1 for _ in itertools.islice(os.walk(folder), limit + 1))
    if n_folders <= limit:
        text = f"{n_folders:,} folders of at most {limit:,} that the system lets you watch"
        return Finding("file watching", "ok", text)
    text = (
        f"The system lets you watch {limit:,} folders, and here are more: questions look at the"
        " disk instead, unless your editor watches. Raise fs.inotify.max_user_watches."
    )
    return Finding("file watching", "note", text)


async def _index(settings: Settings, folder: Path) -> list[Finding]:
    try:
        async with terminal.assistant(settings, folder, refresh=False, embeds=False) as assistant:
            status = await assistant.status()
    except AssistError as error:
        return [Finding("index", "problem", str(error))]
    found = status.indexes[0]
    if found.state == "new":
        text = f"{found.root} is not indexed yet; the first question or `lsp-assist index` does it."
        return [Finding("index", "note", text)]
    size = f"{found.n_bytes / 1e6:,.1f} MB"
    text = f"{found.root}: {found.n_files:,} files, {found.n_symbols:,} symbols, {size}"
    findings = [Finding("index", "ok", text)]
    if found.embedder:
        text = f"{found.embedder}: {found.n_vectors:,} chunks, {found.n_waiting:,} waiting"
        state: Literal["ok", "note"] = "note" if found.embedding == "paused" else "ok"
        findings.append(Finding("vectors", state, f"{text}, {found.embedding}"))
    return findings


def _print(findings: list[Finding]) -> None:
    if not sys.stdout.isatty():
        for finding in findings:
            click.echo(f"{finding.state:8}{finding.topic:26}{terminal.clean(finding.text)}")
        return
    import rich.console
    import rich.table
    import rich.text

    table = rich.table.Table(box=None, show_header=False, pad_edge=False)
    colours = {"ok": "green", "note": "yellow", "problem": "bold red"}
    for finding in findings:
        text = rich.text.Text(terminal.clean(finding.text))
        state = rich.text.Text(finding.state, style=colours[finding.state])
        table.add_row(state, finding.topic, text)
    rich.console.Console().print(table)
