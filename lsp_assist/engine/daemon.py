"""The engine as a process of its own, from the inside: one per user, from start to end.

Holds the lock that says it lives, listens, serves the API, and ends when told to or when nobody has
used it for long. Knows no route and no llama.cpp.
"""

import asyncio
import contextlib
import json
import logging
import os
import secrets
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import lsp_assist
from lsp_assist.config import Settings
from lsp_assist.engine import api, process, runtime
from lsp_assist.engine.gate import gated
from lsp_assist.engine.runtime import Held, RuntimeFolder
from lsp_assist.engine.serving import loopback_socket, serve, unix_socket
from lsp_assist.errors import AssistError, BadInput

__all__ = ["Engine", "detached", "engine_of", "run", "token_file"]

logger = logging.getLogger(__name__)

_LOCK_S = 2.0  # somebody may hold the lock for a moment, to see whether we live


class Engine(api.Engine, Protocol):
    """What is served, and closed at the end."""

    async def close(self) -> None:
        """Park what is held, and free it."""


def run(
    settings: Settings,
    engine: Callable[[], Engine],
    *,
    port: int | None = None,
    exits_when_idle: bool = False,
    on_ready: Callable[[], None] = lambda: None,
) -> None:
    """Be the user's engine until told to end.

    `engine` is called on the event loop. With a port, other tools are served there as well, by the
    token in `token_file`.

    Raises: BadInput if an engine runs already or the port is taken, ModelUnavailable
    """
    folder = runtime.opened(settings.places.runtime)
    try:
        with runtime.held(folder.alive, timeout_s=_LOCK_S) as lock:
            runtime.write_pid(lock)
            folder.clear()  # what a killed engine left behind
            try:
                asyncio.run(_serve(settings, folder, engine, port, exits_when_idle, on_ready))
            finally:
                folder.clear()
    except Held as error:
        raise BadInput(
            f"An engine runs already (process {folder.pid()}); end it with "
            "`lsp-assist engine stop`."
        ) from error


@contextlib.contextmanager
def detached() -> Iterator[Callable[[], None]]:
    """Makes this process one of the background; gives what tells the starter that it is ready.

    What fails before that is told instead. From then on standard output goes to the log as well.
    Call it before any thread is started.
    """
    if sys.platform != "win32" and os.fork():
        os._exit(0)  # the starter waits for us only; the rest is nobody's child
    has_reported = False

    def report(said: dict[str, object]) -> None:
        nonlocal has_reported
        if not has_reported:
            has_reported = True
            with contextlib.suppress(OSError):  # the starter may be gone
                os.write(1, json.dumps(said).encode("ascii") + b"\n")
            os.dup2(2, 1)

    try:
        yield lambda: report({"pid": os.getpid()})
    except AssistError as error:
        report({"error": str(error)})
        raise


def engine_of(settings: Settings) -> Engine:
    """The engine that these settings describe; loads nothing yet."""
    from lsp_assist.engine.service import Engine as Service
    from lsp_assist.engine.service import EngineSettings

    model, life = settings.model, settings.engine
    return Service(
        EngineSettings(
            models={} if model.path is None else {model.path.stem: model.path.absolute()},
            state_folder=settings.places.cache / "kv",
            n_ctx=model.n_ctx,
            n_threads=model.n_threads,
            n_gpu_layers=model.n_gpu_layers,
            kv_budget_tokens=life.kv_budget_tokens,
            state_budget_bytes=life.state_budget_bytes,
            idle_sleep_s=life.idle_sleep_s,
            memory_budget_bytes=life.memory_budget_bytes,
        )
    )


def token_file(settings: Settings) -> Path:
    """The file with the token for other tools, made now if it is not there."""
    path = settings.places.data / "engine-token"
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(32))
    return path


async def _serve(
    settings: Settings,
    folder: RuntimeFolder,
    make_engine: Callable[[], Engine],
    port: int | None,
    exits_when_idle: bool,
    on_ready: Callable[[], None],
) -> None:
    stopping = asyncio.Event()
    activity = api.Activity()
    with contextlib.ExitStack() as undo:
        sockets = []
        private_token = public_token = ""
        if settings.engine.transport == "loopback" or not runtime.has_unix_sockets():
            private_token = secrets.token_urlsafe(32)
            private = loopback_socket(0)
            sockets.append(private)
        else:
            sockets.append(unix_socket(folder.socket))
        undo.callback(sockets[0].close)
        if port is not None:
            public_token = token_file(settings).read_text("ascii").strip()
            sockets.append(loopback_socket(port))
            undo.callback(sockets[-1].close)
        if private_token:
            folder.write_address(sockets[0].getsockname()[1], private_token)
        engine = make_engine()
        served = gated(
            api.app(
                engine,
                adapters=_adapters(settings),
                activity=activity,
                lifecycle=api.Lifecycle(_facts(settings, activity), stopping.set),
            ),
            private_token=private_token,
            public_token=public_token,
        )
        _end_on_signals(stopping)
        exit_after_s = settings.engine.exit_after_s if exits_when_idle else -1
        watching = asyncio.create_task(_end_when_idle(activity, exit_after_s, stopping))
        logger.info("The engine %s listens (process %d)", lsp_assist.__version__, os.getpid())
        on_ready()
        try:
            await serve(served, sockets, stopping)
        finally:
            watching.cancel()
            # Clients that come now shall start another one, which waits for our lock.
            folder.clear()
            await engine.close()
    logger.info("The engine has ended")


def _adapters(settings: Settings) -> list[Path]:
    """The configured adapters; one without a folder lies beside the settings."""
    return [settings.places.config / Path(path).expanduser() for path in settings.engine.adapters]


def _facts(settings: Settings, activity: api.Activity) -> Callable[[], dict[str, object]]:
    return lambda: {
        "version": lsp_assist.__version__,
        "pid": os.getpid(),
        "n_running": activity.n_running,
        "settings_mark": process.settings_mark(settings),
    }


def _end_on_signals(stopping: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for kind in (signal.SIGTERM, signal.SIGINT):
        if sys.platform == "win32":
            signal.signal(kind, lambda *_: loop.call_soon_threadsafe(stopping.set))
        else:
            loop.add_signal_handler(kind, stopping.set)


async def _end_when_idle(activity: api.Activity, after_s: float, stopping: asyncio.Event) -> None:
    """Says stop once nothing has run for so long; never if that is negative."""
    if after_s < 0:
        return
    while activity.n_running or activity.idle_s < after_s:
        left_s = after_s - activity.idle_s
        with contextlib.suppress(TimeoutError):
            # At least a moment, so that a running request is not looked at all the time.
            await asyncio.wait_for(stopping.wait(), max(0.05, left_s))
            return
    logger.info("Nobody has used the engine for %d s", after_s)
    stopping.set()
