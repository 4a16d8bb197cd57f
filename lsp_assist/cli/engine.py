"""`lsp-assist engine`: run the engine by hand, show its state, stop it."""

import json
import logging
import sys
from collections.abc import Mapping

import click

from lsp_assist.cli import terminal
from lsp_assist.config import Settings
from lsp_assist.engine import process
from lsp_assist.errors import AssistError

__all__ = ["command"]

EXIT_NOT_RUNNING = 3  # as `systemctl status` has it


@click.group("engine", invoke_without_command=True)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    help="Serve the OpenAI API to other tools on this port of the loopback, too.",
)
@click.option("--background", is_flag=True, hidden=True, help="Detach, as editors start it.")
@click.pass_context
def command(ctx: click.Context, port: int | None, background: bool) -> None:
    """Run the engine here until Ctrl-C, or show its state, or stop it.

    Editors start it by themselves, in the background. Run by hand it serves them as well.
    """
    if ctx.invoked_subcommand is not None:
        if port is not None or background:
            raise click.UsageError("--port is for the engine itself, not for its commands.")
        return
    from lsp_assist.engine import daemon

    try:
        if background:
            with daemon.detached() as on_ready:
                settings = terminal.settings_for(None)
                logging.getLogger("lsp_assist").setLevel(logging.INFO)
                daemon.run(
                    settings,
                    lambda: daemon.engine_of(settings),
                    exits_when_idle=True,
                    on_ready=on_ready,
                )
            return
        settings = terminal.settings_for(None)
        daemon.run(
            settings,
            lambda: daemon.engine_of(settings),
            port=port,
            on_ready=lambda: _say_where(settings, port),
        )
    except AssistError as error:
        terminal.fail(error)


@command.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print what the engine says as JSON.")
def status(as_json: bool) -> None:
    """Show whether the engine runs, and which models it holds; exits with 3 if it does not."""
    settings = terminal.settings_for(None)
    try:
        found = process.running(settings)
        said = process.status_of(found.endpoint) if found else None
    except AssistError as error:
        terminal.fail(error)
    if as_json:
        click.echo(json.dumps(said, indent=2, ensure_ascii=False))
    elif found is None or said is None:
        click.echo("The engine does not run; the next question starts it.")
    else:
        click.echo(f"The engine {found.version} runs (process {found.pid}).")
        for line in _model_lines(said):
            click.echo(terminal.clean(line))
        click.echo(f"Its log is {process.log_file(settings)}.")
    if said is None:
        sys.exit(EXIT_NOT_RUNNING)


@command.command("stop")
def stop() -> None:
    """End the engine; what it has read stays on disk for the next one."""
    settings = terminal.settings_for(None)
    try:
        was_running = process.stopped(settings)
    except AssistError as error:
        terminal.fail(error)
    click.echo("The engine has ended." if was_running else "The engine does not run.")


def _say_where(settings: Settings, port: int | None) -> None:
    click.echo("The engine serves your editors. Ctrl-C ends it.")
    if port is not None:
        from lsp_assist.engine import daemon

        click.echo(f"For other tools:\n  OPENAI_BASE_URL=http://127.0.0.1:{port}/v1")
        click.echo(f'  OPENAI_API_KEY="$(cat {str(daemon.token_file(settings))!r})"')


def _model_lines(said: Mapping[str, object]) -> list[str]:
    models = said.get("models")
    if not isinstance(models, list) or not models:
        return ["It has no model yet."]
    found = []
    for model in models:
        if isinstance(model, Mapping):
            n_ctx = model.get("n_ctx")
            window = f", a window of {n_ctx:,} tokens" if isinstance(n_ctx, int) and n_ctx else ""
            found.append(
                f"  {model.get('name')}: {model.get('state')}{window}, {model.get('path')}"
            )
    return found
