"""The chats as the event loop sees them: the store on a thread of its own, replies written down.

Jobs run in the order in which they were given, so a turn is begun before its reply is written, and
nothing needs a lock. Where the chats on disk cannot be used, this session's are kept in memory and
the user is told. Knows no model and no editor.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from lsp_assist.chat.store import ChatStore, Found, StoredChat, Summary, TitleOrigin, Verdict
from lsp_assist.chat.tree import Chat, Turn, TurnStatus
from lsp_assist.errors import AssistError, ChatsUnusable
from lsp_assist.llm import Message, Segment

__all__ = ["WRITE_INTERVAL_S", "Chats", "Recorder"]

logger = logging.getLogger(__name__)

WRITE_INTERVAL_S = 0.1
"""What kill -9 costs at most: the words of so many seconds."""

T = TypeVar("T")


class Chats:
    """Owns the store and its thread. Used on one event loop."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="chats")
        self._store: ChatStore | None = None
        self.problem: ChatsUnusable | None = None
        """Why this session's chats are not kept, if they are not."""
        self.warnings: tuple[str, ...] = ()

    async def start(self) -> None:
        """Open the store. Called by the first use where nobody else did."""
        await self._run(lambda _: None)

    async def close(self) -> None:
        """Write what is to be written, and close the store. Idempotent."""

        def close() -> None:
            if self._store is not None:
                self._store.close()

        try:
            job = self._thread.submit(close)
        except RuntimeError:  # closed before
            return
        await asyncio.shield(asyncio.wrap_future(job))
        self._thread.shutdown(wait=False)

    # What the store gives; each raises ChatsUnusable and what the store's own raises.

    async def load(self, chat_id: str) -> StoredChat | None:
        """One whole chat as it is now."""
        return await self._run(lambda store: store.load(chat_id))

    async def existing(self, chat_id: str) -> StoredChat:
        """One whole chat as it is now.

        Raises: UnknownTurn
        """
        return await self._run(lambda store: store.existing(chat_id))

    async def summaries(
        self, roots: Sequence[str] | None = None, limit: int = 100
    ) -> list[Summary]:
        """The chats begun in these folders, or all, newest first."""
        return await self._run(lambda store: store.chats(roots, limit))

    async def search(self, query: str, limit: int = 20) -> list[Found]:
        """The turns that hold the words, best first."""
        return await self._run(lambda store: store.search(query, limit))

    async def fork(
        self, chat_id: str, turn_id: str, new_id: str, roots: Sequence[str] = ()
    ) -> StoredChat:
        """A new chat that begins with the turns up to this one."""
        return await self._run(lambda store: store.fork(chat_id, turn_id, new_id, roots))

    async def rename(self, chat_id: str, title: str, origin: TitleOrigin = "user") -> str:
        """The title that the chat has from now on."""
        return await self._run(lambda store: store.rename(chat_id, title, origin))

    async def delete(self, chat_id: str) -> None:
        """Delete a chat and what no other one shares with it."""
        await self._run(lambda store: store.delete(chat_id))

    async def add(self, stored: StoredChat) -> None:
        """Put in a chat whole."""
        await self._run(lambda store: store.add(stored))

    async def judge(self, turn_id: str, verdict: Verdict, text: str = "") -> None:
        """Note what the user thought of a reply."""
        await self._run(lambda store: store.judge(turn_id, verdict, text))

    async def count(self) -> int:
        """How many chats there are."""
        return await self._run(ChatStore.n_chats)

    def record(self, chat: Chat, roots: Sequence[str], title: str, turn: Turn) -> "Recorder":
        """Begin to write down a turn that is being answered. Returns at once."""
        return Recorder(self._submit, chat.id, roots, title, turn)

    # Below: the thread.

    async def _run(self, work: Callable[[ChatStore], T]) -> T:
        return await asyncio.wrap_future(self._submit(work))

    def _submit(self, work: Callable[[ChatStore], T]) -> "Future[T]":
        return self._thread.submit(lambda: work(self._opened()))

    def _opened(self) -> ChatStore:
        if self._store is None:
            try:
                self._store = ChatStore(self._path)
            except ChatsUnusable as error:
                logger.warning("%s", error)
                self.problem = error
                self.warnings = (f"{error} Until then chats are lost when the session ends.",)
                self._store = ChatStore(None)
            if (moved := self._store.moved_to) is not None:
                self.warnings = (
                    f"The chats were damaged and are now in {str(moved)!r}; new ones are kept.",
                )
        return self._store


class Recorder:
    """Writes down one running turn: at once, every 100 ms while it speaks, and at its end."""

    def __init__(
        self,
        submit: "Callable[[Callable[[ChatStore], None]], Future[None]]",
        chat_id: str,
        roots: Sequence[str],
        title: str,
        turn: Turn,
    ) -> None:
        self._submit = submit
        self._turn = turn
        self._parts: list[str] = []
        self._timer: asyncio.TimerHandle | None = None
        self._at: int | None = None  # touched on the store's thread only

        def begin(store: ChatStore) -> None:
            self._at = store.begin(chat_id, roots, title, turn)

        self._begun = submit(begin)

    async def begun(self) -> None:
        """Wait until the turn is written down.

        Raises: ChatsUnusable, UnknownTurn, BadInput
        """
        await asyncio.shield(asyncio.wrap_future(self._begun))

    @property
    def reply(self) -> Message:
        """What the turn has said so far."""
        return Message("assistant", (Segment("reply", "".join(self._parts)),))

    def add(self, text: str) -> None:
        """The reply goes on; it is written within 100 ms."""
        self._parts.append(text)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(WRITE_INTERVAL_S, self._write)

    async def end(self, status: TurnStatus, model: str) -> None:
        """The turn has ended; it is written even if the caller is cancelled now."""
        if self._timer is not None:
            self._timer.cancel()
        reply = self.reply

        def end(store: ChatStore) -> None:
            if self._at is not None:
                store.end(self._at, reply, status, model)

        job = asyncio.wrap_future(self._submit(end))
        try:
            await asyncio.shield(job)
        except AssistError as error:
            # The answer is there all the same; what is lost is its place in the chat on disk.
            logger.warning("The end of a turn was not written: %s", error)

    def _write(self) -> None:
        self._timer = None
        reply = self.reply

        def write(store: ChatStore) -> None:
            if self._at is not None:
                store.write(self._at, reply)

        self._submit(write).add_done_callback(_log_failure)


def _log_failure(job: "Future[None]") -> None:
    if not job.cancelled() and (error := job.exception()) is not None:
        logger.warning("A part of a reply was not written: %s", error)
