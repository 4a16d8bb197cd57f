"""`lsp-assist index`: bring the index of a folder up to date, or show what is in it."""

import dataclasses
import json
from pathlib import Path

import click

from lsp_assist.cli import terminal
from lsp_assist.config import Settings
from lsp_assist.workspace import IndexStatus, Refreshed

__all__ = ["command"]

MAX_PROBLEMS = 5  # that are shown


@click.command("index")
@click.argument("folder", type=click.Path(path_type=Path), default=Path())
@click.option("--status", "action", flag_value="status", help="Only show what is there.")
@click.option(
    "--pause",
    "action",
    flag_value="pause",
    help="Make no more vectors for FOLDER, in editors neither, until --resume.",
)
@click.option("--resume", "action", flag_value="resume", help="Go on after --pause.")
@click.option("--rebuild", "action", flag_value="rebuild", help="Throw the index away first.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def command(folder: Path, action: str | None, as_json: bool) -> None:
    """Index the code in FOLDER (here if left out). Questions and editors do it by themselves.

    Can be stopped at any time: the next run goes on from there.
    """
    settings = terminal.settings_for(folder)
    status, refreshed = terminal.run(_index(settings, folder, action))
    if as_json:
        found = dataclasses.asdict(status)
        if refreshed is not None:
            found["refreshed"] = dataclasses.asdict(refreshed)
        click.echo(json.dumps(terminal.camel_case(found), indent=2, ensure_ascii=False))
        return
    click.echo(
        f"{terminal.clean(status.root)}: {status.n_files:,} files, {status.n_lines:,} lines,"
        f" {status.n_symbols:,} symbols, {status.n_chunks:,} chunks,"
        f" {status.n_bytes / 1e6:,.1f} MB on disk"
    )
    click.echo(_embedding(status))
    for problem in status.problems[:MAX_PROBLEMS]:
        terminal.warn(terminal.clean(problem))
    if n_more := len(status.problems[MAX_PROBLEMS:]):
        terminal.warn(f"{n_more:,} more files have problems; `--json` lists them all.")
    if refreshed is not None:
        click.echo(
            f"{refreshed.n_changed:,} read, {refreshed.n_removed:,} gone,"
            f" {refreshed.n_skipped:,} left out (binary, too large or unreadable)"
        )
        if not refreshed.is_complete:
            terminal.warn(
                f"Only the first {settings.index.max_files:,} files are indexed; raise"
                " `index.max_files` or exclude folders with `.lspassistignore`."
            )


def _embedding(status: IndexStatus) -> str:
    if status.embedding == "off":
        return "No embedder: code is found by words alone"
    text = f"{terminal.clean(status.embedder)}: {status.n_vectors:,} chunks embedded"
    if status.n_waiting:
        text += f", {status.n_waiting:,} waiting"
    return f"{text}, {status.embedding}"


async def _index(
    settings: Settings, folder: Path, action: str | None
) -> tuple[IndexStatus, Refreshed | None]:
    reads = action in (None, "rebuild")
    async with terminal.assistant(settings, folder, refresh=False, embeds=reads) as assistant:
        refreshed = None
        if action in ("pause", "resume"):
            await assistant.workspace.pause(action == "pause")
        if action == "rebuild":
            await assistant.workspace.clear()
        if reads:
            refreshed = await terminal.refreshed(assistant)
            await terminal.embedded(assistant)
        status = await assistant.status()
    return status.indexes[0], refreshed
