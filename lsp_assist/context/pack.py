"""The workspace at the front of a chat: as much of it as fits, what is edited most last.

    whole       every file with its text, if the project fits the budget
    skeletons   the outlines of the files that matter most, if they can cover a good part of it
    map         one line for each of the files that matter most

What the user asks has no say in it, nor has what is open: so every new chat of a project begins
alike and finds the cache warm. What is near to a question comes with the question (`pick.py`).

Files stand in the order in which they last were edited, before them those that only the history
knows to change, before them the rest. An edit therefore costs a new chat what stands behind that
file, which is little, and not half of the project, as by name. A file that was only opened keeps
its place: to move it costs as much as to edit it, and most that are opened are not edited.

Knows texts and counts through doors; no index, no chat and no model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from lsp_assist.codebase.store import StoredSymbol
from lsp_assist.context import levels
from lsp_assist.context.code import Code, FileKey, ProjectFile
from lsp_assist.context.tokens import TokenCounts
from lsp_assist.llm import Segment

__all__ = ["Pack", "PackKind", "in_order", "pack"]

PackKind = Literal["", "whole", "skeletons", "map"]

_INTRO: Mapping[PackKind, str] = {
    "whole": "The user's whole project:\n\n",
    "skeletons": "The user's project is large. Outlines of the files that matter most in it:\n\n",
    "map": "The user's project is very large. The files that matter most in it:\n\n",
}
# How far an estimate from bytes may be off: beyond it nothing is counted.
_SURELY_TOO_LARGE = 1.6
_SKELETON_TOKENS_PER_LINE = 1.5
_SKELETON_COVERAGE = 0.1
"""Of the project at the least: fewer outlines tell less of it than a line for each file."""
MAX_OUTLINED_TOKENS = 8_000
"""Of outlines and lines: more is slow to read and, for the models that run here, of little use."""
_BATCH = 64
_INDEX_OVERHEAD_TOKENS = 40
_MAX_VERIFIED = 4


@dataclass(frozen=True, slots=True)
class Pack:
    """The pack of a workspace and what is not in it."""

    kind: PackKind
    segments: tuple[Segment, ...]
    n_tokens: int
    """Counted, not estimated."""
    reason: str
    """Why it is of this kind, for the user."""
    left_out: tuple[FileKey, ...] = ()


NO_PACK = Pack("", (), 0, "nothing of the project is shown before the question")


def in_order(files: Sequence[ProjectFile]) -> list[ProjectFile]:
    """The files, what changes least first.

    The history's measure fades for all files alike, so a commit moves the files that it changed
    and no others.
    """
    return sorted(files, key=lambda file: (file.edited, file.activity, file.key))


async def pack(
    code: Code, files: Sequence[ProjectFile], budget_tokens: int, counts: TokenCounts
) -> Pack:
    """What fits of the project; all of its kinds stay within the budget.

    Raises: ModelError
    """
    if not files:
        return replace(NO_PACK, reason="the workspace has no files that can be shown")
    n_bytes = sum(file.n_bytes for file in files)
    estimated = n_bytes / await counts.bytes_per_token()
    n_tokens = int(estimated)
    if estimated <= budget_tokens * _SURELY_TOO_LARGE:
        found = await _whole(code, files, counts)
        if found.n_tokens <= budget_tokens:
            return found
        n_tokens = found.n_tokens
    size = f"the project has about {n_tokens:,} tokens and {budget_tokens:,} are free for it"
    return await _outlined(code, files, budget_tokens, counts, size)


async def _whole(code: Code, files: Sequence[ProjectFile], counts: TokenCounts) -> Pack:
    texts = await code.texts([file.key for file in files])
    segments = [Segment("pack", _INTRO["whole"])]
    segments += [levels.whole(f, texts[f.key]) for f in in_order(files) if f.key in texts]
    n_tokens = sum(await counts.of_each(segment.text for segment in segments))
    reason = f"the whole project has {n_tokens:,} tokens and fits"
    gone = tuple(file.key for file in files if file.key not in texts)
    return Pack("whole", tuple(segments), n_tokens, reason, gone)


async def _outlined(
    code: Code,
    files: Sequence[ProjectFile],
    budget_tokens: int,
    counts: TokenCounts,
    size: str,
) -> Pack:
    """The files that matter most, as outlines or in a line each."""
    budget_tokens = min(budget_tokens, MAX_OUTLINED_TOKENS)
    known: dict[FileKey, Sequence[StoredSymbol]] = {}
    ranks = await code.ranks({})
    by_rank = sorted(files, key=lambda f: (-ranks.get(f.key, 0.0), f.key))
    n_outline = sum(f.n_lines for f in files) * _SKELETON_TOKENS_PER_LINE
    kind: PackKind = "skeletons" if n_outline * _SKELETON_COVERAGE <= budget_tokens else "map"
    bytes_per_token = await counts.bytes_per_token()
    budget_bytes = (budget_tokens - _INDEX_OVERHEAD_TOKENS) * bytes_per_token
    for _ in range(_MAX_VERIFIED):
        segments, left_out = await _filled(code, by_rank, kind, budget_bytes, known)
        if not segments:
            break
        # A few large counts instead of thousands of small ones.
        shown = [Segment("pack", _INTRO[kind]), *segments, _rest(len(left_out))]
        n_tokens = await counts.of("".join(segment.text for segment in shown))
        if n_tokens <= budget_tokens:
            told = "outlines of" if kind == "skeletons" else "a line for each of"
            reason = f"{size}: {told} the {len(segments):,} files that matter most"
            return Pack(kind, tuple(s for s in shown if s.text), n_tokens, reason, left_out)
        budget_bytes *= budget_tokens / n_tokens * 0.97
    left_out = tuple(file.key for file in in_order(files))
    return replace(NO_PACK, reason=f"{size}: too few to show a part", left_out=left_out)


async def _filled(
    code: Code,
    by_rank: Sequence[ProjectFile],
    kind: PackKind,
    budget_bytes: float,
    known: dict[FileKey, Sequence[StoredSymbol]],
) -> tuple[list[Segment], tuple[FileKey, ...]]:
    """Segments of the best files up to the budget, in the order of the pack, and the others.

    `known` are outlines that were read already.
    """
    chosen: dict[FileKey, Segment] = {}
    left = budget_bytes
    for at in range(0, len(by_rank), _BATCH):
        batch = by_rank[at : at + _BATCH]
        known |= await code.outlines([file.key for file in batch if file.key not in known])
        n_before = len(chosen)
        for file in batch:
            segment = _fitting(file, known.get(file.key, ()), kind, left)
            if segment is not None:
                chosen[file.key] = segment
                left -= len(segment.text.encode())
        if len(chosen) - n_before < len(batch) // 2:
            break
    files = in_order([file for file in by_rank if file.key in chosen])
    left_out = tuple(file.key for file in by_rank if file.key not in chosen)
    return [chosen[file.key] for file in files], left_out


def _fitting(
    file: ProjectFile, symbols: Sequence[StoredSymbol], kind: PackKind, left: float
) -> Segment | None:
    """The most detailed segment that the kind allows and that fits."""
    if kind == "skeletons":
        segment = levels.skeleton(file, symbols)
        if len(segment.text.encode()) <= left:
            return segment
    segment = levels.line(file, symbols)
    return segment if len(segment.text.encode()) <= left else None


def _rest(n_left_out: int) -> Segment:
    """Says how many files are not listed; it stands last, for the number changes."""
    if not n_left_out:
        return Segment("pack", "\n")
    files = "1 file is" if n_left_out == 1 else f"{n_left_out:,} more files are"
    return Segment("pack", f"\n{files} not listed here.\n\n")
