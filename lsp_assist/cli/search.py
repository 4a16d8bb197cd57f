"""`lsp-assist search`: the places that match a question or a name."""

import json
from collections.abc import Sequence
from pathlib import Path

import click

from lsp_assist.cli import terminal
from lsp_assist.config import Settings
from lsp_assist.llm import Source
from lsp_assist.workspace import Filter, Hit

__all__ = ["command"]


@click.command("search")
@click.argument("query", nargs=-1, required=True)
@terminal.folder_option
@click.option(
    "--limit", "-n", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many."
)
@click.option("--path", default="", help="Only places in this folder or file of the folder.")
@click.option("--language", "-l", default="", help="Only places in this language, as `python`.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array instead of a table.")
def command(
    query: Sequence[str], folder: Path, limit: int, path: str, language: str, as_json: bool
) -> None:
    """Find the places in a folder that match QUERY: words, a name or a whole question.

    The JSON array holds {path, startLine, endLine, symbol, kind, score}, best first; paths are
    relative to the folder and lines count from one. Exits with 1 if nothing is found.
    """
    where = Filter(path, language)
    settings = terminal.settings_for(folder)
    hits = terminal.run(_search(settings, folder, " ".join(query), limit, where))
    if as_json:
        click.echo(json.dumps([_hit_json(hit) for hit in hits], indent=2, ensure_ascii=False))
    else:
        _print(hits)
    if not hits:
        click.get_current_context().exit(1)


async def _search(
    settings: Settings, folder: Path, query: str, limit: int, where: Filter
) -> list[Hit]:
    async with terminal.assistant(settings, folder) as assistant:
        await terminal.embedded(assistant)
        return await assistant.workspace.search(query, limit, where)


def _print(hits: Sequence[Hit]) -> None:
    if not hits:
        click.echo("Nothing found; try the names that the code would use.", err=True)
    for hit in hits:
        source = Source(hit.path, hit.start_line, hit.end_line, hit.symbol, str(hit.root))
        shown = terminal.link(terminal.place(source), source)
        click.echo(f"{shown}  {terminal.clean(hit.symbol or '-')}  {hit.kind}  {hit.score:.2f}")


def _hit_json(hit: Hit) -> dict[str, object]:
    return {
        "path": hit.path,
        "startLine": hit.start_line + 1,
        "endLine": hit.end_line + 1,
        "symbol": hit.symbol,
        "kind": hit.kind,
        "score": round(hit.score, 4),
    }
