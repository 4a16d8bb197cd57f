"""What the model is told about files that changed since it saw them."""

import dataclasses
import re

from hypothesis import given
from hypothesis import strategies as st

from lsp_assist.context import changes, levels, prompt
from lsp_assist.llm import Message, Segment, Source
from tests.context.project import MemoryProject, key, key_file

CODE = "".join(f"line {n} of a file that is long enough\n" for n in range(40))


def told(messages: list[Message], text: str | None, path: str = "a.py") -> list[Segment]:
    """What the next turn says of the file, after these messages."""
    known = changes.shown(messages)
    digests = {} if text is None else {key(path): key_file(path, text).digest}
    stale = changes.stale(known, digests)
    if key(path) not in stale:
        return []
    if text is None:
        return changes.changed(known[key(path)], key(path), None, None, ())
    symbols = MemoryProject({path: text}).outline(path)
    return changes.changed(known[key(path)], key(path), key_file(path, text), text, symbols)


def whole(text: str, path: str = "a.py") -> Message:
    return Message("system", (levels.whole(key_file(path, text), text),))


def user(*segments: Segment) -> Message:
    return Message("user", segments)


def test_a_small_edit_comes_as_a_diff_once() -> None:
    edited = CODE.replace("line 20 of", "line twenty of")
    [segment] = told([whole(CODE)], edited)
    assert segment.kind == "change"
    assert "a.py has changed since it was shown in full:\n```diff\n@@" in segment.text
    assert "-line 20 of a file" in segment.text
    assert "+line twenty of a file" in segment.text
    assert told([whole(CODE), user(segment)], edited) == []


def test_a_second_edit_is_told_against_the_text_that_was_shown_in_full() -> None:
    first = CODE.replace("line 20 of", "line twenty of")
    [one] = told([whole(CODE)], first)
    [two] = told([whole(CODE), user(one)], first.replace("line 3 of", "line three of"))
    assert "+line twenty of" in two.text
    assert "+line three of" in two.text


def test_a_rewritten_file_comes_anew_and_later_diffs_are_against_that() -> None:
    new = "".join(f"other {n} words that nobody has seen so far\n" for n in range(40))
    [anew] = told([whole(CODE)], new)
    assert anew.text.startswith("File, changed since: a.py\n")
    assert anew.quoted == new.rstrip()
    [diff] = told([whole(CODE), user(anew)], new.replace("other 3 words", "other three words"))
    assert "-other 3 words" in diff.text


def test_an_edit_that_was_undone_is_told() -> None:
    [segment] = told([whole(CODE)], CODE.replace("line 2 ", "line two "))
    [undone] = told([whole(CODE), user(segment)], CODE)
    assert undone.text == "a.py is again as it was shown in full.\n\n"


def test_a_deleted_file_is_told_once_and_its_return_too() -> None:
    [gone] = told([whole(CODE)], None)
    assert "a.py was deleted" in gone.text
    assert told([whole(CODE), user(gone)], None) == []
    [back] = told([whole(CODE), user(gone)], CODE)
    assert "again as it was" in back.text


def test_an_excerpt_that_still_stands_is_not_shown_again_wherever_it_moved() -> None:
    text = "def f():\n    return 1\n"
    part = prompt.selection_segment(Source("a.py", 0, 1, "f", "/workspace"), "python", text)
    part = dataclasses.replace(part, digest=key_file("a.py", text).digest)
    assert told([user(part)], "# a comment\n\n" + text) == []
    [anew] = told([user(part)], "# a comment\n\ndef f():\n    return 2\n")
    assert anew.text.startswith("Changed since: a.py:3-4 (f)\n```python\ndef f():\n    return 2\n")
    [gone] = told([user(part)], "# nothing\n")
    assert "a.py:1 (f) has changed and is no longer there" in gone.text


def test_an_outline_comes_again_only_where_more_than_its_lines_moved() -> None:
    text = "def f():\n    return 1\n"
    outline = levels.skeleton(key_file("a.py", text), MemoryProject({"a.py": text}).outline("a.py"))
    assert told([user(outline)], "\n\n" + text.replace("1", "2")) == []
    [anew] = told([user(outline)], text.replace("f()", "f(x)"))
    assert "1: def f(x)" in anew.text


_LINES = st.lists(st.sampled_from(["a", "b", "c", "", "  d"]), max_size=30)


@given(_LINES, st.lists(_LINES, min_size=1, max_size=4))
def test_whatever_was_edited_the_branch_lets_the_present_text_be_told(
    first: list[str], later: list[list[str]]
) -> None:
    """A reader who takes the last full text and the last diff against it has the file as it is."""
    padding = [f"padding {n} that makes a diff worth it" for n in range(30)]
    texts = ["\n".join([*padding, *lines, "end"]) + "\n" for lines in (first, *later)]
    messages = [whole(texts[0])]
    for text in texts[1:]:
        messages.append(user(*told(messages, text)))
        assert _as_read(messages) == text.rstrip("\n").split("\n")


def _as_read(messages: list[Message]) -> list[str]:
    """The file as a careful reader of the branch has it."""
    segments = [s for m in messages for s in m.segments]
    base = next(s.quoted for s in reversed(segments) if s.quoted).split("\n")
    last = segments[-1]
    if "```diff" not in last.text or last.quoted:
        return base
    lines = last.text.split("\n")[2:-3]
    read: list[str] = []
    at = 0
    for line in lines:
        if hunk := re.match(r"@@ -(\d+)(?:,(\d+))? ", line):
            start = int(hunk[1]) - (hunk[2] != "0")
            read += base[at:start]
            at = start
        elif line.startswith("+"):
            read.append(line[1:])
        else:
            if line.startswith(" "):
                read.append(base[at])
            at += 1
    return read + base[at:]
