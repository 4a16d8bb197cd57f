"""The life of the engine process, with real processes: start, race, share, replace, kill, stop."""

import concurrent.futures
import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import lsp_assist
from lsp_assist.config import Settings, resolve
from lsp_assist.engine import daemon, process, runtime
from lsp_assist.engine.runtime import Endpoint, Held
from lsp_assist.errors import BadInput, ModelFileError, ModelUnavailable
from tests.engine.fake import FakeEngine
from tests.engine.fake_process import COMMAND


@pytest.fixture
def settings() -> Iterator[Settings]:
    """Settings in a home of the test's own, where no engine is left at the end."""
    made = resolve()
    yield made
    process.stopped(made)


def connected(settings: Settings) -> Endpoint:
    return process.connected(settings, command=COMMAND)


def pid_of(settings: Settings) -> int:
    found = process.running(settings)
    assert found is not None
    return found.pid


def until(is_true: Callable[[], bool]) -> None:
    """Waits until the other process has come so far."""
    deadline = time.monotonic() + 60
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_first_client_starts_it_and_the_others_share_it(settings: Settings) -> None:
    assert process.running(settings) is None
    endpoint = connected(settings)
    found = process.running(settings)
    assert found is not None
    assert found.version == lsp_assist.__version__
    assert found.pid != os.getpid()
    assert connected(settings) == endpoint
    assert pid_of(settings) == found.pid


def test_many_clients_at_once_start_exactly_one(settings: Settings) -> None:
    """Six processes race; all are answered by the same engine, and one was started."""
    script = (
        "from lsp_assist.config import resolve\n"
        "from lsp_assist.engine import process\n"
        "from tests.engine.fake_process import COMMAND\n"
        "import sys; sys.stdin.readline()\n"
        "process.connected(resolve(), command=COMMAND)\n"
        "print(process.running(resolve()).pid)\n"
    )
    clients = [
        subprocess.Popen(
            [sys.executable, "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        for _ in range(6)
    ]
    for client in clients:
        assert client.stdin is not None
        client.stdin.write("go\n")
        client.stdin.flush()
    pids = {int(client.communicate(timeout=60)[0]) for client in clients}
    assert pids == {pid_of(settings)}
    log = process.log_file(settings).read_text()
    assert log.count("listens") == 1


def test_only_this_user_can_reach_it(settings: Settings) -> None:
    endpoint = connected(settings)
    assert endpoint.socket is not None
    assert stat.S_IMODE(endpoint.socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(endpoint.socket.parent.stat().st_mode) == 0o700


def test_a_foreign_or_open_folder_is_not_used(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir(mode=0o777)
    assert stat.S_IMODE(runtime.opened(folder).path.stat().st_mode) == 0o700
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelUnavailable, match="it is no folder"):
        runtime.opened(tmp_path / "link")


def test_a_long_path_still_has_a_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LSP_ASSIST_HOME", str(tmp_path / ("long" * 40)))
    settings = resolve()
    try:
        endpoint = connected(settings)
        assert endpoint.socket is not None
        assert len(os.fsencode(endpoint.socket)) <= runtime.MAX_SOCKET_PATH
        assert stat.S_IMODE(endpoint.socket.parent.stat().st_mode) == 0o700
    finally:
        process.stopped(settings)


def test_a_loopback_engine_wants_its_token(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    """Where there are no unix sockets."""
    monkeypatch.setenv("LSP_ASSIST_ENGINE_TRANSPORT", "loopback")
    settings = resolve()
    endpoint = connected(settings)
    assert endpoint.socket is None
    assert endpoint.url.startswith("http://127.0.0.1:")
    address = runtime.opened(settings.places.runtime).address
    assert stat.S_IMODE(address.stat().st_mode) == 0o600
    assert process.model_served(endpoint, Path("/m/new.gguf")) == "new"
    with pytest.raises(ModelUnavailable, match="bearer token"):
        process.model_served(Endpoint(endpoint.url, None, "wrong"), Path("/m/new.gguf"))


def test_a_killed_engine_is_replaced_and_its_remains_do_not_matter(settings: Settings) -> None:
    endpoint = connected(settings)
    first = pid_of(settings)
    os.kill(first, signal.SIGKILL)
    until(lambda: not runtime.opened(settings.places.runtime).is_alive())
    assert endpoint.socket is not None
    assert endpoint.socket.exists()
    assert process.running(settings) is None
    assert connected(settings) == endpoint
    assert pid_of(settings) != first


def test_it_outlives_the_client_that_started_it(settings: Settings) -> None:
    script = (
        "from lsp_assist.config import resolve\n"
        "from lsp_assist.engine import process\n"
        "from tests.engine.fake_process import COMMAND\n"
        "process.connected(resolve(), command=COMMAND)\n"
        "import os, signal; os.killpg(0, signal.SIGKILL)\n"
    )
    client = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[2],
        start_new_session=True,
        check=False,
    )
    assert client.returncode == -signal.SIGKILL
    assert process.running(settings) is not None


def test_it_ends_when_nobody_uses_it(settings: Settings) -> None:
    with contextlib.suppress(ModelUnavailable):  # it may end before it was seen
        connected(resolve({"engine": {"exit_after_s": 0}}))
    until(lambda: not runtime.opened(settings.places.runtime).is_alive())
    assert "Nobody has used the engine" in process.log_file(settings).read_text()


def test_stop_ends_it(settings: Settings) -> None:
    assert not process.stopped(settings)
    connected(settings)
    assert process.stopped(settings)
    assert process.running(settings) is None
    assert "The engine has ended" in process.log_file(settings).read_text()


def test_stop_ends_one_that_does_not_answer(settings: Settings) -> None:
    connected(settings)
    os.kill(pid_of(settings), signal.SIGSTOP)
    assert process.stopped(settings, answer_s=0.5)
    assert not runtime.opened(settings.places.runtime).is_alive()


@pytest.mark.parametrize(
    ("version", "is_replaced"), [("0.0.0", True), ("999.0", False)], ids=["older", "newer"]
)
def test_an_idle_engine_of_an_older_version_is_replaced(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, version: str, is_replaced: bool
) -> None:
    monkeypatch.setenv("FAKE_VERSION", version)
    connected(settings)
    first = pid_of(settings)
    monkeypatch.delenv("FAKE_VERSION")
    connected(settings)
    assert (pid_of(settings) != first) is is_replaced


def test_an_idle_engine_with_other_settings_is_replaced_and_a_busy_one_is_not(
    settings: Settings,
) -> None:
    endpoint = connected(settings)
    first = pid_of(settings)
    other = resolve({"model": {"n_ctx": 4096}})
    assert endpoint.socket is not None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.connect(str(endpoint.socket))
        body = json.dumps({"prompt": "hold one", "stream": True}).encode()
        head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        asking.sendall(head.encode() + body)
        assert asking.recv(1000)
        connected(other)
        assert pid_of(settings) == first
    until(lambda: (found := process.running(settings)) is not None and not found.n_running)
    connected(other)
    assert pid_of(other) != first


def test_an_engine_that_cannot_start_says_why(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_FAILS", "1")
    with pytest.raises(ModelUnavailable, match="There is no room for an engine; make some"):
        connected(settings)
    with pytest.raises(ModelUnavailable, match=r"engine\.log"):
        process.connected(settings, command=(sys.executable, "-c", "raise SystemExit(1)"))


def test_a_model_file_that_is_refused_says_why(settings: Settings) -> None:
    endpoint = connected(settings)
    with pytest.raises(ModelFileError, match="not found; check the path"):
        process.model_served(endpoint, Path("missing.gguf"))


def test_a_second_engine_by_hand_is_refused(settings: Settings) -> None:
    connected(settings)
    pid = pid_of(settings)
    with pytest.raises(BadInput, match=f"process {pid}.*engine stop"):
        daemon.run(settings, FakeEngine)


def test_by_hand_it_serves_other_tools_on_a_port(settings: Settings) -> None:
    """With a token of its own, which stays the same, and without the user's own rights."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = (
        "import sys\n"
        "from lsp_assist.config import resolve\n"
        "from lsp_assist.engine import daemon\n"
        "from tests.engine.fake import FakeEngine\n"
        "daemon.run(resolve(), FakeEngine, port=int(sys.argv[1]),\n"
        "           on_ready=lambda: print('ready', flush=True))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(port)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as engine:
        assert engine.stdout is not None
        assert engine.stdout.readline() == "ready\n"
        token_file = daemon.token_file(settings)
        assert stat.S_IMODE(token_file.stat().st_mode) == 0o600
        outside = Endpoint(f"http://127.0.0.1:{port}", None, token_file.read_text())
        assert process.status_of(outside)["pid"] == engine.pid
        with pytest.raises(ModelUnavailable, match="user's own processes only"):
            process.model_served(outside, Path("/m/new.gguf"))
        assert pid_of(settings) == engine.pid
        engine.send_signal(signal.SIGINT)
        assert engine.wait() == 0
    assert not runtime.opened(settings.places.runtime).socket.exists()


def test_a_taken_port_is_named(settings: Settings) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(BadInput, match=f"Port {port} cannot be listened on"):
            daemon.run(settings, FakeEngine, port=port)


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    order: list[str] = []

    def hold() -> None:
        with runtime.held(path, timeout_s=60):
            order.append("second")

    with concurrent.futures.ThreadPoolExecutor() as threads:
        with runtime.held(path):
            with pytest.raises(Held), runtime.held(path):
                pass
            waiting = threads.submit(hold)
            order.append("first")
        waiting.result()
    assert order == ["first", "second"]
