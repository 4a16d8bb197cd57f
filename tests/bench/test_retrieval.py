"""What the retrieval bench asks, and how it counts: checked on texts whose answers are known."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from lsp_assist.codebase.index import Index
from lsp_assist.codebase.ranking import Hit
from lsp_assist.config import IndexSettings
from tests.bench.retrieval.docs import first_paragraph, undocumented
from tests.bench.retrieval.frozen import freeze
from tests.bench.retrieval.material import Repository
from tests.bench.retrieval.measures import hits, mean, paired_ratio, reciprocal_ranks
from tests.bench.retrieval.opened import follow
from tests.bench.retrieval.questions import symbol_questions, trees
from tests.bench.retrieval.rankers import weighted
from tests.codebase.hashing import HashingEmbedder

PYTHON = '''\
class Session:
    """What is said of a class stays."""

    @wraps
    def send(self, request):
        """Send a request and wait for
        its answer.

        More is not asked for.
        """
        self.count += 1
        return self.transport(request)

    def close(self):
        """Close all of the connections at once."""
'''

GO = """\
package http

// Retry sends the request again until it is answered.
//
// It gives up at last.
func (s *Session) Retry(request Request) (Answer, error) {
	for {
		s.send(request)
	}
}
"""

C = """\
/* Tells how much time is left to run. */
long timeleft(struct data *data,
              long *now,
              int is_connecting);

/*
 * timeleft() tells how much time there is left to run,
 * by the limits that are set.
 */
long timeleft(struct data *data)
{
  return data->limit - data->now;
}
"""


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("a.py", PYTHON, {"Session.send": "Send a request and wait for its answer."}),
        ("a.go", GO, {"Session.Retry": "sends the request again until it is answered."}),
        (
            "a.c",
            C,
            {"timeleft": "tells how much time there is left to run, by the limits that are set."},
        ),
        ("a.md", "# About\n\nNo code at all.\n", {}),
        ("a.py", "def broken(:\n", {}),
    ],
)
def test_functions_come_with_what_was_said_of_them(
    path: str, text: str, expected: dict[str, str]
) -> None:
    """Prototypes, bodies that are only a docstring, and the function's own name are left out."""
    found = undocumented(path, text).functions
    assert {function.qualified_name: function.paragraph for function in found} == expected


@pytest.mark.parametrize(("path", "text"), [("a.py", PYTHON), ("a.go", GO), ("a.c", C)])
def test_a_text_without_documentation_keeps_its_lines(path: str, text: str) -> None:
    bare = undocumented(path, text).text
    assert bare.count("\n") == text.count("\n")
    for before, after in zip(text.split("\n"), bare.split("\n"), strict=True):
        assert after in (before, "", "        ...")
    for said in ("its answer", "until it is answered", "time is left", "limits that are"):
        assert said not in bare
    assert ("stays" in bare) == ("stays" in text)


@pytest.mark.parametrize(
    ("comment", "expected"),
    [
        (["/**", " * Maps {@code x} to <b>y</b>.", " *", " * More.", " */"], "Maps x to y ."),
        (
            ["/// Reads {@link the", "/// file} whole.", "///", "/// # Panics"],
            "Reads the file whole.",
        ),
        (["/* ------ */", "/* Frees it. */"], "Frees it."),
        (["/**", " * @param x what", " */"], ""),
        (["Give it.", "", "Args:"], "Give it."),
    ],
)
def test_a_paragraph_has_neither_marks_nor_sections(comment: list[str], expected: str) -> None:
    assert first_paragraph(comment) == expected


def test_what_describes_two_functions_is_not_asked(tmp_path: Path) -> None:
    code = 'def {}(a):\n    """Gives the next one of the row."""\n    b = a\n    return b\n\n\n'
    source, tests = tmp_path / "source", tmp_path / "source" / "tests"
    tests.mkdir(parents=True)
    (source / "twice.py").write_text(code.format("one") + code.format("two"))
    (source / "once.py").write_text(code.format("three").replace("next", "last"))
    (tests / "test_once.py").write_text(code.format("four").replace("next", "first"))
    asked = symbol_questions(Repository("a", "dev", source), tmp_path / "workspace", 10)
    assert [(q.path, q.ordinal, q.text) for q in asked] == [
        ("once.py", 0, "Gives the last one of the row.")
    ]
    kept = {path.name for path in (tmp_path / "workspace").rglob("*.py")}
    assert kept == {"twice.py", "once.py", "test_once.py"}


def test_a_commit_is_asked_for_in_the_tree_before_it(tmp_path: Path) -> None:
    """Only commits that change code that was there; their trees are exactly git's."""
    root, workspace = tmp_path / "repository", tmp_path / "workspace"
    root.mkdir()
    workspace.mkdir()

    def git(*arguments: str) -> None:
        command = ("git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments)
        subprocess.run(command, cwd=root, check=True, capture_output=True)

    def commit(message: str, files: dict[str, str | None]) -> None:
        for path, text in files.items():
            if text is None:
                (root / path).unlink()
            else:
                (root / path).parent.mkdir(exist_ok=True)
                (root / path).write_text(text)
        git("add", "-A")
        git("commit", "-q", "-m", message)

    git("init", "-q")
    commit("Begin with two files of code", {"a.py": "1", "b/c.py": "2", "CHANGES.md": "none"})
    commit("Only a note in the changelog was written", {"CHANGES.md": "a"})
    commit("A third file was added to them", {"d.py": "3"})
    commit("Short", {"a.py": "4"})
    commit("Let the first one be five (#12)\n\nSigned-off-by: a", {"a.py": "5", "CHANGES.md": "b"})
    commit("Take away what was in the folder", {"b/c.py": None, "a.py": "6"})
    seen = []
    for question in trees(Repository("a", "dev", root), workspace, 10):
        files = (p.relative_to(workspace).as_posix() for p in workspace.rglob("*") if p.is_file())
        held = {path for path in files if not path.startswith(".git/")}
        seen.append((question.text, set(question.paths), (workspace / "a.py").read_text(), held))
    assert seen == [
        ("Let the first one be five", {"a.py"}, "4", {"a.py", "b/c.py", "d.py", "CHANGES.md"}),
        (
            "Take away what was in the folder",
            {"a.py", "b/c.py"},
            "5",
            {"a.py", "b/c.py", "d.py", "CHANGES.md"},
        ),
    ]


@pytest.mark.parametrize("limit", [2, 10])
def test_a_frozen_question_is_ranked_as_the_index_ranks_it(tmp_path: Path, limit: int) -> None:
    """Also when the workspace has moved on; other weights give another ranking."""

    def places(hits: Sequence[Hit]) -> list[tuple[str, float]]:
        return [(hit.path, round(hit.score, 4)) for hit in hits]  # a dot product rounds its own way

    workspace = tmp_path / "workspace"
    workspace.mkdir()
    for n in range(40):
        body = "\n".join(f"    step_{k} = parse(value, {n})" for k in range(n % 7 + 2))
        code = f"def send_{n}(value):\n{body}\n    return retry(value) * {n}\n"
        (workspace / f"m{n}.py").write_text(code)
    index = Index(workspace, tmp_path / "i" / "i.db", IndexSettings(), [HashingEmbedder()])
    follow(index)
    frozen = freeze(index, "where is the value parsed and sent again by send_7?", limit)
    live = index.search(frozen.text, limit)
    (workspace / "m7.py").unlink()
    index.refresh()
    assert live[0].symbol == "send_7"
    assert places(frozen.ranked()) == places(live)
    with weighted({"NAMED_BONUS": 0.1}):
        assert frozen.ranked()[0].symbol != "send_7"
    assert places(frozen.ranked()) == places(live)
    index.close()


def test_a_rank_beyond_the_tenth_counts_nothing() -> None:
    assert reciprocal_ranks([1, 4, 0, 10, 11]).tolist() == [1, 0.25, 0, 0.1, 0]
    assert hits([1, 4, 0, 10, 11]).tolist() == [1, 1, 0, 1, 0]


def test_an_interval_holds_its_figure_and_a_constant_ratio_has_none() -> None:
    worths = reciprocal_ranks([1, 2, 0, 3, 1, 0, 7, 1])
    groups = ["a"] * 4 + ["b"] * 4
    found = mean(worths, groups)
    assert found.low < found.value < found.high
    ratio = paired_ratio(2 * worths, worths, groups)
    assert (ratio.low, ratio.value, ratio.high) == pytest.approx((2, 2, 2))
