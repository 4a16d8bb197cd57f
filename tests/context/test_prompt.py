"""The layout of the prompt, and the contract that it only grows at its end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsp_assist.chat.tree import Turn
from lsp_assist.context import modes, prompt
from lsp_assist.errors import BadInput
from lsp_assist.llm import Message, Prompt, Segment, Source, SymbolFacts

SOURCE = Source("src/a.py", 9, 11, "Retry.increment")


def turn(n: int, question: str, reply: str) -> Turn:
    asked = prompt.question_message((), "", question)
    return Turn(str(n), str(n - 1), asked, Message("assistant", (Segment("reply", reply),)), "done")


def rendered(value: Prompt) -> str:
    """A stand-in for a chat template: every message is written once and closed."""
    return "".join(f"<{m.role}>{m.text}</{m.role}>" for m in value.messages)


@given(st.lists(st.tuples(st.text(), st.text()), max_size=6), st.text())
def test_each_prompt_of_a_branch_extends_the_one_before(
    talk: list[tuple[str, str]], question: str
) -> None:
    """Also where a turn was cancelled before it said anything: its reply is empty and stays."""
    turns = [turn(n, *said) for n, said in enumerate(talk)]
    before = ""
    for n in range(len(turns)):
        asked = rendered(prompt.build((prompt.SYSTEM,), turns[:n], turns[n].question))
        assert asked.startswith(before)
        before = asked + f"<assistant>{turns[n].reply.text}</assistant>"
    last = prompt.build((prompt.SYSTEM,), turns, prompt.question_message((), "", question))
    assert rendered(last).startswith(before)


def test_the_question_comes_last_and_the_mode_just_before_it() -> None:
    piece = prompt.hit_segment(SOURCE, "python", "x = 1\n", 9, SymbolFacts("method", "", ""))
    message = prompt.question_message((piece,), modes.instructions("fix"), "  why?  ")
    assert [segment.kind for segment in message.segments] == ["hit", "mode", "question"]
    assert message.text.endswith("\n\nwhy?")
    assert message.text.startswith(
        "Excerpt: src/a.py:10-12 (Retry.increment)\n```python\nx = 1\n```\n"
    )


def test_the_system_text_knows_no_mode() -> None:
    """A mode travels in the turn: switching it must not touch the front of the prompt."""
    plain = prompt.build((prompt.SYSTEM,), (), prompt.question_message((), "", "q"))
    fixing = prompt.build(
        (prompt.SYSTEM,), (), prompt.question_message((), modes.instructions("fix"), "q")
    )
    assert plain.messages[0] == fixing.messages[0]


@given(st.text(alphabet="`ab\n", max_size=40))
def test_no_text_breaks_out_of_its_fence(text: str) -> None:
    """A file cannot end its excerpt early and go on as if it were the user."""
    shown = prompt.selection_segment(SOURCE, "", text).text
    fence = shown.split("\n")[1]
    assert set(fence) == {"`"}
    assert fence not in text
    assert shown.endswith(f"\n{fence}\n\n")


def test_every_mode_has_instructions() -> None:
    assert modes.names()[0] == "ask"
    assert {"explain", "refactor", "fix", "document", "test"} <= set(modes.names())
    for name in modes.names():
        assert bool(modes.instructions(name)) == (name != "ask")


@pytest.mark.parametrize("name", ["nope", "../modes/fix", "fix.md", "Fix"])
def test_an_unknown_mode_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match="There is no mode") as raised:
        modes.instructions(name)
    assert raised.value.field == "mode"
