"""The commands of `lsp-assist`: one file each, imported when it is called."""

from importlib import import_module

import click

import lsp_assist

__all__ = ["commands"]

_COMMANDS = {
    "ask": "Ask about the code in a folder.",
    "chat": "List, show, search and export chats, and go on with one.",
    "context": "Show what a question would be asked with, and what that would take.",
    "doctor": "Show what is installed and configured, and what is wrong with it.",
    "engine": "Run the local model's engine, show its state, or stop it.",
    "index": "Index a folder, or show what is in its index.",
    "micro": "Train the small models that come with the package.",
    "search": "Find the places that match a question or a name.",
    "serve": "Serve an editor over LSP.",
}


class _Commands(click.Group):
    """Lists all commands and imports the one that is called: its libraries cost start-up time."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # as click calls it
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # as click calls it
        if cmd_name not in _COMMANDS:
            return None
        command = import_module(f"lsp_assist.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # as click calls it
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(lsp_assist.__version__, "-V", "--version", message="%(prog)s %(version)s")
def commands() -> None:
    """A local-first coding assistant for every editor that speaks LSP."""
