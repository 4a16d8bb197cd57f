"""What new chats begin with, shared by all of them."""

from lsp_assist.flows.openings import Openings
from tests.context.project import MemoryProject, words


async def test_a_pack_is_made_once_for_a_state_and_anew_after_an_edit() -> None:
    code, openings, counts = MemoryProject({"a.py": "x = 1\n", "b.py": "y\n"}), Openings(), words()
    first = await openings.pack("m", code, await code.files(), 500, counts)
    assert await openings.pack("m", code, await code.files(), 500, counts) is first
    code.contents["b.py"] = "z\n"
    second = await openings.pack("m", code, await code.files(), 500, counts)
    assert second.segments != first.segments
    assert await openings.pack("other", code, await code.files(), 500, counts) is not second


async def test_a_chat_that_was_warmed_is_told_when_it_begins_with_something_else() -> None:
    code, openings, counts = MemoryProject({"a.py": "x = 1\n"}), Openings(), words()
    first = await openings.pack("m", code, await code.files(), 500, counts)
    assert not openings.begin("chat", first)
    assert not openings.begin("chat", first)
    code.contents["a.py"] = "x = 2\n"
    assert openings.begin("chat", await openings.pack("m", code, await code.files(), 500, counts))


async def test_a_pack_of_outlines_stays_while_what_it_shows_is_true() -> None:
    texts = {f"m{n}.py": f"def f{n}(): pass\n" * 20 for n in range(40)}
    code, openings, counts = MemoryProject(texts, m7=0.9), Openings(), words()
    first = await openings.pack("m", code, await code.files(), 150, counts)
    shown = {s.source.path for s in first.segments if s.source}
    hidden = next(path for path in texts if path not in shown)
    code.contents[hidden] += "# edited\n"
    assert await openings.pack("m", code, await code.files(), 150, counts) is first
    code.contents["m7.py"] += "# edited\n"
    assert await openings.pack("m", code, await code.files(), 150, counts) is not first
    code.contents |= {f"n{n}.py": "z = 1\n" for n in range(9)}
    second = await openings.pack("m", code, await code.files(), 150, counts)
    assert len(second.left_out) + sum(s.source is not None for s in second.segments) == 49
