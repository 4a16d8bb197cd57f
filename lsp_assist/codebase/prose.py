"""A declaration in words: its signature on one line, its doc comment in one sentence.

Works on text. Knows no parser and no language beyond the comment marks that it is given.
"""

import re
from collections.abc import Sequence

__all__ = ["CAP", "comment_start", "one_line", "paragraph_of", "summary_of"]

CAP = 200
"""Characters that a signature or a summary may have."""
_MAX_COMMENT_LINES = 200

_MARKS = re.compile(
    r"^(?:[rRuUbBfF]{0,2}(?=['\"]{3})|)(?:/\*+[!<]?|\*+/|\*+(?!\*)|//+[!<]?|#+[:!|]?|--+(?:\[=*\[|\s*[|^])?|;+|%+|\"{3}|'{3}|\"|<!--+|\(\*|\{-\|?|[|^])\s?"
)
_END_MARKS = re.compile(r"\s*(?:\*+/|\"{3}|'{3}|--+>|\*\)|-\}|\]\])$")
_TAG = re.compile(r"</?(?:summary|p|para|b|i|code|remarks)\s*/?>|\{@\w+\s+([^}]*)\}")
_STOP = re.compile(
    r"^(?:[@\\](?!brief|summary)[a-zA-Z]|:\w+|(?:Args|Arguments|Parameters|Returns):)"
)
_BRIEF = re.compile(r"^[@\\](?:brief|summary)\s+")
_SENTENCE = re.compile(r"^(.+?(?<!e\.g)(?<!i\.e)(?<!etc)(?<!vs)[.!?])(?=\s+[^a-z\s]|\s*$)")
_TAIL = re.compile(r"(?:\s*(?:[={:;,]|\bdo\b|\bthen\b|\bwhere\b))+\s*$")


def one_line(declaration: str, line_comments: Sequence[str]) -> str:
    """The declaration with its white space and comments squeezed out, cut at `CAP` characters."""
    rows = declaration.splitlines()
    if len(rows) > 1:
        rows = [_without_comment(row, line_comments) for row in rows]
    text = " ".join(" ".join(rows).split())
    text = text.replace("( ", "(").replace(" )", ")").replace(",)", ")")
    return _capped(_TAIL.sub("", text))


def comment_start(
    lines: Sequence[str],
    line: int,
    line_comments: tuple[str, ...],
    block_comments: tuple[str, ...],
) -> int:
    """First line of the comment that ends just above this line; the line itself without one."""
    if line == 0:
        return line
    above = lines[line - 1].strip()
    first = max(0, line - _MAX_COMMENT_LINES)
    if block_comments and above.endswith(block_comments[1]):
        for at in range(line - 1, first - 1, -1):
            if block_comments[0] in lines[at]:
                # Code before it means that the comment belongs to that code.
                return at if lines[at].lstrip().startswith(block_comments[0]) else line
        return line
    at = line
    while line_comments and at > first and lines[at - 1].lstrip().startswith(line_comments):
        at -= 1
    return at if not lines[at].startswith("#!") else min(at + 1, line)


def summary_of(comment: Sequence[str]) -> str:
    """First sentence of the first paragraph of a comment or docstring, without its marks."""
    text = paragraph_of(comment, 2 * CAP)
    sentence = _SENTENCE.match(text)
    return _capped(sentence[1] if sentence else text)


def paragraph_of(comment: Sequence[str], limit_chars: int) -> str:
    """First paragraph of a comment or docstring, without its marks; ends at a line past a limit."""
    words: list[str] = []
    for row in comment:
        text = _END_MARKS.sub("", _MARKS.sub("", row.strip())).strip()
        text = _BRIEF.sub("", _TAG.sub(lambda tag: tag[1] or "", text).strip())
        if _STOP.match(text):
            break
        if any(char.isalnum() for char in text):
            words.append(text)
            if sum(map(len, words)) > limit_chars:
                break
        elif words:
            break
    return " ".join(" ".join(words).split())


def _without_comment(row: str, line_comments: Sequence[str]) -> str:
    for mark in line_comments:
        before, found, _ = f" {row}".partition(f" {mark} ")
        if found:
            row = before
    return row


def _capped(text: str) -> str:
    return text if len(text) <= CAP else text[: CAP - 1].rstrip() + "…"
