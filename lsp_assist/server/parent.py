"""Whether another process still lives: an editor that crashed cannot say goodbye."""

import asyncio
import os
import sys

__all__ = ["has_ended", "is_alive"]

POLL_S = 1.0


def is_alive(pid: int) -> bool:
    """Whether there is a process of this number."""
    if pid <= 0:
        return False
    if sys.platform == "win32":
        return _is_alive_on_windows(pid)
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


async def has_ended(pid: int) -> None:
    """Return when the process is gone; never, if it was not there to begin with.

    An editor outside of our container sends a number that means nothing here.
    """
    is_parent = pid == os.getppid()
    if not is_alive(pid):
        await asyncio.Event().wait()
    # A parent that was not waited for keeps its number, but not its children.
    while is_alive(pid) and not (is_parent and os.getppid() != pid):  # noqa: ASYNC110  see below
        await asyncio.sleep(POLL_S)  # no event tells of another process everywhere


def _is_alive_on_windows(pid: int) -> bool:
    # os.kill(pid, 0) would send Ctrl-C there.
    import ctypes

    synchronize, wait_timeout = 0x00100000, 0x102
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined]
    handle = kernel.OpenProcess(synchronize, False, pid)
    if not handle:
        return False
    try:
        return bool(kernel.WaitForSingleObject(handle, 0) == wait_timeout)
    finally:
        kernel.CloseHandle(handle)
