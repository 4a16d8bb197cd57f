"""What a client asks, as the assistant takes it; and the requests that look at it or warm it.

Knows places and messages; not how an answer is made, and no event.
"""

from collections.abc import Sequence

from lsp_assist.assistant import Assistant, Estimate, Preview, Question, Warmed
from lsp_assist.codebase.documents import Encoding
from lsp_assist.context.code import FileKey
from lsp_assist.context.pick import LeftOut, Note, Wanted
from lsp_assist.errors import BadInput
from lsp_assist.server import places
from lsp_assist.server.protocol import (
    AskParams,
    Context,
    ContextResult,
    LeftOutInfo,
    ModelChoiceInfo,
    ModelsResult,
    PieceInfo,
    ProblemContext,
    WarmResult,
    structure,
    unstructure,
)

__all__ = ["context", "models", "question_of", "warm"]

SHOWN_LEFT_OUT = 100


def question_of(assistant: Assistant, encoding: Encoding, params: object) -> Question:
    """The question in the params of `assist/ask`, `assist/warm` and `assist/context`.

    Raises: BadInput, which names the field
    """
    asked = structure(AskParams, params)
    selected = asked.context.selection
    return Question(
        text=asked.text,
        chat_id=asked.chat_id,
        turn_id=asked.turn_id,
        parent_turn_id=asked.parent_turn_id,
        mode=asked.mode,
        personality=asked.personality,
        model=asked.model,
        beside_turn_id=asked.beside_turn_id,
        selection=places.selection(
            assistant, encoding, selected.uri, selected.range, field="context.selection"
        )
        if selected
        else None,
        wanted=_wanted(assistant, asked.context),
    )


async def warm(assistant: Assistant, question: Question) -> object:
    """The result of `assist/warm`."""
    warmed: Warmed = await assistant.warm(question)
    found = WarmResult(warmed.n_tokens, warmed.n_cached, round(warmed.ms, 3), warmed.reason or None)
    return unstructure(found)


async def models(assistant: Assistant) -> object:
    """The result of `assist/models`."""
    return unstructure(
        ModelsResult(
            tuple(
                ModelChoiceInfo(
                    name=model.name,
                    path=model.path,
                    why=model.route,
                    state=model.facts.state,
                    problem=model.facts.problem or None,
                    window=model.facts.window,
                    bytes=model.facts.n_bytes,
                    can_fork_cheaply=model.facts.can_fork_cheaply,
                    rewrites_turns=None
                    if model.facts.is_append_only is None
                    else not model.facts.is_append_only,
                )
                for model in await assistant.models()
            )
        )
    )


async def context(assistant: Assistant, question: Question) -> object:
    """The result of `assist/context`."""
    preview, estimate = await assistant.context(question)
    return unstructure(_result(assistant, preview, estimate))


def _wanted(assistant: Assistant, said: Context) -> Wanted | None:
    """What the user named; None where they named nothing beside the selection."""
    wanted = Wanted(
        files=tuple(_key(assistant, uri) for uri in said.files),
        buffers=said.buffers,
        tags=said.tags,
        project=said.project,
        diff=said.diff,
        diagnostics=_problems(assistant, said.diagnostics),
        notes=tuple(Note(note.title, note.text) for note in said.text),
    )
    return None if wanted == Wanted() else wanted


def _key(assistant: Assistant, uri: str) -> FileKey:
    path = places.path_of(uri)
    place = places.innermost_root(assistant.workspace.roots, path) if path is not None else None
    if place is None:
        raise BadInput(f"{uri!r} is no file of the workspace.", field="context.files")
    return FileKey(str(place[0]), place[1].as_posix())


def _problems(assistant: Assistant, said: Sequence[ProblemContext]) -> tuple[str, ...]:
    """Each problem in a line, with its place."""
    lines = []
    for problem in said:
        path = places.path_of(problem.uri)
        place = places.innermost_root(assistant.workspace.roots, path) if path else None
        shown = place[1].as_posix() if place is not None else problem.uri
        line = problem.range.start.line + 1
        lines.append(f"{shown}:{line}: {' '.join(problem.message.split())}")
    return tuple(lines)


def _result(assistant: Assistant, preview: Preview, estimate: Estimate) -> ContextResult:
    pieces = tuple(
        PieceInfo(
            kind=piece.kind,
            level=piece.level,
            tokens=piece.n_tokens,
            why=piece.reason,
            uri=places.uri_of(assistant, piece.source.root, piece.source.path)
            if piece.source
            else None,
            path=piece.source.path if piece.source else None,
            start_line=piece.source.start_line if piece.source else None,
            end_line=piece.source.end_line if piece.source else None,
        )
        for piece in preview.pieces
    )
    return ContextResult(
        model=estimate.model,
        pieces=pieces,
        tokens=estimate.n_tokens,
        history_tokens=preview.n_history,
        warm=estimate.n_warm,
        cold=estimate.n_cold,
        seconds=None if estimate.seconds is None else round(estimate.seconds, 3),
        cost_usd=estimate.cost_usd,
        window=preview.window,
        reason=preview.reason,
        left_out=tuple(map(_left_out, preview.left_out[:SHOWN_LEFT_OUT])),
        n_left_out=len(preview.left_out),
        n_files_not_shown=preview.n_not_packed,
        note=" ".join(filter(None, (preview.note, estimate.note))),
    )


def _left_out(found: LeftOut) -> LeftOutInfo:
    source = found.source
    return LeftOutInfo(
        source.path, source.start_line, source.end_line, found.n_tokens, found.reason
    )
