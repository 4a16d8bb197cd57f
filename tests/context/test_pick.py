"""What is shown with a question, within its budget."""

import pytest

from lsp_assist.context import pick
from lsp_assist.context.code import FileKey, ProjectFile
from lsp_assist.context.pick import Note, Selection, Tray, Wanted
from lsp_assist.errors import BadInput
from tests.context.project import ROOT, MemoryProject, key, words

CODE = "def f():\n    return g()\n\n\ndef large():\n    return '" + "word " * 500 + "'\n"
OTHER = "def g():\n    return 1\n"


def project() -> MemoryProject:
    return MemoryProject({"a.py": CODE, "b.py": OTHER, "c.md": "# Title\n\nprose\n"}, b=0.5)


async def files_of(code: MemoryProject) -> dict[FileKey, ProjectFile]:
    return {file.key: file for file in await code.files()}


def names(picked: pick.Picked) -> list[str]:
    return [s.source.symbol or s.source.path if s.source else s.kind for s in picked.pieces]


async def test_without_a_limit_every_hit_is_shown_in_order() -> None:
    code = project()
    tray = Tray(words(), None)
    found = [code.passage("a.py", "large"), code.passage("b.py", "g")]
    await pick.hits(None, found, {}, await files_of(code), tray)
    assert names(tray.picked()) == ["large", "g"]
    assert tray.picked().left_out == ()


async def test_what_does_not_fit_is_listed_and_a_smaller_one_still_comes() -> None:
    code = project()
    tray = Tray(words(), 60)
    found = [code.passage("a.py", name) for name in ("f", "large")]
    found.append(code.passage("b.py", "g"))
    await pick.hits(None, found, {}, await files_of(code), tray)
    picked = tray.picked()
    assert names(picked) == ["f", "g"]
    assert [left.source.symbol for left in picked.left_out] == ["large"]
    assert picked.left_out[0].n_tokens > 500
    assert picked.pieces[0].digest == (await code.files())[0].digest


async def test_a_hit_in_the_selection_or_in_a_file_that_is_known_whole_is_not_shown_again() -> None:
    code = project()
    selection = Selection("a.py", 0, 2, CODE[:30], "python", ROOT)
    tray = Tray(words(), 500)
    found = [code.passage("a.py", "f"), code.passage("b.py", "g")]
    await pick.hits(selection, found, {key("b.py"): True}, await files_of(code), tray)
    assert tray.picked().pieces == ()


async def test_the_selection_brings_the_facts_of_its_symbol() -> None:
    selection = Selection("a.py", 0, 2, CODE[:30], "python", ROOT)
    segment = pick.selected(selection, project().passage("a.py", "f"))
    assert segment.kind == "selection"
    assert segment.facts is not None
    assert segment.facts.signature == "def f()"


async def test_near_to_a_selection_are_its_file_and_outlines_of_what_is_related() -> None:
    code = project()
    selection = Selection("a.py", 1, 1, "g()", "python", ROOT)
    tray = Tray(words(), 2000)
    await pick.near(selection, code, await files_of(code), {}, tray)
    assert [(s.level, s.source.path) for s in tray.pieces if s.source] == [
        ("whole", "a.py"),
        ("skeleton", "b.py"),
    ]


async def test_a_file_that_is_too_large_is_shown_with_the_bodies_that_are_touched() -> None:
    code = project()
    selection = Selection("a.py", 1, 1, "g()", "python", ROOT)
    tray = Tray(words(), 120)
    await pick.near(selection, code, await files_of(code), {}, tray)
    assert tray.pieces[0].level == "touched"
    assert "2:     return g()" in tray.pieces[0].text
    assert "5: def large()" in tray.pieces[0].text
    assert "word word" not in tray.pieces[0].text


async def test_without_a_selection_the_files_edited_last_are_near() -> None:
    code = project()
    code.facts = {"b.py": {"edited": 2}, "c.md": {"edited": 1}}
    tray = Tray(words(), 2000)
    await pick.near(None, code, await files_of(code), {}, tray)
    assert names(tray.picked())[:2] == ["b.py", "c.md"]
    assert tray.reasons[0] == "you edited it last"


async def test_what_the_user_names_is_shown_and_nothing_else() -> None:
    code = project()
    code.facts = {"c.md": {"is_open": True}}
    code.diff = "diff --git a/a.py b/a.py\n-x\n+y\n"
    asked = Wanted(
        files=(key("a.py"),),
        buffers=True,
        tags=True,
        diff=True,
        diagnostics=("a.py:1: unused",),
        notes=(Note("The log", "it broke"),),
    )
    tray = Tray(words(), 5000)
    await pick.wanted(asked, None, code, await files_of(code), {}, tray)
    picked = tray.picked()
    assert [s.kind for s in picked.pieces] == [
        "note",
        "diagnostics",
        "diff",
        "file",
        "file",
        "symbol",
    ]
    assert picked.pieces[0].text == "The log:\n```\nit broke\n```\n\n"
    assert picked.pieces[-1].source is not None
    assert picked.pieces[-1].source.symbol == "g"
    assert picked.reasons[3:5] == ("you named it", "it is open")


async def test_a_named_file_that_is_gone_is_refused_by_field() -> None:
    code = project()
    asked = Wanted(files=(key("gone.py"),))
    with pytest.raises(BadInput, match=r"'gone.py' is gone") as raised:
        await pick.wanted(asked, None, code, await files_of(code), {}, Tray(words(), 50))
    assert raised.value.field == "context.files"


def test_a_bare_selection_is_searched_by_its_own_words() -> None:
    selection = Selection("a.py", 0, 0, "retry(request)", "python")
    assert pick.query_of("", selection).strip() == "retry(request)"
    assert pick.query_of("why", None) == "why"
