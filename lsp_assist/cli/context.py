"""`lsp-assist context`: what a question would be asked with, before it is."""

import json
from collections.abc import Sequence
from pathlib import Path

import click

from lsp_assist.assistant import Estimate, Preview, Question
from lsp_assist.cli import terminal
from lsp_assist.config import Settings
from lsp_assist.context.pick import Wanted

__all__ = ["command"]

MAX_SHOWN = 40


@click.command("context")
@click.argument("question", nargs=-1, required=True)
@terminal.folder_option
@click.option("--model", "-m", type=click.Path(path_type=Path), help="A GGUF file to answer with.")
@click.option("--mode", default="", help="How to answer: explain, refactor, fix, document, test.")
@click.option("--project", "-p", is_flag=True, help="The whole project, or an error.")
@click.option("--diff", is_flag=True, help="What git has not committed yet.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def command(
    question: Sequence[str],
    folder: Path,
    model: Path | None,
    mode: str,
    project: bool,
    diff: bool,
    as_json: bool,
) -> None:
    """Show what QUESTION would be asked with: pieces, reasons, tokens, seconds. Asks nothing.

    The JSON object is {model, pieces: [{kind, level, path, startLine, endLine, tokens, why}],
    tokens, warm, cold, seconds, window, reason, leftOut}; lines count from one.
    """
    settings = terminal.settings_for(folder, path=model)
    wanted = Wanted(project=project, diff=diff) if project or diff else None
    asked = Question(" ".join(question), "cli", "1", mode=mode, wanted=wanted)
    preview, estimate = terminal.run(_look(settings, folder, asked))
    if as_json:
        click.echo(json.dumps(_as_json(preview, estimate), indent=2, ensure_ascii=False))
    else:
        _print(preview, estimate)


async def _look(settings: Settings, folder: Path, asked: Question) -> tuple[Preview, Estimate]:
    async with terminal.assistant(settings, folder, embeds=False) as assistant:
        return await assistant.context(asked)


def _print(preview: Preview, estimate: Estimate) -> None:
    for piece in preview.pieces[:MAX_SHOWN]:
        place = terminal.place(piece.source) if piece.source else "-"
        what = f"{piece.kind} {piece.level}".strip()
        click.echo(f"{piece.n_tokens:>8,}  {what:<16} {place}  ({piece.reason})")
    if len(preview.pieces) > MAX_SHOWN:
        rest = preview.pieces[MAX_SHOWN:]
        n_tokens = sum(piece.n_tokens for piece in rest)
        click.echo(f"{n_tokens:>8,}  {len(rest):,} more pieces")
    click.echo(f"{estimate.n_tokens:>8,}  tokens in all{_of_window(preview)}")
    if preview.reason:
        click.echo(f"The project: {terminal.clean(preview.reason)}.")
    if preview.n_not_packed:
        click.echo(f"Files of the project that are not shown: {preview.n_not_packed:,}.")
    for left in preview.left_out:
        click.echo(f"Left out: {terminal.place(left.source)}, {left.n_tokens:,} tokens.")
    click.echo(f"{estimate.model}: {_warmth(estimate)}.")
    for note in filter(None, (preview.note, estimate.note)):
        click.echo(note)


def _of_window(preview: Preview) -> str:
    return f" of {preview.window:,} that a prompt may have" if preview.window else ""


def _warmth(estimate: Estimate) -> str:
    """What the prompt would take, as far as it is known."""
    if estimate.n_warm is None:
        warm = "it does not tell what is warm"
    else:
        warm = f"{estimate.n_warm:,} tokens are warm, {estimate.n_cold:,} are to be read"
    seconds = estimate.seconds
    speed = "how fast it reads is not measured yet"
    if seconds is not None:
        speed = f"about {seconds:.1f} s to the first text"
    cost = "" if estimate.cost_usd is None else f", {estimate.cost_usd:.4f} USD"
    return f"{warm}; {speed}{cost}"


def _as_json(preview: Preview, estimate: Estimate) -> dict[str, object]:
    return {
        "model": estimate.model,
        "pieces": [
            {
                "kind": piece.kind,
                "level": piece.level,
                "path": piece.source.path if piece.source else None,
                "startLine": piece.source.start_line + 1 if piece.source else None,
                "endLine": piece.source.end_line + 1 if piece.source else None,
                "tokens": piece.n_tokens,
                "why": piece.reason,
            }
            for piece in preview.pieces
        ],
        "tokens": estimate.n_tokens,
        "warm": estimate.n_warm,
        "cold": estimate.n_cold,
        "seconds": estimate.seconds,
        "costUsd": estimate.cost_usd,
        "window": preview.window,
        "reason": preview.reason,
        "filesNotShown": preview.n_not_packed,
        "leftOut": [
            {
                "path": left.source.path,
                "startLine": left.source.start_line + 1,
                "endLine": left.source.end_line + 1,
                "tokens": left.n_tokens,
                "why": left.reason,
            }
            for left in preview.left_out
        ],
        "note": " ".join(filter(None, (preview.note, estimate.note))),
    }
