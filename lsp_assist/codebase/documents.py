r"""The open documents as the editor shows them: text with a line index, kept up by its changes.

Lines end at \n, \r\n and \r, as LSP says, and at nothing else: `str.splitlines` also ends them at
form feeds, NEL and U+2028, and an edit behind one lands in the wrong place.

Plain values: a `Text` and a `Document` never change, and may be handed to threads. The store that
holds the newest of them belongs to the event loop. Knows no LSP library, no disk and no index.
"""

import logging
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Literal, NamedTuple

from lsp_assist.errors import DocumentError

__all__ = [
    "Change",
    "Document",
    "DocumentStore",
    "Encoding",
    "Position",
    "Range",
    "Text",
    "split_lines",
]

logger = logging.getLogger(__name__)

Encoding = Literal["utf-8", "utf-16", "utf-32"]
"""What a client counts characters in: bytes, UTF-16 units or code points."""


class Position(NamedTuple):
    """A place between two characters, as an editor names it; both numbers count from zero."""

    line: int
    character: int


@dataclass(frozen=True, slots=True)
class Range:
    """The text from `start` up to, and without, `end`. Reversed ends mean the same text."""

    start: Position
    end: Position


@dataclass(frozen=True, slots=True)
class Change:
    """New text in place of a range, or of the whole document where there is no range."""

    text: str
    range: Range | None = None


@dataclass(frozen=True, slots=True)
class Text:
    """A text and where its lines start. Made by `Text.of` and `replaced`."""

    content: str
    _starts: tuple[int, ...] = field(repr=False)
    """Offset of the first character of each line; the first is 0, so there is always one."""

    @classmethod
    def of(cls, content: str) -> "Text":
        """The text, with lone surrogates as U+FFFD. O(len(content))."""
        content = _without_surrogates(content)
        return cls(content, _line_starts(content))

    @property
    def n_lines(self) -> int:
        """How many lines there are: one more than line ends, so at least one."""
        return len(self._starts)

    def line_start(self, line: int) -> int:
        """Offset of the first character of a line.

        Raises: IndexError
        """
        if not 0 <= line < len(self._starts):
            raise IndexError(f"line {line} of {len(self._starts)}")
        return self._starts[line]

    def line_end(self, line: int) -> int:
        """Offset just before the line's end mark, or of the end of the text.

        Raises: IndexError
        """
        start, end = self.line_start(line), self._end_with_mark(line)
        if end > start and self.content[end - 1] == "\n":
            end -= 1
        # Not a character of the line: a \r that stands alone ends a line as well.
        if end > start and self.content[end - 1] == "\r":
            end -= 1
        return end

    def line(self, line: int) -> str:
        """A line without its end mark.

        Raises: IndexError
        """
        return self.content[self.line_start(line) : self.line_end(line)]

    def line_with_end(self, line: int) -> str:
        """A line with its end mark, which the last one lacks.

        Raises: IndexError
        """
        return self.content[self.line_start(line) : self._end_with_mark(line)]

    def offset_at(self, line: int, character: int, encoding: Encoding) -> int:
        """Offset in code points of an editor's position; there is one for every position.

        Beyond the end of a line it is the end of that line, before its end mark; beyond the last
        line the end of the text; inside a character the start of that character; below zero, zero.
        """
        if line >= len(self._starts):
            return len(self.content)
        line = max(line, 0)
        start, end = self._starts[line], self.line_end(line)
        # No unit is longer than a character, so no more characters than units are needed.
        head = self.content[start : min(end, start + max(character, 0))]
        return start + _n_characters(head, max(character, 0), encoding)

    def position_at(self, offset: int, encoding: Encoding) -> Position:
        r"""An editor's position for an offset in code points, clamped as in `offset_at`.

        Between \r and \n it is the end of the line that they end.
        """
        offset = min(max(offset, 0), len(self.content))
        line = bisect_right(self._starts, offset) - 1
        start = self._starts[line]
        head = self.content[start : min(offset, self.line_end(line))]
        return Position(line, _n_units(head, encoding))

    def replaced(self, start: int, end: int, inserted: str) -> "Text":
        """The text with `inserted` in place of the characters from `start` up to `end`.

        Only the lines that the change touches are looked for anew; the starts of those behind it
        are shifted.
        """
        assert 0 <= start <= end <= len(self.content), (start, end, len(self.content))
        inserted = _without_surrogates(inserted)
        content = self.content[:start] + inserted + self.content[end:]
        # Whether a line starts at an offset depends on the characters on both sides of it. Those
        # are the same as before for every start below `start` and above `end`.
        n_kept = bisect_left(self._starts, max(start, 1))
        n_dropped = bisect_right(self._starts, end)
        last = start + len(inserted)
        found = [
            mark.end()
            for mark in _LINE_END.finditer(content, max(start - 1, 0), last + 1)
            if start <= mark.end() <= last
        ]
        shift = len(inserted) - (end - start)
        behind = self._starts[max(n_dropped, n_kept) :]
        if shift:
            behind = tuple([at + shift for at in behind])
        return Text(content, (*self._starts[:n_kept], *found, *behind))

    def changed(self, change: Change, encoding: Encoding) -> "Text":
        """The text after an editor's change; positions outside of the text are clamped."""
        if change.range is None:
            return Text.of(change.text)
        ends = (change.range.start, change.range.end)
        start, end = sorted(self.offset_at(*position, encoding) for position in ends)
        return self.replaced(start, end, change.text)

    def _end_with_mark(self, line: int) -> int:
        is_last = line + 1 == len(self._starts)
        return len(self.content) if is_last else self._starts[line + 1]


def split_lines(text: str) -> list[str]:
    """The lines of a text without their end marks; the last one is empty if the text ends one."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


@dataclass(frozen=True, slots=True)
class Document:
    """One open document at one moment."""

    uri: str
    path: Path | None
    """None where the document is no file, as with `untitled:`."""
    language_id: str
    version: int
    """What the client counts; sent back with edits so that it can refuse one made for older text.
    Not every client counts well: to ask whether a document has changed, compare `revision`."""
    text: Text
    revision: int
    """The store's revision at which the document became this."""
    is_out_of_sync: bool = False
    """A change was refused, so the editor shows another text than this one."""


class DocumentStore:
    """The open documents by URI, and a revision that grows with every mutation.

    Each mutation returns the document concerned, for the owner to tell the index. A change applies
    wholly or not at all. Not thread-safe.
    """

    def __init__(self) -> None:
        self._documents: dict[str, Document] = {}
        self._uris: dict[Path, str] = {}
        self._revision = 0

    @property
    def revision(self) -> int:
        """Number of mutations so far."""
        return self._revision

    def __len__(self) -> int:
        return len(self._documents)

    def __iter__(self) -> Iterator[Document]:
        """The open documents as of now, least recently opened first."""
        return iter(tuple(self._documents.values()))

    def get(self, uri: str) -> Document | None:
        """The open document with this URI."""
        return self._documents.get(uri)

    def by_path(self, path: Path) -> Document | None:
        """The open document of this file; the one opened last where two URIs name it."""
        uri = self._uris.get(path)
        return None if uri is None else self._documents[uri]

    def open(
        self, uri: str, path: Path | None, language_id: str, version: int, text: str
    ) -> Document:
        """The document, opened. One that is open already is replaced, and in sync again."""
        self.close(uri)
        self._revision += 1
        document = Document(uri, path, language_id, version, Text.of(text), self._revision)
        if path is not None:
            self._uris[path] = uri
        self._documents[uri] = document
        return document

    def change(
        self, uri: str, version: int | None, changes: Sequence[Change], encoding: Encoding
    ) -> Document:
        """The document after these changes, each made to the result of the one before.

        The channel keeps the order, so a version is only a check. None and the version of before
        come from clients that do not count, and are taken; a lower one means that changes were
        lost or mixed up: the document is then out of sync, and takes no more changes until the
        whole text comes, by a change without a range, a save, or a reopening.

        Raises: DocumentError if the document is not open, or out of sync, or becomes so.
        """
        document = self._documents.get(uri)
        if document is None:
            raise DocumentError(
                f"Document {uri!r} was changed and is not open; reopen the file.", field="uri"
            )
        is_anew = bool(changes) and changes[0].range is None
        if version is not None and version < document.version and not is_anew:
            self._put(replace(document, is_out_of_sync=True))
            raise DocumentError(
                f"Document {uri!r} has version {document.version} and was sent a change to version "
                f"{version}; close and reopen the file.",
                field="version",
            )
        if document.is_out_of_sync and not is_anew:
            raise DocumentError(
                f"Document {uri!r} has lost touch with the editor at version {document.version}; "
                "close and reopen the file.",
                field="version",
            )
        text = document.text
        for change in changes:
            text = text.changed(change, encoding)
        after = document.version + 1 if version is None else version
        return self._put(replace(document, version=after, text=text, is_out_of_sync=False))

    def save(self, uri: str, text: str | None) -> Document:
        """The document as saved; `text`, where the client sends it, is what the file now holds.

        Raises: DocumentError if the document is not open.
        """
        document = self._documents.get(uri)
        if document is None:
            raise DocumentError(
                f"Document {uri!r} was saved and is not open; reopen the file.", field="uri"
            )
        if text is None:
            return self._put(document)
        saved = Text.of(text)
        if saved.content != document.text.content and not document.is_out_of_sync:
            logger.warning("%s was saved with another text than its changes led to", uri)
        return self._put(replace(document, text=saved, is_out_of_sync=False))

    def close(self, uri: str) -> Document | None:
        """The document that was open, no longer held; None if it was not open."""
        document = self._documents.pop(uri, None)
        if document is None:
            return None
        self._revision += 1
        if document.path is not None and self._uris[document.path] == uri:
            del self._uris[document.path]
            for other in self._documents.values():
                if other.path == document.path:
                    self._uris[document.path] = other.uri
        return document

    def _put(self, document: Document) -> Document:
        self._revision += 1
        self._documents[document.uri] = document = replace(document, revision=self._revision)
        return document


_LINE_END = re.compile(r"\r\n|\r|\n")

_SURROGATE = re.compile("[\ud800-\udfff]")


def _line_starts(content: str) -> tuple[int, ...]:
    if "\r" in content:
        return (0, *[mark.end() for mark in _LINE_END.finditer(content)])
    # The same, three times faster, for what nearly all files are.
    lengths = map(len, content.split("\n"))
    starts = accumulate(lengths, lambda at, length: at + length + 1, initial=0)
    return tuple(starts)[:-1]


def _without_surrogates(content: str) -> str:
    """JSON can carry half a pair; nothing else can: it has no UTF-8 and would fail much later.

    U+FFFD has the same width in all three encodings, so positions stay what the client counts.
    """
    try:
        content.encode()
    except UnicodeEncodeError:
        return _SURROGATE.sub("\ufffd", content)
    return content


def _n_characters(text: str, n_units: int, encoding: Encoding) -> int:
    """How many whole characters the first units of a text hold."""
    if encoding == "utf-32" or text.isascii():
        return min(n_units, len(text))
    if encoding == "utf-8":
        return len(text.encode()[:n_units].decode(errors="ignore"))
    return len(text.encode("utf-16-le")[: 2 * n_units].decode("utf-16-le", errors="ignore"))


def _n_units(text: str, encoding: Encoding) -> int:
    if encoding == "utf-32" or text.isascii():
        return len(text)
    return len(text.encode()) if encoding == "utf-8" else len(text.encode("utf-16-le")) // 2
