"""Blocks of a reply that are kept and not shown: `<meta hidden k=strat>` to `</meta>`.

A model that plans before it answers writes its plan there. The prompt keeps it, or the prefix would
change; a view leaves it out, piece by piece as the reply comes.

    block    begins a line with `<meta hidden k=NAME>`, outside of fenced code, and ends with the
             next `</meta>`, at most MAX_CHARS behind; the line ends behind it belong to it
    no block what is never closed, or not in time: it is shown as it is, so nothing is lost for ever

Pure. Knows no model and no window.
"""

import re

__all__ = ["MAX_CHARS", "Veil", "visible"]

MAX_CHARS = 6_000

_OPENING = re.compile(r"<meta hidden k=[\w.-]{1,40}>")
_OPENING_START = "<meta hidden k="
_MAX_OPENING = len(_OPENING_START) + 41
_CLOSING = "</meta>"
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_LINE_ENDS = "\r\n"


def visible(text: str) -> str:
    """The text without its hidden blocks."""
    veil = Veil()
    return veil.feed(text) + veil.rest()


class Veil:
    """Lets a text pass piece by piece without its hidden blocks, however it is cut."""

    def __init__(self) -> None:
        self._held = ""
        """What may be, or is, a part of a block."""
        self._fence = ""
        """The mark that closes the fenced code we are in."""
        self._is_line_start = True
        self._is_behind_block = False

    def feed(self, text: str) -> str:
        """What can be shown by now."""
        self._held += text
        shown: list[str] = []
        while self._held and self._step(shown, is_end=False):
            pass
        return "".join(shown)

    def rest(self) -> str:
        """What was held back, at the end of the text."""
        shown: list[str] = []
        while self._held:
            self._step(shown, is_end=True)
        return "".join(shown)

    def _step(self, shown: list[str], *, is_end: bool) -> bool:
        """Decide about the start of what is held; False if more text is needed for that."""
        if self._is_behind_block:
            self._held = self._held.lstrip(_LINE_ENDS)
            self._is_behind_block = not self._held
            return bool(self._held)
        if self._is_line_start and not self._fence:
            found = self._block(is_end=is_end)
            if found is None:
                return False
            if found:
                self._held = self._held[found:]
                self._is_behind_block = True
                return True
        return self._show(shown, is_end=is_end)

    def _block(self, *, is_end: bool) -> int | None:
        """Length of the block that begins here, 0 if none does, None if that is not known yet."""
        held = self._held
        opening = _OPENING.match(held)
        if opening is None:
            may_be = held.startswith(_OPENING_START) or _OPENING_START.startswith(held)
            is_short = len(held) < _MAX_OPENING and ">" not in held and "\n" not in held
            return None if may_be and is_short and not is_end else 0
        at = held.find(_CLOSING, opening.end(), MAX_CHARS)
        if at >= 0:
            return at + len(_CLOSING)
        return 0 if is_end or len(held) >= MAX_CHARS else None

    def _show(self, shown: list[str], *, is_end: bool) -> bool:
        """Let the rest of a line pass; the start of one only when it is known what it is."""
        end = self._held.find("\n") + 1
        line = self._held[:end] if end else self._held
        if self._is_line_start and not end and not is_end and _may_be_fence(line):
            return False
        if self._is_line_start and (mark := _FENCE.match(line)):
            self._mark(mark[1], line[mark.end() :])
        shown.append(line)
        self._held = self._held[len(line) :]
        self._is_line_start = bool(end)
        return True

    def _mark(self, mark: str, behind: str) -> None:
        if not self._fence:
            self._fence = mark
        elif mark.startswith(self._fence) and not behind.strip():
            self._fence = ""


def _may_be_fence(line: str) -> bool:
    """Whether more text could make a fence of this start of a line, or change which one."""
    return bool(re.fullmatch(r" {0,3}(`*|~*)|[ ]{0,3}(`{3,}|~{3,})[^\n]*", line))
