"""Where a server's log goes: stderr or a file, never stdout, and without the user's code and keys.

Our own modules log neither above DEBUG. Libraries are kept at WARNING whatever our level is:
pygls logs whole messages, initializationOptions with their keys included, at INFO.
"""

import logging
import sys
from pathlib import Path

from lsp_assist.config import LogSettings

__all__ = ["configure", "start"]

_OURS = "lsp_assist"
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def start() -> None:
    """Log warnings to stderr until the settings are known."""
    root = logging.getLogger()
    for handler in root.handlers[:]:
        root.removeHandler(handler)
    _add(logging.StreamHandler(sys.stderr))
    root.setLevel(logging.WARNING)


def configure(settings: LogSettings) -> str:
    """Log as the settings say; a sentence for the user if that cannot be."""
    logging.getLogger(_OURS).setLevel(settings.level.upper())
    if settings.file is None:
        return ""
    try:
        handler = _private_file(settings.file)
    except OSError as error:
        return f"The log cannot be written to {str(settings.file)!r} ({error.strerror})."
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    _add(handler)
    return ""


def _private_file(path: Path) -> logging.Handler:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    return logging.FileHandler(path, encoding="utf-8")


def _add(handler: logging.Handler) -> None:
    handler.setFormatter(logging.Formatter(_FORMAT))
    logging.getLogger().addHandler(handler)
