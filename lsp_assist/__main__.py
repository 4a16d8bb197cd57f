"""Start of the `lsp-assist` command."""

import sys

import lsp_assist

__all__ = ["main"]


def main() -> None:
    """Run the command line; `--version` answers before anything else is imported."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        sys.stdout.write(f"lsp-assist {lsp_assist.__version__}\n")
        return
    from lsp_assist.cli import commands

    commands.main(prog_name="lsp-assist")


if __name__ == "__main__":
    main()
