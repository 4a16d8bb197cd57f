"""The engine as a process of its own, from the client's side: find it, start it, stop it.

One per user. The first client that needs it starts it; the others wait for that and share it. It
outlives them. Everything here blocks and belongs on a thread. Imports neither the engine nor an
HTTP library: a command that only asks must start fast.
"""

import contextlib
import http.client
import json
import logging
import os
import queue
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

import lsp_assist
from lsp_assist.config import Settings
from lsp_assist.engine import runtime
from lsp_assist.engine.runtime import Endpoint, Held, RuntimeFolder
from lsp_assist.errors import ModelError, ModelFileError, ModelUnavailable

__all__ = [
    "Running",
    "connected",
    "log_file",
    "model_served",
    "running",
    "settings_mark",
    "status_of",
    "stopped",
]

logger = logging.getLogger(__name__)

START_S = 60.0
"""A start takes a second; on a machine that swaps, more."""
ANSWER_S = 10.0
STOP_S = 30.0
COMMAND = (sys.executable, "-m", "lsp_assist", "engine", "--background")
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Running:
    """An engine that answers."""

    endpoint: Endpoint
    version: str
    pid: int
    n_running: int
    """Requests at work."""
    settings_mark: str


def connected(settings: Settings, *, command: Sequence[str] = COMMAND) -> Endpoint:
    """Where the user's engine answers; started now if none does.

    An idle engine of an older version, or with other settings, is replaced; a busy one is used as
    it is.

    Raises: ModelUnavailable
    """
    folder = runtime.opened(settings.places.runtime)
    found = _probed(folder)
    if found is not None and not _is_outdated(found, settings):
        return found.endpoint
    try:
        with runtime.held(folder.start, timeout_s=START_S):
            found = _probed(folder)  # somebody else may have started it meanwhile
            if found is not None and _is_outdated(found, settings):
                logger.info("The engine (process %s) makes way for a newer one", found.pid)
                _stop(folder, found.endpoint)
                found = None
            if found is None:
                found = _awaited(folder) or _started(folder, settings, command)
            return found.endpoint
    except Held as error:
        raise ModelUnavailable(
            f"The engine did not start within {START_S:.0f} s; see {str(log_file(settings))!r}, "
            "and try again."
        ) from error


def running(settings: Settings) -> Running | None:
    """The engine that answers now, if one does.

    Raises: ModelUnavailable
    """
    return _probed(runtime.opened(settings.places.runtime))


def stopped(settings: Settings, *, answer_s: float = ANSWER_S) -> bool:
    """Ends the engine, and waits for it; False if there was none.

    One that does not answer for `answer_s` is killed.

    Raises: ModelUnavailable if it does not end
    """
    folder = runtime.opened(settings.places.runtime)
    if not folder.is_alive():
        return False
    found = _probed(folder, answer_s)
    _stop(folder, found.endpoint if found else None, answer_s)
    return True


def model_served(endpoint: Endpoint, path: Path) -> str:
    """The name under which the engine serves a model file from now on.

    Raises: ModelFileError, ModelUnavailable
    """
    status, said = _called(endpoint, "POST", "/v1/models", {"path": str(path.absolute())})
    if status == 200:
        return str(said["id"])
    error = said.get("error")
    fields = error if isinstance(error, Mapping) else {}
    message = str(fields.get("message", f"The engine answered with status {status}; see its log."))
    kind: type[ModelError] = ModelUnavailable
    if fields.get("code") == "model_file_error":
        kind = ModelFileError
    raise kind(message)


def status_of(endpoint: Endpoint) -> Mapping[str, object]:
    """What the engine says of itself and its models.

    Raises: ModelUnavailable
    """
    status, said = _called(endpoint, "GET", "/status")
    if status != 200:
        raise ModelUnavailable(f"The engine answered with status {status}; see its log.")
    return said


def settings_mark(settings: Settings) -> str:
    """Names what an engine was started with; another name is another engine."""
    return " ".join(f"{name}={value}" for name, value in _given_on(settings).items())


def log_file(settings: Settings) -> Path:
    """Where an engine in the background writes what it has to say."""
    return settings.places.cache / "log" / "engine.log"


# ---- asking it -------------------------------------------------------------------------------


def _probed(folder: RuntimeFolder, answer_s: float = ANSWER_S) -> Running | None:
    """The engine that answers at one of the addresses."""
    for endpoint in folder.endpoints():
        with contextlib.suppress(ModelUnavailable):
            status, said = _called(endpoint, "GET", "/health", answer_s=answer_s)
            if status == 200:
                return Running(
                    endpoint,
                    str(said.get("version", "")),
                    int(str(said.get("pid", 0))),
                    int(str(said.get("n_running", 0))),
                    str(said.get("settings_mark", "")),
                )
    return None


def _is_outdated(found: Running, settings: Settings) -> bool:
    if found.n_running:
        return False
    theirs, ours = _version_key(found.version), _version_key(lsp_assist.__version__)
    return theirs < ours or (theirs == ours and found.settings_mark != settings_mark(settings))


def _version_key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path
        self._timeout_s = timeout_s

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self._timeout_s)
        self.sock.connect(str(self._path))


def _called(
    endpoint: Endpoint,
    method: str,
    place: str,
    body: Mapping[str, object] | None = None,
    *,
    answer_s: float = ANSWER_S,
) -> tuple[int, dict[str, object]]:
    """Status and JSON object of an answer.

    Raises: ModelUnavailable
    """
    if endpoint.socket is not None:
        connection: http.client.HTTPConnection = _UnixConnection(endpoint.socket, answer_s)
    else:
        connection = http.client.HTTPConnection(urlsplit(endpoint.url).netloc, timeout=answer_s)
    headers = {"Authorization": f"Bearer {endpoint.token}"} if endpoint.token else {}
    data = None if body is None else json.dumps(body).encode("ascii")
    try:
        connection.request(method, place, data, headers)
        response = connection.getresponse()
        said = json.loads(response.read())
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise ModelUnavailable(f"The engine does not answer ({error}); ask again.") from error
    finally:
        connection.close()
    if not isinstance(said, dict):
        raise ModelUnavailable("The engine answers nonsense; run `lsp-assist engine stop`.")
    return response.status, said


# ---- starting it -----------------------------------------------------------------------------


def _awaited(folder: RuntimeFolder) -> Running | None:
    """An engine that lives and will answer soon: it was started by hand a moment ago.

    None once it has ended, as one does that is parking its cache. One that does neither is ended.
    """
    deadline = time.monotonic() + STOP_S
    while folder.is_alive():
        found = _probed(folder)
        if found is not None:
            return found
        if time.monotonic() > deadline:
            logger.warning("The engine (process %s) does not answer and is ended", folder.pid())
            _stop(folder, None)
            return None
        time.sleep(_POLL_S)
    return None


def _started(folder: RuntimeFolder, settings: Settings, command: Sequence[str]) -> Running:
    """A new engine, once it answers. For the holder of the start lock.

    It reports on its standard output, in one line, when it listens or why it cannot.

    Raises: ModelUnavailable
    """
    log = log_file(settings)
    log.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(OSError):
        if log.stat().st_size > _LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
    flags = 0
    if sys.platform == "win32":
        flags = subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP
    with log.open("ab") as errors:
        child = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=folder.path,  # never the workspace, whose files Python might import
            env=_environment(settings),
            start_new_session=True,
            creationflags=flags,
        )
    line = _first_line(child)
    found = _probed(folder)
    if found is not None:
        return found
    with contextlib.suppress(ValueError, KeyError, TypeError):
        raise ModelUnavailable(str(json.loads(line)["error"]))
    raise ModelUnavailable(
        f"The engine did not start, or ended at once; see the end of {str(log)!r}, and run "
        "`lsp-assist doctor`."
    )


_LOG_BYTES = 1_000_000


def _first_line(child: "subprocess.Popen[bytes]") -> bytes:
    """What the engine reports; empty if it says nothing for too long, or has died."""
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    output = child.stdout
    assert output is not None

    def read() -> None:
        with output:
            lines.put(output.readline())

    threading.Thread(target=read, name="engine start", daemon=True).start()
    try:
        line = lines.get(timeout=START_S)
    except queue.Empty:
        child.kill()
        line = b""
    if sys.platform != "win32":
        child.wait()  # it has forked, and what we waited for is its child
    return line


def _given_on(settings: Settings) -> dict[str, object]:
    """The settings that are the engine's; the others are those of whoever asks it."""
    model = settings.model
    return {
        "model_n_ctx": model.n_ctx,
        "model_n_threads": model.n_threads,
        "model_n_gpu_layers": model.n_gpu_layers,
        **{f"engine_{name}": value for name, value in asdict(settings.engine).items()},
    }


def _environment(settings: Settings) -> dict[str, str]:
    """The environment of the engine: ours, and what its settings must be."""
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith("LSP_ASSIST_LOG_")
    }
    environ["OMP_WAIT_POLICY"] = "PASSIVE"
    # glibc raises this by itself once a large block was freed; from then on the states of parked
    # chats, megabytes each, come from its heaps and leave them full of holes.
    environ.setdefault("MALLOC_MMAP_THRESHOLD_", "262144")
    environ |= {
        f"LSP_ASSIST_{name.upper()}": os.pathsep.join(value)
        if isinstance(value, tuple)
        else str(value)
        for name, value in _given_on(settings).items()
    }
    # Run from a checkout, the package is where this process found it and nowhere else.
    root = str(Path(lsp_assist.__file__).parents[1])
    if root != sysconfig.get_paths()["purelib"]:
        path = environ.get("PYTHONPATH")
        environ["PYTHONPATH"] = f"{root}{os.pathsep}{path}" if path else root
    return environ


# ---- stopping it -----------------------------------------------------------------------------


def _stop(folder: RuntimeFolder, endpoint: Endpoint | None, answer_s: float = ANSWER_S) -> None:
    """Ends a living engine and waits for that: asked to, then told to, then killed.

    Raises: ModelUnavailable
    """
    if endpoint is not None:
        with contextlib.suppress(ModelUnavailable):
            _called(endpoint, "POST", "/shutdown", {})
            if _has_ended(folder, STOP_S):
                return
    kinds = [signal.SIGTERM] if sys.platform == "win32" else [signal.SIGTERM, signal.SIGKILL]
    for kind in kinds:
        pid = folder.pid()
        # The lock is held by the process whose id is in it, so that id is no stranger's.
        if pid and folder.is_alive():
            with contextlib.suppress(OSError):
                os.kill(pid, kind)
        if _has_ended(folder, answer_s):
            return
    raise ModelUnavailable(
        f"The engine (process {folder.pid()}) does not end; end it by hand, and try again."
    )


def _has_ended(folder: RuntimeFolder, within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while folder.is_alive():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True
