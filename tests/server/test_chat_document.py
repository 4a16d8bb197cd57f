"""A chat as a Markdown document: what is written is found again, whatever is said in it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsp_assist.server.chat_document import (
    ANSWER,
    QUESTION,
    Quote,
    Shield,
    asked,
    new,
    pending,
    tail,
)

CODE = Quote("file:///w/a%20b.py", "a b.py", 3, 5, "if x:\n    ```\n", "python")
TEXTS = st.lists(
    st.sampled_from([QUESTION, ANSWER, "##", "# A", " ", "\n", "\r\n", "\x0c", "x", "```"])
).map("".join)


def test_a_new_chat_has_nothing_to_send() -> None:
    assert pending(new()) is None


def test_a_quoted_selection_alone_can_be_sent() -> None:
    found = pending(new(CODE))

    assert found is not None
    assert (found.text, found.quote) == (
        "",
        Quote("file:///w/a%20b.py", "a b.py, lines 4 to 6", 3, 5),
    )


@pytest.mark.parametrize("code", ["x", "```", "````\n```", "", "~~~", "[a](b#L1-L2)"])
def test_the_question_below_quoted_code_is_found(code: str) -> None:
    """The code is not part of it, whatever fences the code has."""
    document = asked(
        "Why?\n\n```\nthis is mine\n```", Quote("file:///a(b).py", "a[b].py", 0, 0, code)
    )

    found = pending(document)

    assert found is not None
    assert found.text == "Why?\n\n```\nthis is mine\n```"
    assert found.quote is not None
    assert found.quote.uri == "file:///a%28b%29.py"
    assert document.splitlines()[found.line] == QUESTION


def test_only_what_stands_below_the_last_heading_is_sent() -> None:
    first = asked("First?") + f"\n\n{ANSWER}\n\nYes.\n\n{QUESTION}\n\n"

    assert pending(first) is None
    found = pending(first + "And # this?\n## Not ours\n")
    assert found is not None
    assert found.text == "And # this?\n## Not ours"
    assert pending(asked("First?") + f"\n\n{ANSWER}\n\nhalf an ans") is None


def test_a_text_that_is_no_chat_has_nothing_to_send() -> None:
    assert pending("# Readme\n\nHello.") is None
    assert pending("") is None


@given(TEXTS.filter(str.strip), TEXTS, st.lists(TEXTS))
def test_nothing_that_is_said_becomes_a_heading_of_ours(
    question: str, end: str, pieces: list[str]
) -> None:
    """However the reply is cut: below it the next question is found, and nothing is lost."""
    shield = Shield()
    said = "".join([shield.feed(piece) for piece in [*pieces, end]]) + shield.rest()
    start = f"{asked(question)}\n\n{ANSWER}\n\n{said}"

    assert pending(start) is None
    assert tail(start) == len(start)
    below = f"\n\n{QUESTION}\n\nNext?"
    found = pending(start + below)
    assert found is not None
    assert found.text == "Next?"
    assert said.replace(" ", "") == "".join([*pieces, end]).replace(" ", "")


@given(st.lists(st.text("# YouAsist\n"), max_size=6))
def test_a_reply_is_shown_as_it_comes(pieces: list[str]) -> None:
    """Only the start of a line that may become a heading waits."""
    shield = Shield()
    for piece in pieces:
        shield.feed(piece)
        assert len(shield._held) < len(ANSWER) + 2 or not shield._held.strip()


def test_a_running_reply_stays_above_what_the_user_types_meanwhile() -> None:
    document = f"{asked('First?')}\n\n{ANSWER}\n\nhalf"

    assert tail(document) == len(document)
    assert tail(f"{document}\n\n{QUESTION}\nmore?") == len(document) + 2
    assert tail("nothing of ours") == len("nothing of ours")
