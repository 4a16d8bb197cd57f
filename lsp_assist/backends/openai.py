"""A model behind an OpenAI-compatible server: our engine, llama-server, Ollama, LM Studio, vLLM.

Knows no engine process and no prompt layout. A server that is lost in the middle of a reply can be
found again and asked again: what was shown already is dropped from the second reply, which the seed
makes the same; where it is not the same after all, the reply ends with an error that says so.
"""

import asyncio
import itertools
import logging
import math
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import TypeVar, cast

from lsp_assist.backends.openai_wire import Connection, Json, Lost, Refused, Server
from lsp_assist.errors import ModelUnavailable
from lsp_assist.llm import (
    Delta,
    Message,
    ModelFacts,
    ModelState,
    Prompt,
    Sampling,
    Segment,
    Usage,
    WarmPriority,
)

__all__ = ["OpenAIModel", "Server"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

_DEFAULT = Sampling()
_ANY = Prompt((Message("user", (Segment("question", "?"),)),))

CHARS_PER_TOKEN = 3.0  # fewer than code has: an estimate must not overflow a window
_STATES: dict[str, ModelState] = {"asleep": "asleep", "loading": "loading"}
_NOT_THERE = (400, 404, 405, 422, 501)


class OpenAIModel:
    """An `llm.Model` over HTTP. Connects at the first call."""

    def __init__(
        self, name: str, find: Callable[[], Awaitable[Server]], *, n_repeats: int = 0
    ) -> None:
        """`find` tells the server, and starts it where it can: at the first call, and again when
        the server was lost, up to `n_repeats` times for one call.
        """
        self.name = name
        self._find = find
        self._n_repeats = n_repeats
        self._connection: Connection | None = None
        self._connecting = asyncio.Lock()
        self._window: int | None = None
        self._counts_tokens = True
        self._n_warm = 0
        self._is_closed = False

    async def stream(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Delta, None]:
        """The reply, piece by piece; closing the generator closes the connection, which cancels.

        Raises: ContextTooLong, ModelFileError, ModelUnavailable
        """
        started = time.perf_counter()
        if sampling.seed is None:  # ours, so that the reply can be repeated
            sampling = replace(sampling, seed=secrets.randbits(31))
        shown: list[str] = []
        for n_lost in itertools.count():
            unseen = _Unseen("".join(shown))
            connection = await self._connected()
            deltas = _replied(connection, prompt, sampling, started)
            try:
                async with aclosing(deltas):
                    async for delta in deltas:
                        if text := unseen.part_of(delta.text):
                            shown.append(text)
                            yield Delta(text)
                        if delta.usage is not None:
                            unseen.check_end()
                            yield Delta(usage=replace(delta.usage, model=self.name))
                return
            except Lost as error:
                await self._give_up(connection, error, n_lost)
            except Refused as refused:
                raise refused.error from refused

    async def warm(
        self,
        prompt: Prompt,
        *,
        sampling: Sampling = _DEFAULT,
        priority: WarmPriority = "background_warm_up",
        speculative: bool = False,
    ) -> Usage:
        """Has the prompt read and nothing answered, and tells what that took.

        `speculative`: an engine also samples the first tokens, for a question that is complete and
        will be asked with this `sampling`, its seed included.

        Raises: ContextTooLong, ModelFileError, ModelUnavailable
        """
        started = time.perf_counter()

        async def ask(connection: Connection, n_tokens: int) -> Json:
            said = _said(connection.server, prompt, replace(sampling, max_tokens=n_tokens))
            if connection.server.takes_llama_keys:
                said |= {"priority": priority, "speculative": speculative}
            return await connection.posted("/v1/chat/completions", said)

        async def warmed(connection: Connection) -> Json:
            try:
                return await ask(connection, self._n_warm)
            except Refused as refused:
                if self._n_warm or refused.status not in (400, 422):
                    raise
                reply = await ask(connection, 1)  # as vLLM wants it
                self._n_warm = 1
                return reply

        usage = _usage(await self._done(warmed), 0)
        total_ms = (time.perf_counter() - started) * 1000
        return replace(usage, model=self.name, ttft_ms=total_ms, total_ms=total_ms)

    async def count(self, text: str) -> int:
        """How many tokens the text has; estimated where the server does not tell.

        Raises: ModelFileError, ModelUnavailable
        """

        async def counted(connection: Connection) -> int | None:
            body = {"content": text, "model": connection.server.model}
            try:
                tokens = (await connection.posted("/tokenize", body)).get("tokens")
            except Refused as refused:
                if refused.status not in _NOT_THERE:
                    raise
                return None
            return len(tokens) if isinstance(tokens, list) else None

        n_tokens = await self._done(counted) if self._counts_tokens else None
        if n_tokens is not None:
            return n_tokens
        if self._counts_tokens:
            self._counts_tokens = False
            logger.info("%s does not count tokens; they are estimated", self.name)
        return math.ceil(len(text) / CHARS_PER_TOKEN)

    async def window(self) -> int | None:
        """The context window in tokens, where the server tells it.

        Raises: ModelFileError, ModelUnavailable
        """

        async def told(connection: Connection) -> int | None:
            for place, read in (("/v1/models", _listed_window), ("/props", _running_window)):
                try:
                    window = read(await connection.got(place), connection.server.model)
                except Refused as refused:
                    if refused.status not in _NOT_THERE:
                        raise
                    continue
                if window is not None:
                    return window
            return None

        if self._window is None:
            self._window = await self._done(told)
        return self._window

    async def facts(self) -> ModelFacts:
        """How the model is now; of other servers than our engine only its window is known.

        Raises: ModelFileError, ModelUnavailable
        """

        async def told(connection: Connection) -> Json | None:
            if not connection.server.takes_llama_keys:
                return None
            listed = (await connection.got("/v1/models")).get("data")
            found = listed if isinstance(listed, list) else []
            mine = (m for m in found if isinstance(m, dict) and m["id"] == connection.server.model)
            meta = next(mine, {}).get("meta")
            return meta if isinstance(meta, dict) else None

        meta = await self._done(told)
        if meta is None:
            return ModelFacts(window=await self.window())
        problem = str(meta.get("problem") or "")
        state = _STATES.get(str(meta.get("state")), "ready")
        fork = meta.get("can_fork_cheaply")
        return ModelFacts(
            state="unusable" if problem else state,
            problem=problem,
            window=_whole(meta.get("n_ctx")) or None,
            n_bytes=_whole(meta.get("size")) or None,
            can_fork_cheaply=fork if isinstance(fork, bool) and not problem else None,
            is_append_only=await self.is_append_only() if state == "ready" else None,
        )

    async def n_warm(self, prompt: Prompt) -> int | None:
        """How many tokens of the prompt our engine would not compute; None for other servers.

        Raises: ModelFileError, ModelUnavailable
        """
        warmth = await self._warmth(prompt)
        return None if warmth is None else _whole(warmth.get("n_warm"))

    async def is_append_only(self) -> bool | None:
        """Whether the chat template of our engine's model keeps what was read; None for others.

        Raises: ModelFileError, ModelUnavailable
        """
        warmth = await self._warmth(_ANY)
        found = None if warmth is None else warmth.get("is_append_only")
        return found if isinstance(found, bool) else None

    async def _warmth(self, prompt: Prompt) -> Json | None:
        """What our engine says of a prompt; None where it is another server, or older."""

        async def told(connection: Connection) -> Json | None:
            if not connection.server.takes_llama_keys:
                return None
            said = _said(connection.server, prompt, _DEFAULT)
            body = {name: said[name] for name in ("model", "messages")}
            try:
                return await connection.posted("/warmth", body)
            except Refused as refused:
                if refused.status not in _NOT_THERE:
                    raise
                return None

        return await self._done(told)

    async def close(self) -> None:
        """Closes the connections; what runs ends."""
        self._is_closed = True
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    # ---- the connection

    async def _connected(self) -> Connection:
        """The connection, made now if there is none."""
        async with self._connecting:
            if self._is_closed:
                raise ModelUnavailable(f"The model {self.name!r} was closed; ask again.")
            if self._connection is None:
                self._connection = Connection(await self._find())
            return self._connection

    async def _give_up(self, connection: Connection, error: Lost, n_lost: int) -> None:
        """Forget a server that was lost, so that the next try finds it anew.

        Raises: ModelUnavailable when it was lost too often
        """
        if self._connection is connection:
            self._connection = None
            await connection.close()
        if self._is_closed or n_lost >= self._n_repeats:
            place = connection.server.place
            again = "; see its log" if n_lost else ""
            often = f" {n_lost + 1} times" if n_lost else ""
            raise ModelUnavailable(
                f"{place} was lost{often} ({error}){again}; check that it runs, and ask again."
            ) from error
        logger.warning("%s was lost (%s); it is asked again", connection.server.place, error)

    async def _done(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """The result of a request that can be repeated."""
        for n_lost in itertools.count():
            connection = await self._connected()
            try:
                return await work(connection)
            except Lost as error:
                await self._give_up(connection, error, n_lost)
            except Refused as refused:
                raise refused.error from refused
        raise AssertionError("counting never ends")


# ---- replies -------------------------------------------------------------------------------


async def _replied(
    connection: Connection, prompt: Prompt, sampling: Sampling, started: float
) -> AsyncGenerator[Delta, None]:
    """One try at a reply: its text, and at the end the usage.

    Raises: Lost, Refused, ModelUnavailable
    """
    server = connection.server
    body = {
        **_said(server, prompt, sampling),
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    told: dict[str, object] = {}
    n_pieces = 0
    is_over = False
    first_text_at = 0.0
    async with aclosing(connection.events("/v1/chat/completions", body)) as chunks:
        while True:
            try:
                # Waiting is bounded here, not around the loop: a reader may take its time.
                async with asyncio.timeout(None if first_text_at else _left_s(server, started)):
                    chunk = await anext(chunks)
            except StopAsyncIteration:
                break
            except TimeoutError as error:
                raise ModelUnavailable(
                    f"{server.place} gave no text within {server.first_text_s:g} s; ask for less, "
                    "or take a smaller model."
                ) from error
            except Lost:
                if is_over:  # all was said, and the end of it did not come through
                    break
                raise
            told |= {name: chunk[name] for name in ("usage", "timings") if chunk.get(name)}
            text, has_ended = _choice_of(chunk)
            is_over = is_over or has_ended
            if text:
                first_text_at = first_text_at or time.perf_counter()
                n_pieces += 1
                yield Delta(text)
    now = time.perf_counter()
    usage = replace(
        _usage(told, n_pieces),
        ttft_ms=((first_text_at or now) - started) * 1000,
        total_ms=(now - started) * 1000,
    )
    logger.debug("%s", usage)
    yield Delta(usage=usage)


def _left_s(server: Server, started: float) -> float | None:
    """How long the first text may still take."""
    if math.isinf(server.first_text_s):
        return None
    return max(0.0, started + server.first_text_s - time.perf_counter())


class _Unseen:
    """Of a reply that is given again, the part that was not shown before."""

    def __init__(self, shown: str) -> None:
        self._shown = shown

    def part_of(self, text: str) -> str:
        """What is new of the next piece.

        Raises: ModelUnavailable if it is another reply
        """
        n = min(len(self._shown), len(text))
        if text[:n] != self._shown[:n]:
            raise self._difference()
        self._shown = self._shown[n:]
        return text[n:]

    def check_end(self) -> None:
        """Refuse a reply that ends before all that was shown has come again.

        Raises: ModelUnavailable
        """
        if self._shown:
            raise self._difference()

    def _difference(self) -> ModelUnavailable:
        return ModelUnavailable(
            "The model was lost in the middle of this reply, and began another one when asked "
            "again; what stands here is the first half. Ask again."
        )


def _said(server: Server, prompt: Prompt, sampling: Sampling) -> dict[str, object]:
    """The body of a request."""
    said: dict[str, object] = {
        "model": server.model,
        "messages": [{"role": m.role, "content": m.text} for m in prompt.messages],
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
    }
    if sampling.seed is not None:
        said["seed"] = sampling.seed
    if sampling.stop:
        said["stop"] = list(sampling.stop)
    if server.takes_llama_keys:
        said["top_k"] = sampling.top_k
        said["min_p"] = sampling.min_p
        said["repeat_penalty"] = sampling.repeat_penalty
    return said


# ---- what servers say, which may be anything -----------------------------------------------


def _choice_of(chunk: Json) -> tuple[str, bool]:
    """The text of a chunk, and whether it is the last one."""
    choices = chunk.get("choices")
    choice = _object(choices[0]) if isinstance(choices, list) and choices else {}
    text = _object(choice.get("delta")).get("content")
    return text if isinstance(text, str) else "", choice.get("finish_reason") is not None


def _usage(said: Json, n_pieces: int) -> Usage:
    """The tokens that a reply took; where the server does not tell, its pieces are counted."""
    usage, timings = _object(said.get("usage")), _object(said.get("timings"))
    details = _object(usage.get("prompt_tokens_details"))
    cached = _whole(details.get("cached_tokens"))
    n_cached = _whole(timings.get("cache_n")) if cached is None else cached
    n_out = _whole(usage.get("completion_tokens"))
    return Usage(
        prompt_tokens=_whole(usage.get("prompt_tokens")) or 0,
        cached_tokens=n_cached or 0,
        output_tokens=n_pieces if n_out is None else n_out,
    )


def _listed_window(said: Json, model: str) -> int | None:
    """The window in the list of models, under one of the names that it has there."""
    models = said.get("data")
    for found in map(_object, models if isinstance(models, list) else []):
        if found.get("id") == model:
            meta = _object(found.get("meta"))
            for value in (
                meta.get("n_ctx"),  # ours
                found.get("max_model_len"),  # vLLM
                found.get("max_context_length"),  # LM Studio
                found.get("context_length"),
                found.get("context_window"),
            ):
                if window := _whole(value):
                    return window
    return None


def _running_window(said: Json, _model: str) -> int | None:
    """The window in llama-server's properties; its list has what the model was trained with."""
    return _whole(_object(said.get("default_generation_settings")).get("n_ctx"))


def _object(value: object) -> Json:
    return cast("Json", value) if isinstance(value, dict) else {}


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
