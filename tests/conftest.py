"""What every test gets: a home of its own, and no way to leave the machine."""

import socket
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from lsp_assist.config import Places, Settings
from lsp_assist.engine import process, runtime

# A busy machine is the normal case: how long an example takes says nothing about the code.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Settings, data and cache in a folder of the test, for it and the processes that it starts.

    An engine that was started there is ended.
    """
    home = tmp_path / "assist-home"
    monkeypatch.setenv("LSP_ASSIST_HOME", str(home))
    for section in ("MODEL", "ENGINE", "INDEX", "LOG"):
        for name in ("PATH", "N_CTX", "MAX_TOKENS", "EXCLUDE", "EMBEDDER", "LEVEL", "FILE"):
            monkeypatch.delenv(f"LSP_ASSIST_{section}_{name}", raising=False)
    yield
    places = Places.of_user({"LSP_ASSIST_HOME": str(home)})
    if (runtime.place_of(places.runtime) / "alive.lock").exists():
        process.stopped(Settings(places))


@pytest.fixture(autouse=True, scope="session")
def _no_network() -> Iterator[None]:
    """A test that reaches for the network fails, and says where it wanted to go."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        is_local = self.family == getattr(socket, "AF_UNIX", None) or (
            isinstance(address, tuple) and address[0] in {"127.0.0.1", "::1", "localhost"}
        )
        assert is_local, f"a test wanted to connect to {address!r}"
        connect(self, address)  # type: ignore[arg-type]  # as the socket was given it

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded)
        yield
