import json
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsp_assist.codebase import history
from lsp_assist.codebase.history import Commit, History, HistoryStore, activity, cochanges

DAY_S = 86_400
PATHS = ["a.py", "b.py", "c.py", "d.md"]
commits = st.lists(
    st.builds(
        lambda age, paths: Commit(f"{age}", 10**9 - age * DAY_S, tuple(sorted(paths))),
        st.integers(0, 2_000),
        st.sets(st.sampled_from(PATHS), min_size=1),
    ),
    max_size=20,
)


SIGNATURE = "gpgsig -----BEGIN PGP SIGNATURE-----\n \n x\n -----END PGP SIGNATURE-----"


class Repository:
    """A git repository that a test makes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.n_commits = 0
        root.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *arguments: str) -> str:
        said = {
            "GIT_AUTHOR_DATE": f"{1_000_000_000 + self.n_commits * DAY_S} +0000",
            "GIT_COMMITTER_DATE": f"{1_000_000_000 + self.n_commits * DAY_S} +0000",
            "GIT_CONFIG_GLOBAL": os.devnull,
        }
        names = ["-c", "user.name=A", "-c", "user.email=a@example.com"]
        done = subprocess.run(
            ["git", *names, *arguments],
            cwd=self.root,
            env=os.environ | said,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout

    def commit(self, *paths: str) -> str:
        """Change these files and commit them; the commit."""
        self.n_commits += 1
        for path in paths:
            file = self.root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{self.n_commits}\n")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "x")
        return self.git("rev-parse", "HEAD").strip()


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "work space")


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "history.json"


def changed(found: History) -> list[tuple[str, ...]]:
    return [commit.paths for commit in found.commits]


def test_commits_are_read_with_their_files(repository: Repository, kept: Path) -> None:
    """Whatever their names hold."""
    odd = "fol der/ü\n\"'.py"
    repository.commit("a.py", odd)
    head = repository.commit("b.py")
    found = HistoryStore(repository.root, kept).refresh()
    assert found.head == head
    assert changed(found) == [("b.py",), ("a.py", odd)]


def test_a_folder_of_a_repository_sees_its_own_files(repository: Repository, kept: Path) -> None:
    repository.commit("a.py", "inner/b.py")
    repository.commit("a.py")
    found = HistoryStore(repository.root / "inner", kept).refresh()
    assert changed(found) == [("b.py",)]


def test_reading_on_gives_what_reading_anew_gives(repository: Repository, kept: Path) -> None:
    """With a merge in between, over a restart, and after the branch was switched."""
    repository.commit("a.py", "b.py")
    HistoryStore(repository.root, kept).refresh()
    repository.git("checkout", "--quiet", "-b", "side")
    repository.commit("c.py")
    repository.git("checkout", "--quiet", "main")
    repository.commit("a.py")
    repository.git("merge", "--quiet", "--no-edit", "side")
    on = HistoryStore(repository.root, kept)
    assert on.refresh() == HistoryStore(repository.root, kept.with_name("other")).refresh()
    assert len(on.refresh().commits) == 3
    repository.git("checkout", "--quiet", "side")
    assert on.refresh() == HistoryStore(repository.root, kept.with_name("third")).refresh()


def test_only_what_is_new_is_read(repository: Repository, kept: Path) -> None:
    repository.commit("a.py")
    HistoryStore(repository.root, kept).refresh()
    repository.commit("b.py")
    before = json.loads(kept.read_text())
    before["commits"][0][2] = ["kept.py"]
    kept.write_text(json.dumps(before))
    assert changed(HistoryStore(repository.root, kept).refresh()) == [("b.py",), ("kept.py",)]


def test_a_rewritten_history_is_read_anew(repository: Repository, kept: Path) -> None:
    repository.commit("a.py")
    repository.commit("b.py")
    store = HistoryStore(repository.root, kept)
    store.refresh()
    repository.git("reset", "--quiet", "--hard", "HEAD~1")
    repository.commit("c.py")
    assert changed(store.refresh()) == [("c.py",), ("a.py",)]


def test_what_is_stopped_keeps_what_was_known(repository: Repository, kept: Path) -> None:
    repository.commit("a.py")
    store = HistoryStore(repository.root, kept)
    before = store.refresh()
    repository.commit("b.py")
    store.stop()
    assert store.refresh().commits == before.commits


def test_without_a_repository_there_is_no_history(tmp_path: Path, kept: Path) -> None:
    (tmp_path / "plain").mkdir()
    assert HistoryStore(tmp_path / "plain", kept).refresh() == History()
    assert HistoryStore(tmp_path / "missing", kept).refresh() == History()


def test_a_repository_without_commits_has_no_history(repository: Repository, kept: Path) -> None:
    assert HistoryStore(repository.root, kept).refresh() == History()


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"format": 99}', '{"format": 1, "head": 1}'])
def test_a_damaged_file_is_read_anew(repository: Repository, kept: Path, damage: str) -> None:
    repository.commit("a.py")
    HistoryStore(repository.root, kept).refresh()
    kept.write_text(damage)
    assert changed(HistoryStore(repository.root, kept).refresh()) == [("a.py",)]


def test_no_program_of_the_repository_is_run(repository: Repository, kept: Path) -> None:
    """A workspace may come from anywhere, its .git/config with it."""
    repository.commit("a.py")
    trap = repository.root / "trap"
    sprung = repository.root / "sprung"
    trap.write_text(f'#!/bin/sh\ntouch "{sprung}"\ncat\n')
    trap.chmod(0o755)
    for key in (
        "core.fsmonitor",
        "core.pager",
        "pager.log",
        "diff.external",
        "diff.x.textconv",
        "diff.x.command",
        "gpg.program",
        "core.sshCommand",
        "core.editor",
        "credential.helper",
        "alias.log",
        "alias.rev-parse",
        "filter.x.smudge",
        "filter.x.clean",
    ):
        repository.git("config", key, f"!{trap}" if key.startswith("alias") else str(trap))
    repository.git("config", "log.showSignature", "true")
    signed = repository.git("cat-file", "commit", "HEAD").replace("\n\n", f"\n{SIGNATURE}\n\n", 1)
    (repository.root / ".git" / "signed").write_text(signed)
    commit = repository.git("hash-object", "-t", "commit", "-w", ".git/signed").strip()
    repository.git("update-ref", "refs/heads/main", commit)
    (repository.root / ".gitattributes").write_text("* diff=x filter=x\n")
    for hook in ("post-index-change", "reference-transaction", "fsmonitor-watchman"):
        (repository.root / ".git" / "hooks" / hook).write_text(trap.read_text())
        (repository.root / ".git" / "hooks" / hook).chmod(0o755)
    assert changed(HistoryStore(repository.root, kept).refresh()) == [("a.py",)]
    assert not sprung.exists()


def test_files_that_change_together_are_tied() -> None:
    found = History(
        "h",
        (
            Commit("1", 3, ("a.py", "a_test.py")),
            Commit("2", 2, ("a.py", "a_test.py")),
            Commit("3", 1, ("a.py", "z.py", *(f"{n}.py" for n in range(20)))),
        ),
    )
    ties = cochanges(found, ["a.py", "a_test.py", "z.py"])
    assert list(ties["a.py"]) == ["a_test.py", "z.py"]
    assert ties["a.py"]["a_test.py"] > 10 * ties["a.py"]["z.py"]


def test_a_sweep_ties_nothing() -> None:
    paths = [f"{n}.py" for n in range(history.MAX_COMMIT_FILES + 1)]
    found = History("h", (Commit("1", 1, tuple(paths)),))
    assert cochanges(found, paths) == {}
    assert activity(found) == {}


def test_what_is_older_counts_less() -> None:
    old = 10**9 - 10 * history.HALF_LIFE_S
    found = History("h", (Commit("1", 10**9, ("a.py", "b.py")), Commit("2", old, ("a.py", "c.py"))))
    ties = cochanges(found, ["a.py", "b.py", "c.py"])["a.py"]
    assert ties["b.py"] > 100 * ties["c.py"]
    assert activity(found)["b.py"] == 1
    assert activity(found)["c.py"] == pytest.approx(2**-10)


@given(commits)
def test_ties_are_mutual_bounded_and_do_not_ask_for_the_order(found: list[Commit]) -> None:
    ties = cochanges(History("h", tuple(found)), PATHS)
    for path, others in ties.items():
        for other, strength in others.items():
            assert 0 < strength <= 1
            assert ties[other][path] == strength
    again = cochanges(History("h", tuple(reversed(found))), PATHS)
    assert {path: set(others) for path, others in again.items()} == {
        path: set(others) for path, others in ties.items()
    }
