"""The workspace at the front of a chat, by its size."""

import itertools

from lsp_assist.context.pack import in_order, pack
from tests.context.project import MemoryProject, key_file, words


def module(n: int, n_functions: int = 4) -> str:
    body = "    return one + two + three\n"
    return "".join(f"def f{n}_{i}(one, two):\n{body * 6}\n" for i in range(n_functions))


def modules(n: int) -> dict[str, str]:
    return {f"m{i}.py": module(i) for i in range(n)}


async def test_a_project_that_fits_is_shown_whole() -> None:
    code = MemoryProject(modules(3))
    found = await pack(code, await code.files(), 2_000, words())
    assert found.kind == "whole"
    assert [s.level for s in found.segments] == ["", "whole", "whole", "whole"]
    assert found.n_tokens == sum(len(s.text.split()) for s in found.segments)
    assert found.left_out == ()


async def test_a_large_project_is_outlined_by_what_matters_and_says_what_is_missing() -> None:
    code = MemoryProject(modules(12), m7=0.9, m3=0.5)
    found = await pack(code, await code.files(), 100, words())
    assert found.kind == "skeletons"
    assert found.n_tokens <= 100
    paths = [s.source.path for s in found.segments if s.source]
    assert {"m7.py", "m3.py"} <= set(paths)
    assert len(paths) + len(found.left_out) == 12
    assert f"{len(found.left_out)} more files are not listed here." in found.segments[-1].text
    assert "12" not in found.segments[0].text, "a number at the front would change the rest"


async def test_of_a_very_large_project_there_is_a_line_for_a_file() -> None:
    code = MemoryProject({f"m{i}.py": module(i, 30) for i in range(40)})
    found = await pack(code, await code.files(), 120, words())
    assert found.kind == "map"
    assert {s.level for s in found.segments if s.source} == {"line"}


async def test_every_budget_is_kept_and_every_file_is_told_or_named_as_left_out() -> None:
    code = MemoryProject(modules(20))
    files = await code.files()
    for budget in (0, 1, 30, 60, 90, 200, 700, 5_000):
        found = await pack(code, files, budget, words())
        assert found.n_tokens <= budget
        shown = {s.source.path for s in found.segments if s.source}
        assert shown | {k.path for k in found.left_out} == set(code.contents)
        assert not shown & {k.path for k in found.left_out}


async def test_what_changes_least_stands_first() -> None:
    """The history first, what was edited in this session behind all of it; then by name."""
    files = [
        key_file("a.py", "", activity=8.0),
        key_file("b.py", "", edited=2),
        key_file("c.py", "", edited=1),
        key_file("d.py", ""),
        key_file("e.py", "", activity=9.0),
        key_file("f.py", "", activity=0.5),
    ]
    for shuffled in itertools.permutations(files):
        assert [f.key.path for f in in_order(shuffled)] == [
            *("d.py", "f.py", "a.py", "e.py"),
            *("c.py", "b.py"),
        ]


async def test_an_opened_file_moves_nothing_and_an_edit_costs_what_stands_behind() -> None:
    code = MemoryProject(modules(6))
    before = await pack(code, await code.files(), 5_000, words())
    code.facts = {"m0.py": {"is_open": True}}
    assert await pack(code, await code.files(), 5_000, words()) == before
    code.contents["m0.py"] += "# edited\n"
    code.facts = {"m0.py": {"is_open": True, "edited": 1}}
    first = await pack(code, await code.files(), 5_000, words())
    code.contents["m0.py"] += "# again\n"
    code.facts = {"m0.py": {"is_open": True, "edited": 2}}
    second = await pack(code, await code.files(), 5_000, words())
    assert first.segments[:-1] == second.segments[:-1]
    assert first.segments[-1] != second.segments[-1]


async def test_texts_are_counted_once() -> None:
    asked: list[str] = []

    async def count(text: str) -> int:
        asked.append(text)
        return len(text.split())

    from lsp_assist.context.tokens import TokenCounts

    code, counts = MemoryProject(modules(4)), TokenCounts(count)
    await pack(code, await code.files(), 5_000, counts)
    n_first = len(asked)
    code.contents["m2.py"] += "# edited\n"
    await pack(code, await code.files(), 5_000, counts)
    assert len(asked) == n_first + 1
