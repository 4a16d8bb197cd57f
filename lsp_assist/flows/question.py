"""A question about the workspace and its answer.

Searches, picks what fits, lays out the prompt and streams the reply. Knows the index and the model
through the workbench only.
"""

import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from lsp_assist.chat.tree import Turn
from lsp_assist.codebase.index import Passage
from lsp_assist.context import modes, pick, prompt
from lsp_assist.context.pick import Selection
from lsp_assist.errors import BadInput
from lsp_assist.flows import Asked, Done, Event, Opened, Step, Text
from lsp_assist.llm import Message, Model, Sampling, Source, Usage

__all__ = ["Question", "Selection", "Workbench", "answer"]

logger = logging.getLogger(__name__)

MAX_PASSAGES = 8
MAX_QUESTION_CHARS = 200_000
# A share of the window for what is found now; the rest is for the turns that follow.
PIECES_SHARE = 0.4


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. Ids are made by the client."""

    text: str
    chat_id: str
    turn_id: str
    parent_turn_id: str | None = None
    """None continues the chat after its last turn."""
    mode: str = ""
    selection: Selection | None = None


@dataclass(frozen=True, slots=True)
class Workbench:
    """What a question is answered with."""

    model: Model
    sampling: Sampling
    route: str
    """Why this model answers."""
    find: Callable[[str, int], Awaitable[Sequence[Passage]]]
    """The best places for a query, with their text as it stands now."""
    symbol_at: Callable[[Selection], Awaitable[Passage | None]]
    """The symbol that a selection is about."""


def check(question: Question) -> None:
    """Refuse what can not be asked.

    Raises: BadInput
    """
    modes.instructions(question.mode)
    if not question.text.strip() and question.selection is None:
        raise BadInput("The question is empty; type one or select some code.", field="text")
    if len(question.text) > MAX_QUESTION_CHARS:
        raise BadInput(
            f"The question has {len(question.text):,} characters; at most {MAX_QUESTION_CHARS:,} "
            "can be asked. Put long text into a file of the workspace.",
            field="text",
        )


async def answer(
    bench: Workbench, opening: Sequence[Message], path: Sequence[Turn], question: Question
) -> AsyncGenerator[Event, None]:
    """The reply to a question after these turns: steps, text, and at the end what it took.

    A chat without an `opening` gets one, and `Opened` tells it. `Asked` comes before the first
    text, with the message as it was sent, frozen from then on.

    Raises: BadInput, ModelError
    """
    started = time.perf_counter()
    check(question)
    yield Step("Searching the workspace")
    query = pick.query_of(question.text, question.selection, _question_text(path))
    passages = await bench.find(query, MAX_PASSAGES)
    selected = await bench.symbol_at(question.selection) if question.selection else None
    window = await bench.model.window()
    budget = None if window is None else int((window - bench.sampling.max_tokens) * PIECES_SHARE)
    picked = await pick.pick(question.selection, selected, passages, budget, bench.model.count)
    text = question.text if question.text.strip() else _default_question(question.mode)
    message = prompt.question_message(picked.pieces, modes.instructions(question.mode), text)
    sources = tuple(s.source for s in picked.pieces if s.source is not None)
    if not opening:
        opening = (prompt.SYSTEM,)
        yield Opened(opening)
    yield Asked(message)
    yield Step(_reading(len(sources), len(picked.left_out)))
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
    logger.debug(
        "Answered in %.0f ms: %d + %d tokens", total_ms, usage.prompt_tokens, usage.output_tokens
    )
    yield Done("".join(parts), _distinct(sources), usage)


def _question_text(path: Sequence[Turn]) -> str:
    """What was asked last, without the pieces that were shown with it."""
    segments = path[-1].question.segments if path else ()
    return " ".join(segment.text for segment in segments if segment.kind == "question")


def _default_question(mode: str) -> str:
    """The question of a code action on a selection, where nothing was typed."""
    return f"{mode.capitalize()} the selected code." if mode else "What does this code do?"


def _reading(n_shown: int, n_left_out: int) -> str:
    places = "1 place" if n_shown == 1 else f"{n_shown} places"
    return f"Reading {places}" + (f"; {n_left_out} more did not fit" if n_left_out else "")


def _distinct(sources: Sequence[Source]) -> tuple[Source, ...]:
    return tuple(dict.fromkeys(sources))
