"""The layout of the prompt, and the contract that it only grows at its end."""

from hypothesis import given
from hypothesis import strategies as st

from lsp_assist.chat.tree import Turn
from lsp_assist.context import prompt
from lsp_assist.context.modes import Modes
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


def test_what_is_typed_stands_behind_all_that_is_known_and_before_what_is_found_for_it() -> None:
    """So that it can be read while it is typed, and more words take nothing back."""
    piece = prompt.selection_segment(SOURCE, "python", "x = 1\n")
    hit = prompt.hit_segment(SOURCE, "python", "y = 2\n", 9, SymbolFacts("method", "", ""))
    typed = prompt.question_message((piece,), Modes().get("fix").text, "  why ")
    asked = prompt.question_message((piece,), Modes().get("fix").text, "  why?  ", (hit,))
    assert [segment.kind for segment in typed.segments] == ["selection", "mode", "question"]
    assert typed.text.startswith("Selected: src/a.py:10-12 (Retry.increment)\n```python\nx = 1\n")
    assert asked.text.startswith(typed.text)
    assert "Excerpt: src/a.py:10-12 (Retry.increment)\n```python\ny = 2\n```\n" in asked.text
    assert asked.text.index("why?") < asked.text.index("Excerpt")


def test_a_piece_knows_where_the_lines_of_its_file_stand() -> None:
    for text in ("x = 1\n", "a\nb\n\n", "```\nfenced\n```"):
        assert prompt.selection_segment(SOURCE, "python", text).quoted == text.rstrip()


def test_the_system_text_knows_no_mode() -> None:
    """A mode travels in the turn: switching it must not touch the front of the prompt."""
    plain = prompt.build((prompt.SYSTEM,), (), prompt.question_message((), "", "q"))
    fixing = prompt.build(
        (prompt.SYSTEM,), (), prompt.question_message((), Modes().get("fix").text, "q")
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
