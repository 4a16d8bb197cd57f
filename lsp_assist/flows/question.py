"""A question about the workspace and its answer.

Makes the prompt ready and streams the reply. Knows the workspace and the model through the
workbench only.
"""

import logging
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from lsp_assist.chat.tree import Turn
from lsp_assist.context.pick import Selection
from lsp_assist.flows import Asked, Done, Event, Opened, Step, Text
from lsp_assist.flows.prepare import (
    MAX_QUESTION_CHARS,
    Prepared,
    Question,
    Workbench,
    check,
    complete,
    prepare,
    sampling_of,
)
from lsp_assist.llm import Message, Usage

__all__ = ["MAX_QUESTION_CHARS", "Question", "Selection", "Workbench", "answer", "check"]

logger = logging.getLogger(__name__)


async def answer(
    bench: Workbench, opening: Sequence[Message], path: Sequence[Turn], question: Question
) -> AsyncGenerator[Event, None]:
    """The reply to a question after these turns: steps, text, and at the end what it took.

    A chat without an `opening` gets one, and `Opened` tells it. `Asked` comes before the first
    text, with the message as it was sent, frozen from then on. A question that is answered once
    more is sent as it was, and nothing is searched.

    Raises: BadInput, ModelError
    """
    started = time.perf_counter()
    check(question)
    yield Step("Searching the workspace" if question.again is None else "Answering once more")
    prepared = await prepare(bench, opening, path, question)
    prepared = await complete(bench, prepared, question)
    if prepared.note:
        yield Step(prepared.note)
    if not opening:
        yield Opened(prepared.opening)
    yield Asked(prepared.message)
    yield Step(_reading(prepared))
    parts: list[str] = []
    usage = Usage(model=bench.model.name)
    first_text_ms = 0.0
    reply = bench.model.stream(prepared.prompt, sampling_of(bench, question))
    async with aclosing(reply) as deltas:
        async for delta in deltas:
            if delta.text:
                first_text_ms = first_text_ms or (time.perf_counter() - started) * 1000
                parts.append(delta.text)
                yield Text(delta.text)
            usage = delta.usage or usage
    total_ms = (time.perf_counter() - started) * 1000
    usage = replace(usage, route=bench.route, ttft_ms=first_text_ms, total_ms=total_ms)
    logger.debug(
        "Answered in %.0f ms: %d + %d tokens", total_ms, usage.prompt_tokens, usage.output_tokens
    )
    yield Done("".join(parts), prepared.sources, usage)


def _reading(prepared: Prepared) -> str:
    """What is read for the question, and how much was left out."""
    n_shown, n_left_out = len(prepared.sources), len(prepared.picked.left_out)
    places = "1 place" if n_shown == 1 else f"{n_shown} places"
    told = f"Reading {places}"
    if prepared.pack is not None and prepared.pack.kind == "whole":
        told = f"Reading the whole project ({prepared.n_tokens:,} tokens)"
    return told + (f"; {n_left_out} more did not fit" if n_left_out else "")
