"""Edits in a reply: found as small models write them, fitted or refused, never guessed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsp_assist.errors import EditRefused
from lsp_assist.flows.patch import FileEdit, Hunk, applied, changes, diff, read

BLOCK = """\
Here it is:

src/a.py
```python
<<<<<<< SEARCH
old
=======
new
>>>>>>> REPLACE
```

Done."""
EDIT = FileEdit("src/a.py", (Hunk(("old",), ("new",)),))


@pytest.mark.parametrize(
    "reply",
    [
        BLOCK,
        BLOCK.replace("src/a.py\n", "**`src/a.py`**:\n\n"),
        BLOCK.replace("src/a.py\n", "### File: src/a.py\n"),
        BLOCK.replace("src/a.py\n", "In `src/a.py`, change `old`:\n"),
        BLOCK.replace("src/a.py\n", "").replace("```python\n", "```python src/a.py\n"),
        BLOCK.replace("src/a.py\n```python\n", "```python\nsrc/a.py\n"),
        BLOCK.replace("```python\n", "").replace("```\n", ""),
        BLOCK.replace("<<<<<<< SEARCH", "<<<<<< SEARCH").replace(">>>>>>> ", ">>>>>>>>"),
        BLOCK.replace("<<<<<<< SEARCH", "<<<<<<< ORIGINAL").replace("REPLACE", "UPDATED"),
        BLOCK.replace(">>>>>>> REPLACE\n", ""),
        BLOCK.replace("```", "~~~~"),
        BLOCK.replace("\n", "\r\n"),
    ],
)
def test_a_block_is_found_however_it_is_dressed(reply: str) -> None:
    assert read(reply, takes_whole_files=False) == (EDIT,)


def test_blocks_of_one_file_stand_together_and_a_path_is_remembered() -> None:
    again = BLOCK.partition("src/a.py\n")[2].replace("old", "more").replace("new", "less")
    other = BLOCK.replace("src/a.py", "b.py")
    first, second = read(f"{BLOCK}\n{again}\n{other}", takes_whole_files=False)
    assert first == FileEdit("src/a.py", (*EDIT.hunks, Hunk(("more",), ("less",))))
    assert second.path == "b.py"


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "Nothing to change.",
        BLOCK.replace("src/a.py\n", ""),
        BLOCK.partition(">>>>>>>")[0],
        BLOCK.partition("=======")[0],
        BLOCK.replace("new", "a\n=======\nb"),
        "src/a.py\n```python\nwhole\n```\n",
    ],
)
def test_what_is_no_edit_is_none(reply: str) -> None:
    assert read(reply, takes_whole_files=False) == ()


def test_whole_files_are_taken_where_they_were_asked_for() -> None:
    reply = (
        "Text.\n\n`src/new.py`:\n```python\nx = 1\n\ny = 2\n```\nIn src/b.py do:\n```\nno\n```\n"
    )
    assert read(reply, takes_whole_files=True) == (
        FileEdit("src/new.py", (), ("x = 1", "", "y = 2")),
    )
    assert read(f"{reply}{BLOCK}", takes_whole_files=True)[0] == EDIT
    assert read("src/cut.py\n```\nhalf", takes_whole_files=True) == ()


def test_blanks_belong_to_a_name_between_backticks() -> None:
    for name in ("a b.py", "my src/a b.py"):
        (edit,) = read(BLOCK.replace("src/a.py", f"`{name}`"), takes_whole_files=False)
        assert edit.path == name
    assert read(BLOCK.replace("src/a.py", "see a b.py"), takes_whole_files=False) == ()


def fitted(text: str | None, search: str, replace: str) -> str:
    hunk = Hunk(tuple(search.split("\n")), tuple(replace.split("\n") if replace else ()))
    return applied(text or "", changes(text, FileEdit("a.py", (hunk,))))


@pytest.mark.parametrize(
    ("text", "search", "replace", "expected"),
    [
        ("a\nb\nc\n", "b", "B", "a\nB\nc\n"),
        ("a\nb\nc", "c", "C", "a\nb\nC"),
        ("a\nb\nc\n", "a\nb\nc", "", ""),
        ("a\nb\n", "b", "b\nc", "a\nb\nc\n"),
        ("a\nb", "b", "b\nc", "a\nb\nc"),
        ("a\r\nb\r\nc\r\n", "b", "B\nB", "a\r\nB\r\nB\r\nc\r\n"),
        ("a  \nb\n", "a\nb", "A\nb", "A\nb\n"),
        ("  if x:\n    y\n", "if x:\n  y", "if x:\n  z\n  w", "  if x:\n    z\n    w\n"),
        ("if x:\n  y\n", "    if x:\n      y", "    if x:\n      z", "if x:\n  z\n"),
        ("\tif x:\n\t\ty\n", "    if x:\n        y", "    if x:\n        z", "\tif x:\n\t\tz\n"),
        ("a\nb\n", "\n\nb\n", "\n\nB\n", "a\nB\n"),
        ("", "", "new\nfile", "new\nfile\n"),
        (None, "", "new", "new\n"),
        ("a\x0cb\nc\u2028d\n", "c\u2028d", "e", "a\x0cb\ne\n"),
        ("a\nb\n", "a\nb", "a\nb", "a\nb\n"),
    ],
)
def test_lines_are_found_and_replaced(
    text: str | None, search: str, replace: str, expected: str
) -> None:
    assert fitted(text, search, replace) == expected


@pytest.mark.parametrize(
    ("text", "search", "problem"),
    [
        ("a\nb\na\n", "a", r"2 times \(lines 1, 3\)"),
        ("  a\n    a\n", "a", "2 times"),
        ("a\nb\n", "c", "not in 'a.py'"),
        ("a\nb\n", "a\nc", "not in"),
        ("a\n", "", "does not say which lines"),
        ("  if x:\n  y\n", "if x:\n    y", "indented otherwise"),
    ],
)
def test_what_does_not_fit_is_refused(text: str, search: str, problem: str) -> None:
    with pytest.raises(EditRefused, match=problem):
        fitted(text, search, "x")


def test_changes_that_overlap_are_refused() -> None:
    hunks = (Hunk(("a", "b"), ("x",)), Hunk(("b", "c"), ("y",)))
    with pytest.raises(EditRefused, match="overlap at line 2"):
        changes("a\nb\nc\n", FileEdit("a.py", hunks))


def test_only_lines_that_differ_are_touched() -> None:
    (change,) = changes("a\nb\nc\n", FileEdit("p", (Hunk(("a", "b", "c"), ("a", "B", "c")),)))
    assert (change.start, change.end, change.text) == (1, 2, "B\n")


def test_an_excerpt_is_not_taken_for_the_whole_file() -> None:
    text = "".join(f"line {n}\n" for n in range(10))
    with pytest.raises(EditRefused, match="Only 2 of 10"):
        changes(text, FileEdit("a.py", (), ("line 3", "line 4")))
    whole = tuple(f"line {n}" if n != 3 else "other" for n in range(10))
    after = applied(text, changes(text, FileEdit("a.py", (), whole)))
    assert after == text.replace("line 3", "other")


LINES = st.lists(st.sampled_from(["a", "b", "  c", "", "d  ", "\te"]), max_size=12)


@given(LINES, st.data(), LINES, st.sampled_from(["\n", "\r\n", "\r"]), st.booleans())
def test_an_exact_block_does_what_slicing_does_or_is_refused(
    lines: list[str], data: st.DataObject, replace: list[str], eol: str, ends: bool
) -> None:
    start = data.draw(st.integers(0, len(lines)))
    end = data.draw(st.integers(start, len(lines)))
    if ends and lines and not lines[-1]:
        lines = [*lines, "z"]
    text = eol.join(lines) + (eol if lines and not ends else "")
    if eol not in text:
        eol = "\n"  # nothing in the text tells another
    search = lines[start:end]
    if not any(line.strip() for line in search):
        return
    if not search[0].strip() or not search[-1].strip():
        return
    edit = FileEdit("p", (Hunk(tuple(search), tuple(replace)),))
    n_found = sum(lines[n : n + len(search)] == search for n in range(len(lines)))
    if n_found > 1:
        with pytest.raises(EditRefused):
            changes(text, edit)
        return
    after = applied(text, changes(text, edit))
    expected = [*lines[:start], *replace, *lines[end:]]
    assert after.split(eol)[: len(expected)] == expected or not expected
    assert after.rstrip("\r\n") == eol.join(expected).rstrip("\r\n")


def test_a_diff_is_one_that_people_know() -> None:
    assert diff("a.py", "x\ny\n", "x\nz\n") == (
        "--- a/a.py\n+++ b/a.py\n@@ -1,2 +1,2 @@\n x\n-y\n+z\n"
    )
