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

    try:
        commands.main(prog_name="lsp-assist")
    except SystemExit as ended:
        _end_if_threads_are_left(ended.code)
        raise


def _end_if_threads_are_left(code: object) -> None:
    """End the process at once where a thread still imports what search by meaning is done with.

    Python would end that thread in the middle of C++, which aborts the process.
    """
    import os
    import threading

    if not isinstance(code, int) or not any(thread.daemon for thread in threading.enumerate()):
        return
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            return
    os._exit(code)


if __name__ == "__main__":
    main()
