"""What git has not committed, of a repository that nobody vouches for."""

import subprocess
from pathlib import Path

import pytest

from lsp_assist.codebase.uncommitted import MAX_CHARS, uncommitted_diff


def git(root: Path, *command: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run(["git", *who, *command], cwd=root, check=True, capture_output=True)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with a file that was edited since."""
    root = tmp_path / "repo"
    (root / "sub").mkdir(parents=True)
    (root / "a.py").write_text("x = 1\n")
    (root / "sub" / "b.py").write_text("y = 1\n")
    (root / ".env").write_text("KEY=old\n")
    git(root, "init", "-q")
    git(root, "add", "-f", ".")
    git(root, "commit", "-q", "-m", "first")
    (root / "a.py").write_text("x = 2\n")
    return root


def test_an_edit_is_told_as_a_diff(root: Path) -> None:
    diff = uncommitted_diff(root)
    assert diff.startswith("diff --git a/a.py b/a.py\n")
    assert "\n-x = 1\n+x = 2\n" in diff


def test_a_folder_within_tells_its_own_part(root: Path) -> None:
    (root / "sub" / "b.py").write_text("y = 2\n")
    assert "a.py" not in uncommitted_diff(root / "sub")
    assert "+y = 2" in uncommitted_diff(root / "sub")


def test_without_a_repository_or_a_commit_there_is_none(tmp_path: Path) -> None:
    assert uncommitted_diff(tmp_path) == ""
    git(tmp_path, "init", "-q")
    assert uncommitted_diff(tmp_path) == ""
    assert uncommitted_diff(tmp_path / "gone") == ""


def test_no_program_that_the_repository_names_is_run(root: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    program = tmp_path / "evil.sh"
    program.write_text(f"#!/bin/sh\ntouch '{mark}'\ncat\n")
    program.chmod(0o755)
    (root / ".gitattributes").write_text("*.py diff=evil filter=evil\n")
    for name in (
        "diff.external",
        "diff.evil.command",
        "diff.evil.textconv",
        "filter.evil.clean",
        "filter.evil.process",
        "core.fsmonitor",
        "core.pager",
        "core.hooksPath",
    ):
        git(root, "config", name, str(program))
    assert "+x = 2" in uncommitted_diff(root)
    assert not mark.exists()
    # The test itself: git would have run it.
    subprocess.run(["git", "diff", "HEAD"], cwd=root, capture_output=True, check=False)
    assert mark.exists()


def test_the_repository_cannot_show_another_folder(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.py").write_text("private\n")
    git(root, "config", "core.worktree", str(other))
    assert "private" not in uncommitted_diff(root)


def test_secrets_are_left_out_and_a_long_diff_says_how_much_is_missing(root: Path) -> None:
    (root / ".env").write_text("KEY=new\n")
    assert "KEY" not in uncommitted_diff(root)
    (root / "a.py").write_text("word\n" * MAX_CHARS)
    diff = uncommitted_diff(root)
    assert len(diff) < MAX_CHARS + 200
    assert "more characters of the diff are not shown" in diff
