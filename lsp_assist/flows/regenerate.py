"""Another reply to a question that was sent before: nothing is searched, the prompt is the same.

Knows the model through the workbench only.
"""

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from lsp_assist.chat.tree import Turn
from lsp_assist.context import prompt
from lsp_assist.flows import Asked, Done, Event, Step, Text
from lsp_assist.flows.question import Workbench
from lsp_assist.llm import Message, Usage

__all__ = ["answer_again"]


async def answer_again(
    bench: Workbench, opening: Sequence[Message], path: Sequence[Turn], message: Message
) -> AsyncGenerator[Event, None]:
    """The reply to a question as it was sent, word by word, after these turns.

    Raises: ModelError
    """
    started = time.perf_counter()
    yield Asked(message)
    yield Step("Answering once more")
    parts: list[str] = []
    usage = Usage(model=bench.model.name)
    first_text_ms = 0.0
    built = prompt.build(opening, path, message)
    async with aclosing(bench.model.stream(built, bench.sampling)) as deltas:
        async for delta in deltas:
            if delta.text:
                first_text_ms = first_text_ms or (time.perf_counter() - started) * 1000
                parts.append(delta.text)
                yield Text(delta.text)
            usage = delta.usage or usage
    total_ms = (time.perf_counter() - started) * 1000
    usage = replace(usage, route=bench.route, ttft_ms=first_text_ms, total_ms=total_ms)
    sources = dict.fromkeys(s.source for s in message.segments if s.source is not None)
    yield Done("".join(parts), tuple(sources), usage)
