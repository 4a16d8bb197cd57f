"""The folder where the engine and its clients meet: socket, locks, address.

    engine.sock     where it listens (unix); of this user only
    engine.json     port and token (loopback, where there are no unix sockets)
    alive.lock      held by the engine as long as it lives, with its process id inside
    start.lock      held by the client that is about to start one

The kernel frees a lock whose holder dies, however it dies: what a killed engine leaves behind is
known to be stale by that alone. Knows no HTTP and starts nothing.
"""

import contextlib
import hashlib
import json
import os
import socket
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lsp_assist.errors import ModelUnavailable

__all__ = [
    "Endpoint",
    "Held",
    "RuntimeFolder",
    "has_unix_sockets",
    "held",
    "opened",
    "place_of",
    "write_pid",
]

MAX_SOCKET_PATH = 100
"""In bytes: Linux takes 107, macOS 103."""
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an engine answers, and with what."""

    url: str
    socket: Path | None = None
    """The unix socket to connect to instead of the URL's host."""
    token: str = ""


class Held(Exception):
    """Somebody else holds the lock."""


@dataclass(frozen=True, slots=True)
class RuntimeFolder:
    """The files of one user's engine."""

    path: Path

    @property
    def socket(self) -> Path:
        """The unix socket of the engine."""
        return self.path / "engine.sock"

    @property
    def address(self) -> Path:
        """Port and token of an engine on the loopback."""
        return self.path / "engine.json"

    @property
    def alive(self) -> Path:
        """The lock of a living engine."""
        return self.path / "alive.lock"

    @property
    def start(self) -> Path:
        """The lock of whoever starts one."""
        return self.path / "start.lock"

    def endpoints(self) -> list[Endpoint]:
        """Where an engine may be listening, as far as the files tell."""
        found: list[Endpoint] = []
        if self.socket.exists():
            found.append(Endpoint("http://localhost", self.socket))
        try:
            said = json.loads(self.address.read_text("utf-8"))
            found.append(
                Endpoint(f"http://127.0.0.1:{int(said['port'])}", None, str(said["token"]))
            )
        except (OSError, ValueError, KeyError, TypeError):  # none, or half of one
            pass
        return found

    def write_address(self, port: int, token: str) -> None:
        """Tell clients the port and the token, for this user's eyes only."""
        partial = self.address.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump({"port": port, "token": token}, file)
        partial.replace(self.address)

    def clear(self) -> None:
        """Remove the addresses. For the holder of `alive` only."""
        self.socket.unlink(missing_ok=True)
        self.address.unlink(missing_ok=True)

    def is_alive(self) -> bool:
        """Whether an engine lives, answering or not."""
        try:
            with held(self.alive):
                return False
        except Held:
            return True

    def pid(self) -> int | None:
        """The process id of the living engine."""
        try:
            return int(self.alive.read_text("ascii"))
        except (OSError, ValueError):
            return None


def place_of(folder: Path) -> Path:
    """Where the runtime folder for this path stands.

    A path that is too long for a socket is stood in for by one in the temporary folder.
    """
    if len(os.fsencode(folder / "engine.sock")) <= MAX_SOCKET_PATH:
        return folder
    digest = hashlib.blake2b(os.fsencode(folder), digest_size=8).hexdigest()
    return Path(tempfile.gettempdir()) / f"lsp-assist-{_user()}-{digest}"


def opened(folder: Path) -> RuntimeFolder:
    """The runtime folder for this path, made now if need be; only this user can enter it.

    Raises: ModelUnavailable
    """
    folder = place_of(folder)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_own(folder)
    except OSError as error:
        raise ModelUnavailable(
            f"The folder {str(folder)!r} cannot be used ({error.strerror or error}); mend its "
            "permissions, or set LSP_ASSIST_HOME to a folder of yours."
        ) from error
    return RuntimeFolder(folder)


def has_unix_sockets() -> bool:
    """Whether asyncio and this platform know unix sockets."""
    return hasattr(socket, "AF_UNIX") and sys.platform != "win32"


@contextlib.contextmanager
def held(path: Path, *, timeout_s: float = 0.0) -> Iterator[int]:
    """Holds a lock file while the block runs; gives its descriptor.

    Raises: Held when somebody else does for longer than the timeout
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    deadline = time.monotonic() + timeout_s
    try:
        while not _lock(descriptor):
            if time.monotonic() >= deadline:
                raise Held(str(path))
            time.sleep(_POLL_S)
        yield descriptor
    finally:
        os.close(descriptor)  # frees the lock


def write_pid(descriptor: int) -> None:
    """Put this process's id into a lock file that it holds."""
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, str(os.getpid()).encode("ascii"))


def _check_own(folder: Path) -> None:
    """Refuse a folder that is not this user's own; close it to others.

    Raises: OSError
    """
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(0, "it is no folder")
    if sys.platform == "win32":
        return  # the profile's folders are the user's own
    if found.st_uid != os.geteuid():
        raise PermissionError(0, "it belongs to another user")
    if found.st_mode & 0o077:
        folder.chmod(0o700)


def _user() -> str:
    return str(os.geteuid()) if sys.platform != "win32" else "user"


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> bool:
        try:
            # Locked bytes cannot be read: those of the process id are left free.
            os.lseek(descriptor, 4096, os.SEEK_SET)
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
