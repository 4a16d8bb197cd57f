"""Answers that are made while they are sent, and given up when nobody reads them any more.

One JSON object at the end, or server-sent events as they come. Knows no route and no engine.
"""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

from starlette.responses import Response

from lsp_assist.engine import openai_replies
from lsp_assist.engine.openai_replies import Reply
from lsp_assist.engine.requests import Event
from lsp_assist.errors import AssistError, ModelUnavailable

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

__all__ = ["Stream", "Whole", "failure", "json_response", "unforeseen"]

logger = logging.getLogger(__name__)


class _Answer(Response):
    """A response that is made while it is sent, and given up when nobody reads it any more."""

    def __init__(self, events: Callable[[], AsyncGenerator[Event, None]], reply: Reply) -> None:
        super().__init__()
        self._events = events
        self._reply = reply

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:  # noqa: ARG002  # the door of ASGI
        work = asyncio.create_task(self._send_all(send))
        gone = asyncio.create_task(_disconnected(receive))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            if not work.done():
                work.cancel()
            # Also when this task was cancelled itself: the engine's work must have ended.
            with suppress(asyncio.CancelledError):
                await work

    async def _send_all(self, send: "Send") -> None:
        raise NotImplementedError


class Whole(_Answer):
    """One JSON object at the end."""

    async def _send_all(self, send: "Send") -> None:
        try:
            async with aclosing(self._events()) as events:
                async for event in events:
                    self._reply.take(event)
            response = json_response(self._reply.whole())
        except AssistError as error:
            response = failure(error)
        except Exception:
            logger.exception("A request failed")
            response = failure(unforeseen())
        await _send_response(response, send)


class Stream(_Answer):
    """Server-sent events. What fails before the first one still gets a status of its own."""

    def __init__(
        self,
        events: Callable[[], AsyncGenerator[Event, None]],
        reply: Reply,
        ping_after_s: float,
    ) -> None:
        super().__init__(events, reply)
        self._ping_after_s = ping_after_s
        self._has_begun = False

    async def _send_all(self, send: "Send") -> None:
        try:
            async with aclosing(self._events()) as events:
                async for event in _with_pings(events, self._ping_after_s):
                    await self._begin(send)
                    if event is None:
                        await _send_more(send, b": still at work\n\n")
                    else:
                        data = b"".join(_sse(chunk) for chunk in self._reply.chunks(event))
                        if data:
                            await _send_more(send, data)
            await self._begin(send)
            if self._reply.includes_usage:
                await _send_more(send, _sse(self._reply.usage_chunk()))
            await _send_more(send, b"data: [DONE]\n\n")
        except AssistError as error:
            await self._fail(error, send)
            return
        except Exception:
            logger.exception("A request failed")
            await self._fail(unforeseen(), send)
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _begin(self, send: "Send") -> None:
        if self._has_begun:
            return
        self._has_begun = True
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

    async def _fail(self, error: AssistError, send: "Send") -> None:
        if not self._has_begun:
            await _send_response(failure(error), send)
            return
        await _send_more(send, _sse(openai_replies.error_object(error)))
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _with_pings(
    events: AsyncGenerator[Event, None], after_s: float
) -> AsyncGenerator[Event | None, None]:
    """The events, and None whenever none came for so long."""
    coming: asyncio.Task[Event] | None = None
    try:
        while True:
            coming = coming or asyncio.ensure_future(anext(events))
            done, _ = await asyncio.wait({coming}, timeout=after_s)
            if not done:
                yield None
                continue
            try:
                event = coming.result()
            except StopAsyncIteration:
                return
            coming = None
            yield event
    finally:
        if coming is not None and not coming.done():
            coming.cancel()
            with suppress(asyncio.CancelledError, StopAsyncIteration):
                await coming


async def _disconnected(receive: "Receive") -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def json_response(value: object, status: int = 200) -> Response:
    """A value as a whole response."""
    return Response(_dumped(value), status, media_type="application/json")


def failure(error: AssistError) -> Response:
    """An error as OpenAI's clients expect it."""
    logger.debug("Answered with an error: %s", error)
    response = json_response(openai_replies.error_object(error), openai_replies.status_of(error))
    response.headers["x-should-retry"] = "false"  # OpenAI's clients would ask three times
    return response


def unforeseen() -> ModelUnavailable:
    """What the caller is told of an exception that nobody foresaw; the log has it."""
    return ModelUnavailable("The engine failed; ask again, and see its log.")


def _sse(chunk: Mapping[str, object]) -> bytes:
    return b"data: " + _dumped(chunk) + b"\n\n"


def _dumped(value: object) -> bytes:
    """JSON in ASCII, so that no lone surrogate can break it; paths as text."""
    return json.dumps(value, default=str, separators=(",", ":"), allow_nan=False).encode("ascii")


async def _send_more(send: "Send", data: bytes) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": True})


async def _send_response(response: Response, send: "Send") -> None:
    await send(
        {
            "type": "http.response.start",
            "status": response.status_code,
            "headers": response.raw_headers,
        }
    )
    await send({"type": "http.response.body", "body": bytes(response.body), "more_body": False})
