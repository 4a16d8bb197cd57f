"""What is shown with a question: what the user named, else what is near to it and what is found.

Everything is picked within a budget; what did not fit is named. Knows texts and counts through
doors; neither a model nor the order of a prompt.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from lsp_assist.codebase import lexical
from lsp_assist.codebase.index import Passage
from lsp_assist.codebase.store import StoredSymbol
from lsp_assist.context import levels, prompt
from lsp_assist.context.code import Code, FileKey, ProjectFile
from lsp_assist.context.tokens import TokenCounts
from lsp_assist.errors import BadInput
from lsp_assist.llm import Relation, Segment, Source, SymbolFacts

__all__ = [
    "LeftOut",
    "Note",
    "Picked",
    "Selection",
    "Tray",
    "Wanted",
    "hits",
    "near",
    "query_of",
    "selected",
    "wanted",
]

MAX_SELECTION_QUERY_CHARS = 2_000
TELLING_TERMS = 3
MAX_NEIGHBOURS = 4
MAX_EDITED = 2
WHOLE_FILE_SHARE = 0.6
"""Of the budget that one file may take whole when nobody asked for it."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What the user selected. Lines zero-based, end included."""

    path: str
    """Relative to the workspace root, or the URI of a document that is in no file."""
    start_line: int
    end_line: int
    text: str
    language: str = ""
    root: str = ""

    @property
    def key(self) -> FileKey:
        """Names its file."""
        return FileKey(self.root, self.path)


@dataclass(frozen=True, slots=True)
class Note:
    """A text with a title that is in no file."""

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user wants to be shown, beside the selection. Then nothing is picked for them."""

    files: tuple[FileKey, ...] = ()
    buffers: bool = False
    tags: bool = False
    """Definitions of what the selection uses, or of what the files use."""
    project: bool = False
    diff: bool = False
    diagnostics: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something that was not shown, and why."""

    source: Source
    n_tokens: int
    reason: str


@dataclass(frozen=True, slots=True)
class Picked:
    """The pieces to show, why each of them, and what did not fit."""

    pieces: tuple[Segment, ...] = ()
    reasons: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()

    def __add__(self, other: "Picked") -> "Picked":
        return Picked(
            self.pieces + other.pieces,
            self.reasons + other.reasons,
            self.left_out + other.left_out,
        )


@dataclass(slots=True)
class Tray:
    """Pieces as they are picked; guards the budget. None is no limit, and nothing is counted."""

    counts: TokenCounts
    budget_tokens: int | None
    n_tokens: int = 0
    pieces: list[Segment] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)

    async def fits(self, segment: Segment, share: float = 1.0) -> bool:
        """Whether there is room for a piece, and it takes no more than a share of the budget."""
        if self.budget_tokens is None:
            return True
        n_tokens = await self.counts.of(segment.text)
        return self.n_tokens + n_tokens <= self.budget_tokens and (
            n_tokens <= self.budget_tokens * share
        )

    async def add(self, segment: Segment, reason: str) -> None:
        """Take a piece, whether or not it fits: what the user asked for is never cut in silence."""
        if self.budget_tokens is not None:
            self.n_tokens += await self.counts.of(segment.text)
        self.pieces.append(segment)
        self.reasons.append(reason)

    async def offer(self, segment: Segment, reason: str) -> bool:
        """Take a piece if it fits, else name it."""
        if await self.fits(segment):
            await self.add(segment, reason)
            return True
        await self.leave_out(segment)
        return False

    async def leave_out(self, segment: Segment) -> None:
        """Name a piece that is not shown."""
        assert segment.source is not None
        n_tokens = await self.counts.of(segment.text)
        self.left_out.append(LeftOut(segment.source, n_tokens, "it does not fit"))

    def picked(self) -> Picked:
        """What was taken so far."""
        return Picked(tuple(self.pieces), tuple(self.reasons), tuple(self.left_out))


def query_of(question: str, selection: Selection | None, earlier: str = "") -> str:
    """What to search for: the question with the words of the selected code.

    "And who calls it?" says little by itself: then `earlier`, the question before, counts too.
    """
    if selection is not None:
        return f"{question}\n{selection.text[:MAX_SELECTION_QUERY_CHARS]}"
    if len(lexical.query_terms(question)) < TELLING_TERMS:
        return f"{question}\n{earlier}".strip()
    return question


def selected(selection: Selection, about: Passage | None) -> Segment:
    """The selection as a piece, with the facts of the symbol that it is about.

    It is what the question is about and is shown whole, even over the budget: then the model says
    by how much, and nothing was cut in silence.
    """
    symbol = about.hit.symbol if about else ""
    lines = selection.start_line, selection.end_line
    source = Source(selection.path, *lines, symbol, selection.root)
    facts = _facts(about) if about else None
    return prompt.selection_segment(source, selection.language, selection.text, facts)


async def wanted(
    asked: Wanted,
    selection: Selection | None,
    code: Code,
    files: Mapping[FileKey, ProjectFile],
    known: Mapping[FileKey, object],
    tray: Tray,
) -> None:
    """Puts what the user named on the tray; what the branch `known`s in full is not shown again.

    Raises: BadInput for a file that is gone or may not be shown
    """
    for note in asked.notes:
        await tray.add(prompt.titled_segment("note", note.title, note.text), "you added it")
    if asked.diagnostics:
        said = prompt.titled_segment("diagnostics", "Problems", "\n".join(asked.diagnostics))
        await tray.add(said, "you asked for the diagnostics")
    if asked.diff:
        diff = await code.uncommitted()
        title = "Not committed yet" if diff else "Not committed yet: nothing"
        await tray.add(prompt.titled_segment("diff", title, diff, "diff"), "you asked for the diff")
    keys = dict.fromkeys(asked.files, "you named it")
    if asked.buffers:
        opened = (file.key for file in files.values() if file.is_open)
        keys |= {key: "it is open" for key in opened if key not in keys}
    for key in asked.files:
        if key not in files:
            raise BadInput(
                f"{key.path!r} is gone, or ignore rules hide it; name another file.",
                field="context.files",
            )
    new = [key for key in keys if key not in known]
    texts = await code.texts(new)
    for key in new:
        if key in texts:
            await tray.add(levels.whole(files[key], texts[key], "file"), keys[key])
    if asked.tags:
        await _tags(asked, selection, code, files, tray)


async def near(
    selection: Selection | None,
    code: Code,
    files: Mapping[FileKey, ProjectFile],
    known: Mapping[FileKey, object],
    tray: Tray,
) -> None:
    """Puts files around the question on the tray: the one selected in, or those edited last.

    Whole where it fits, else its outline with what was touched; and outlines of the files that
    matter most to it. Does not look at the question's words.
    """
    if selection is not None:
        about = [files[selection.key]] if selection.key in files else []
        why = "the selection is in it"
    else:
        edited = sorted((f for f in files.values() if f.edited), key=lambda f: -f.edited)
        about, why = edited[:MAX_EDITED], "you edited it last"
    about = [file for file in about if file.key not in known]
    if not about:
        return
    keys = [file.key for file in about]
    texts, symbols = await code.texts(keys), await code.outlines(keys)
    for file in about:
        if file.key not in texts:
            continue
        ranges = [(selection.start_line, selection.end_line)] if selection else []
        for segment in _by_detail(file, texts[file.key], symbols.get(file.key, ()), ranges):
            if await tray.fits(segment, WHOLE_FILE_SHARE):
                await tray.add(segment, why)
                break
        else:
            await tray.leave_out(levels.whole(file, texts[file.key], "file"))
    ranks = await code.ranks(dict.fromkeys(keys, 1.0))
    others = sorted((k for k in ranks if k in files and ranks[k] > 0), key=lambda k: (-ranks[k], k))
    others = [key for key in others if key not in known and key not in keys][:MAX_NEIGHBOURS]
    symbols = await code.outlines(others)
    for key in others:
        if not symbols.get(key):
            continue
        segment = levels.skeleton(files[key], symbols[key], "file")
        if await tray.fits(segment, WHOLE_FILE_SHARE / 2):
            await tray.add(segment, "closely related")


async def hits(
    selection: Selection | None,
    passages: Sequence[Passage],
    known: Mapping[FileKey, object],
    files: Mapping[FileKey, ProjectFile],
    tray: Tray,
) -> None:
    """Puts the places found for the question on the tray, best first, as long as they fit.

    What is in the selection, or in a file that the branch has in full, is not shown again.
    """
    for passage in passages:
        segment = _found(passage)
        assert segment.source is not None
        key = FileKey(segment.source.root, segment.source.path)
        is_selected = selection is not None and _is_inside(segment.source, selection)
        if is_selected or key in known:
            continue
        file = files.get(key)
        await tray.offer(
            replace(segment, digest=file.digest if file else ""), "found for the question"
        )


def _by_detail(
    file: ProjectFile, text: str, symbols: Sequence[StoredSymbol], ranges: Sequence[levels.Lines]
) -> Sequence[Segment]:
    outline = levels.skeleton(file, symbols, "file")
    detailed = (levels.touched(file, symbols, text, ranges),) if ranges else ()
    return (levels.whole(file, text, "file"), *detailed, outline)


async def _tags(
    asked: Wanted,
    selection: Selection | None,
    code: Code,
    files: Mapping[FileKey, ProjectFile],
    tray: Tray,
) -> None:
    """Definitions of what the selection uses; without one, of what the named files use."""
    if selection is not None:
        places = [(selection.key, selection.start_line, selection.end_line)]
    else:
        places = [(key, 0, max(0, files[key].n_lines - 1)) for key in asked.files]
    seen: set[tuple[FileKey, int]] = set()
    whole = {FileKey(s.source.root, s.source.path) for s in tray.pieces if s.source is not None}
    for key, start_line, end_line in places:
        for passage in await code.closure(key, start_line, end_line):
            source = _source(passage)
            place = FileKey(source.root, source.path), source.start_line
            if place in seen or place[0] in whole:
                continue
            seen.add(place)
            segment = prompt.symbol_segment(
                source, passage.language, passage.text, passage.text_line, _facts(passage)
            )
            await tray.offer(segment, "what is selected uses it")


def _found(passage: Passage) -> Segment:
    return prompt.hit_segment(
        _source(passage), passage.language, passage.text, passage.text_line, _facts(passage)
    )


def _source(passage: Passage) -> Source:
    hit = passage.hit
    return Source(hit.path, hit.start_line, hit.end_line, hit.symbol, str(hit.root))


def _is_inside(source: Source, selection: Selection) -> bool:
    return (
        source.path == selection.path
        and source.root == selection.root
        and selection.start_line <= source.start_line
        and source.end_line <= selection.end_line
    )


def _facts(passage: Passage) -> SymbolFacts:
    root = str(passage.hit.root)

    def relations(symbols: Sequence[StoredSymbol]) -> tuple[Relation, ...]:
        return tuple(
            Relation(
                s.qualified_name or s.path,
                Source(s.path, s.start_line, s.end_line, s.qualified_name, root),
            )
            for s in symbols
        )

    return SymbolFacts(
        passage.hit.kind,
        passage.signature,
        passage.summary,
        relations(passage.callers),
        relations(passage.callees),
    )
