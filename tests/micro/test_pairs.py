"""Pairs out of documented code, and gathering that goes on where it was stopped."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from lsp_assist.micro.packages import SourceFile
from lsp_assist.micro.pairs import PROVENANCE, Documented, Reader, gather, pairs_of, read_pairs
from tests.micro.test_packages import MIT, pack, write

CODE = "def f(x):\n    y = x + 1\n    z = y * 2\n    return frobnicate(y, z)\n"


@dataclass(frozen=True)
class Said:
    doc: str
    name: str = "Class.read_file"
    code: str = CODE
    is_symbol: bool = True
    language: str = "python"


def pairs(*items: Documented) -> list[tuple[str, str, str]]:
    reader = Reader(lambda _: True, lambda path, text: items)
    found = pairs_of([SourceFile("a/b.py", "")], reader, seed=1)
    return [(pair.kind, pair.query, pair.code) for pair in found]


def test_a_comment_asks_for_its_code_which_says_where_it_stands() -> None:
    asked = Said("Reads a file at once.")
    assert pairs(asked) == [("doc", "Reads a file at once.", f"a/b.py\nClass.read_file\n{CODE}")]


def test_code_without_a_comment_is_asked_for_by_its_name_and_does_not_say_it() -> None:
    found = pairs(Said("", code="def read_file(x):\n  a()\n  read_file()\n  return b(x) + more"))
    ((kind, query, code),) = found
    assert (kind, query) == ("name", "class read file")
    assert "read_file" not in code
    assert code.startswith("a/b.py\n")


@pytest.mark.parametrize(
    "comment",
    [
        "Two words",
        "TODO: do this later please",
        "Copyright 2020 by somebody else",
        "x = compute(a, b);",
        "foo(bar[1]) + baz->qux(3)",
    ],
)
def test_a_comment_that_says_nothing_of_the_code_is_left_out(comment: str) -> None:
    assert pairs(Said(comment)) == []


def test_the_same_question_or_code_comes_once() -> None:
    other = CODE.replace("frobnicate", "other")
    items = [Said("Reads a file."), Said("Reads a file.", code=other), Said("Another question.")]
    assert len(pairs(*items)) == 1


def documented(path: str, text: str) -> Sequence[Documented]:
    return [
        Said(f"What stands in {path} at line {n}", code=line * 8)
        for n, line in enumerate(text.splitlines())
    ]


def is_wanted(path: str) -> bool:
    return path.endswith(".py")


def test_gathering_goes_on_where_it_was_stopped_and_tells_what_came_from_where(
    tmp_path: Path,
) -> None:
    downloads, folder = tmp_path / "downloads", tmp_path / "pairs"
    for name, licence in (("one", MIT), ("two", MIT.replace("Expat", "GPL-2"))):
        write(downloads / f"{name}_1.dsc", f"Source: {name}\n {'0' * 64} 9 {name}_1.tar.xz\n")
        files = {f"{name}/m.py": "print(1)\nprint(2)\n", f"{name}/debian/copyright": licence}
        pack(downloads / f"{name}_1.tar.xz", files)
    reader = Reader(is_wanted, documented)
    gather(downloads, folder, reader)
    assert (folder / PROVENANCE).read_text() == "one\t1\tExpat\t2\ntwo\t1\tGPL-2\t0\n"
    assert [pair.query for pair in read_pairs(folder)] == [
        "What stands in m.py at line 0",
        "What stands in m.py at line 1",
    ]
    # What is there is not read again; what is missing is.
    write(
        folder / "one.jsonl", json.dumps({"kind": "doc", "language": "", "query": "q", "code": "c"})
    )
    rows = (folder / PROVENANCE).read_text().splitlines()
    (folder / PROVENANCE).write_text(rows[0] + "\n")
    gather(downloads, folder, reader)
    assert [pair.query for pair in read_pairs(folder)] == ["q"]
    assert (folder / PROVENANCE).read_text().splitlines() == rows
