"""Reading a prompt before it is asked, so that the answer starts at once.

One warm-up a chat: a newer one takes the place of an older. What is typed is read up to its last
whole word, whose tokens can no longer change; when the words rest, what is found for them is read
too, and the model may draw its first tokens. A question goes before every warm-up. Knows no editor
and no engine; a model that cannot be warmed says so.
"""

import asyncio
import functools
import logging
import re
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass

from lsp_assist.chat.tree import Turn
from lsp_assist.context import prompt
from lsp_assist.flows.prepare import (
    Prepared,
    Question,
    Workbench,
    complete,
    prepare,
    sampling_of,
)
from lsp_assist.llm import Message, Prompt, Usage, Warmable

__all__ = ["REPLACED", "Warmed", "Warmer", "whole_words"]

logger = logging.getLogger(__name__)

TYPED_AFTER_S = 0.12
"""A pause in typing that is worth a warm-up."""
REST_S = 0.5
"""A pause after which the question may be complete."""

REPLACED = "a newer warm-up of this chat took its place"
GAVE_WAY = "it gave way to a question"
_WHOLE_WORDS = re.compile(r"\A(.*\S)\s+\S*\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Warmed:
    """What a warm-up did."""

    n_tokens: int = 0
    """Of the prompt that is warm now."""
    n_cached: int = 0
    """Of these, those that were warm before."""
    ms: float = 0.0
    reason: str = ""
    """Why less was done than asked for, empty if nothing is missing."""


class Warmer:
    """The warm-ups that run. Used on one event loop; `close` at the end."""

    def __init__(self, *, typed_after_s: float = TYPED_AFTER_S, rest_s: float = REST_S) -> None:
        self._typed_after_s = typed_after_s
        self._rest_s = rest_s
        self._running: dict[str, asyncio.Task[Warmed]] = {}
        self._stopped: dict[asyncio.Task[Warmed], str] = {}

    async def warm(
        self,
        bench: Workbench,
        opening: Sequence[Message],
        path: Sequence[Turn],
        question: Question,
        told: Callable[[Usage], None] = lambda _: None,
        after_s: float = 0.0,
    ) -> Warmed:
        """Have read what the question would be asked with; ends when it is, or was replaced.

        Begins after `after_s`. `told` hears what each step took. Cancelling this stops the work.

        Raises: BadInput, ModelError
        """
        if not isinstance(bench.model, Warmable):
            return Warmed(reason=f"{bench.model.name} keeps nothing that could be warmed")
        is_typing = self._stop(question.chat_id, REPLACED)
        pause_s = max(after_s, self._typed_after_s if is_typing else 0.0)
        work = self._warm(bench, bench.model, (opening, path, question), pause_s, told)
        return await self._run(question.chat_id, work)

    def after_reply(
        self, bench: Workbench, opening: Sequence[Message], path: Sequence[Turn], chat_id: str
    ) -> None:
        """Have read, in the background, the end of a reply up to where the next question begins."""
        if not isinstance(bench.model, Warmable) or chat_id in self._running:
            return  # what is typed by now has this end before it
        asked = prompt.build(opening, path, Message("user", ()))
        task = asyncio.ensure_future(_read(bench.model, asked))
        self._running[chat_id] = task
        task.add_done_callback(functools.partial(self._ended, chat_id))

    def give_way(self) -> None:
        """Stop all warm-ups: a question comes. What they have read stays read."""
        for chat_id in list(self._running):
            self._stop(chat_id, GAVE_WAY)

    async def close(self) -> None:
        """Stop all warm-ups and wait until they have ended."""
        tasks = list(self._running.values())
        self.give_way()
        await asyncio.gather(*tasks, return_exceptions=True)

    # Below: how it is done.

    def _stop(self, chat_id: str, reason: str) -> bool:
        """Stop the warm-up of a chat; whether one ran."""
        task = self._running.pop(chat_id, None)
        if task is None:
            return False
        self._stopped[task] = reason
        task.cancel()
        return True

    async def _run(self, chat_id: str, work: Coroutine[None, None, Warmed]) -> Warmed:
        task = asyncio.ensure_future(work)
        self._running[chat_id] = task
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            task.cancel()
            raise
        finally:
            reason = self._stopped.pop(task, "")
            if self._running.get(chat_id) is task:
                del self._running[chat_id]
        return Warmed(reason=reason) if task.cancelled() else task.result()

    def _ended(self, chat_id: str, task: asyncio.Task[Warmed]) -> None:
        self._stopped.pop(task, None)
        if self._running.get(chat_id) is task:
            del self._running[chat_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.debug("The end of a reply was not warmed: %s", error)

    async def _warm(
        self,
        bench: Workbench,
        model: Warmable,
        asked: tuple[Sequence[Message], Sequence[Turn], Question],
        pause_s: float,
        told: Callable[[Usage], None],
    ) -> Warmed:
        opening, path, question = asked
        started = time.perf_counter()
        if pause_s:
            await asyncio.sleep(pause_s)
        prepared = await prepare(bench, opening, path, question)
        words = whole_words(question.text)
        typed = prompt.build(prepared.opening, path, _typed(prepared, question, words))
        usage = await model.warm(typed, priority="typed_warm_up")
        told(usage)
        n_cached = usage.cached_tokens
        if question.text.strip():
            await asyncio.sleep(self._rest_s)
            # Read again: the workspace may have changed while the words rested.
            prepared = await prepare(bench, opening, path, question)
            prepared = await complete(bench, prepared, question)
            usage = await model.warm(
                prepared.prompt,
                sampling=sampling_of(bench, question),
                priority="typed_warm_up",
                speculative=True,
            )
            told(usage)
        ms = (time.perf_counter() - started) * 1000
        return Warmed(usage.prompt_tokens, n_cached, ms, prepared.note)


def whole_words(text: str) -> str:
    """What is typed so far without its last word, which may go on; nothing of a single word."""
    match = _WHOLE_WORDS.match(text)
    return match[1].strip() if match else ""


def _typed(prepared: Prepared, question: Question, words: str) -> Message:
    """The question as far as it can no longer change."""
    if question.again is not None:
        return question.again
    return prompt.question_message(prepared.picked.pieces, question.manner, words)


async def _read(model: Warmable, asked: Prompt) -> Warmed:
    usage = await model.warm(asked, priority="background_warm_up")
    return Warmed(usage.prompt_tokens, usage.cached_tokens, usage.total_ms)
