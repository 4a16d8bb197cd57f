"""Turns that run: a question becomes a stream of events and one result.

Knows when a turn starts and ends and that it ends once, whoever cancels it. Not how the answer is
found, and not how an editor shows it: events go to whoever started the turn.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from contextlib import aclosing, suppress

from lsp_assist.assistant import Assistant, Question
from lsp_assist.codebase.documents import Encoding
from lsp_assist.errors import AssistError, BadInput, UnknownTurn
from lsp_assist.flows import Done, Step, Text, Titled
from lsp_assist.llm import Source, Usage
from lsp_assist.server import edits, places
from lsp_assist.server.asking import question_of
from lsp_assist.server.protocol import (
    EVENT,
    AskResult,
    CancelParams,
    Empty,
    ErrorInfo,
    EventKind,
    SourceInfo,
    UsageInfo,
    structure,
    unstructure,
)
from lsp_assist.server.rpc import Connection, log_failure
from lsp_assist.server.tasks import Tasks

__all__ = ["DELTA_INTERVAL_S", "Emit", "Turn", "Turns", "send_events", "source_infos"]

logger = logging.getLogger(__name__)

DELTA_INTERVAL_S = 0.03

Emit = Callable[[EventKind, dict[str, object]], None]
"""Takes the events of a turn in order; the last is one of done, cancelled, error."""


def send_events(connection: Connection, chat_id: str, turn_id: str) -> Emit:
    """Events go to the client as `assist/event`, numbered from 0."""
    n_sent = 0

    def emit(kind: EventKind, fields: dict[str, object]) -> None:
        nonlocal n_sent
        event = {"chatId": chat_id, "turnId": turn_id, "seq": n_sent, "kind": kind, **fields}
        n_sent += 1
        connection.notify(EVENT, event)

    return emit


class Turns:
    """All turns that run, by their id."""

    def __init__(self, connection: Connection, tasks: Tasks) -> None:
        self._connection = connection
        self._tasks = tasks
        self._running: dict[str, Turn] = {}

    def ask(
        self, assistant: Assistant, encoding: Encoding, params: object
    ) -> "asyncio.Future[object]":
        """Handle `assist/ask`: the result when the turn has ended.

        Raises: BadInput
        """
        question = question_of(assistant, encoding, params)
        emit = send_events(self._connection, question.chat_id, question.turn_id)
        turn = self.start(assistant, question, emit)
        reply: asyncio.Future[object] = asyncio.get_running_loop().create_future()

        def on_reply(done: "asyncio.Future[object]") -> None:
            if done.cancelled():  # by $/cancelRequest, or because the client left
                turn.cancel()

        def on_end(ended: "asyncio.Future[AskResult]") -> None:
            if reply.done():
                return
            if turn.refusal is not None:
                reply.set_exception(turn.refusal)
            else:
                reply.set_result(unstructure(ended.result()))

        reply.add_done_callback(on_reply)
        turn.result.add_done_callback(on_end)
        return reply

    def cancel(self, params: object) -> object:
        """Handle `assist/cancel`. The turn may have ended just now: that is no error.

        Raises: BadInput
        """
        turn = self._running.get(structure(CancelParams, params).turn_id)
        if turn is not None:
            turn.cancel()
        return unstructure(Empty())

    async def end(self, chat_id: str) -> None:
        """Cancel the turns of a chat and wait until they have ended."""
        running = [turn for turn in self._running.values() if turn.chat_id == chat_id]
        for turn in running:
            turn.cancel()
        if running:
            await asyncio.wait([turn.result for turn in running])

    def start(
        self,
        assistant: Assistant,
        question: Question,
        emit: Emit,
        interval_s: float = DELTA_INTERVAL_S,
    ) -> "Turn":
        """Start a turn; text goes to `emit` at most once in `interval_s`.

        Raises: BadInput if a turn of this id runs already
        """
        if question.turn_id in self._running:
            raise BadInput(
                f"Turn {question.turn_id!r} is running; a new turn needs a new `turnId`.",
                field="turnId",
            )
        turn = Turn(assistant, question, _Gathered(emit, interval_s))
        self._running[question.turn_id] = turn
        turn.result.add_done_callback(lambda _: self._running.pop(question.turn_id))
        turn.task = self._tasks.start(turn.run(), "a turn")
        return turn


class _Gathered:
    """Events in order; the text of an interval as one delta."""

    def __init__(self, emit: Emit, interval_s: float) -> None:
        self._emit = emit
        self._interval_s = interval_s
        self._pieces: list[str] = []
        self._timer: asyncio.TimerHandle | None = None

    def text(self, text: str) -> None:
        if not text:
            return
        self._pieces.append(text)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._interval_s, self._flush)

    def other(self, kind: EventKind, **fields: object) -> None:
        self._flush()
        self._emit(kind, {name: unstructure(value) for name, value in fields.items()})

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._pieces:
            text = "".join(self._pieces)
            self._pieces.clear()
            self._emit("delta", {"text": text})


class Turn:
    """One question while it is answered. `result` is set once, also when it is cancelled."""

    task: asyncio.Task[None]

    def __init__(self, assistant: Assistant, question: Question, events: _Gathered) -> None:
        self.result: asyncio.Future[AskResult] = asyncio.get_running_loop().create_future()
        self.refusal: BadInput | None = None
        """Why the question could not be asked at all."""
        self._assistant = assistant
        self._question = question
        self._events = events
        self._is_started = False
        self._is_cancelled = False

    @property
    def chat_id(self) -> str:
        """The chat that the turn belongs to."""
        return self._question.chat_id

    def cancel(self) -> None:
        """Stop the turn; it ends as "cancelled" with what was said so far."""
        self._is_cancelled = True
        # A task that is cancelled before its first step never runs, and would not end the turn.
        if self._is_started:
            self.task.cancel()

    async def run(self) -> None:
        """Answer, and set the result."""
        self._is_started = True
        started = time.perf_counter()
        said: list[str] = []
        result: AskResult

        def ended(status: EventKind, error: str = "", field: str = "") -> AskResult:
            usage = _usage(Usage(total_ms=(time.perf_counter() - started) * 1000))
            info = ErrorInfo(error, field or None) if error else None
            self._events.other(status, **({"error": info} if info else {}))
            assert status in ("cancelled", "error"), status
            return AskResult(status, "".join(said), usage, error=info)

        try:
            if self._is_cancelled:
                raise asyncio.CancelledError
            done = await self._stream(said)
            with suppress(UnknownTurn):  # another editor has deleted the chat by now
                await self._propose()
            sources = tuple(source_infos(self._assistant, done.sources))
            usage = _usage(done.usage)
            self._events.other("usage", usage=usage)
            self._events.other("done", sources=sources)
            result = AskResult("done", done.text, usage, sources)
        except asyncio.CancelledError:
            # The task ends here and its cancellation is the result, so nothing is swallowed.
            result = ended("cancelled")
        except BadInput as error:
            self.refusal = error
            result = ended("error", str(error), error.field)
        except AssistError as error:
            result = ended("error", str(error))
        except Exception as error:  # noqa: BLE001  the boundary: each turn ends with one event
            log_failure("A turn", error)
            result = ended(
                "error",
                f"An error in lsp-assist ({type(error).__name__}); its log has the details.",
            )
        self.result.set_result(result)

    async def _propose(self) -> None:
        asked = self._question
        proposal = await self._assistant.edits_of(asked.chat_id, asked.turn_id)
        if proposal.files or proposal.refused:
            self._events.other("edit", **unstructure(edits.info(self._assistant, proposal)))

    async def _stream(self, said: list[str]) -> Done:
        async with aclosing(self._assistant.ask(self._question)) as events:
            async for event in events:
                match event:
                    case Step():
                        self._events.other("step", text=event.text)
                    case Titled():
                        self._events.other("title", title=event.title)
                    case Text():
                        said.append(event.text)
                        self._events.text(event.text)
                    case Done():
                        return event
        raise AssertionError("a flow ended without Done")


def _usage(usage: Usage) -> UsageInfo:
    return UsageInfo(
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
        output_tokens=usage.output_tokens,
        ttft_ms=round(usage.ttft_ms, 3),
        total_ms=round(usage.total_ms, 3),
        tokens_per_second=round(usage.tokens_per_second, 3),
        model=usage.model,
        route=usage.route,
        cost_usd=usage.cost_usd,
    )


def source_infos(assistant: Assistant, sources: Iterable[Source]) -> Iterable[SourceInfo]:
    """The places as they travel."""
    for source in sources:
        yield SourceInfo(
            uri=places.uri_of(assistant, source.root, source.path),
            path=source.path,
            start_line=source.start_line,
            end_line=source.end_line,
            symbol=source.symbol,
        )
