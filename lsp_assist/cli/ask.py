"""`lsp-assist ask`: a question about a folder, answered as it comes."""

import json
import sys
import uuid
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

import click

from lsp_assist.assistant import Assistant, Question
from lsp_assist.cli import terminal
from lsp_assist.config import Settings
from lsp_assist.flows import Done, Step, Text
from lsp_assist.llm import Source, Usage

__all__ = ["command", "print_reply"]


@click.command("ask")
@click.argument("question", nargs=-1, required=True)
@terminal.folder_option
@click.option("--model", "-m", type=click.Path(path_type=Path), help="A GGUF file to answer with.")
@click.option("--mode", default="", help="How to answer: explain, fix, review, ...")
@click.option("--max-tokens", type=int, help="The longest reply, in tokens.")
@click.option("--temperature", type=float, help="0 always takes the likeliest token.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def command(
    question: Sequence[str],
    folder: Path,
    model: Path | None,
    mode: str,
    max_tokens: int | None,
    temperature: float | None,
    as_json: bool,
) -> None:
    """Ask QUESTION about the code in a folder; `-` reads it from standard input.

    Without a model, the answer is quoted from the index. The question begins a chat, which
    `lsp-assist chat` goes on with. The JSON object is
    {answer, sources: [{path, startLine, endLine, symbol}], usage}; paths are relative to the folder
    and lines count from one.
    """
    text = sys.stdin.read() if tuple(question) == ("-",) else " ".join(question)
    settings = terminal.settings_for(
        folder, path=model, max_tokens=max_tokens, temperature=temperature
    )
    asked = Question(text, str(uuid.uuid4()), str(uuid.uuid4()), mode=mode)
    terminal.run(_ask(settings, folder, asked, as_json=as_json))


async def _ask(settings: Settings, folder: Path, asked: Question, *, as_json: bool) -> None:
    async with terminal.assistant(settings, folder, embeds=False) as assistant:
        done = await (_wait(assistant, asked) if as_json else print_reply(assistant, asked))
    if as_json:
        answer = {
            "answer": done.text,
            "sources": [_source_json(source) for source in done.sources],
            "usage": _usage_json(done.usage),
        }
        click.echo(json.dumps(answer, indent=2, ensure_ascii=False))


async def _wait(assistant: Assistant, asked: Question) -> Done:
    async with aclosing(assistant.ask(asked)) as events:
        async for event in events:
            if isinstance(event, Done):
                return event
    raise AssertionError("a flow that is not cancelled ends with Done")


async def print_reply(assistant: Assistant, asked: Question) -> Done:
    """Print the reply as it comes, the steps on stderr, and the sources below."""
    async with aclosing(assistant.ask(asked)) as events:
        async for event in events:
            match event:
                case Step() if sys.stderr.isatty():
                    click.secho(f"{terminal.clean(event.text)} ...", dim=True, err=True)
                case Text():
                    click.echo(terminal.clean(event.text), nl=False)
                    sys.stdout.flush()
                case Done():
                    _print_end(event)
                    return event
    raise AssertionError("a flow that is not cancelled ends with Done")


def _print_end(done: Done) -> None:
    click.echo("" if done.text.endswith("\n") else "\n")
    if done.sources:
        click.echo("Sources:")
        for source in done.sources:
            symbol = f"  {terminal.clean(source.symbol)}" if source.symbol else ""
            click.echo(f"  {terminal.link(terminal.place(source), source)}{symbol}")
    usage = done.usage
    if usage.output_tokens and sys.stderr.isatty():
        click.secho(
            f"{usage.model}: {usage.prompt_tokens:,} tokens read ({usage.cached_tokens:,} cached),"
            f" first text after {usage.ttft_ms / 1000:.1f} s,"
            f" {usage.tokens_per_second:.1f} tokens/s",
            dim=True,
            err=True,
        )


def _source_json(source: Source) -> dict[str, object]:
    return {
        "path": source.path,
        "startLine": source.start_line + 1,
        "endLine": source.end_line + 1,
        "symbol": source.symbol,
    }


def _usage_json(usage: Usage) -> dict[str, object]:
    found: dict[str, object] = {
        "promptTokens": usage.prompt_tokens,
        "cachedTokens": usage.cached_tokens,
        "outputTokens": usage.output_tokens,
        "ttftMs": round(usage.ttft_ms, 1),
        "totalMs": round(usage.total_ms, 1),
        "tokensPerSecond": round(usage.tokens_per_second, 2),
        "model": usage.model,
        "route": usage.route,
    }
    return found if usage.cost_usd is None else {**found, "costUsd": usage.cost_usd}
