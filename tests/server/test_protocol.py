"""The extension's types, and PROTOCOL.md which is made from them."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsp_assist.errors import BadInput
from lsp_assist.server import protocol
from lsp_assist.server.protocol import (
    AskParams,
    CommandArgument,
    Context,
    Position,
    Range,
    SelectionContext,
    structure,
    unstructure,
)
from lsp_assist.server.protocol_tables import with_tables
from tests.server.editor import ROOT, lines

ASKED = {"chatId": "c", "turnId": "t", "text": "x"}


def test_the_document_holds_the_tables_of_the_types() -> None:
    """`python -m lsp_assist.server.protocol_tables PROTOCOL.md` makes it so again."""
    document = (ROOT / "PROTOCOL.md").read_text(encoding="utf-8")

    assert with_tables(document) == document


def test_the_document_names_no_method_that_there_is_not() -> None:
    """What is planned stands under "Not yet", and nowhere else."""
    document = (ROOT / "PROTOCOL.md").read_text(encoding="utf-8")
    told, _, planned = document.partition("## Not yet")
    known = {*protocol.REQUESTS, protocol.EVENT}

    assert {word for word in told.replace("`", " ").split() if word.startswith("assist/")} <= known
    assert not any(f"`{method}`" in planned for method in known)


def test_tables_need_their_marks() -> None:
    with pytest.raises(ValueError, match="tables"):
        with_tables("nothing")


def test_a_whole_question_is_read() -> None:
    selection = {"uri": "file:///a", "range": lines((1, 2), (3, 4.0)), "version": 7}  # type: ignore[arg-type]
    said = ASKED | {"parentTurnId": "p", "mode": "fix", "context": {"selection": selection}}

    assert structure(AskParams, said | {"later": 1}) == AskParams(
        "c",
        "t",
        "x",
        "p",
        "fix",
        Context(SelectionContext("file:///a", Range(Position(1, 2), Position(3, 4)), 7)),
    )


def test_null_is_as_good_as_left_out() -> None:
    """Vim and Lua clients write null for what they do not have."""
    said = ASKED | {"parentTurnId": None, "mode": None, "context": None}

    assert structure(AskParams, said) == structure(AskParams, ASKED)


def check(params: object, message: str, field: str) -> None:
    with pytest.raises(BadInput) as caught:
        structure(AskParams, params)
    assert (str(caught.value), caught.value.field) == (message, field)


def test_errors_name_the_field_by_its_path() -> None:
    selection = {"uri": "u", "range": {"start": {"line": "1", "character": 0}, "end": {}}}
    line = "context.selection.range.start.line"
    check({}, "required field missing: `chatId`", "chatId")
    check(ASKED | {"text": None}, "required field missing: `text`", "text")
    check(ASKED | {"text": 1}, "`text` must be a string", "text")
    check(ASKED | {"turnId": ""}, "`turnId` must be an id and not empty", "turnId")
    check([ASKED], "the params must be an object", "")
    check(ASKED | {"context": {"selection": selection}}, f"`{line}` must be a whole number", line)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(JSON, st.dictionaries(st.sampled_from(["chatId", "text", "context", "range"]), JSON))
def test_anything_is_read_or_refused(params: object, fields: dict[str, object]) -> None:
    """No JSON makes the reader fail in another way."""
    for said in (params, fields, ASKED | fields):
        for kind in (AskParams, CommandArgument, SelectionContext):
            with suppress(BadInput):
                assert isinstance(structure(kind, said), kind)


@given(st.builds(AskParams, st.text(min_size=1), st.text(min_size=1), st.text()))
def test_what_is_written_is_read(asked: AskParams) -> None:
    assert structure(AskParams, unstructure(asked)) == asked


def test_values_travel_in_camel_case_and_maps_as_they_are() -> None:
    @dataclass(frozen=True)
    class Some:
        long_name: Annotated[int, ""]
        left_out: None
        paths: dict[str, object]

    value = Some(1, None, {"a_b.py": Path("/x"), "c": (1, {2}, None)})

    assert unstructure(value) == {"longName": 1, "paths": {"a_b.py": "/x", "c": [1, [2], None]}}
