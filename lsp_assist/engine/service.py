"""The engine: models by name, loaded when they are asked and put to sleep when they are not.

`Engine` is for one event loop; each model that is awake has a thread of its own behind it. Knows no
HTTP and no process.
"""

import asyncio
import logging
import threading
from collections.abc import (
    AsyncGenerator,
    Callable,
    Coroutine,
    Mapping,
    Sequence,
)
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from lsp_assist.engine.gguf import ModelFile, read_model_file
from lsp_assist.engine.requests import Ended, Event, GenerateRequest
from lsp_assist.engine.template import Turn
from lsp_assist.errors import BadInput, ModelError, ModelUnavailable

if TYPE_CHECKING:
    from lsp_assist.engine.job import Answer, Job
    from lsp_assist.engine.loaded import LoadedModel

__all__ = ["Engine", "EngineSettings", "EngineStatus", "ModelState", "Warmth"]

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Which models there are, and how much of the machine they may take."""

    models: Mapping[str, Path]
    state_folder: Path
    """For the KV cache of models that sleep; derived, and may be deleted at any time."""
    n_ctx: int = 8192
    """Context window in tokens; less of a model that was trained with less."""
    n_threads: int = 0
    """0 takes one per core that this process may run on."""
    n_gpu_layers: int = -1
    kv_budget_tokens: int = 0
    """Tokens that the cache of a model holds, those of shared prefixes once; 0 takes twice
    `n_ctx`."""
    state_budget_bytes: int = 4 << 30
    """Of all states on disk; 0 keeps none."""
    state_memory_bytes: int = 512 << 20
    """Of the states of parked chats in memory, for each model; at most what its cache takes."""
    idle_sleep_s: float = 300.0
    """How long a model stays awake unasked; 0 sleeps at once, -1 never."""
    memory_budget_bytes: int = 0
    """Of all models that are awake; 0 sets no limit."""


@dataclass(frozen=True, slots=True)
class ModelState:
    """A model that the engine has."""

    name: str
    path: Path
    state: Literal["asleep", "loading", "ready"]
    size: int = 0
    """Of the file, in bytes; 0 where it cannot be read."""
    n_ctx: int = 0
    can_fork_cheaply: bool = True
    """Whether a fork may begin anywhere; else (a recurrent part, a sliding window) only where a
    turn ended."""
    has_embeddings: bool = False
    problem: str = ""
    """Why the file cannot be used, empty if it can."""


@dataclass(frozen=True, slots=True)
class Warmth:
    """How much of a prompt need not be computed."""

    n_prompt: int
    n_warm: int
    is_append_only: bool
    """Whether the model's chat template lets a prompt grow at its end."""


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """What the engine has, does, and has done."""

    models: tuple[ModelState, ...]
    n_waiting: int
    n_running: int
    n_resident_tokens: int
    """In the caches, shared prefixes counted once."""
    counters: Mapping[str, int] = field(default_factory=dict)
    """Since the start, by name: "preempted", "evictions", "forks", ..."""


class Engine:
    """Answers requests for any of its models. `close` at the end."""

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._slots = {name: _Slot(name, path) for name, path in settings.models.items()}
        # One model is loaded or put to sleep at a time, so that the budget holds.
        self._moving = asyncio.Lock()
        self._freed = asyncio.Event()
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="lsp-assist engine")
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closing = False
        self._clock = 0
        self._counters = dict.fromkeys(_COUNTERS, 0)

    async def add_model(self, path: Path) -> str:
        """The name under which a model file is served from now on.

        Raises: ModelFileError
        """
        file = await self._on_thread(read_model_file, path)
        for slot in self._slots.values():
            if await self._on_thread(_is_same_file, slot.path, file.path):
                return slot.name
        name, n = path.stem, 2
        while name in self._slots:
            name, n = f"{path.stem}-{n}", n + 1
        self._slots[name] = _Slot(name, file.path, file=file)
        return name

    # ---- asking

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Event, None]:
        """The completions, as events; closing the generator ends the work within one token.

        Raises: ContextTooLong before anything is computed, BadInput, ModelFileError,
        ModelUnavailable
        """
        async with self._using(request.model) as loaded:
            loop = asyncio.get_running_loop()
            events: asyncio.Queue[Event | Exception] = asyncio.Queue()

            def answer(event: Event | Exception) -> None:
                with suppress(RuntimeError):  # the loop was closed, and nobody listens
                    loop.call_soon_threadsafe(events.put_nowait, event)

            tokens = await self._on_thread(loaded.prompt_tokens, request.prompt)
            job = await self._job(loaded, request, tokens, answer)
            try:
                loaded.scheduler.submit(job)
                n_open = len(job.branches)
                while n_open:
                    event = await events.get()
                    if isinstance(event, Exception):
                        raise event
                    n_open -= isinstance(event, Ended)
                    yield event
            finally:
                loaded.scheduler.cancel(job)
                loaded.release(job)

    async def _job(
        self,
        loaded: "LoadedModel",
        request: GenerateRequest,
        tokens: Sequence[int],
        answer: "Answer",
    ) -> "Job":
        if not request.grammar and not request.adapters:
            return loaded.job(request, tokens, answer)
        # A grammar is read and adapters are loaded: some milliseconds.
        making = asyncio.ensure_future(self._on_thread(loaded.job, request, tokens, answer))
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            await asyncio.wait([making])
            if making.exception() is None:
                loaded.release(making.result())
            raise

    async def tokenize(self, model: str, text: str, *, parse_special: bool = False) -> list[int]:
        """The tokens of a text; names of control tokens are text unless `parse_special`.

        Raises: BadInput, ModelFileError, ModelUnavailable
        """
        async with self._using(model) as loaded:
            return await self._on_thread(lambda: loaded.tokenise(text, parse_special=parse_special))

    async def detokenize(self, model: str, tokens: Sequence[int]) -> str:
        """The text of tokens, control tokens by their names.

        Raises: BadInput, ModelFileError, ModelUnavailable
        """
        async with self._using(model) as loaded:
            n_vocab = loaded.weights.n_vocab
            for token in tokens:
                if not 0 <= token < n_vocab:
                    raise BadInput(
                        f"Token {token!r} is not one of {model!r}, which has {n_vocab:,}.",
                        field="tokens",
                    )
            return await self._on_thread(loaded.text_of, tokens)

    async def apply_template(self, model: str, turns: Sequence[Turn]) -> str:
        """The conversation as the model reads it, up to where its reply begins.

        Raises: BadInput, ModelFileError, ModelUnavailable
        """
        async with self._using(model) as loaded:
            return await self._on_thread(loaded.prompt_text, turns)

    async def warmth(self, model: str, turns: Sequence[Turn]) -> Warmth:
        """How much of a conversation is warm. Computes nothing.

        Raises: BadInput, ModelFileError, ModelUnavailable
        """
        async with self._using(model) as loaded:
            n_prompt, n_warm = await self._on_thread(loaded.warmth, tuple(turns))
            return Warmth(n_prompt, await asyncio.wrap_future(n_warm), loaded.is_append_only)

    async def embed(self, model: str, texts: Sequence[str]) -> list[list[float]]:
        """Unit vectors for texts, of a model that `has_embeddings`.

        Raises: BadInput, ModelFileError, ModelUnavailable
        """
        is_given_up = threading.Event()
        async with self._using(model) as loaded:
            work = asyncio.ensure_future(
                self._on_thread(loaded.embed, tuple(texts), is_given_up.is_set)
            )
            try:
                vectors = await asyncio.shield(work)
            finally:
                is_given_up.set()
                await asyncio.wait([work])  # the model must stay awake so long
                work.exception()
        found: list[list[float]] = vectors.tolist()
        return found

    async def models(self) -> list[ModelState]:
        """The models, in the order that they were named in."""
        return [await self._state(slot) for slot in list(self._slots.values())]

    async def status(self) -> EngineStatus:
        """The figures of now. Loads nothing."""
        counters = dict(self._counters)
        n_waiting = n_running = n_cells = 0
        for slot in self._slots.values():
            for name, n in slot.counters().items():
                counters[name] = counters.get(name, 0) + n
            if slot.loaded is not None:
                load = slot.loaded.scheduler.load()
                n_waiting += load.n_waiting
                n_running += load.n_running
                n_cells += load.n_cells
        return EngineStatus(tuple(await self.models()), n_waiting, n_running, n_cells, counters)

    async def close(self) -> None:
        """Ends what runs, keeps the caches on disk, frees everything. Idempotent."""
        self._is_closing = True
        self._freed.set()
        for slot in self._slots.values():
            slot.stay_awake()
        if self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        async with self._moving:
            for slot in self._slots.values():
                await self._put_to_sleep(slot)
        self._threads.shutdown()

    # ---- awake and asleep

    def _using(self, name: str) -> "_Use":
        """The model, awake until the end of the block.

        Raises: BadInput
        """
        slot = self._slots.get(name)
        if slot is None:
            known = ", ".join(map(repr, self._slots)) or "none"
            raise BadInput(f"Unknown model {name!r}; there are {known}.", field="model")
        return _Use(self, slot)

    def _begin_use(self, slot: "_Slot") -> None:
        slot.n_users += 1
        slot.stay_awake()
        self._clock += 1
        slot.used_at = self._clock

    def _end_use(self, slot: "_Slot") -> None:
        slot.n_users -= 1
        if not slot.n_users:
            self._freed.set()
            self._sleep_later(slot)

    async def _awake(self, slot: "_Slot") -> "LoadedModel":
        if self._is_closing:
            raise _closed_error()
        while slot.loaded is None or slot.loaded.scheduler.is_stopping:
            if slot.loading is None:
                slot.loading = self._task(self._load(slot))
            # Whoever else waits for the model is not to lose it with this one.
            await asyncio.shield(slot.loading)
            if slot.error is not None:
                raise slot.error
            if self._is_closing:
                raise _closed_error()
        return slot.loaded

    async def _load(self, slot: "_Slot") -> None:
        """Loads a model; what goes wrong is left in the slot."""
        from lsp_assist.engine.loaded import LoadedModel, Shape, Stopped

        slot.error = None
        try:
            async with self._moving:
                await self._put_to_sleep(slot)  # if its thread has failed
                settings = self._settings
                slot.file = await self._on_thread(read_model_file, slot.path)
                await self._make_room(slot)
                shape = Shape(
                    n_ctx=settings.n_ctx,
                    kv_budget_tokens=self._n_cells(slot.file),
                    n_threads=settings.n_threads,
                    n_gpu_layers=settings.n_gpu_layers,
                    state_folder=settings.state_folder,
                    state_budget_bytes=settings.state_budget_bytes,
                    state_memory_bytes=min(
                        settings.state_memory_bytes, self._n_parked_bytes(slot.file)
                    ),
                )
                slot.loaded = await self._on_thread(
                    LoadedModel, slot.name, slot.path, shape, lambda: self._is_closing
                )
                self._counters["loads"] += 1
        except ModelError as error:
            slot.error = error
        except Stopped:
            slot.error = _closed_error()
        except Exception:
            logger.exception("Loading %r failed", slot.name)
            slot.error = ModelUnavailable(f"Model {slot.name!r} cannot be loaded; see the log.")
        finally:
            slot.loading = None
            if not slot.n_users:
                self._sleep_later(slot)

    async def _make_room(self, slot: "_Slot") -> None:
        """Puts models to sleep, the longest unused first, until this one fits the budget."""
        budget = self._settings.memory_budget_bytes
        need = self._n_bytes(slot)
        while budget and not self._is_closing:
            awake = [s for s in self._slots.values() if s.loaded is not None and s is not slot]
            if not awake or sum(map(self._n_bytes, awake)) + need <= budget:
                break
            idle = [other for other in awake if not other.n_users]
            if idle:
                await self._put_to_sleep(min(idle, key=lambda other: other.used_at))
            else:
                self._freed.clear()
                await self._freed.wait()
        if budget and need > budget:
            logger.warning(
                "Model %r takes about %.1f GB, more than the %.1f GB set for all models.",
                slot.name,
                need / 1e9,
                budget / 1e9,
            )

    def _sleep_later(self, slot: "_Slot") -> None:
        delay_s = self._settings.idle_sleep_s
        if delay_s < 0 or self._is_closing or slot.loaded is None:
            return
        slot.stay_awake()
        loop = asyncio.get_running_loop()
        slot.alarm = loop.call_later(delay_s, lambda: self._task(self._sleep(slot)))

    async def _sleep(self, slot: "_Slot") -> None:
        async with self._moving:
            if not slot.n_users:
                await self._put_to_sleep(slot)

    async def _put_to_sleep(self, slot: "_Slot") -> None:
        """Frees a model and keeps its cache on disk; under the lock."""
        loaded, slot.loaded = slot.loaded, None
        if loaded is None:
            return
        slot.stay_awake()
        await self._on_thread(loaded.close)
        slot.add_counters(loaded)
        self._counters["sleeps"] += 1
        logger.info("Model %r sleeps", slot.name)

    def _task(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # ---- sizes

    def _n_cells(self, file: ModelFile) -> int:
        n_ctx = min(self._settings.n_ctx, file.n_ctx_train)
        return max(n_ctx, self._settings.kv_budget_tokens or 2 * n_ctx)

    def _n_bytes(self, slot: "_Slot") -> int:
        """About what a model takes in memory."""
        file = slot.file
        if file is None:
            return 0
        return file.n_bytes + self._n_kv_bytes(file)

    def _n_kv_bytes(self, file: ModelFile) -> int:
        """About what a model's cache takes in memory."""
        return 2 * file.kv_values_per_token * self._n_cells(file)

    def _n_parked_bytes(self, file: ModelFile) -> int:
        """What parked chats may take in memory: as much as one context window.

        The disk keeps the others, and the operating system what was written lately. Without a disk
        it is all that there is, and may be as much as the cache itself.
        """
        n_bytes = self._n_kv_bytes(file)
        return n_bytes if self._settings.state_budget_bytes == 0 else n_bytes // 2

    async def _state(self, slot: "_Slot") -> ModelState:
        state = ModelState(slot.name, slot.path, slot.state)
        if slot.file is None:
            try:
                slot.file = await self._on_thread(read_model_file, slot.path)
            except ModelError as error:
                return replace(state, problem=str(error))
        return replace(
            state,
            size=slot.file.n_bytes,
            n_ctx=min(self._settings.n_ctx, slot.file.n_ctx_train),
            can_fork_cheaply=(
                slot.file.can_roll_back
                if slot.loaded is None
                else slot.loaded.weights.can_roll_back
            ),
            has_embeddings=slot.file.has_embeddings,
        )

    async def _on_thread(self, work: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)


_COUNTERS = (
    "loads",
    "sleeps",
    "preempted",
    "cancelled",
    "suspended",
    "ahead",  # questions answered from what was drawn before they were asked
    "forks",
    "evictions",
    "parked",  # evictions of idle chats that were in the way of another one
    "compactions",
    "saved",  # states, to memory
    "restored",
    "written",  # states, to disk
    "read",
)


class _Use:
    """A model that is awake from the start of a block to its end.

    No asynchronous generator: a loop that ends closes all of those at once, in any order.
    """

    def __init__(self, engine: Engine, slot: "_Slot") -> None:
        self._engine, self._slot = engine, slot

    async def __aenter__(self) -> "LoadedModel":
        """The model.

        Raises: ModelFileError, ModelUnavailable
        """
        self._engine._begin_use(self._slot)
        try:
            return await self._engine._awake(self._slot)
        except BaseException:
            self._engine._end_use(self._slot)
            raise

    async def __aexit__(self, *error: object) -> None:
        self._engine._end_use(self._slot)


@dataclass(eq=False, slots=True)
class _Slot:
    """A model by name, awake or not."""

    name: str
    path: Path
    file: ModelFile | None = None
    loaded: "LoadedModel | None" = None
    loading: "asyncio.Task[None] | None" = None
    error: Exception | None = None
    """Why it was not loaded, last."""
    n_users: int = 0
    used_at: int = 0
    alarm: asyncio.TimerHandle | None = None
    _before: dict[str, int] = field(default_factory=dict)

    @property
    def state(self) -> Literal["asleep", "loading", "ready"]:
        """How it is now."""
        if self.loaded is not None:
            return "ready"
        return "asleep" if self.loading is None else "loading"

    def stay_awake(self) -> None:
        """Takes the time back at which it was to sleep."""
        alarm, self.alarm = self.alarm, None
        if alarm is not None:
            alarm.cancel()

    def counters(self) -> dict[str, int]:
        """What happened, in all the times that it was awake."""
        now = self.loaded.counters() if self.loaded is not None else {}
        return {key: self._before.get(key, 0) + now.get(key, 0) for key in {*self._before, *now}}

    def add_counters(self, loaded: "LoadedModel") -> None:
        """Keeps what happened while it was awake."""
        for key, n in loaded.counters().items():
            self._before[key] = self._before.get(key, 0) + n


def _is_same_file(a: Path, b: Path) -> bool:
    try:
        return a.expanduser().samefile(b)
    except OSError:
        return False


def _closed_error() -> ModelUnavailable:
    return ModelUnavailable("The engine was closed; ask again.")
