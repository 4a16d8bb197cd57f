"""Builds and owns everything: the public API without LSP.

One event loop uses it. Indexes work on threads behind it; chats, documents and tasks are touched on
the loop only.
"""

import asyncio
import contextlib
import functools
import hashlib
import logging
import math
import os
import platform
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from threading import Event as ThreadEvent
from typing import ParamSpec, TypeVar

import lsp_assist
from lsp_assist.chat.tree import Chat, Turn, TurnStatus
from lsp_assist.codebase.documents import DocumentStore
from lsp_assist.codebase.index import Hit, Index, Passage, Progress, Refreshed
from lsp_assist.codebase.store import StoredSymbol
from lsp_assist.config import Settings
from lsp_assist.errors import BadInput, SettingError, WorkspaceNotFound
from lsp_assist.flows import Asked, Done, Event, Step, Text, question
from lsp_assist.flows.question import Question, Selection
from lsp_assist.llm import Message, Model, Sampling, Segment

__all__ = [
    "Assistant",
    "Hit",
    "IndexStatus",
    "ModelStatus",
    "Progress",
    "Question",
    "Refreshed",
    "Selection",
    "Status",
    "engine_model",
]

logger = logging.getLogger(__name__)

ENGINE_SILENCE_S = 60.0  # it says every few seconds that it lives
LOOK_AGAIN_S = 2.0  # questions in a row share one look at the disk

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """The model that answers."""

    name: str
    path: str
    """Empty for a model that is in no file."""


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """One workspace folder and its index."""

    root: str
    state: str
    """"new" before the first refresh ended, then "ready"; "indexing" while one runs."""
    n_files: int
    n_lines: int
    n_symbols: int
    n_chunks: int
    n_done: int
    n_total: int
    """Of the running refresh, in files; 0 when none runs."""


@dataclass(frozen=True, slots=True)
class Status:
    """What `lsp-assist doctor` and `assist/status` show."""

    version: str
    python: str
    platform: str
    model: ModelStatus
    indexes: tuple[IndexStatus, ...]
    n_documents: int
    n_chats: int
    warnings: tuple[str, ...]


class Assistant:
    """Owns the indexes, the chats, the open documents and the model of one server or command.

    Made on any thread, used on one event loop. `start` before anything else, `close` at the end.
    """

    def __init__(
        self, settings: Settings, roots: Sequence[Path], *, model: Model | None = None
    ) -> None:
        self.settings = settings
        self.documents = DocumentStore()
        self.watches_files = False
        """True if somebody calls `file_changed`; else questions look for changes by themselves."""
        self._model, self._route = (
            (model, "chosen by the caller") if model else _open_model(settings)
        )
        self._roots = [_checked_root(root) for root in roots]
        self._indexes: dict[Path, Index] = {}
        self._opening = asyncio.Lock()
        self._ready: set[Path] = set()
        self._changed_files: set[Path] = set()
        self._overlaid: dict[str, Path] = {}
        self._chats: dict[str, Chat] = {}
        self._refreshed_at = float("-inf")
        self._refreshing: asyncio.Task[Refreshed] | None = None
        self._reporters: list[Callable[[Progress], None]] = []
        self._n_waiting = 0
        self._stop = ThreadEvent()
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="assistant")

    async def start(self) -> None:
        """Open what is on disk of every workspace folder. Reads no workspace file.

        Raises: IndexUnusable
        """
        await self._open_indexes()

    async def close(self) -> None:
        """Stop what runs, keep what was indexed, free the model. Idempotent."""
        self._stop.set()
        if self._refreshing is not None:
            await asyncio.gather(self._refreshing, return_exceptions=True)
        for index in self._indexes.values():
            await self._on_thread(index.close)
        self._indexes.clear()
        await self._model.close()
        self._threads.shutdown(wait=False)

    # The workspace

    @property
    def roots(self) -> tuple[Path, ...]:
        """The workspace folders, resolved."""
        return tuple(self._roots)

    def add_root(self, root: Path) -> None:
        """Take in a workspace folder; the next refresh indexes it.

        Raises: WorkspaceNotFound
        """
        root = _checked_root(root)
        if root not in self._roots:
            self._roots.append(root)
            self._refreshed_at = float("-inf")

    def remove_root(self, root: Path) -> None:
        """Let a workspace folder go; its index stays on disk."""
        root = root.resolve()
        if root in self._roots:
            self._roots.remove(root)
        self._ready.discard(root)
        index = self._indexes.pop(root, None)
        if index is not None:
            self._threads.submit(index.close)

    def document_changed(self, uri: str) -> None:
        """Note that an open document has another text, or was opened or closed. Returns at once."""
        document = self.documents.get(uri)
        if document is None:
            closed = self._overlaid.pop(uri, None)
            if closed is not None:
                self._overlay(closed, None)
                self.file_changed(closed)
        elif document.path is not None:
            self._overlaid[uri] = document.path
            self._overlay(document.path, document.text.content)

    def file_changed(self, path: Path) -> None:
        """Note that a file was made, changed or deleted. Returns at once; a question reads it."""
        self._changed_files.add(path)

    async def refresh(self, report: Callable[[Progress], None] | None = None) -> Refreshed:
        """Bring all indexes up to date with the files on disk; calls while one runs share it.

        `report` is called on the loop. The work stops when everybody who waits for it was
        cancelled; what is done is kept.

        Raises: IndexUnusable
        """
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._refresh())
        task = self._refreshing
        if report is not None:
            self._reporters.append(report)
        self._n_waiting += 1
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if self._n_waiting == 1:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            raise
        finally:
            self._n_waiting -= 1
            if report is not None:
                self._reporters.remove(report)

    # Questions

    async def ask(self, asked: Question) -> AsyncGenerator[Event, None]:
        """The reply to a question, as events. Read it under `contextlib.aclosing`.

        The turn joins its chat when it ends, also when it was cancelled: its partial reply is kept.

        Raises: BadInput, ModelError, IndexUnusable
        """
        question.check(asked)
        chat = self._chats.get(asked.chat_id, Chat(asked.chat_id))
        if asked.turn_id in chat.turns:
            raise BadInput(
                f"Turn {asked.turn_id!r} is already in chat {asked.chat_id!r}; use a new id.",
                field="turnId",
            )
        parent_id = asked.parent_turn_id or chat.last_turn_id()
        path = chat.path(parent_id)
        message: Message | None = None
        parts: list[str] = []
        status: TurnStatus = "error"
        if note := await self._freshness():
            yield Step(note)
        try:
            async with aclosing(question.answer(self._workbench(), path, asked)) as events:
                async for event in events:
                    match event:
                        case Asked():
                            message = event.message
                        case Text():
                            parts.append(event.text)
                        case Done():
                            status = "done"
                            self._keep(asked, parent_id, message, parts, status)
                    yield event
        except (asyncio.CancelledError, GeneratorExit):
            status = "cancelled"
            raise
        finally:
            if status != "done":
                self._keep(asked, parent_id, message, parts, status)

    async def search(self, query: str, limit: int = 20) -> list[Hit]:
        """The best places for a question or a name, best first.

        Raises: IndexUnusable
        """
        await self._freshness()
        return await self._on_thread(self._search, query, limit)

    async def symbols(self, query: str, limit: int = 100) -> list[tuple[Path, StoredSymbol]]:
        """The symbols whose names fit what was typed, with their folders; the best of each first.

        Raises: IndexUnusable
        """
        await self._freshness()
        return await self._on_thread(self._symbols_like, query, limit)

    async def status(self) -> Status:
        """What is there, and how it is."""
        known = list(self._indexes.items())
        indexes = [await self._on_thread(self._index_status, *item) for item in known]
        model_path = self.settings.model.path
        return Status(
            version=lsp_assist.__version__,
            python=platform.python_version(),
            platform=platform.platform(),
            model=ModelStatus(self._model.name, str(model_path) if model_path else ""),
            indexes=tuple(indexes),
            n_documents=len(self.documents),
            n_chats=len(self._chats),
            warnings=self.settings.warnings,
        )

    # Below: how it is done.

    async def _open_indexes(self) -> None:
        async with self._opening:
            for root in [root for root in self._roots if root not in self._indexes]:
                path = self.settings.places.cache / "index" / _folder_name(root) / "index.sqlite3"
                index = await self._on_thread(Index, root, path, self.settings.index)
                n_files = (await self._on_thread(index.counts)).n_files
                if root not in self._roots:  # removed meanwhile
                    await self._on_thread(index.close)
                    continue
                self._indexes[root] = index
                if n_files:
                    self._ready.add(root)
                for open_path in self._overlaid.values():
                    document = self.documents.by_path(open_path)
                    if document is not None:
                        self._overlay(open_path, document.text.content)

    async def _refresh(self) -> Refreshed:
        loop = asyncio.get_running_loop()
        stop = ThreadEvent()

        def should_stop() -> bool:
            return stop.is_set() or self._stop.is_set()

        def report(progress: Progress) -> None:
            for reporter in list(self._reporters):
                reporter(progress)

        def report_from_thread(progress: Progress) -> None:
            loop.call_soon_threadsafe(report, progress)

        await self._open_indexes()
        self._changed_files.clear()  # the walk sees them
        results: list[Refreshed] = []
        for root, index in list(self._indexes.items()):
            work = asyncio.ensure_future(
                self._on_thread(index.refresh, report_from_thread, should_stop)
            )
            try:
                results.append(await asyncio.shield(work))
            except asyncio.CancelledError:
                stop.set()
                await asyncio.gather(work, return_exceptions=True)
                raise
            if results[-1].is_complete and root in self._roots:
                self._ready.add(root)
        self._refreshed_at = time.monotonic()
        return Refreshed(
            n_files=sum(r.n_files for r in results),
            n_changed=sum(r.n_changed for r in results),
            n_removed=sum(r.n_removed for r in results),
            n_skipped=sum(r.n_skipped for r in results),
            is_complete=all(r.is_complete for r in results),
        )

    async def _freshness(self) -> str:
        """Read what was marked, and say what a question is answered without; empty if nothing."""
        await self._open_indexes()
        changed, self._changed_files = self._changed_files, set()
        for path in changed:
            if place := self._place(path):
                await self._on_thread(place[0].refresh_file, place[1])
        running = self._refreshing is not None and not self._refreshing.done()
        age_s = time.monotonic() - self._refreshed_at
        if not running and not self.watches_files and age_s > LOOK_AGAIN_S:
            self._refreshing = asyncio.create_task(self._refresh())
            self._refreshing.add_done_callback(_log_failure)
        if not self._roots:
            return "No folder is open; answering from what is selected"
        if self._ready.issuperset(self._roots):
            return ""
        done = [index.progress for index in self._indexes.values() if index.progress]
        percent = 100 * sum(p.n_done for p in done) // max(1, sum(p.n_total for p in done))
        return f"The index is {percent} % done; answering from what is there"

    def _workbench(self) -> question.Workbench:
        model = self.settings.model
        sampling = Sampling(temperature=model.temperature, max_tokens=model.max_tokens)
        return question.Workbench(self._model, sampling, self._route, self._find, self._symbol_at)

    async def _find(self, query: str, limit: int) -> list[Passage]:
        return await self._on_thread(self._passages, query, limit)

    async def _symbol_at(self, selection: Selection) -> Passage | None:
        index = self._indexes.get(Path(selection.root)) if selection.root else None
        if index is None:
            return None
        lines = selection.start_line, selection.end_line
        return await self._on_thread(index.symbol_at, selection.path, *lines)

    def _passages(self, query: str, limit: int) -> list[Passage]:
        indexes = dict(self._indexes)
        hits = (hit for hit in self._search(query, limit) if hit.root in indexes)
        passages = (indexes[hit.root].passage(hit) for hit in hits)
        return [passage for passage in passages if passage is not None]

    def _search(self, query: str, limit: int) -> list[Hit]:
        hits = [hit for index in list(self._indexes.values()) for hit in index.search(query, limit)]
        return sorted(hits, key=lambda hit: -hit.score)[:limit]

    def _symbols_like(self, query: str, limit: int) -> list[tuple[Path, StoredSymbol]]:
        found = [
            [(root, symbol) for symbol in index.symbols_like(query, limit)]
            for root, index in list(self._indexes.items())
        ]
        in_turn = chain.from_iterable(zip_longest(*found))
        return [one for one in in_turn if one is not None][:limit]

    def _index_status(self, root: Path, index: Index) -> IndexStatus:
        counts, progress = index.counts(), index.progress
        return IndexStatus(
            root=str(root),
            state="indexing" if progress else "ready" if root in self._ready else "new",
            n_files=counts.n_files,
            n_lines=counts.n_lines,
            n_symbols=counts.n_symbols,
            n_chunks=counts.n_chunks,
            n_done=progress.n_done if progress else 0,
            n_total=progress.n_total if progress else 0,
        )

    def _keep(
        self,
        asked: Question,
        parent_id: str | None,
        message: Message | None,
        parts: Sequence[str],
        status: TurnStatus,
    ) -> None:
        """Put the turn into its chat, unless it ended before it was sent."""
        if message is None:
            return
        reply = Message("assistant", (Segment("reply", "".join(parts)),))
        chat = self._chats.get(asked.chat_id, Chat(asked.chat_id))
        turn = Turn(asked.turn_id, parent_id, message, reply, status)
        self._chats[asked.chat_id] = chat.with_turn(turn)

    def _overlay(self, path: Path, text: str | None) -> None:
        if place := self._place(path):
            place[0].overlay(place[1], text)

    def _place(self, path: Path) -> tuple[Index, str] | None:
        """The index that a file belongs to, the innermost, and its path there."""
        for candidate in (path, path.resolve()):
            roots = [root for root in self._indexes if candidate.is_relative_to(root)]
            if roots:
                root = max(roots, key=lambda root: len(root.parts))
                return self._indexes[root], candidate.relative_to(root).as_posix()
        return None

    async def _on_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        run = functools.partial(work, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._threads, run)


def _open_model(settings: Settings) -> tuple[Model, str]:
    """The model that the settings name, and why it answers."""
    if settings.model.url:
        return _served_model(settings.model.url, settings.model.name), "the configured server"
    if settings.model.path is None:
        config = f"{_shown(settings.places.config)}/config.toml"
        remedy = (
            "To add one, run `lsp-assist ask --model FILE.gguf`, or write"
            f' `[model]` and `path = "FILE.gguf"` into `{config}`.'
        )
        from lsp_assist.backends.extractive import ExtractiveModel

        return ExtractiveModel(remedy), "no model is configured"
    return engine_model(settings.model.path, settings), "the configured model file"


def _served_model(url: str, name: str) -> Model:
    """A model of a server that somebody else runs on this machine.

    Raises: SettingError
    """
    from urllib.parse import urlsplit

    from lsp_assist.backends.openai import OpenAIModel, Server

    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        # There is no gate yet that checks what leaves the machine.
        raise SettingError(
            f"`model.url` is {url!r}; it must be that of a server on this machine, such as "
            "'http://127.0.0.1:11434'.",
            field="model.url",
        )
    if not name:
        raise SettingError("`model.url` needs `model.name` beside it.", field="model.name")
    server = Server(url.rstrip("/").removesuffix("/v1"), name)

    async def find() -> Server:
        return server

    return OpenAIModel(name, find)


def engine_model(path: Path, settings: Settings) -> Model:
    """A model file that the user's engine answers with; the engine is started when it is needed.

    It may die in the middle of a reply: it is started and asked again, twice.
    """
    from lsp_assist.backends.openai import OpenAIModel, Server
    from lsp_assist.engine import process

    def found() -> Server:
        if not path.is_file():
            from lsp_assist.engine.gguf import read_model_file

            read_model_file(path)  # says what is wrong, and no engine is started for it
        endpoint = process.connected(settings)
        return Server(
            endpoint.url,
            process.model_served(endpoint, path),
            endpoint.socket,
            endpoint.token,
            takes_llama_keys=True,
            first_text_s=math.inf,  # a prefill takes as long as it takes
            silence_s=ENGINE_SILENCE_S,
        )

    async def find() -> Server:
        return await asyncio.to_thread(found)

    return OpenAIModel(path.stem, find, n_repeats=2)


def _shown(path: Path) -> str:
    """The path with `~` for the user's home."""
    with contextlib.suppress(ValueError, RuntimeError):  # not below it; no home
        return f"~/{path.relative_to(Path.home()).as_posix()}"
    return str(path)


def _checked_root(root: Path) -> Path:
    """The folder, resolved.

    Raises: WorkspaceNotFound
    """
    try:
        resolved = root.resolve(strict=True)
        if resolved.is_dir():
            return resolved
        problem = "is not a folder"
    except (OSError, ValueError, RuntimeError):  # RuntimeError: a loop of symbolic links
        problem = "does not exist or cannot be read"
    raise WorkspaceNotFound(f"{str(root)!r} {problem}; name the folder that holds your code.")


def _folder_name(root: Path) -> str:
    """A folder for the index of a workspace: readable, and unique by its path."""
    digest = hashlib.blake2b(os.fsencode(root), digest_size=8).hexdigest()
    return f"{root.name[:40]}-{digest}"


def _log_failure(task: asyncio.Task[Refreshed]) -> None:
    """A refresh in nobody's name still tells the log why it failed."""
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.warning("The index could not be refreshed: %s", error)
