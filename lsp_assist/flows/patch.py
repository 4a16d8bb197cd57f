"""Changes of files in a reply: found in its text, and fitted to the files as they are.

Two forms are read, both as liberally as small models write them. SEARCH/REPLACE blocks, as aider
specified them, the path on a line above (or as the block before):

    src/a.py
    ```python
    <<<<<<< SEARCH
    old lines
    =======
    new lines
    >>>>>>> REPLACE
    ```

and whole files: a fenced block below a line that is nothing but a path.

Old lines are looked for as they are, then without trailing blanks, then with another indentation,
which the new lines then get as well. What is found twice is refused, never guessed. Pure: knows no
disk and no editor.

Source: https://aider.chat/docs/more/edit-formats.html
"""

import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from lsp_assist.errors import EditRefused

__all__ = ["FileEdit", "Hunk", "LineChange", "applied", "changes", "diff", "read"]

_SEARCH = re.compile(r"^[ \t]*<{5,9} ?(?:SEARCH|ORIGINAL)\b.*$")
_DIVIDER = re.compile(r"^[ \t]*={5,9}[ \t]*$")
_REPLACE = re.compile(r"^[ \t]*>{5,9} ?(?:REPLACE|UPDATED)\b.*$")
_FENCE = re.compile(r"^[ \t]*(?P<mark>`{3,}|~{3,})(?P<info>[^`]*)$")
_PATH = re.compile(
    r"(?:[A-Za-z]:)?[/\\]*(?:[\w@+.,~ \-()\[\]]+[/\\]+)*[\w@+.~ \-()\[\]]*\w[\w@+.~\-()\[\]]*"
)
_BARE_NAME = re.compile(r"\.?[\w-]+(?:\.[\w-]+)+|\.\w[\w-]*|[A-Z]\w*file|LICENSE|README")
_QUOTED_NAME = re.compile(rf"[\w .-]*(?:{_BARE_NAME.pattern})")
_PATH_LABEL = re.compile(r"^(?:file(?:name|path)?|path)\s*[:=]\s*", re.IGNORECASE)
_LOOK_BACK = 3
_MAX_PATH_CHARS = 300
_KEPT_OF_WHOLE = 0.5


@dataclass(frozen=True, slots=True)
class Hunk:
    """Lines to look for and lines to put in their place, without their ends."""

    search: tuple[str, ...]
    replace: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FileEdit:
    """What a reply wants of one file: hunks in order, or all of its text."""

    path: str
    """As the model wrote it."""
    hunks: tuple[Hunk, ...] = ()
    whole: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class LineChange:
    """New text in place of whole lines, from `start` up to and without `end`, zero-based."""

    start: int
    end: int
    text: str


def read(reply: str, *, takes_whole_files: bool) -> tuple[FileEdit, ...]:
    """The edits of a reply, one for each file, in the order in which files are named first.

    A block without any path, or cut off before its new lines, is left out: there is nothing that
    could be done with it.
    """
    lines = reply.replace("\r\n", "\n").split("\n")
    hunks: dict[str, list[Hunk]] = {}
    wholes: dict[str, tuple[str, ...]] = {}
    path = ""
    at = 0
    while at < len(lines):
        if _SEARCH.match(lines[at]):
            path = _path_above(lines, at) or path
            hunk, at = _hunk(lines, at)
            if hunk is not None and path:
                hunks.setdefault(path, []).append(hunk)
        elif takes_whole_files and (fence := _FENCE.match(lines[at])):
            end = _closing(lines, at, fence["mark"])
            if any(_SEARCH.match(line) for line in lines[at:end]):
                at += 1
                continue
            named = _path_in(lines[at - 1]) if at else ""
            if named and end < len(lines):
                wholes[named] = tuple(lines[at + 1 : end])
            at = end + 1
        else:
            at += 1
    edits = [FileEdit(name, tuple(found)) for name, found in hunks.items()]
    edits += [FileEdit(name, (), whole) for name, whole in wholes.items() if name not in hunks]
    return tuple(edits)


def changes(text: str | None, edit: FileEdit) -> tuple[LineChange, ...]:
    """What the edit changes in the file's text, in order; None is a file that is not there.

    Raises: EditRefused where lines are not found, found more than once, or overlap.
    """
    lines, ends = _split(text or "")
    if edit.whole is not None:
        return _whole(lines, ends, edit.whole, is_new=not text)
    found = sorted(
        (_located(lines, hunk, edit.path) for hunk in edit.hunks), key=lambda change: change[:2]
    )
    for (_, end, _), (start, _, _) in pairwise(found):
        if start < end:
            raise EditRefused(
                f"Two changes of {edit.path!r} overlap at line {start + 1}; ask for one block."
            )
    trimmed = [_trimmed(lines, *change) for change in found]
    return tuple(_change(lines, ends, *change) for change in trimmed if change is not None)


def applied(text: str, changes_of_it: Sequence[LineChange]) -> str:
    """The text with these changes made."""
    lines, ends = _split(text)
    whole = [line + end for line, end in zip(lines, ends, strict=True)]
    for change in sorted(changes_of_it, key=lambda c: c.start, reverse=True):
        whole[change.start : change.end] = [change.text]
    return "".join(whole)


def diff(path: str, before: str, after: str) -> str:
    """What changes, as a unified diff."""
    lines = difflib.unified_diff(
        *(_split(before)[0], _split(after)[0]), f"a/{path}", f"b/{path}", lineterm=""
    )
    return "".join(f"{line}\n" for line in lines)


# --- reading ---


def _hunk(lines: Sequence[str], start: int) -> tuple[Hunk | None, int]:
    """The block that starts here and where it ends; None where it makes no sense."""
    at = start + 1
    divider: int | None = None
    while at < len(lines):
        line = lines[at]
        if _DIVIDER.match(line):
            if divider is not None:
                return None, at  # which one divides, nobody can tell
            divider = at
        elif _REPLACE.match(line):
            break
        elif _SEARCH.match(line) or (divider is not None and _ends_block(lines, at)):
            break  # the end mark was forgotten
        at += 1
    if divider is None:
        return None, at
    search, replace = tuple(lines[start + 1 : divider]), tuple(lines[divider + 1 : at])
    is_closed = at < len(lines)
    next_at = at + 1 if is_closed and _REPLACE.match(lines[at]) else at
    # A reply that was cut off in the middle of its new lines is not to be applied.
    return (Hunk(search, replace) if is_closed else None), next_at


def _ends_block(lines: Sequence[str], at: int) -> bool:
    """Whether a bare fence stands here that nothing but text follows: the block is over."""
    fence = _FENCE.match(lines[at])
    if fence is None or fence["info"].strip():
        return False
    rest = lines[at + 1 :]
    next_end = next((n for n, line in enumerate(rest) if _REPLACE.match(line)), None)
    next_start = next((n for n, line in enumerate(rest) if _SEARCH.match(line)), None)
    return next_end is None or (next_start is not None and next_start < next_end)


def _path_above(lines: Sequence[str], at: int) -> str:
    """The path that the block at this line is about, if one is named near above it."""
    n_seen = 0
    for line in reversed(lines[max(0, at - 2 * _LOOK_BACK) : at]):
        if _REPLACE.match(line) or n_seen == _LOOK_BACK:
            break
        if fence := _FENCE.match(line):
            info = fence["info"].split()
            if len(info) > 1 and (path := _path_in(info[-1])):
                return path
            continue
        if line.strip():
            n_seen += 1
            if path := _path_in(line) or _quoted_path(line):
                return path
    return ""


def _path_in(line: str) -> str:
    """The path that a line is, with whatever decoration; empty for a line of other text."""
    text = line.strip().lstrip("#").strip().strip("*").strip().rstrip(":").strip()
    text = _PATH_LABEL.sub("", text.strip("*` \t\"'")).strip("*` \t\"':")
    if len(line) > _MAX_PATH_CHARS or not _PATH.fullmatch(text):
        return ""
    has_folder = "/" in text or "\\" in text
    is_quoted = line.strip().strip("#:* ").startswith("`")  # then blanks belong to the name
    is_path = has_folder and (is_quoted or " " not in text)
    is_name = _QUOTED_NAME if is_quoted else _BARE_NAME
    return text if is_path or is_name.fullmatch(text) else ""


def _quoted_path(line: str) -> str:
    """The one path that a sentence names between backticks, as in "In `a.py`, change"."""
    paths = [path for said in re.findall("`[^`]+`", line) if (path := _path_in(said))]
    return paths[0] if len(paths) == 1 else ""


def _closing(lines: Sequence[str], start: int, mark: str) -> int:
    """The line that closes the fence that opens at `start`; behind the last one if none does."""
    for at in range(start + 1, len(lines)):
        text = lines[at].strip()
        if text.startswith(mark) and not text.strip(mark[0]):
            return at
    return len(lines)


# --- fitting ---


def _whole(
    lines: Sequence[str], ends: Sequence[str], whole: Sequence[str], *, is_new: bool
) -> tuple[LineChange, ...]:
    """All lines replaced, as far as they differ.

    Raises: EditRefused for what looks like an excerpt of the file.
    """
    if is_new:
        return (LineChange(0, len(lines), "".join(f"{line}\n" for line in whole)),)
    last = lines[:-1] if lines and not lines[-1] else lines
    matcher = difflib.SequenceMatcher(None, last, whole, autojunk=False)
    n_kept = sum(block.size for block in matcher.get_matching_blocks())
    if n_kept < _KEPT_OF_WHOLE * len(last):
        raise EditRefused(
            f"Only {n_kept} of {len(last)} lines of the file are in the block, so it may be an"
            " excerpt; ask for SEARCH/REPLACE blocks."
        )
    return tuple(
        _change(lines, ends, start, end, tuple(whole[new_start:new_end]))
        for tag, start, end, new_start, new_end in matcher.get_opcodes()
        if tag != "equal"
    )


def _located(lines: Sequence[str], hunk: Hunk, path: str) -> tuple[int, int, tuple[str, ...]]:
    """Where the hunk's lines are, and what takes their place.

    Raises: EditRefused
    """
    search = _without_blank_borders(hunk.search)
    if not search:
        if any(lines):
            raise EditRefused(
                f"A change of {path!r} does not say which lines it replaces, and the file is not"
                " empty; ask for the lines around it."
            )
        return 0, len(lines), hunk.replace
    # Blank borders that the search had are dropped from the new lines too, as far as they go.
    n_lead = len(hunk.search) - len(_without_leading_blanks(hunk.search))
    replace = list(hunk.replace)
    for _ in range(n_lead):
        if replace and not replace[0].strip():
            replace.pop(0)
    n_tail = len(hunk.search) - n_lead - len(search)
    for _ in range(n_tail):
        if replace and not replace[-1].strip():
            replace.pop()
    for form in (_as_is, str.rstrip, str.strip):
        starts = _matches(lines, search, form)
        if len(starts) > 1:
            where = ", ".join(str(start + 1) for start in starts[:5])
            raise EditRefused(
                f"The lines to change in {path!r} are found {len(starts)} times (lines {where});"
                " ask for a block with more lines around them."
            )
        if starts:
            at = starts[0]
            old = lines[at : at + len(search)]
            shifted = _shifted(replace, search, old) if form is str.strip else replace
            return at, at + len(search), tuple(shifted)
    raise EditRefused(
        f"The lines to change are not in {path!r}: {search[0].strip()[:80]!r} ...; the file may"
        " have changed since it was shown. Ask again."
    )


def _as_is(line: str) -> str:
    return line


def _matches(lines: Sequence[str], search: Sequence[str], form: Callable[[str], str]) -> list[int]:
    """Where the lines stand one after the other, both compared in a form of theirs."""
    wanted = [form(line) for line in search]
    given = [form(line) for line in lines]
    n = len(wanted)
    candidates = (at for at in range(len(given) - n + 1) if given[at] == wanted[0])
    return [at for at in candidates if given[at : at + n] == wanted]


def _shifted(replace: Sequence[str], search: Sequence[str], old: Sequence[str]) -> list[str]:
    """The new lines with the indentation that the old ones really have.

    Raises: EditRefused where the lines were neither moved as one, nor tabs for blanks.
    """
    pairs = [(_indent(s), _indent(o)) for s, o in zip(search, old, strict=True) if s.strip()]
    for moved in _moves(*pairs[0]):
        if all(moved(said) == real for said, real in pairs):
            return [
                moved(_indent(line)) + line.lstrip() if line.strip() else line for line in replace
            ]
    raise EditRefused("The lines to change are indented otherwise in the file; ask again.")


def _moves(said: str, real: str) -> Iterator[Callable[[str], str]]:
    """Ways in which an indentation that was said may have become the real one."""
    if real.endswith(said):
        more = real.removesuffix(said)
        yield lambda indent: more + indent
    if said.endswith(real):
        less = said.removesuffix(real)
        yield lambda indent: indent.removeprefix(less)
    for blanks in ("    ", "  ", " " * 8):
        yield partial(_exchanged, blanks, "\t")
        yield partial(_exchanged, "\t", blanks)


def _exchanged(unit: str, other: str, indent: str) -> str:
    return indent.replace(unit, other)


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def _trimmed(
    lines: Sequence[str], start: int, end: int, replace: tuple[str, ...]
) -> tuple[int, int, tuple[str, ...]] | None:
    """The change without the lines at its borders that stay as they are; None if all do."""
    while start < end and replace and lines[start] == replace[0]:
        start, replace = start + 1, replace[1:]
    while start < end and replace and lines[end - 1] == replace[-1]:
        end, replace = end - 1, replace[:-1]
    return None if start == end and not replace else (start, end, replace)


def _change(
    lines: Sequence[str], ends: Sequence[str], start: int, end: int, replace: Sequence[str]
) -> LineChange:
    """The change as text, with the line ends that the file has."""
    eol = next((mark for mark in ends if mark), "\n")
    text = "".join(line + eol for line in replace)
    is_at_end = end == len(lines) and (end == 0 or not ends[end - 1])
    if is_at_end and end > start and replace:
        text = text.removesuffix(eol)  # the last line had no end, and has none afterwards
    elif is_at_end and start == end and start > 0 and replace and not ends[start - 1]:
        text = eol + text.removesuffix(eol)
    return LineChange(start, end, text)


def _split(text: str) -> tuple[list[str], list[str]]:
    """The lines and what ends each; the last one has no end, and is left out if it is empty."""
    parts = re.split(r"(\r\n|\n|\r)", text)
    lines, ends = parts[::2], [*parts[1::2], ""]
    if not lines[-1]:
        lines.pop()
        ends.pop()
    return lines, ends


def _without_leading_blanks(lines: Sequence[str]) -> tuple[str, ...]:
    at = next((n for n, line in enumerate(lines) if line.strip()), len(lines))
    return tuple(lines[at:])


def _without_blank_borders(lines: Sequence[str]) -> tuple[str, ...]:
    return _without_leading_blanks(_without_leading_blanks(lines)[::-1])[::-1]
