"""The llama.cpp library: loaded once, at the first use, and kept quiet.

Knows no model. Everything else in this package gets llama.cpp from here, so that what must happen
before the library is loaded has happened.
"""

import collections
import ctypes
import logging
import os
import sys
import threading
from types import ModuleType

from lsp_assist.errors import ModelUnavailable

__all__ = ["library", "recent_errors", "strlen", "version"]

logger = logging.getLogger(__name__)

_lock = threading.Lock()
_loaded: ModuleType | None = None
# ctypes keeps no reference to a callback that C holds.
_log_callback: object = None


def library() -> ModuleType:
    """The module `llama_cpp`, ready to use. Takes some 200 ms the first time.

    Raises: ModelUnavailable
    """
    global _loaded  # noqa: PLW0603 - a process has one llama.cpp
    with _lock:
        if _loaded is None:
            _loaded = _load()
        return _loaded


def recent_errors() -> str:
    """What llama.cpp last complained about on this thread, and forgets it; empty for nothing."""
    lines = _errors()
    text = "; ".join(lines)
    lines.clear()
    return text


def version() -> str:
    """Which llama.cpp this is, as far as it says so."""
    llama = library()
    return f"{llama.__version__} {llama.llama_print_system_info().decode('utf-8', 'replace')}"


def strlen() -> object | None:
    """The C library's `strlen`, or None where it cannot be found.

    As an abort callback it says "stop" when a flag byte is not zero, without taking the GIL. A
    callback written in Python costs 2.5 ms per token on a busy machine (LOG.md, 2026-11).
    """
    try:
        if sys.platform == "win32":
            return ctypes.CDLL("msvcrt").strlen
        return ctypes.CDLL(None).strlen
    except (OSError, AttributeError):
        return None


# The levels of ggml.h; llama_cpp._logger of 0.3.36 has an older numbering.
_ERROR, _CONTINUED = 4, 5

_of_thread = threading.local()


def _load() -> ModuleType:
    # libgomp reads this once, when it is loaded. Threads that spin at each barrier make decoding on
    # a busy machine up to 200 times slower (LOG.md, 2026-11). The user's own choice is kept.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        import llama_cpp
    except (ImportError, OSError, RuntimeError) as error:
        raise ModelUnavailable(
            f"llama.cpp cannot be loaded: {error}; reinstall it with "
            "`pip install --force-reinstall llama-cpp-python`."
        ) from error
    global _log_callback  # noqa: PLW0603 - llama.cpp has one log callback per process
    _log_callback = llama_cpp.llama_log_callback(_log)
    llama_cpp.llama_log_set(_log_callback, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    return llama_cpp


def _errors() -> "collections.deque[str]":
    if not hasattr(_of_thread, "errors"):
        _of_thread.errors = collections.deque(maxlen=4)
    errors: collections.deque[str] = _of_thread.errors
    return errors


def _log(level: int, text: bytes, _data: object) -> None:
    """A line of llama.cpp's log goes to ours at DEBUG: its errors reach the user as exceptions."""
    if level == _ERROR:
        _errors().append(text.decode("utf-8", "replace").strip())
    if level != _CONTINUED and logger.isEnabledFor(logging.DEBUG):
        logger.debug("%s", text.decode("utf-8", "replace").rstrip())
