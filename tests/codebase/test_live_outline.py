"""An outline that is kept up with its text equals one made from scratch."""

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsp_assist.codebase.live_outline import LiveOutline
from lsp_assist.codebase.outline import outline
from tests.codebase.outline_text import Fixture, fixtures

FIXTURES = fixtures()
PARSED = [fixture for fixture in FIXTURES if fixture.language.grammar]
PIECES = ["", " ", "\n", "\n\n", "\r", "x", "def f():\n    pass\n", "}", "{", "(", ")", '"', "'"]
PIECES += ["/*", "*/", "//", "#", "# about\n", "@a\n", ".", "self.x = Y()\n", "é😀", "\u2028", "\f"]
PIECES += ["#if A\n", "#else\n", "#endif\n"]


def check(live: LiveOutline, fixture: Fixture, text: str) -> None:
    assert live.of(text) == outline(fixture.path, text, fixture.language)


@pytest.mark.parametrize("fixture", PARSED, ids=lambda f: f.file.stem)
def test_the_outline_of_sections_is_that_of_the_whole(fixture: Fixture) -> None:
    """Of the text as it is, several times over, and with each of its lines left out in turn."""
    live = LiveOutline(fixture.path, fixture.language)
    check(live, fixture, fixture.source)
    check(live, fixture, fixture.source * 3)
    lines = fixture.source.splitlines(keepends=True)
    for n in range(len(lines)):
        check(live, fixture, "".join(lines[:n] + lines[n + 1 :]))
    check(live, fixture, "")
    check(live, fixture, fixture.source)


@pytest.mark.slow
@hypothesis.settings(max_examples=600)
@given(data=st.data())
def test_after_any_edits_the_outline_is_as_if_made_from_scratch(data: st.DataObject) -> None:
    """Typing, deleting, pasting from elsewhere, moving and undoing, in every language."""
    fixture = data.draw(st.sampled_from(PARSED))
    live = LiveOutline(fixture.path, fixture.language)
    history = [fixture.source]
    check(live, fixture, fixture.source)
    for _ in range(data.draw(st.integers(1, 8))):
        text = history[-1]
        at = data.draw(st.integers(0, len(text)))
        end = min(len(text), at + data.draw(st.sampled_from([0, 0, 1, 5, 40, 200])))
        match data.draw(st.sampled_from(["type", "type", "paste", "move", "undo", "line"])):
            case "type":
                text = text[:at] + data.draw(st.sampled_from(PIECES)) + text[end:]
            case "paste":
                other = data.draw(st.sampled_from(FIXTURES)).source
                text = text[:at] + other[at:end] + text[at:]
            case "move":
                rest = text[:at] + text[end:]
                to = data.draw(st.integers(0, len(rest)))
                text = rest[:to] + text[at:end] + rest[to:]
            case "undo":
                text = data.draw(st.sampled_from(history))
            case "line":
                start = text.rfind("\n", 0, at) + 1
                text = text[:start] + text[end:]
        history.append(text)
        check(live, fixture, text)


def test_annotations_that_an_error_tore_off_still_belong_to_their_class() -> None:
    """Found by the test above: they were in a broken node, which ended a section."""
    java = next(f for f in PARSED if f.file.stem == "java")
    at = java.source.index("}.")
    check(
        LiveOutline(java.path, java.language),
        java,
        f"echo a\nbuild{java.source[:at]}*/{java.source[at:]}",
    )


def test_what_is_as_before_is_not_read_again() -> None:
    """A thousand functions, an edit in one of them: the others are the very same objects."""
    source = "".join(
        f"def f{n}(a):\n    b = a\n    c = b\n    return g(c)\n\n\n" for n in range(99)
    )
    python = next(f for f in PARSED if f.file.stem == "python")
    live = LiveOutline("x.py", python.language)
    before = live.of(source)
    after = live.of(source.replace("def f50(a)", "def f50(a, z)"))
    changed = [b.name for b, a in zip(before.symbols, after.symbols, strict=True) if b != a]
    assert changed == ["f50"]
    same = [b.signature is a.signature for b, a in zip(before.symbols, after.symbols, strict=True)]
    assert same.count(False) == 1
