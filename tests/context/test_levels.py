"""A file at four levels of detail."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from lsp_assist.codebase.store import StoredSymbol
from lsp_assist.context import levels
from lsp_assist.context.levels import Lines
from tests.context.project import MemoryProject, key_file

CODE = '''import os

LIMIT = 3


class Session:
    """Keeps a connection."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(
        self, path: str
    ) -> str:
        return self.url + path


def retry(times):
    return times
'''


def outline(text: str, path: str = "a.py") -> Sequence[StoredSymbol]:
    return MemoryProject({path: text}).outline(path)


def test_a_whole_file_is_its_text_under_its_name() -> None:
    segment = levels.whole(key_file("a.py", CODE), CODE)
    assert segment.text == f"File: a.py\n```python\n{CODE}```\n\n"
    assert segment.quoted == CODE.rstrip()
    assert segment.source is not None
    assert segment.digest == key_file("a.py", CODE).digest


def test_a_skeleton_is_the_signatures_with_their_lines_as_they_are_nested() -> None:
    segment = levels.skeleton(key_file("a.py", CODE), outline(CODE))
    assert segment.text == (
        "Outline: a.py\n```\n"
        "3: LIMIT = 3\n"
        "6: class Session\n"
        "9:   def __init__(self, url: str) -> None\n"
        "12:   def get(self, path: str) -> str\n"
        "18: def retry(times)\n"
        "```\n\n"
    )


def test_the_bodies_that_are_touched_stand_in_the_outline() -> None:
    file = key_file("a.py", CODE)
    segment = levels.touched(file, outline(CODE), CODE, [(18, 18), (0, 0)])
    assert segment.text == (
        "Outline with the parts in question: a.py\n```\n"
        "1: import os\n"
        "3: LIMIT = 3\n"
        "6: class Session\n"
        "9:   def __init__(self, url: str) -> None\n"
        "12:   def get(self, path: str) -> str\n"
        "18: def retry(times):\n"
        "19:     return times\n"
        "```\n\n"
    )


def test_one_line_says_how_long_a_file_is_and_what_it_defines() -> None:
    segment = levels.line(key_file("a.py", CODE), outline(CODE))
    assert segment.text == "a.py: 20 lines, defines LIMIT, Session, retry\n"
    many = "".join(f"def f{n}(): pass\n" for n in range(12))
    assert levels.line(key_file("b.py", many), outline(many)).text.endswith("f7 and 4 more\n")


def test_a_file_without_symbols_has_no_outline_but_a_line() -> None:
    segment = levels.skeleton(key_file("a.txt", "words\n"), ())
    assert (segment.level, segment.text) == ("line", "a.txt: 2 lines\n")


@given(
    st.text(alphabet="ab:(){}`\n\r\f class def", max_size=200),
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=3),
)
def test_any_text_is_shown_at_any_level_and_always_alike(text: str, ranges: list[Lines]) -> None:
    """No text breaks out of its fence, and two looks at it are the same to the byte."""
    file, symbols = key_file("a.py", text), outline(text)
    spans = [(min(span), max(span)) for span in ranges]
    first, second = (
        [
            levels.whole(file, text),
            levels.touched(file, symbols, text, spans),
            levels.skeleton(file, symbols),
            levels.line(file, symbols),
        ]
        for _ in range(2)
    )
    assert first == second
    for segment in first:
        if segment.level != "line":
            fence = segment.text.split("\n")[1].rstrip("python")
            assert segment.text.endswith(f"\n{fence}\n\n")
            assert segment.text.count(fence) == 2
    assert levels.whole(file, text).quoted == text.rstrip()
