"""What a question would be sent with, before it is: pieces, reasons, tokens, seconds, money.

Goes the way of a question up to the model and stops there. Knows no editor and no terminal.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lsp_assist.chat.tree import Turn
from lsp_assist.context.pick import LeftOut
from lsp_assist.flows.prepare import Prepared, Question, Workbench, check, complete, prepare
from lsp_assist.llm import Level, Message, Prompt, SegmentKind, Source

__all__ = ["Piece", "Preview", "preview"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of the prompt."""

    kind: SegmentKind
    level: Level
    source: Source | None
    n_tokens: int
    reason: str
    """Why it is shown."""


@dataclass(frozen=True, slots=True)
class Preview:
    """A question as it would be sent."""

    pieces: tuple[Piece, ...]
    """In the order of the prompt."""
    n_tokens: int
    n_history: int
    """Of these, the turns before the question."""
    window: int | None
    """Tokens that the prompt may have, None where there is no limit that we know."""
    pack_kind: str
    reason: str
    """Why so much of the project is shown, empty for a chat that goes on."""
    left_out: tuple[LeftOut, ...]
    n_not_packed: int
    """Files of the project that the pack does not show."""
    note: str
    prompt: Prompt
    """For who wants to know how much of it is warm."""


async def preview(
    bench: Workbench, opening: Sequence[Message], path: Sequence[Turn], question: Question
) -> Preview:
    """The question as it would be sent now.

    Raises: BadInput, ContextTooLong, ModelError
    """
    check(question)
    prepared = await prepare(bench, opening, path, question)
    prepared = await complete(bench, prepared, question)
    segments = [*(s for m in prepared.opening for s in m.segments), *prepared.message.segments]
    n_each = await bench.counts.of_each(segment.text for segment in segments)
    history = [m for turn in path for m in (turn.question, turn.reply)]
    n_history = await bench.counts.of_messages(history)
    reasons = _reasons(prepared)
    pieces = tuple(
        Piece(s.kind, s.level, s.source, n, reasons.get(id(s), _WHY.get(s.kind, _SENT)))
        for s, n in zip(segments, n_each, strict=True)
        if s.text.strip()
    )
    pack = prepared.pack
    return Preview(
        pieces=pieces,
        n_tokens=prepared.n_tokens or sum(n_each) + n_history,
        n_history=n_history,
        window=prepared.free_tokens,
        pack_kind=pack.kind if pack else "",
        reason=pack.reason if pack else "",
        left_out=prepared.picked.left_out,
        n_not_packed=len(pack.left_out) if pack else 0,
        note=prepared.note,
        prompt=prepared.prompt,
    )


_SENT = "it was sent with the question"
_WHY: dict[SegmentKind, str] = {
    "system": "it is the same for every chat",
    "memory": "you told so",
    "pack": "it belongs to the project",
    "mode": "how to answer",
    "question": "you asked it",
}


def _reasons(prepared: Prepared) -> dict[int, str]:
    """Why each segment that was picked is shown, by its identity: two may be equal."""
    picked = prepared.picked
    return {id(s): why for s, why in zip(picked.pieces, picked.reasons, strict=True)}
