"""`lsp-assist index`: bring the index of a folder up to date, or show what is in it."""

import dataclasses
import json
from pathlib import Path

import click

from lsp_assist.cli import terminal
from lsp_assist.config import Settings
from lsp_assist.workspace import IndexStatus, Refreshed

__all__ = ["command"]


@click.command("index")
@click.argument("folder", type=click.Path(path_type=Path), default=Path())
@click.option("--status", "only_status", is_flag=True, help="Only show what is there.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def command(folder: Path, only_status: bool, as_json: bool) -> None:
    """Index the code in FOLDER (here if left out). Questions and editors do it by themselves.

    Can be stopped at any time: the next run goes on from there.
    """
    settings = terminal.settings_for(folder)
    status, refreshed = terminal.run(_index(settings, folder, only_status=only_status))
    if as_json:
        found = dataclasses.asdict(status)
        if refreshed is not None:
            found["refreshed"] = dataclasses.asdict(refreshed)
        click.echo(json.dumps(terminal.camel_case(found), indent=2, ensure_ascii=False))
        return
    click.echo(
        f"{terminal.clean(status.root)}: {status.n_files:,} files, {status.n_lines:,} lines,"
        f" {status.n_symbols:,} symbols, {status.n_chunks:,} chunks"
    )
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


async def _index(
    settings: Settings, folder: Path, *, only_status: bool
) -> tuple[IndexStatus, Refreshed | None]:
    async with terminal.assistant(settings, folder, refresh=False) as assistant:
        refreshed = None if only_status else await terminal.refreshed(assistant)
        status = await assistant.status()
    return status.indexes[0], refreshed
