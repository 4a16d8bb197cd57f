"""Which processes still write: each holds a lock that ends with it, however it ends.

A reply that is being streamed belongs to its process. When that one is killed its lock is free,
and who reads the turn next knows that no more will come. Knows no chat and no database.
"""

import os
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Writer", "exclusive", "is_alive"]

_PATIENCE_S = 10.0
_LOOK_AGAIN_S = 0.01


class Writer:
    """Tells others that this process writes, until it is closed or killed."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in folder.glob("*.lock"):
            if not is_alive(folder, path.stem):
                path.unlink(missing_ok=True)
        self.name = uuid.uuid4().hex
        self._path = folder / f"{self.name}.lock"
        self._descriptor = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_EXCL, 0o600)
        _lock(self._descriptor)

    def close(self) -> None:
        """Write no more. Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            self._path.unlink(missing_ok=True)


def is_alive(folder: Path, name: str) -> bool:
    """Whether the process that writes by this name still runs."""
    try:
        descriptor = os.open(folder / f"{name}.lock", os.O_RDWR)
    except OSError:
        return False
    try:
        return not _lock(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Alone among all processes, as long as none holds the lock for many seconds."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        patience_ends = time.monotonic() + _PATIENCE_S
        while not _lock(descriptor) and time.monotonic() < patience_ends:
            time.sleep(_LOOK_AGAIN_S)
        yield
    finally:
        os.close(descriptor)


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True
