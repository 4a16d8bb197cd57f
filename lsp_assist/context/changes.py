"""What the model was shown of files on a branch, and what is no longer true of it.

The pack and every turn stay as they were sent. What changed since comes with the next question: as
a diff against the text that was last shown in full, or in full again, whichever is shorter. A diff
is never taken against another diff, so a model need not add them up. Pure: knows no index.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from lsp_assist.codebase.documents import split_lines
from lsp_assist.codebase.ingest import text_digest
from lsp_assist.codebase.store import StoredSymbol
from lsp_assist.context import levels, prompt
from lsp_assist.context.code import FileKey, ProjectFile
from lsp_assist.llm import Message, Segment, Source

__all__ = ["GONE", "Shown", "changed", "shown", "stale"]

GONE = "gone"
"""The digest of a file that is no longer there."""
MAX_DIFF_LINES = 3_000
"""Comparing takes the square of what differs in the worst case; beyond it the file comes anew."""


@dataclass(slots=True)
class Shown:
    """What a branch showed of one file."""

    whole: Segment | None = None
    """The last segment with all of its text."""
    outline: Segment | None = None
    parts: dict[tuple[str, int], Segment] = field(default_factory=dict)
    """Excerpts by symbol, those outside of one by their first line."""
    digest: str = ""
    """Of the text that the branch knows."""


def shown(messages: Iterable[Message]) -> dict[FileKey, Shown]:
    """What the messages of a branch tell about each file, the later counting more. O(segments)."""
    found: dict[FileKey, Shown] = {}
    for message in messages:
        for segment in message.segments:
            if segment.source is None or not segment.source.root or not segment.level:
                continue
            source = segment.source
            known = found.setdefault(FileKey(source.root, source.path), Shown())
            match segment.level:
                case "whole" if segment.kind != "change" or segment.quoted:
                    known.whole = segment
                    known.parts.clear()
                    known.digest = segment.digest
                case "whole":  # a diff against it, or that it is gone
                    known.digest = segment.digest
                case "part":
                    key = source.symbol, 0 if source.symbol else source.start_line
                    known.parts[key] = segment
                    known.digest = known.digest or segment.digest
                case _:
                    known.outline = segment
                    known.digest = known.digest or segment.digest
            if segment.kind == "change":
                known.digest = segment.digest
    return found


def stale(known: Mapping[FileKey, Shown], digests: Mapping[FileKey, str]) -> list[FileKey]:
    """The files that were shown and have another text now, or none; by folder and path.

    A file whose digest is unknown where it was shown is looked at as well.
    """
    return sorted(
        key
        for key, told in known.items()
        if (told.whole or told.parts or told.outline) and told.digest != digests.get(key, GONE)
    )


def changed(
    known: Shown,
    key: FileKey,
    file: ProjectFile | None,
    text: str | None,
    symbols: Sequence[StoredSymbol],
) -> list[Segment]:
    """What to tell about a file that `stale` named; nothing where what was shown still holds.

    `file` and `text` are None for one that is gone.
    """
    if file is None or text is None:
        if known.digest == GONE:
            return []
        said = f"{key.path} was deleted, or may no longer be shown.\n\n"
        return [
            Segment("change", said, Source(key.path, 0, 0, "", key.root), None, "whole", 0, 0, GONE)
        ]
    if known.whole is not None:
        segment = _of_whole(known.whole, file, text)
        return [segment] if segment is not None else []
    segments = _of_parts(known.parts.values(), file, text, symbols)
    if known.outline is not None and (again := _of_outline(known.outline, file, symbols)):
        segments.append(again)
    return segments


def _of_whole(before: Segment, file: ProjectFile, text: str) -> Segment | None:
    old, new = split_lines(before.quoted), split_lines(text.rstrip())
    anew = replace(levels.whole(file, text, "change"), kind="change")
    anew = _retitled(anew, f"File: {file.key.path}\n", f"File, changed since: {file.key.path}\n")
    diff = _diff(old, new)
    if diff is None:
        return anew
    if not diff:
        said = f"{file.key.path} is again as it was shown in full.\n\n"
    else:
        title = f"{file.key.path} has changed since it was shown in full"
        said = prompt.titled_segment("change", title, diff, "diff").text
    if len(said) >= len(anew.text):
        return anew
    return replace(anew, text=said, text_start=0, text_end=0, digest=text_digest(text))


def _diff(old: Sequence[str], new: Sequence[str]) -> str | None:
    """The unified diff without its header; empty where both are alike, None where it is large."""
    n_same = 0
    while n_same < min(len(old), len(new)) and old[n_same] == new[n_same]:
        n_same += 1
    n_differ = max(len(old), len(new)) - n_same
    n_tail = 0
    while n_tail < min(len(old), len(new)) - n_same and old[-1 - n_tail] == new[-1 - n_tail]:
        n_tail += 1
    if n_differ - n_tail > MAX_DIFF_LINES:
        return None
    lines = list(difflib.unified_diff(old, new, lineterm="", n=3))
    return "\n".join(lines[2:])


def _of_parts(
    parts: Iterable[Segment], file: ProjectFile, text: str, symbols: Sequence[StoredSymbol]
) -> list[Segment]:
    lines = split_lines(text)
    plain = "\n".join(lines)
    found: list[Segment] = []
    for part in parts:
        if "\n".join(split_lines(part.quoted)) in plain:
            continue
        assert part.source is not None
        named = part.source.symbol
        again = next((s for s in symbols if named and s.qualified_name == named), None)
        if again is None:
            place = f"{part.source.path}:{part.source.start_line + 1}"
            what = f"{place} ({named})" if named else place
            said = f"What was shown of {what} has changed and is no longer there.\n\n"
            found.append(
                replace(
                    part, kind="change", text=said, text_start=0, text_end=0, digest=file.digest
                )
            )
            continue
        source = replace(part.source, start_line=again.start_line, end_line=again.end_line)
        body = "\n".join(lines[again.start_line : again.end_line + 1])
        segment = prompt.selection_segment(source, file.language, body)
        segment = _retitled(segment, "Selected: ", "Changed since: ")
        found.append(replace(segment, kind="change", digest=file.digest))
    return found


def _of_outline(
    before: Segment, file: ProjectFile, symbols: Sequence[StoredSymbol]
) -> Segment | None:
    """The outline anew, where more than line numbers differ."""
    if before.level == "line":
        return None
    again = levels.skeleton(file, symbols, "change")
    if before.level == "skeleton" and _signatures(before.text) == _signatures(again.text):
        return None
    return _retitled(again, "Outline: ", "Outline, changed since: ")


def _signatures(outline: str) -> list[str]:
    return [line.partition(": ")[2] for line in outline.split("\n")[1:]]


def _retitled(segment: Segment, title: str, new: str) -> Segment:
    """The segment under another title."""
    if not segment.text.startswith(title):
        return segment
    shift = len(new) - len(title)
    has_text = segment.text_end > segment.text_start
    return replace(
        segment,
        text=new + segment.text[len(title) :],
        text_start=segment.text_start + shift if has_text else 0,
        text_end=segment.text_end + shift if has_text else 0,
    )
