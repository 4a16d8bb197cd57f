"""Words as numbers, and words that the vocabulary lacks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsp_assist.words import Vocabulary, parts_of, words_of

VOCABULARY = Vocabulary(["the", "err", "msg", "max", "retries", "http", "er", "r", "ms"])


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("maxRetries", ["max", "retries"]),
        ("MAX_RETRIES", ["max", "retries"]),
        ("HTTPServer2", ["http", "server", "2"]),
        ("__init__", ["init"]),
        ("größe_in_mm", ["größe", "in", "mm"]),
        ("x" * 65, []),
    ],
)
def test_an_identifier_is_taken_apart(word: str, parts: list[str]) -> None:
    assert parts_of(word) == parts


def test_a_text_becomes_the_numbers_of_its_parts_in_order() -> None:
    assert VOCABULARY.numbers("the maxRetries, the") == [0, 3, 4, 0]


def test_a_word_without_an_entry_is_cut_into_the_commonest_and_fewest() -> None:
    """`err` + `msg` beats `er` + `r` + `ms` and the `g` that nothing covers."""
    assert VOCABULARY.pieces("errmsg") == ["err", "msg"]
    assert VOCABULARY.numbers("errMsg errmsg") == [1, 2, 1, 2]


def test_what_no_entry_covers_is_left_out() -> None:
    assert VOCABULARY.numbers("qqq 123456 öö") == []
    assert VOCABULARY.pieces("qerr") == ["err"]


@given(st.lists(st.text("abc", min_size=1, max_size=4), unique=True), st.text("abc", max_size=12))
def test_pieces_are_entries_and_stand_in_the_part_in_order(entries: list[str], part: str) -> None:
    at = 0
    for piece in Vocabulary(entries).pieces(part):
        assert piece in entries
        at = part.index(piece, at) + len(piece)


@given(st.text())
def test_no_text_is_too_odd(text: str) -> None:
    numbers = VOCABULARY.numbers(text)
    assert all(0 <= number < len(VOCABULARY) for number in numbers)
    assert VOCABULARY.numbers(f"{text} {text}") == numbers * 2
    assert all(words_of(text))
