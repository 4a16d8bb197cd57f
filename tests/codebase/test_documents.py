"""The document store against an editor's buffer that knows only code units."""

import re
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsp_assist.codebase.documents import (
    Change,
    Document,
    DocumentStore,
    Encoding,
    Position,
    Range,
    Text,
)
from lsp_assist.errors import DocumentError

URI = "file:///w/a.py"
PATH = Path("/w/a.py")
ENCODINGS: tuple[Encoding, ...] = get_args(Encoding)

# Line ends, what only looks like one, and characters of every width in every encoding.
ALPHABET = ["\n", "\r", "\r\n", "\f", "\v", "\x1c", "\x85", "\u2028", "\u2029"]
ALPHABET += ["a", "b", " ", "\0", "\u00e9", "e\u0301", "\u20ac", "\ufeff", "\U0001f600", "\uffff"]

texts = st.lists(st.sampled_from(ALPHABET), max_size=12).map("".join)
encodings = st.sampled_from(ENCODINGS)
positions = st.builds(Position, st.integers(-2, 9), st.integers(-2, 14) | st.just(2**31 - 1))
ranges = st.builds(Range, positions, positions)
changes = st.builds(Change, texts, ranges | ranges | ranges | st.none())


class Buffer:
    """What an editor holds: a list of code units, edited one unit at a time."""

    def __init__(self, text: str, encoding: Encoding) -> None:
        self.encoding = encoding
        self.units = self.encoded(text)

    def encoded(self, text: str) -> list[int]:
        if self.encoding == "utf-8":
            return list(text.encode())
        size = {"utf-16": 2, "utf-32": 4}[self.encoding]
        data = text.encode(f"{self.encoding}-le")
        return [int.from_bytes(data[i : i + size], "little") for i in range(0, len(data), size)]

    def decoded(self, units: list[int]) -> str:
        if self.encoding == "utf-8":
            return bytes(units).decode()
        size = {"utf-16": 2, "utf-32": 4}[self.encoding]
        data = b"".join(unit.to_bytes(size, "little") for unit in units)
        return data.decode(f"{self.encoding}-le")

    @property
    def text(self) -> str:
        return self.decoded(self.units)

    def lines(self) -> list[tuple[int, int]]:
        """Where each line starts, and where its content ends."""
        spans, start, i = [], 0, 0
        while i < len(self.units):
            if self.units[i] in (10, 13):
                is_pair = self.units[i : i + 2] == [13, 10]
                spans.append((start, i))
                i = start = i + (2 if is_pair else 1)
            else:
                i += 1
        return [*spans, (start, len(self.units))]

    def index(self, position: Position) -> int:
        """The unit that a position stands before."""
        line, character = max(position.line, 0), max(position.character, 0)
        lines = self.lines()
        if line >= len(lines):
            return len(self.units)
        start, end = lines[line]
        i = min(start + character, end)
        if self.encoding == "utf-8":
            while i < end and self.units[i] & 0xC0 == 0x80:
                i -= 1
        if self.encoding == "utf-16" and i < end and 0xDC00 <= self.units[i] < 0xE000:
            i -= 1
        return i

    def apply(self, change: Change) -> None:
        if change.range is None:
            self.units = self.encoded(change.text)
            return
        first, last = sorted((self.index(change.range.start), self.index(change.range.end)))
        self.units[first:last] = self.encoded(change.text)


def opened(text: str, version: int = 1) -> DocumentStore:
    store = DocumentStore()
    store.open(URI, PATH, "python", version, text)
    return store


def document(store: DocumentStore) -> Document:
    found = store.get(URI)
    assert found is not None
    return found


def at(line: int, character: int, end_line: int, end_character: int, text: str) -> Change:
    return Change(text, Range(Position(line, character), Position(end_line, end_character)))


# --- against the oracle ---


@given(texts, st.lists(st.lists(changes, max_size=3), max_size=8), encodings)
def test_any_edits_lead_to_the_text_that_the_editor_holds(
    text: str, batches: list[list[Change]], encoding: Encoding
) -> None:
    """Text, lines and line starts equal those of a buffer of code units after every change."""
    store, buffer = opened(text), Buffer(text, encoding)
    for version, batch in enumerate(batches, start=2):
        changed = store.change(URI, version, batch, encoding)
        for change in batch:
            buffer.apply(change)
        assert changed.text.content == buffer.text
        assert changed.text == Text.of(buffer.text), "the kept index equals one built from scratch"
        spans = buffer.lines()
        assert changed.text.n_lines == len(spans)
        for i, (start, end) in enumerate(spans):
            assert changed.text.line(i) == buffer.decoded(buffer.units[start:end])


@given(texts, positions, encodings)
def test_a_position_is_where_the_editor_counts_it(
    text: str, position: Position, encoding: Encoding
) -> None:
    buffer = Buffer(text, encoding)
    offset = Text.of(text).offset_at(*position, encoding)
    assert text[:offset] == buffer.decoded(buffer.units[: buffer.index(position)])


@given(texts, encodings)
def test_an_offset_goes_to_a_position_and_back(text: str, encoding: Encoding) -> None:
    """Exact everywhere but between \\r and \\n, which is the end of the line that they end."""
    indexed, buffer = Text.of(text), Buffer(text, encoding)
    for offset in range(-2, len(text) + 3):
        clamped = min(max(offset, 0), len(text))
        if text[max(clamped - 1, 0) : clamped + 1] == "\r\n":
            clamped -= 1
        position = indexed.position_at(offset, encoding)
        assert position == indexed.position_at(clamped, encoding)
        assert indexed.offset_at(*position, encoding) == clamped
        assert buffer.index(position) == len(buffer.encoded(text[:clamped]))


@given(texts)
def test_lines_with_their_ends_make_the_text(text: str) -> None:
    indexed = Text.of(text)
    lines = [indexed.line_with_end(i) for i in range(indexed.n_lines)]
    assert "".join(lines) == text
    assert [re.sub(r"(\r\n|\r|\n)\Z", "", line) for line in lines] == [
        indexed.line(i) for i in range(indexed.n_lines)
    ]


HALVES = ["\ud800", "\udbff", "\udc00", "\udfff"]
broken_texts = st.lists(st.sampled_from([*ALPHABET, *HALVES]), max_size=12).map("".join)


def mended(text: str) -> str:
    return "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in text)


@given(broken_texts, st.lists(st.tuples(broken_texts, ranges | st.none()), max_size=6), encodings)
def test_half_pairs_are_replaced_wherever_they_come_in(
    text: str, edits: list[tuple[str, Range | None]], encoding: Encoding
) -> None:
    """Opened, inserted or sent whole: the text is that of an editor that shows U+FFFD for each."""
    store, whole = opened(text), opened(mended(text))
    for version, (inserted, range_) in enumerate(edits, start=2):
        changed = store.change(URI, version, [Change(inserted, range_)], encoding)
        expected = whole.change(URI, version, [Change(mended(inserted), range_)], encoding)
        assert changed.text == expected.text
        changed.text.content.encode()


@given(texts, st.lists(st.tuples(st.integers(0, 6) | st.none(), changes), max_size=10), encodings)
def test_versions_that_go_back_never_lead_to_a_text_that_the_editor_does_not_hold(
    text: str, sent: list[tuple[int | None, Change]], encoding: Encoding
) -> None:
    """What is refused changes nothing, and nothing is taken until the whole text comes."""
    store, buffer, is_lost, newest = opened(text, version=1), Buffer(text, encoding), False, 1
    for version, change in sent:
        before = document(store)
        is_whole = change.range is None
        is_stale = version is not None and version < newest
        if not is_whole and (is_stale or is_lost):
            with pytest.raises(DocumentError):
                store.change(URI, version, [change], encoding)
            is_lost = True
            assert document(store).text is before.text
            assert document(store).is_out_of_sync
            continue
        changed = store.change(URI, version, [change], encoding)
        buffer.apply(change)
        is_lost, newest = False, changed.version
        assert changed.text.content == buffer.text
        assert not changed.is_out_of_sync


# --- lines and positions, by hand ---


def test_only_the_three_line_ends_of_lsp_end_a_line() -> None:
    text = Text.of("a\fb\vc\u2028d\x85e\nf\r\ng\rh")
    assert [text.line(i) for i in range(text.n_lines)] == ["a\fb\vc\u2028d\x85e", "f", "g", "h"]


def test_an_edit_behind_a_form_feed_lands_in_its_line() -> None:
    """The fault in pygls that this store is written for."""
    changed = opened("a\fb\ncd").change(URI, 2, [at(1, 0, 1, 1, "X")], "utf-16")
    assert changed.text.content == "a\fb\nXd"


def test_an_empty_text_has_one_empty_line() -> None:
    text = Text.of("")
    assert (text.n_lines, text.line(0), text.line_with_end(0)) == (1, "", "")
    assert text.offset_at(7, 7, "utf-16") == 0


@pytest.mark.parametrize("line", [-1, 2])
def test_a_line_that_is_not_there_is_an_index_error(line: int) -> None:
    text = Text.of("a\nb")
    for ask in (text.line, text.line_with_end, text.line_start, text.line_end):
        with pytest.raises(IndexError, match=f"line {line} of 2"):
            ask(line)


@pytest.mark.parametrize(
    ("position", "encoding", "offset"),
    [
        ((0, 3), "utf-16", 2),  # behind the pair
        ((0, 2), "utf-16", 1),  # inside the pair
        ((0, 4), "utf-8", 1),  # inside the four bytes
        ((0, 5), "utf-8", 2),
        ((0, 2), "utf-32", 2),
        ((0, 99), "utf-16", 3),  # before \r\n
        ((1, 0), "utf-16", 5),
        ((9, 0), "utf-16", 6),  # the end of the text
        ((-1, -1), "utf-16", 0),
    ],
)
def test_positions_are_clamped_to_characters(
    position: tuple[int, int], encoding: Encoding, offset: int
) -> None:
    assert Text.of("a\U0001f600b\r\nc").offset_at(*position, encoding) == offset


def test_half_a_pair_becomes_a_replacement_character_of_the_same_width() -> None:
    """What JSON lets through and UTF-8 does not would fail wherever the text is written next."""
    store = opened("\ud83da\n")
    changed = store.change(URI, 2, [at(0, 1, 0, 2, "\udc00b")], "utf-16")
    assert changed.text.content == "\ufffd\ufffdb\n"


# --- changes ---


def test_changes_apply_in_order_each_to_the_result_of_the_one_before() -> None:
    changed = opened("abc").change(
        URI, 2, [at(0, 0, 0, 0, "x\n"), at(1, 0, 1, 1, ""), at(0, 1, 1, 0, "")], "utf-16"
    )
    assert changed.text.content == "xbc"


def test_a_reversed_range_is_the_same_text() -> None:
    changed = opened("abc\ndef").change(URI, 2, [at(1, 1, 0, 2, "-")], "utf-16")
    assert changed.text.content == "ab-ef"


def test_a_change_joins_and_splits_line_ends_at_its_seams() -> None:
    store = opened("a\rb\n")
    assert store.change(URI, 2, [at(1, 0, 1, 1, "")], "utf-16").text == Text.of("a\r\n")
    split = Change("b", Range(Position(0, 1), Position(0, 1)))
    assert store.change(URI, 3, [split], "utf-16").text == Text.of("ab\r\n")


def test_a_stale_change_is_refused_and_corrupts_nothing() -> None:
    store = opened("abc", version=5)
    with pytest.raises(DocumentError, match=r"version 5 .* version 4; close and reopen"):
        store.change(URI, 4, [at(0, 0, 0, 1, "x")], "utf-16")
    assert document(store).text.content == "abc"
    assert document(store).version == 5
    assert document(store).is_out_of_sync


def test_a_document_out_of_sync_takes_no_changes_to_a_text_it_does_not_have() -> None:
    store = opened("abc", version=5)
    with pytest.raises(DocumentError):
        store.change(URI, 4, [at(0, 0, 0, 1, "x")], "utf-16")
    with pytest.raises(DocumentError, match="lost touch with the editor at version 5"):
        store.change(URI, 6, [at(0, 0, 0, 1, "x")], "utf-16")
    assert document(store).text.content == "abc"


def test_the_whole_text_brings_a_document_back_into_sync() -> None:
    def lost() -> DocumentStore:
        store = opened("abc", version=5)
        with pytest.raises(DocumentError):
            store.change(URI, 4, [at(0, 0, 0, 1, "x")], "utf-16")
        return store

    by_change, by_save, by_opening = lost(), lost(), lost()
    by_change.change(URI, 6, [Change("new")], "utf-16")
    by_save.save(URI, "new")
    by_opening.open(URI, PATH, "python", 1, "new")
    for store in (by_change, by_save, by_opening):
        assert document(store).text.content == "new"
        assert not document(store).is_out_of_sync
        after = store.change(URI, 7, [at(0, 0, 0, 1, "x")], "utf-16")
        assert after.text.content == "xew"


@pytest.mark.parametrize("version", [None, 3])
def test_a_client_that_does_not_count_is_served(version: int | None) -> None:
    """The channel keeps the order, so null and repeated versions say nothing about the text."""
    store = opened("", version=3)
    first = store.change(URI, version, [at(0, 0, 0, 0, "b")], "utf-16")
    second = store.change(URI, version, [at(0, 0, 0, 0, "a")], "utf-16")
    assert second.text.content == "ab"
    assert first.revision < second.revision, "the revision tells the two apart"


def test_a_change_to_a_document_that_is_not_open_is_refused() -> None:
    with pytest.raises(DocumentError, match=r"'file:///w/a\.py' was changed and is not open"):
        DocumentStore().change(URI, 1, [Change("x")], "utf-16")


# --- the store ---


def test_every_mutation_raises_the_revision() -> None:
    store = opened("abc")
    revisions = [
        store.revision,
        store.change(URI, 2, [], "utf-16").revision,
        store.save(URI, None).revision,
        store.open(URI, PATH, "python", 1, "").revision,
    ]
    store.close(URI)
    revisions.append(store.revision)
    assert revisions == sorted(set(revisions))


def test_reopening_replaces_the_document() -> None:
    store = opened("old", version=9)
    store.open(URI, PATH, "python", 1, "new")
    assert len(store) == 1
    assert document(store).text.content == "new"
    assert store.change(URI, 2, [Change("newer")], "utf-16").version == 2


def test_a_document_is_found_by_its_file_while_it_is_open() -> None:
    store = opened("abc")
    store.change(URI, 2, [Change("x")], "utf-16")
    found = store.by_path(PATH)
    assert found is not None
    assert found.text.content == "x"
    assert store.close(URI) is found
    assert store.by_path(PATH) is None
    assert store.close(URI) is None


def test_two_uris_of_one_file_give_the_one_opened_last() -> None:
    other = "file:///w/%61.py"
    store = opened("first")
    store.open(other, PATH, "python", 1, "second")
    found = store.by_path(PATH)
    assert found is not None
    assert found.uri == other
    store.close(other)
    assert store.by_path(PATH) is document(store)


def test_an_untitled_document_has_no_file() -> None:
    store = DocumentStore()
    store.open("untitled:Untitled-1", None, "python", 1, "x")
    assert [each.path for each in store] == [None]
    store.close("untitled:Untitled-1")
    assert len(store) == 0


def test_documents_may_close_while_they_are_gone_through() -> None:
    store = opened("a")
    store.open("untitled:1", None, "python", 1, "b")
    for each in store:
        store.close(each.uri)
    assert len(store) == 0


def test_a_save_with_another_text_is_taken_and_said(caplog: pytest.LogCaptureFixture) -> None:
    store = opened("abc")
    assert store.save(URI, "abc").text.content == "abc"
    assert not caplog.records
    assert store.save(URI, "abd").text.content == "abd"
    assert "another text" in caplog.text
    assert "abd" not in caplog.text


def test_a_save_of_a_document_that_is_not_open_is_refused() -> None:
    with pytest.raises(DocumentError, match="was saved and is not open"):
        DocumentStore().save(URI, "x")


def test_a_document_handed_out_never_changes() -> None:
    store = opened("abc")
    before = document(store)
    store.change(URI, 2, [Change("x")], "utf-16")
    assert before.text.content == "abc"
    assert document(store) is not before
