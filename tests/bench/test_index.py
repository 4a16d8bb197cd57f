"""The index bench finds what is wrong: each comparison is shown something that differs."""

import random
from pathlib import Path

from lsp_assist.codebase.index import Index
from lsp_assist.config import IndexSettings
from tests.bench.index.sameness import differences, seen, seen_anew
from tests.bench.index.trees import copy_tree, edited, long_text

CODE = """\
class Session:
    def send(self, request):
        return self.transport.send(request, self.timeout)
"""


def test_an_index_that_missed_a_change_differs_from_one_built_anew(tmp_path: Path) -> None:
    """By a symbol, by a use of a name alone, and not at all once it has caught up."""
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    (workspace / "session.py").write_text(CODE)
    (workspace / "other.py").write_text("import session\n")
    index = Index(workspace, tmp_path / "one.db", IndexSettings())
    index.refresh()
    for n, change in enumerate((CODE.replace("send", "post"), CODE.replace("timeout", "limit"))):
        (workspace / "session.py").write_text(change)
        late = seen(index, tmp_path / "one.db")
        anew = seen_anew(workspace, tmp_path / f"anew{n}.db", ())
        assert "file session.py" in differences(late, anew)
        assert "file other.py" not in differences(late, anew)
        index.refresh()
        assert not differences(seen(index, tmp_path / "one.db"), anew)
    index.close()


def test_unsaved_text_is_compared_too(tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    (workspace / "session.py").write_text(CODE)
    unsaved = {"session.py": CODE + "\n\ndef parse_header(value):\n    return value\n"}
    anew = seen_anew(workspace, tmp_path / "a.db", unsaved.items())
    without = seen_anew(workspace, tmp_path / "b.db", ())
    assert any(each.startswith("search ") for each in differences(anew, without))
    assert not differences(anew, seen_anew(workspace, tmp_path / "c.db", unsaved.items()))


def test_an_edit_changes_a_text_a_little() -> None:
    draw = random.Random(1)
    for _ in range(200):
        text = edited(CODE, draw)
        assert text != CODE
        assert abs(len(text) - len(CODE)) < 80


def test_code_is_copied_until_there_is_enough(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("a.py", "b.py", "c.py", "notes.txt"):
        (source / name).write_text(CODE)
    assert copy_tree([source], tmp_path / "copy", 5) == 6
    assert {path.name for path in (tmp_path / "copy/source").iterdir()} == {"a.py", "b.py"}
    assert long_text([source], ".py", 5) == "\n".join((CODE + CODE).split("\n")[:5]) + "\n"
