"""`lsp-assist serve`: the language server."""

import click

__all__ = ["command"]


@click.command("serve")
@click.option("--stdio", is_flag=True, help="Speak on standard input and output: the default.")
@click.option("--tcp", metavar="[HOST:]PORT", help="Listen on a loopback port instead.")
def command(stdio: bool, tcp: str | None) -> None:
    """Serve an editor over LSP, on standard input and output."""
    if stdio and tcp:
        raise click.UsageError("--stdio and --tcp exclude each other.")
    from lsp_assist.cli import terminal
    from lsp_assist.errors import AssistError
    from lsp_assist.server import serve

    try:
        serve(tcp=tcp)
    except AssistError as error:
        terminal.fail(error)
