r"""The Markdown log: messages one below the other, each with its metadata in a comment.

    <!-- LOG METADATA {"size": 1} -->

    ---

    <!-- MSG METADATA {"publisher": "user:tty", "created": 1727628402378506393} -->

    The text, as it is.

`created` counts nanoseconds since the epoch. A line of a text that would be taken for metadata gets
a backslash behind its `<!-- `. What was rendered is parsed to the same values, character by
character; a log that a person edited is read as far as it can be (`size` may be wrong, rules and
empty lines may be missing, lines may end in \r\n), and else an error names the line. Pure: knows
messages as texts with metadata, no chat.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lsp_assist.errors import LogError

__all__ = ["Entry", "Log", "parse", "render"]

_METADATA = re.compile(r"^<!-- (?P<kind>LOG|MSG) METADATA(?P<rest>.*)$", re.MULTILINE)
_TO_ESCAPE = re.compile(r"^(<!-- )(\\*(?:LOG|MSG) METADATA)", re.MULTILINE)
_ESCAPED = re.compile(r"^(<!-- )\\(\\*(?:LOG|MSG) METADATA)", re.MULTILINE)
_END = "\n\n---\n\n"
_EDITED_END = re.compile(r"(?:^|\n{1,2})---[ \t]*\n{0,2}\Z|\n{1,2}\Z")
_EDITED_START = re.compile(r"\A\n{1,2}")


@dataclass(frozen=True, slots=True)
class Entry:
    """One message of a log."""

    publisher: str
    """Who said it: `user:...`, `agent:...`, `system:...`."""
    created_ns: int
    text: str
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Other metadata, in order; values of JSON."""
    line: int = field(default=0, compare=False)
    """Where its metadata stands in a log that was read, counted from one."""


@dataclass(frozen=True, slots=True)
class Log:
    """A log: its messages in order, and metadata of the whole."""

    entries: tuple[Entry, ...]
    extra: Mapping[str, Any] = field(default_factory=dict)


def render(log: Log) -> str:
    """The log as text."""
    parts = [_comment("LOG", {"size": len(log.entries), **log.extra})]
    for entry in log.entries:
        said = {"publisher": entry.publisher, "created": entry.created_ns, **entry.extra}
        text = _TO_ESCAPE.sub(r"\1\\\2", entry.text)
        parts.append(f"{_comment('MSG', said)}\n\n{text}")
    return _END.join(parts) + "\n"


def parse(text: str) -> Log:
    """The log that a text holds.

    Raises: LogError, which names the line
    """
    text = text.removeprefix("\ufeff")
    first, _, _ = text.partition("\n")
    if first.endswith("\r"):
        text = text.replace("\r\n", "\n")
    marks = list(_METADATA.finditer(text))
    start = marks[0].start() if marks else len(text)
    if text[:start].strip(" \t\n-"):
        line = 1 + text[: len(text) - len(text.lstrip())].count("\n")
        raise LogError("it must begin with `<!-- LOG METADATA {...} -->`.", line=line)
    extra: Mapping[str, Any] = {}
    entries: list[Entry] = []
    for mark, body in _bodies(text, marks):
        line = 1 + text.count("\n", 0, mark.start())
        said = _metadata(mark, line)
        if mark["kind"] == "LOG":
            if mark is not marks[0]:
                raise LogError("`LOG METADATA` stands at the start only.", line=line)
            if body.strip(" \t\n-"):
                raise LogError(
                    "text that belongs to no message follows; a message begins with"
                    " `<!-- MSG METADATA {...} -->`.",
                    line=line + 1,
                )
            extra = {key: value for key, value in said.items() if key != "size"}
        else:
            entries.append(_entry(said, _ESCAPED.sub(r"\1\2", body), line))
    return Log(tuple(entries), extra)


def _comment(kind: str, said: Mapping[str, Any]) -> str:
    # Inside of a string of JSON, where alone it can stand, this is the same character.
    metadata = json.dumps(said).replace("-->", "--\\u003e")
    return f"<!-- {kind} METADATA {metadata} -->"


def _bodies(text: str, marks: "list[re.Match[str]]") -> "Iterator[tuple[re.Match[str], str]]":
    """Each metadata line and the text below it."""
    for n, mark in enumerate(marks):
        is_last = n + 1 == len(marks)
        body = text[mark.end() : None if is_last else marks[n + 1].start()]
        body = body[2:] if body.startswith("\n\n") else _EDITED_START.sub("", body)
        if is_last:
            body = body.removesuffix("\n")
        elif body.endswith(_END):
            body = body.removesuffix(_END)
        else:
            body = _EDITED_END.sub("", body, count=1)
        yield mark, body


def _metadata(mark: "re.Match[str]", line: int) -> dict[str, Any]:
    rest = mark["rest"].rstrip()
    if not rest.endswith("-->"):
        raise LogError("the metadata does not end with `-->` on the same line.", line=line)
    try:
        said = json.loads(rest.removesuffix("-->"))
    except ValueError as error:
        raise LogError(f"the metadata is no JSON ({error}).", line=line) from None
    if not isinstance(said, dict):
        raise LogError("the metadata must be an object of JSON.", line=line)
    return said


def _entry(said: dict[str, Any], text: str, line: int) -> Entry:
    publisher, created = said.pop("publisher", None), said.pop("created", 0)
    if not isinstance(publisher, str) or not publisher:
        raise LogError('the message has no `publisher`, such as "user:tty".', line=line)
    if not isinstance(created, int) or isinstance(created, bool) or not 0 <= created < 2**63:
        raise LogError("`created` must be nanoseconds since the epoch.", line=line)
    return Entry(publisher, created, text, said, line)
