"""What is shown with a question, within its budget."""

from pathlib import Path

from lsp_assist.codebase.index import Passage
from lsp_assist.codebase.ranking import ChunkRef, Hit
from lsp_assist.codebase.store import StoredSymbol
from lsp_assist.context import pick
from lsp_assist.context.pick import Selection

ROOT = Path("/workspace")


def passage(name: str, line: int, text: str = "def f(): ...\n") -> Passage:
    chunk = ChunkRef(0, line, line + 2, "hash")
    hit = Hit(ROOT, "a.py", line, line + 2, name, "function", 1.0, 0, chunk)
    caller = StoredSymbol("b.py", 3, "g", "g", "function", 7, 9)
    return Passage(hit, "python", text, line, f"def {name}()", "Does it.", (caller,))


async def words(text: str) -> int:
    return len(text.split())


async def test_without_a_limit_everything_is_shown_in_order() -> None:
    picked = await pick.pick(None, None, [passage("f", 0), passage("g", 5)], None, words)
    assert [s.source.symbol for s in picked.pieces if s.source] == ["f", "g"]
    assert picked.left_out == ()


async def test_what_does_not_fit_is_listed_and_a_smaller_one_still_comes() -> None:
    large = passage("large", 5, "word " * 500)
    picked = await pick.pick(None, None, [passage("f", 0), large, passage("g", 9)], 60, words)
    assert [s.source.symbol for s in picked.pieces if s.source] == ["f", "g"]
    assert [source.symbol for source in picked.left_out] == ["large"]


async def test_the_selection_comes_first_and_brings_the_facts_of_its_symbol() -> None:
    selection = Selection("a.py", 0, 4, "def f(): ...\n", "python", str(ROOT))
    picked = await pick.pick(
        selection, passage("f", 1), [passage("g", 9), passage("f", 1)], None, words
    )
    assert [segment.kind for segment in picked.pieces] == ["selection", "hit"]
    facts = picked.pieces[0].facts
    assert facts is not None
    assert facts.signature == "def f()"
    assert facts.callers[0].source.place == "b.py:8"


async def test_the_selection_is_never_cut() -> None:
    selection = Selection("a.py", 0, 4, "word " * 500, "python", str(ROOT))
    picked = await pick.pick(selection, None, [passage("g", 9)], 10, words)
    assert selection.text.strip() in picked.pieces[0].text
    assert [source.symbol for source in picked.left_out] == ["g"]


def test_a_bare_selection_is_searched_by_its_own_words() -> None:
    selection = Selection("a.py", 0, 0, "retry(request)", "python")
    assert pick.query_of("", selection).strip() == "retry(request)"
    assert pick.query_of("why", None) == "why"


def test_a_question_that_says_little_is_searched_with_the_one_before() -> None:
    assert pick.query_of("And who calls it?", None, "where is retry") == (
        "And who calls it?\nwhere is retry"
    )
    long = "where are the session cookies stored"
    assert pick.query_of(long, None, "where is retry") == long
