"""Hidden blocks: kept in the text, not shown, however the text is cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsp_assist.chat.hidden import MAX_CHARS, Veil, visible

PLAN = "<meta hidden k=strat>\nContext: x\n</meta>\n\n"
PIECES = st.sampled_from(
    [
        *("<meta hidden k=strat>", "<meta", " hidden k=", "k=a>", "</meta>", "</me", "ta>"),
        *("\n", "\r\n", "```", "`", "~~~", "```python", "x", " ", "<", ">"),
    ]
)
TEXTS = st.lists(PIECES, max_size=30).map("".join)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (PLAN + "Hello.", "Hello."),
        ("Hello.\n" + PLAN + "More.", "Hello.\nMore."),
        (PLAN + PLAN, ""),
        ("no block: <meta hidden k=strat>x</meta>", "no block: <meta hidden k=strat>x</meta>"),
        ("```\n" + PLAN + "```\n", "```\n" + PLAN + "```\n"),
        ("````\n```\n" + PLAN + "````\n" + PLAN + "x", "````\n```\n" + PLAN + "````\nx"),
        ("<meta hidden k=>x</meta>", "<meta hidden k=>x</meta>"),
        ("<meta hidden k=a>one</meta>two", "two"),
        ("", ""),
    ],
)
def test_what_is_shown(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_a_block_that_is_never_closed_is_shown_at_the_end() -> None:
    veil = Veil()
    assert veil.feed("<meta hidden k=strat>\nthe answer") == ""
    assert veil.rest() == "<meta hidden k=strat>\nthe answer"


def test_a_block_that_is_not_closed_in_time_is_shown_while_the_reply_goes_on() -> None:
    veil = Veil()
    text = "<meta hidden k=strat>\n" + "a line of the answer\n" * MAX_CHARS
    shown = "".join(veil.feed(text[n : n + 7]) for n in range(0, len(text), 7))
    assert shown == text


def test_a_usual_reply_is_shown_as_it_comes() -> None:
    veil = Veil()
    assert [veil.feed(word) for word in ("Well", ", <b>", " it\n", "1", " < 2")] == [
        *("Well", ", <b>", " it\n", "1", " < 2")
    ]


@given(TEXTS, st.lists(st.integers(1, 5), min_size=1, max_size=40))
def test_how_the_text_is_cut_changes_nothing(text: str, sizes: list[int]) -> None:
    veil = Veil()
    shown, at = "", 0
    for size in sizes:
        shown += veil.feed(text[at : at + size])
        at += size
    assert shown + veil.feed(text[at:]) + veil.rest() == visible(text)


@given(TEXTS)
def test_only_closed_blocks_are_left_out(text: str) -> None:
    """What is shown has its characters in order, and is all of a text without a closed block."""
    rest = iter(text)
    assert all(char in rest for char in visible(text))
    if "</meta>" not in text:
        assert visible(text) == text
