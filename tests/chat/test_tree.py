"""A chat is a tree of frozen turns."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsp_assist.chat.tree import Chat, Turn
from lsp_assist.errors import UnknownTurn
from lsp_assist.llm import Message

EMPTY = Message("user", ())


def turn(name: str, parent: str | None = None) -> Turn:
    return Turn(name, parent, EMPTY, EMPTY, "done")


def test_a_path_goes_from_the_first_turn_to_the_named_one() -> None:
    chat = Chat("c").with_turn(turn("a")).with_turn(turn("b", "a")).with_turn(turn("c", "a"))
    assert [t.id for t in chat.path("c")] == ["a", "c"]
    assert chat.path(None) == []
    assert chat.last_turn_id() == "c"


def test_an_unknown_parent_is_refused_and_the_field_named() -> None:
    with pytest.raises(UnknownTurn, match="no turn 'x'") as raised:
        Chat("c").with_turn(turn("a", "x"))
    assert raised.value.field == "parentTurnId"


@given(st.lists(st.integers(0, 20), max_size=20))
def test_a_fork_leaves_every_other_path_as_it_was(parents: list[int]) -> None:
    """Adding turns anywhere never changes the path to an earlier one."""
    chat = Chat("c")
    paths: dict[str, list[str]] = {}
    for n, parent in enumerate(parents):
        parent_id = f"t{parent % n}" if n else None
        chat = chat.with_turn(turn(f"t{n}", parent_id))
        paths[f"t{n}"] = [*(paths[parent_id] if parent_id else []), f"t{n}"]
        for name, expected in paths.items():
            assert [t.id for t in chat.path(name)] == expected
