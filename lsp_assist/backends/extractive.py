"""Answers without any model: what the index knows about the places found for the question.

The embedded default. It reads the prompt's segments and the facts that came with them, never code,
and says plainly that no model is configured. Knows no index and no editor.
"""

import time
from collections.abc import AsyncGenerator, Iterator, Sequence

from lsp_assist.llm import Delta, Prompt, Relation, Sampling, Segment, Usage

__all__ = ["ExtractiveModel"]

MAX_PLACES = 8
CHARS_PER_TOKEN = 3.5  # of code; only to give `count` a scale


class ExtractiveModel:
    """An `llm.Model` that quotes the index."""

    name = "extractive"

    def __init__(self, how_to_add_a_model: str) -> None:
        self._how_to_add_a_model = how_to_add_a_model

    async def stream(
        self,
        prompt: Prompt,
        sampling: Sampling,  # noqa: ARG002  # nothing is drawn
    ) -> AsyncGenerator[Delta, None]:
        """The answer, one place a piece."""
        started = time.perf_counter()
        first_ms = 0.0
        for text in _answer(prompt, self._how_to_add_a_model):
            first_ms = first_ms or (time.perf_counter() - started) * 1000
            yield Delta(text)
        total_ms = (time.perf_counter() - started) * 1000
        yield Delta(usage=Usage(model=self.name, ttft_ms=first_ms, total_ms=total_ms))

    async def count(self, text: str) -> int:
        """An estimate; this model has no tokenizer."""
        return round(len(text) / CHARS_PER_TOKEN)

    async def window(self) -> int | None:
        """No limit."""
        return None

    async def close(self) -> None:
        """Nothing to free."""


def _answer(prompt: Prompt, how_to_add_a_model: str) -> Iterator[str]:
    places = _distinct(prompt.of_kind("selection", "hit"))[:MAX_PLACES]
    if not places:
        yield (
            "Nothing in this workspace matches the question. Try the names that the code would use"
            " for it.\n"
        )
    elif places[0].kind == "hit":
        where = _title(places[0])
        yield f"The place to look first is {where}.\n\n"
    for number, segment in enumerate(places, start=1):
        yield _place(number, segment)
    yield (
        "_No model is configured: this answer is quoted from the index of your code."
        f" {how_to_add_a_model}_\n"
    )


def _distinct(segments: Sequence[Segment]) -> list[Segment]:
    """The first segment of each symbol; parts of one long function are one place."""
    seen: set[tuple[str, str]] = set()
    kept: list[Segment] = []
    for segment in segments:
        if segment.source is None:
            continue
        key = (segment.source.path, segment.source.symbol or str(segment.source.start_line))
        if key not in seen:
            seen.add(key)
            kept.append(segment)
    return kept


def _title(segment: Segment) -> str:
    assert segment.source is not None
    source = segment.source
    return f"`{source.symbol}` at {source.place}" if source.symbol else source.place


def _place(number: int, segment: Segment) -> str:
    facts = segment.facts
    lines = [f"{number}. {_title(segment)}" + (f" ({facts.kind})" if facts else "")]
    if facts is not None:
        if facts.signature:
            lines.append(f"   `{facts.signature.replace('`', chr(39))}`")
        if facts.summary:
            lines.append(f"   {facts.summary}")
        lines += _related("Called by", facts.callers)
        lines += _related("Calls", facts.callees)
    return "\n".join(lines) + "\n\n"


def _related(label: str, relations: Sequence[Relation]) -> list[str]:
    if not relations:
        return []
    named = ", ".join(f"`{r.name}` {r.source.place}" for r in relations)
    return [f"   {label}: {named}"]
