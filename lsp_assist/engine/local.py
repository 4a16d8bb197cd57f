"""A model from a GGUF file, answering in this process: one conversation at a time.

`LocalModel` is for the event loop; a worker thread owns everything of llama.cpp, and requests queue
for it. Knows no tokens.
"""

import asyncio
import collections
import contextlib
import logging
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from pathlib import Path

from lsp_assist.config import ModelSettings
from lsp_assist.engine.conversation import LoadedModel, Reply, Stopped
from lsp_assist.engine.gguf import read_model_file
from lsp_assist.errors import ContextTooLong, ModelError, ModelUnavailable
from lsp_assist.llm import Delta, Prompt, Sampling, Usage

__all__ = ["LocalModel"]

logger = logging.getLogger(__name__)


class LocalModel:
    """An `llm.Model` over llama.cpp. Loads at the first call; the file is checked then."""

    def __init__(self, path: Path, settings: ModelSettings | None = None) -> None:
        """Of the settings, those of the context window, threads and GPU are used."""
        self.name = path.stem
        self._path = path
        self._settings = settings or ModelSettings()
        self._n_ctx: int | None = None
        self._worker = _Worker(path, self._settings)
        # Also at interpreter exit, before Python takes the ground from under the thread.
        self._finalizer = weakref.finalize(self, self._worker.stop_and_wait)

    async def stream(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Delta, None]:
        """The reply, piece by piece; closing the generator stops the work within one token.

        Raises: ContextTooLong before anything is computed, ModelFileError, ModelUnavailable
        """
        ask = _Ask(prompt, sampling, asyncio.get_running_loop())
        self._worker.submit(ask)
        try:
            while True:
                item = await ask.inbox.get()
                if isinstance(item, Exception):
                    raise item
                yield item
                if item.usage is not None:
                    return
        finally:
            self._worker.cancel(ask)

    async def count(self, text: str) -> int:
        """How many tokens the text has. Answered between the tokens of a running reply.

        Raises: ModelFileError, ModelUnavailable
        """
        count = _Count(text, asyncio.get_running_loop())
        self._worker.submit(count)
        return await count.result

    async def window(self) -> int | None:
        """The context window in tokens, from the settings and the file's header.

        Raises: ModelFileError
        """
        if self._n_ctx is None:
            file = await asyncio.to_thread(read_model_file, self._path)
            self._n_ctx = min(self._settings.n_ctx, file.n_ctx_train)
        return self._n_ctx

    async def close(self) -> None:
        """Stops what runs and frees the model. Requests that wait fail with ModelUnavailable."""
        self._finalizer.detach()
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        if self._worker.stop(lambda: loop.call_soon_threadsafe(ended.set)):
            await ended.wait()
        self._worker.stop_and_wait()


# ---- requests ------------------------------------------------------------------------------


@dataclass(eq=False, slots=True)
class _Ask:
    """A prompt to answer; `inbox` takes the deltas, or the error that ended it."""

    prompt: Prompt
    sampling: Sampling
    loop: asyncio.AbstractEventLoop
    inbox: asyncio.Queue[Delta | Exception] = field(default_factory=asyncio.Queue)
    started: float = field(default_factory=time.perf_counter)
    is_cancelled: bool = False
    """Set by the loop, read by the worker."""

    def deliver(self, item: Delta | Exception) -> None:
        """Gives an item to the loop, from the worker."""
        try:
            self.loop.call_soon_threadsafe(self.inbox.put_nowait, item)
        except RuntimeError:  # the loop was closed, and nobody listens any more
            self.is_cancelled = True

    def fail(self, error: Exception) -> None:
        self.deliver(error)


@dataclass(eq=False, slots=True)
class _Count:
    """A text to count; `result` takes the number."""

    text: str
    loop: asyncio.AbstractEventLoop
    result: asyncio.Future[int] = field(init=False)

    def __post_init__(self) -> None:
        self.result = self.loop.create_future()

    def deliver(self, n_tokens: int) -> None:
        self._settle(lambda: self.result.set_result(n_tokens))

    def fail(self, error: Exception) -> None:
        self._settle(lambda: self.result.set_exception(error))

    def _settle(self, how: Callable[[], None]) -> None:
        def settle() -> None:
            if not self.result.done():  # the caller may have been cancelled
                how()

        with contextlib.suppress(RuntimeError):  # the loop was closed
            self.loop.call_soon_threadsafe(settle)


# ---- the worker ----------------------------------------------------------------------------


class _Worker:
    """The thread that owns the model, and its queue. Starts at the first request."""

    def __init__(self, path: Path, settings: ModelSettings) -> None:
        self._path = path
        self._settings = settings
        self._changed = threading.Condition()
        # Guarded by `_changed`:
        self._asks: collections.deque[_Ask] = collections.deque()
        self._counts: collections.deque[_Count] = collections.deque()
        self._running: _Ask | None = None
        self._stopping = threading.Event()
        self._on_end: list[Callable[[], object]] = []
        self._has_ended = False
        self._thread: threading.Thread | None = None
        # Set by the worker under `_changed`, so that others may abort it:
        self._loaded: LoadedModel | None = None

    # ---- for any thread

    def submit(self, request: _Ask | _Count) -> None:
        """Queues a request.

        Raises: ModelUnavailable after a stop
        """
        with self._changed:
            if self._stopping.is_set():
                raise self._closed_error()
            if isinstance(request, _Ask):
                self._asks.append(request)
            else:
                self._counts.append(request)
            if self._thread is None:
                name = f"lsp-assist model {self._path.stem}"
                self._thread = threading.Thread(target=self._run, name=name, daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def cancel(self, ask: _Ask) -> None:
        """Takes a request back: out of the queue, or out of the running decode."""
        with self._changed:
            ask.is_cancelled = True
            if self._running is ask and self._loaded is not None:
                self._loaded.context.abort()
            with contextlib.suppress(ValueError):
                self._asks.remove(ask)

    def stop(self, on_end: Callable[[], object]) -> bool:
        """Ends the thread soon and frees the model; `on_end` is called then. False if it has ended,
        or never began.
        """
        with self._changed:
            self._stopping.set()
            if self._thread is None or self._has_ended:
                return False
            self._on_end.append(on_end)
            if self._loaded is not None:
                self._loaded.context.abort()
            self._changed.notify_all()
            return True

    def stop_and_wait(self) -> None:
        """Ends the thread, and waits for that; a garbage collector may call it anywhere."""
        self.stop(lambda: None)
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=10)

    # ---- on the worker

    def _run(self) -> None:
        try:
            while self._serve_one():
                pass
        finally:
            self._unload()
            with self._changed:
                self._stopping.set()
                self._has_ended = True
                left: list[_Ask | _Count] = [*self._asks, *self._counts]
                self._asks.clear()
                self._counts.clear()
                on_end = list(self._on_end)
            for request in left:
                request.fail(self._closed_error())
            for callback in on_end:
                with contextlib.suppress(RuntimeError):  # the loop was closed
                    callback()

    def _serve_one(self) -> bool:
        """Answers the next request, waiting for it; False when it is time to stop."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping.is_set() or self._asks or self._counts)
            if self._stopping.is_set():
                return False
            ask = None if self._counts else self._asks.popleft()
            self._running = ask
            if ask is not None and self._loaded is not None:
                self._loaded.context.resume()
        if ask is None:
            self._serve_counts()
            return True
        try:
            self._answer(ask)
        except Stopped:
            if self._stopping.is_set():
                ask.fail(self._closed_error())
        except ContextTooLong as error:
            ask.fail(error)
        except ModelError as error:
            self._unload()
            ask.fail(error)
        except Exception:
            logger.exception("Answering failed")
            self._unload()
            ask.fail(ModelUnavailable("The model failed; ask again, and see the log."))
        finally:
            with self._changed:
                self._running = None
        return True

    def _serve_counts(self) -> None:
        while True:
            with self._changed:
                if not self._counts or self._stopping.is_set():
                    return
                count = self._counts.popleft()
            try:
                count.deliver(self._load().tokens.count(count.text))
            except (ModelError, Stopped) as error:
                count.fail(error if isinstance(error, ModelError) else self._closed_error())
            except Exception:
                logger.exception("Counting failed")
                count.fail(ModelUnavailable("The model failed; ask again, and see the log."))

    def _answer(self, ask: _Ask) -> None:
        """Delivers the reply, and at the end the usage.

        Raises: Stopped, ModelError
        """
        loaded = self._load()
        reply = Reply(loaded, ask.sampling, lambda: self._between_steps(ask))
        tokens = loaded.prompt_tokens(ask.prompt)
        first_text_at = 0.0
        for text in reply.texts(tokens):
            first_text_at = first_text_at or time.perf_counter()
            ask.deliver(Delta(text))
        now = time.perf_counter()
        usage = Usage(
            model=self._path.stem,
            prompt_tokens=len(tokens),
            cached_tokens=reply.n_cached,
            output_tokens=len(reply.tokens),
            ttft_ms=((first_text_at or now) - ask.started) * 1000,
            total_ms=(now - ask.started) * 1000,
        )
        logger.debug("%s", usage)
        ask.deliver(Delta(usage=usage))

    def _between_steps(self, ask: _Ask) -> None:
        """What is due while a reply is being made.

        Raises: Stopped
        """
        if ask.is_cancelled or self._stopping.is_set():
            raise Stopped
        if self._counts:
            self._serve_counts()

    def _load(self) -> "LoadedModel":
        """The model, loaded now if it is not yet.

        Raises: ModelFileError, ModelUnavailable, Stopped
        """
        if self._loaded is None:
            loaded = LoadedModel.load(self._path, self._settings, self._stopping.is_set)
            with self._changed:
                self._loaded = loaded
        return self._loaded

    def _unload(self) -> None:
        with self._changed:
            loaded, self._loaded = self._loaded, None
        if loaded is not None:
            loaded.close()

    def _closed_error(self) -> ModelUnavailable:
        return ModelUnavailable(f"The model {self._path.stem!r} was closed; ask again.")
