"""What a question is sent with: the one place where a prompt is made ready.

Answering, warming and previewing all come through here, so that what is warmed and what is shown
beforehand is what will be sent, token by token. Two steps: `prepare` looks at everything but the
words of the question, `complete` adds what is found for them. Knows the workspace and the model
through the workbench only.
"""

import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from lsp_assist.chat.tree import Turn
from lsp_assist.codebase.index import Passage
from lsp_assist.context import changes, pick, prompt
from lsp_assist.context.changes import Shown
from lsp_assist.context.code import Code, FileKey, ProjectFile
from lsp_assist.context.pack import NO_PACK, Pack
from lsp_assist.context.pick import Picked, Selection, Tray, Wanted
from lsp_assist.context.tokens import TokenCounts
from lsp_assist.errors import BadInput, ContextTooLong
from lsp_assist.flows.openings import Openings
from lsp_assist.llm import Message, Model, Prompt, Sampling, Segment, Source, Warmable

__all__ = [
    "MAX_QUESTION_CHARS",
    "Prepared",
    "Question",
    "Workbench",
    "check",
    "complete",
    "prepare",
    "sampling_of",
]

logger = logging.getLogger(__name__)

MAX_PASSAGES = 8
MAX_QUESTION_CHARS = 200_000
PACK_SHARE = 0.6
PIECES_SHARE = 0.3
"""Shares of what the window has for a prompt; the rest is for the turns that follow."""
ASSUMED_WINDOW = 8_192
"""Tokens, where a server does not tell."""
_RESERVED_TOKENS = 256
"""For the question, while it is not known."""
_AROUND_HITS = 24
"""Tokens that stand around what is found."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. Ids are made by the client."""

    text: str
    chat_id: str
    turn_id: str
    parent_turn_id: str | None = None
    """None continues the chat after its last turn."""
    mode: str = ""
    personality: str = ""
    model: str = ""
    """The one to answer; the usual one if empty."""
    selection: Selection | None = None
    wanted: Wanted | None = None
    """None leaves it to us what is shown beside the selection."""
    beside_turn_id: str | None = None
    """A turn that this one stands beside, after the same parent: asked in other words, or, where
    nothing is said, answered once more."""
    manner: str = ""
    """What mode and personality say about how to answer; it travels with the question."""
    again: Message | None = None
    """A question as it was sent, to be answered once more: nothing else is looked at."""


@dataclass(frozen=True, slots=True)
class Workbench:
    """What a question is answered with."""

    model: Model
    sampling: Sampling
    reserved_tokens: int
    """Kept free for a reply. The same in every mode, so that all chats of a project begin alike;
    a longer reply ends where the window does."""
    route: str
    """Why this model answers."""
    find: Callable[[str, int], Awaitable[Sequence[Passage]]]
    """The best places for a query, with their text as it stands now."""
    symbol_at: Callable[[Selection], Awaitable[Passage | None]]
    """The symbol that a selection is about."""
    related: Callable[[Passage], Awaitable[Passage]]
    """A passage with who calls its symbol and whom it calls, for models that read no code."""
    code: Code
    counts: TokenCounts
    openings: Openings


@dataclass(frozen=True, slots=True)
class Prepared:
    """A question as it would be sent, and what is known about that."""

    opening: tuple[Message, ...]
    pack: Pack | None
    """Of a chat that begins with this question, None for one that goes on."""
    path: tuple[Turn, ...]
    message: Message
    picked: Picked
    """The pieces that are shown with this question."""
    sources: tuple[Source, ...]
    """What the reply is given to read for this question: shown with it, or found in the pack."""
    known: Mapping[FileKey, Shown]
    files: Mapping[FileKey, ProjectFile]
    free_tokens: int | None
    """That the prompt may have, None where there is no limit."""
    n_tokens: int = 0
    """Of the prompt; 0 where nothing is counted."""
    note: str = ""
    """What the user should know, empty if there is nothing."""

    @property
    def prompt(self) -> Prompt:
        """All of it."""
        return prompt.build(self.opening, self.path, self.message)


def check(question: Question) -> None:
    """Refuse what can not be asked.

    Raises: BadInput
    """
    is_said = question.text.strip() or question.selection is not None
    if not is_said and question.again is None:
        raise BadInput("The question is empty; type one or select some code.", field="text")
    if len(question.text) > MAX_QUESTION_CHARS:
        raise BadInput(
            f"The question has {len(question.text):,} characters; at most {MAX_QUESTION_CHARS:,} "
            "can be asked. Put long text into a file of the workspace.",
            field="text",
        )


def sampling_of(bench: Workbench, question: Question) -> Sampling:
    """How the reply to this question is drawn.

    The seed comes from the turn, so that a reply can be begun before it is asked for, and asking
    again in a new turn gives another one.
    """
    if bench.sampling.seed is not None:
        return bench.sampling
    name = f"{question.chat_id}\0{question.turn_id}".encode()
    seed = int.from_bytes(hashlib.blake2b(name, digest_size=4).digest()) >> 1
    return replace(bench.sampling, seed=seed)


async def prepare(
    bench: Workbench, opening: Sequence[Message], path: Sequence[Turn], question: Question
) -> Prepared:
    """The question with all that is shown before it; nothing of that depends on its words.

    Raises: BadInput, ModelError
    """
    window = await bench.model.window()
    limit = None if window is None else max(0, window - bench.reserved_tokens)
    if question.again is not None:
        return await _as_sent(bench, opening, path, question.again, limit)
    if window is None and not isinstance(bench.model, Warmable):
        return await _plain(bench, opening, path, question)
    free = max(0, ASSUMED_WINDOW - bench.reserved_tokens) if limit is None else limit
    listed = await bench.code.files()
    files = {file.key: file for file in listed}
    pack, note = None, ""
    if not opening:
        n_system = await bench.counts.of_messages((prompt.SYSTEM,))
        budget = min(int(free * PACK_SHARE), free - n_system - 2 * _RESERVED_TOKENS)
        pack, note = await _packed(bench, listed, max(0, budget), question)
        opening = prompt.opening((), pack.segments)
    known = changes.shown([*opening, *(m for t in path for m in (t.question, t.reply))])
    n_before = await bench.counts.of_messages(prompt.build(opening, path, _EMPTY).messages)
    room = min(int(free * PIECES_SHARE), max(0, free - n_before - _RESERVED_TOKENS))
    picked = await _pieces(bench, question, known, files, room)
    message = _message(question, picked, ())
    n_tokens = n_before + await bench.counts.of_messages((message,))
    return Prepared(
        opening=tuple(opening),
        pack=pack,
        path=tuple(path),
        message=message,
        picked=picked,
        sources=_sources(picked),
        known=known,
        files=files,
        free_tokens=limit,
        n_tokens=n_tokens,
        note=note,
    )


async def complete(bench: Workbench, prepared: Prepared, question: Question) -> Prepared:
    """The question with what is found for its words as well: as it is sent.

    Of a branch that has the whole project the places are only told as sources.

    Raises: BadInput, ContextTooLong, ModelError
    """
    if question.wanted is not None or question.again is not None:
        _check_fits(prepared)
        return prepared
    query = pick.query_of(question.text, question.selection, _question_text(prepared.path))
    passages = await bench.find(query, MAX_PASSAGES)
    is_limited = bool(prepared.n_tokens)
    if not is_limited:
        passages = [await bench.related(passage) for passage in passages]
    room = None
    if is_limited:
        free = prepared.free_tokens
        n_prompt = prepared.n_tokens
        share = int((free or ASSUMED_WINDOW) * PIECES_SHARE)
        room = share if free is None else max(0, min(share, free - n_prompt - _AROUND_HITS))
    tray = Tray(bench.counts, room)
    fully = {key: told for key, told in prepared.known.items() if told.whole is not None}
    shown_now = {_key(s.source) for s in prepared.picked.pieces if s.source and s.level == "whole"}
    fresh = [p for p in passages if not is_limited or not _is_shown(p, prepared.known)]
    skipped = {*fully, *shown_now}
    await pick.hits(question.selection, fresh, dict.fromkeys(skipped), prepared.files, tray)
    found = tray.picked()
    message = _message(question, prepared.picked, found.pieces)
    n_tokens = prepared.n_tokens
    if is_limited:
        n_tokens += await bench.counts.of_messages((message,))
        n_tokens -= await bench.counts.of_messages((prepared.message,))
    places = tuple(
        Source(p.hit.path, p.hit.start_line, p.hit.end_line, p.hit.symbol, str(p.hit.root))
        for p in passages
        if FileKey(str(p.hit.root), p.hit.path) in skipped or p not in fresh
    )
    completed = replace(
        prepared,
        message=message,
        picked=prepared.picked + found,
        sources=tuple(dict.fromkeys((*prepared.sources, *_sources(found), *places))),
        n_tokens=n_tokens,
    )
    _check_fits(completed)
    return completed


_EMPTY = Message("user", ())


async def _as_sent(
    bench: Workbench,
    opening: Sequence[Message],
    path: Sequence[Turn],
    message: Message,
    limit: int | None,
) -> Prepared:
    """For a question that was sent before: the very same prompt, whatever was edited since."""
    n_tokens = await bench.counts.of_messages(prompt.build(opening, path, message).messages)
    return Prepared(
        opening=tuple(opening),
        pack=None,
        path=tuple(path),
        message=message,
        picked=Picked(),
        sources=tuple(dict.fromkeys(s.source for s in message.segments if s.source is not None)),
        known={},
        files={},
        free_tokens=limit,
        n_tokens=n_tokens,
    )


async def _plain(
    bench: Workbench, opening: Sequence[Message], path: Sequence[Turn], question: Question
) -> Prepared:
    """For a model that reads only what is found for the question, and has no limit."""
    picked = Picked()
    if question.selection is not None:
        about = await bench.symbol_at(question.selection)
        about = await bench.related(about) if about is not None else None
        picked = Picked((pick.selected(question.selection, about),), ("you selected it",))
    pack = None if opening else replace(NO_PACK, reason="this model reads only what is found")
    return Prepared(
        opening=tuple(opening) or prompt.opening((), ()),
        pack=pack,
        path=tuple(path),
        message=_message(question, picked, ()),
        picked=picked,
        sources=_sources(picked),
        known={},
        files={},
        free_tokens=None,
    )


async def _packed(
    bench: Workbench, files: Sequence[ProjectFile], budget: int, question: Question
) -> tuple[Pack, str]:
    """What the chat begins with, and what the user should know about it.

    Raises: ContextTooLong where the user wants the whole project and it does not fit
    """
    wanted = question.wanted
    if wanted is not None and not wanted.project:
        return replace(NO_PACK, reason="you named what is shown"), ""
    found = await bench.openings.pack(bench.model.name, bench.code, files, budget, bench.counts)
    if wanted is not None and found.kind != "whole":
        raise ContextTooLong(
            int(sum(f.n_bytes for f in files) / await bench.counts.bytes_per_token()),
            budget,
            "name files instead of the project, leave `project` out to have it outlined, or raise"
            " `model.n_ctx`",
        )
    is_another = bench.openings.begin(question.chat_id, found)
    note = "The project changed since this chat was warmed; it is read as it is now"
    return found, note if is_another else ""


async def _pieces(
    bench: Workbench,
    question: Question,
    known: Mapping[FileKey, Shown],
    files: Mapping[FileKey, ProjectFile],
    room: int,
) -> Picked:
    """What changed, what the user named, what is near, and the selection."""
    fully = {key: told for key, told in known.items() if told.whole is not None}
    first = Tray(bench.counts, room)
    await _add_changes(bench, known, files, first)
    if question.wanted is not None:
        await pick.wanted(question.wanted, question.selection, bench.code, files, fully, first)
    last = Tray(bench.counts, room)
    if question.selection is not None:
        about = await bench.symbol_at(question.selection)
        segment = pick.selected(question.selection, about)
        file = files.get(question.selection.key)
        segment = replace(segment, digest=file.digest if file else "")
        await last.add(segment, "you selected it")
    around = Tray(bench.counts, max(0, room - first.n_tokens - last.n_tokens))
    if question.wanted is None:
        told = {
            k: s for k, s in known.items() if s.whole or (s.outline and s.outline.kind == "file")
        }
        await pick.near(question.selection, bench.code, files, told, around)
    return first.picked() + around.picked() + last.picked()


async def _add_changes(
    bench: Workbench,
    known: Mapping[FileKey, Shown],
    files: Mapping[FileKey, ProjectFile],
    tray: Tray,
) -> None:
    keys = changes.stale(known, {key: file.digest for key, file in files.items()})
    if not keys:
        return
    present = [key for key in keys if key in files]
    texts, symbols = await bench.code.texts(present), await bench.code.outlines(present)
    for key in keys:
        told = changes.changed(
            known[key], key, files.get(key), texts.get(key), symbols.get(key, ())
        )
        for segment in told:
            await tray.add(segment, "it changed since it was shown")


def _message(question: Question, picked: Picked, hits: Sequence[Segment]) -> Message:
    text = question.text if question.text.strip() else _default_question(question)
    return prompt.question_message(picked.pieces, question.manner, text, hits)


def _default_question(question: Question) -> str:
    """The question of a code action on a selection, where nothing was typed."""
    if question.selection is None:
        return ""
    if question.mode:
        return f"{question.mode.capitalize()} the selected code."
    return "What does this code do?"


def _check_fits(prepared: Prepared) -> None:
    """Refuse a prompt that is too long even without what was picked for the user.

    Raises: ContextTooLong, which says by how much and what to drop
    """
    free = prepared.free_tokens
    if free is None or prepared.n_tokens <= free:
        return
    named = [
        f"{segment.source.path if segment.source else segment.kind} ({reason})"
        for segment, reason in zip(prepared.picked.pieces, prepared.picked.reasons, strict=True)
    ]
    drop = [f"leave out {', '.join(named[:5])}"] if named else []
    if prepared.path:
        drop.append(f"start a new chat (this one has {len(prepared.path)} turns)")
    drop += ["shorten the question", "raise `model.n_ctx`"]
    over = prepared.n_tokens - free
    raise ContextTooLong(
        prepared.n_tokens, free, f"that is {over:,} too many: {', or '.join(drop)}"
    )


def _is_shown(passage: Passage, known: Mapping[FileKey, Shown]) -> bool:
    """Whether the branch has these very lines already."""
    told = known.get(FileKey(str(passage.hit.root), passage.hit.path))
    text = passage.text.rstrip()
    return told is not None and any(text in part.quoted for part in told.parts.values())


def _question_text(path: Sequence[Turn]) -> str:
    """What was asked last, without the pieces that were shown with it."""
    segments = path[-1].question.segments if path else ()
    return " ".join(segment.text for segment in segments if segment.kind == "question")


def _sources(picked: Picked) -> tuple[Source, ...]:
    return tuple(dict.fromkeys(s.source for s in picked.pieces if s.source is not None))


def _key(source: Source) -> FileKey:
    return FileKey(source.root, source.path)
