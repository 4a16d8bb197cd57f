"""The outline of a text that is being edited: what an edit leaves alone is not looked at again.

The text is cut into sections, runs of what stands side by side at its top level, such that nothing
in one depends on another. A section whose text, nodes and soundness are as before keeps what was
found in it, and is only shifted. Equal to `outline` of the same text, always: where that cannot be
had it is done anew.

A tree with errors in it is parsed from scratch, because tree-sitter mends errors in another way
when it starts from an older tree. The sections without errors are kept even so.

Pure, but for what it remembers. Knows no file.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING
from zlib import crc32

from lsp_assist.codebase.chunks import Span, cut
from lsp_assist.codebase.documents import split_lines
from lsp_assist.codebase.languages import Language
from lsp_assist.codebase.outline import line_starts, outline_of, parsable, parsed, read
from lsp_assist.codebase.prose import comment_start
from lsp_assist.codebase.structure import Page, imports_of, references_of, symbols_of
from lsp_assist.codebase.symbols import Import, Outline, Reference, ReferenceKind, Symbol

if TYPE_CHECKING:
    import tree_sitter as ts

__all__ = ["LiveOutline"]

_OWN_LINES = 3
"""A node that ends so many lines below its start ends a section."""
_ONE_OF = 16
"""So does one of so many smaller ones, chosen by its text."""
_MARKS = re.compile("comment|annotation|attribute|decorator|modifier|unary_operator")
"""Nodes that may belong to what follows."""

_Key = tuple[bytes, bytes, tuple[int, ...]]
"""The text of a section, that text as it was parsed where it was another, and its nodes."""


@dataclass(frozen=True, slots=True)
class _Section:
    """A stretch of whole lines."""

    start: int
    end: int
    start_line: int
    kinds: tuple[int, ...]
    """Of the root, which is another one where the text as a whole is broken, and of its nodes."""
    is_sound: bool


@dataclass(frozen=True, slots=True)
class _Found:
    """What is in a section; its lines and symbols are counted from `line` and `n_symbols`."""

    symbols: Sequence[Symbol]
    spans: Sequence[Span]
    references: Sequence[Reference]
    imports: Sequence[Import]
    line: int = 0
    n_symbols: int = 0


class LiveOutline:
    """The outline of one file, kept up with its text."""

    def __init__(self, path: str, language: Language) -> None:
        self._path = path
        self.language = language
        self._source = b""
        self._tree: ts.Tree | None = None
        self._known: dict[_Key, _Found] = {}

    def of(self, text: str) -> Outline:
        """The outline of the text as it is now."""
        source = text.encode("utf-8", "replace")
        page = Page(self.language, source, split_lines(text), line_starts(source))
        root, page.problem = self._parsed(parsable(self.language, source))
        sections = _sections(page, root) if root is not None else []
        if root is None or not all(_is_closed(page, section) for section in sections):
            self._known = {}
            if root is not None:
                read(page, root)
            return outline_of(self._path, page)
        found = self._found(page, root, sections)
        symbols = [symbol for each in found for symbol in each.symbols]
        spans = [span for each in found for span in each.spans]
        return Outline(
            path=self._path,
            language=self.language.name,
            n_lines=len(page.lines),
            symbols=tuple(symbols),
            references=tuple(_references(found)),
            imports=tuple(wanted for each in found for wanted in each.imports),
            chunks=tuple(cut(page.lines, symbols, spans)),
        )

    def _parsed(self, source: bytes) -> "tuple[ts.Node | None, str]":
        """The root of the text's tree, else why there is none."""
        before, self._tree = self._tree, None
        old, self._source = self._source, source
        if not self.language.grammar or not source:
            return None, ""
        tree, problem = None, ""
        if before is not None and not before.root_node.has_error:
            _edit(before, old, source)
            tree, problem = parsed(self.language, source, before)
        if tree is None or tree.root_node.has_error:
            tree, problem = parsed(self.language, source)
        self._tree = tree
        return (tree.root_node if tree is not None else None), problem

    def _found(self, page: Page, root: "ts.Node", sections: Sequence[_Section]) -> Sequence[_Found]:
        """What is in each section, from memory where it can be."""
        source = self._source  # as it was parsed
        is_same = source is page.source
        keys = [
            (page.source[s.start : s.end], b"" if is_same else source[s.start : s.end], s.kinds)
            for s in sections
        ]
        unknown = [
            section
            for section, key in zip(sections, keys, strict=True)
            if not section.is_sound or key not in self._known
        ]
        anew: dict[int, _Found] = {}
        if unknown:
            read(page, root, _stretches(unknown))
            parts = _parts(page, unknown)
            anew = {s.start: _found_in(part) for s, part in zip(unknown, parts, strict=True)}
        found = []
        n_symbols = 0
        for section, key in zip(sections, keys, strict=True):
            each = anew[section.start] if section.start in anew else self._known[key]
            found.append(_placed(each, section.start_line, n_symbols))
            n_symbols += len(each.symbols)
        self._known = {
            key: each
            for section, key, each in zip(sections, keys, found, strict=True)
            if section.is_sound
        }
        return found


def _edit(tree: "ts.Tree", old: bytes, new: bytes) -> None:
    """Tell a tree where its text differs from the new one."""
    start = _n_common(len(old), len(new), lambda a, b: old[a:b] == new[a:b])
    n_left = min(len(old), len(new)) - start
    n_old, n_new = len(old), len(new)
    same = _n_common(
        n_left,
        n_left,
        lambda a, b: old[n_old - b : n_old - a] == new[n_new - b : n_new - a],
    )
    ends = n_old - same, n_new - same
    points = _point(old, start), _point(old, ends[0]), _point(new, ends[1])
    tree.edit(start, *ends, *points)


def _n_common(n_old: int, n_new: int, is_equal: Callable[[int, int], bool]) -> int:
    """How far two texts are equal, by halves: comparing bytes is much faster than counting them."""
    low, high = 0, min(n_old, n_new)
    while low < high:
        middle = (low + high + 1) // 2
        if is_equal(low, middle):
            low = middle
        else:
            high = middle - 1
    return low


def _point(source: bytes, at: int) -> tuple[int, int]:
    return source.count(b"\n", 0, at), at - (source.rfind(b"\n", 0, at) + 1)


def _sections(page: Page, root: "ts.Node") -> list[_Section]:
    """The text, cut where one part has nothing to do with the next."""
    sections: list[_Section] = []
    start, is_sound = 0, True
    kinds = [root.kind_id]
    before: ts.Node | None = None
    for node in root.children:
        if before is not None and (at := _cut_between(page, before, node)) > start:
            sections.append(_section(page, start, at, kinds, is_sound))
            start, kinds, is_sound = at, [root.kind_id], True
        kinds.append(node.kind_id)
        is_sound = is_sound and not node.has_error and not node.is_missing
        before = node
    sections.append(_section(page, start, len(page.source), kinds, is_sound))
    return sections


def _section(page: Page, start: int, end: int, kinds: Sequence[int], is_sound: bool) -> _Section:
    return _Section(start, end, page.line_at(start), tuple(kinds), is_sound)


def _cut_between(page: Page, before: "ts.Node", node: "ts.Node") -> int:
    """Where a section may end between two neighbours, -1 if it may not."""
    source, end = page.source, before.end_byte
    if before.has_error:
        return -1  # it may hold what belongs to the next one
    n_lines = before.end_point[0] - before.start_point[0]
    if n_lines < _OWN_LINES and crc32(source[before.start_byte : end]) % _ONE_OF:
        return -1
    at = end if source[end - 1 : end] == b"\n" else source.find(b"\n", end) + 1
    if at == 0 or at > node.start_byte or source[end:at].strip() or _MARKS.search(before.type):
        return -1
    if source[max(0, end - 4) : end].rstrip().endswith(_members(page.language)):
        return -1  # what follows may be taken from it
    line = page.line_at(at)
    comments = page.language.line_comments, page.language.block_comments
    return at if comment_start(page.lines, line, *comments) == line else -1


@cache
def _members(language: Language) -> tuple[bytes, ...]:
    return tuple(member.encode() for member in language.members)


def _is_closed(page: Page, section: _Section) -> bool:
    """Whether no comment that ends in the section can have begun before it."""
    if not page.language.block_comments:
        return True
    opening, closing = (mark.encode() for mark in page.language.block_comments)
    first = page.source.find(closing, section.start, section.end)
    return first == -1 or page.source.find(opening, section.start, first) != -1


def _parts(page: Page, sections: Sequence[_Section]) -> list[Page]:
    """What was read of each of these sections, as pages of their own."""
    parts = []
    ends = [section.end for section in sections]
    for section in sections:
        last = bisect_left(page.line_starts, section.end, section.start_line)
        lines = page.lines[section.start_line : max(last, section.start_line + 1)]
        starts = page.line_starts[section.start_line : section.start_line + len(lines)]
        source = page.source[section.start : section.end]
        parts.append(Page(page.language, source, lines, [at - section.start for at in starts]))

    def part(at: int) -> tuple[Page, int] | None:
        """The part that a byte is in, and where that starts."""
        index = bisect_right(ends, at)
        if index == len(sections) or at < sections[index].start:
            return None
        return parts[index], sections[index].start

    for mark in page.marks:
        if found := part(mark.start):
            own, by = found
            mark.start, mark.end, mark.name_start = (
                mark.start - by,
                mark.end - by,
                mark.name_start - by,
            )
            mark.body_start -= by if mark.body_start >= 0 else 0
            own.marks.append(mark)
    for start, end in page.decorators:
        if found := part(start):
            found[0].decorators.append((start - found[1], end - found[1]))
    for (at, module), taken in page.imports.items():
        if found := part(at):
            found[0].imports[at - found[1], module] = taken
    for start, end, kind in page.references:
        if found := part(start):
            found[0].references.append((start - found[1], end - found[1], kind))
    for binding in page.bindings:
        if found := part(binding.start):
            found[0].bindings.append(replace(binding, start=binding.start - found[1]))
    return parts


def _found_in(part: Page) -> _Found:
    symbols, extents, spans = symbols_of(part)
    return _Found(symbols, spans, references_of(part, symbols, extents), imports_of(part))


def _stretches(sections: Sequence[_Section]) -> list[tuple[int, int]]:
    """Where the sections are, as few stretches of bytes."""
    found: list[tuple[int, int]] = []
    for section in sections:
        if found and found[-1][1] == section.start:
            found[-1] = found[-1][0], section.end
        else:
            found.append((section.start, section.end))
    return found


def _placed(found: _Found, line: int, n_symbols: int) -> _Found:
    """The same further up or down the file; the very same where nothing moved."""
    by, n_more = line - found.line, n_symbols - found.n_symbols
    if not by and not n_more:
        return found
    symbols = [
        Symbol(
            s.name,
            s.qualified_name,
            s.kind,
            s.start_line + by,
            s.end_line + by,
            s.name_line + by,
            s.signature,
            s.summary,
            s.parent + n_more if s.parent >= 0 else -1,
        )
        for s in found.symbols
    ]
    spans = [Span(s.lead_line + by, s.end_line + by, s.has_body) for s in found.spans]
    references = [
        Reference(
            r.name,
            r.line + by,
            r.symbol + n_more if r.symbol >= 0 else -1,
            r.kind,
            r.receiver,
            r.receiver_type,
        )
        for r in found.references
    ]
    imports = [replace(wanted, line=wanted.line + by) for wanted in found.imports]
    return _Found(symbols, spans, references, imports, line, n_symbols)


def _references(found: Sequence[_Found]) -> Iterator[Reference]:
    """All of them; what is used outside of symbols is listed once for the whole file."""
    seen: set[tuple[str, str, ReferenceKind]] = set()
    for each in found:
        for reference in each.references:
            if reference.symbol < 0:
                key = reference.name, reference.receiver, reference.kind
                if key in seen:
                    continue
                seen.add(key)
            yield reference
