"""Which files a workspace has, whatever else lies in it."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lsp_assist.codebase.files import Listing, find, is_hidden, is_secret, walk
from lsp_assist.codebase.ignore import MAX_PATTERNS
from lsp_assist.codebase.ignore_files import user_ignore_file
from lsp_assist.codebase.reading import Skipped
from lsp_assist.errors import WorkspaceNotFound

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")


def make(root: Path, files: dict[str, str]) -> Path:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8", newline="")
    return root


def listing(
    root: Path, *exclude: str, max_files: int = 1000, max_file_bytes: int = 1000
) -> Listing:
    return walk(root, exclude=exclude, max_files=max_files, max_file_bytes=max_file_bytes)


def paths(found: Listing) -> list[str]:
    return [entry.path for entry in found.files]


def code(root: Path, *exclude: str) -> list[str]:
    """The paths of a complete listing without its ignore files."""
    found = listing(root, *exclude)
    assert found.outcome == "complete"
    return [path for path in paths(found) if not path.endswith("ignore")]


# --- what there is ---


def test_shallow_files_come_first_then_by_name(tmp_path: Path) -> None:
    make(tmp_path, dict.fromkeys(["b/c/x.py", "b/a.py", "a/z.py", "z.py", "B.py"], ""))
    assert code(tmp_path) == ["B.py", "z.py", "a/z.py", "b/a.py", "b/c/x.py"]


def test_an_entry_has_the_state_of_its_file(tmp_path: Path) -> None:
    make(tmp_path, {"d/a.py": "abc"})
    (entry,) = listing(tmp_path).files
    status = (tmp_path / "d/a.py").stat()
    assert (entry.path, entry.size, entry.mtime_ns) == ("d/a.py", 3, status.st_mtime_ns)
    if sys.platform != "win32":
        assert entry.inode == status.st_ino


def test_an_empty_folder_is_an_empty_listing(tmp_path: Path) -> None:
    assert listing(tmp_path) == Listing((), "complete", 0, (), {})


@pytest.mark.parametrize("name", ["missing", "file.py", "\0"])
def test_a_root_that_is_no_folder_is_said(tmp_path: Path, name: str) -> None:
    make(tmp_path, {"file.py": ""})
    with pytest.raises(WorkspaceNotFound, match=r"cannot be read: .*; name a folder"):
        listing(tmp_path / name)


def test_files_that_are_not_wanted_by_name_are_left_out(tmp_path: Path) -> None:
    make(tmp_path, dict.fromkeys(["a.py", "a.txt", "d.txt/b.py"], ""))
    found = walk(
        tmp_path, max_files=10, max_file_bytes=10, is_wanted=lambda name: name.endswith(".py")
    )
    assert paths(found) == ["a.py", "d.txt/b.py"]
    assert found.skipped == ()


def test_a_listing_that_is_cut_off_says_so(tmp_path: Path) -> None:
    make(tmp_path, dict.fromkeys(["a/1", "a/2", "3", "4"], ""))
    assert listing(tmp_path, max_files=4).outcome == "complete"
    cut = listing(tmp_path, max_files=3)
    assert cut.outcome == "truncated"
    assert paths(cut) == ["3", "4", "a/1"]


def test_a_walk_stops_when_it_is_told_to(tmp_path: Path) -> None:
    make(tmp_path, dict.fromkeys(["1", "a/2", "a/b/3"], ""))
    answers = iter([False, False, True])
    found = walk(tmp_path, max_files=9, max_file_bytes=9, should_stop=lambda: next(answers))
    assert found.outcome == "stopped"
    assert paths(found) == ["1", "a/2"]


# --- what is left out ---


def test_folders_without_code_of_the_user_are_left_out(tmp_path: Path) -> None:
    make(
        tmp_path,
        dict.fromkeys(
            [
                *("a.py", "node_modules/m/i.js", "d/.git/config", "d/__pycache__/x"),
                *("env/pyvenv.cfg", "env/lib/x.py", "cache/CACHEDIR.TAG", "cache/sub/x.py"),
                *("d/node_modules", "e/.git"),
            ],
            "",
        ),
    )
    assert code(tmp_path) == ["a.py", "d/node_modules"]


def test_the_root_itself_may_be_such_a_folder(tmp_path: Path) -> None:
    """Who names an installed package, or a virtual environment, means it."""
    root = make(tmp_path / "node_modules", {"pyvenv.cfg": "", "a.py": ""})
    assert code(root) == ["a.py", "pyvenv.cfg"]


def test_large_files_are_left_out_and_named(tmp_path: Path) -> None:
    make(tmp_path, {"a.py": "x", "big.py": ""})
    os.truncate(tmp_path / "big.py", 50_000_000)
    found = listing(tmp_path)
    assert paths(found) == ["a.py"]
    assert found.skipped == (Skipped("big.py", "too large"),)


@posix_only
def test_links_are_not_followed_and_circles_are_none(tmp_path: Path) -> None:
    root = make(tmp_path / "w", {"d/a.py": ""})
    make(tmp_path / "outside", {"secret.py": ""})
    (root / "d/up").symlink_to(root)
    (root / "self").symlink_to("self")
    (root / "out").symlink_to(tmp_path / "outside")
    (root / "out.py").symlink_to(tmp_path / "outside/secret.py")
    (root / "dead.py").symlink_to("nowhere")
    found = listing(root)
    assert paths(found) == ["d/a.py"]
    assert found.n_skipped == {"link": 5}


@posix_only
def test_a_root_that_is_a_link_is_followed(tmp_path: Path) -> None:
    make(tmp_path / "w", {"a.py": ""})
    (tmp_path / "link").symlink_to("w")
    assert code(tmp_path / "link") == ["a.py"]


@posix_only
def test_pipes_are_left_out_and_named(tmp_path: Path) -> None:
    make(tmp_path, {"a.py": ""})
    os.mkfifo(tmp_path / "pipe.py")
    found = listing(tmp_path)
    assert paths(found) == ["a.py"]
    assert found.skipped == (Skipped("pipe.py", "not a regular file"),)


@posix_only
def test_names_that_are_no_plain_text_are_left_out_and_can_be_shown(tmp_path: Path) -> None:
    """They would break a list of paths, or the encoding of any message that they stand in."""
    make(tmp_path, {"a.py": "", "e\u0301 \U0001f600.py": ""})
    for name in [b"new\nline.py", b"\xff.py", b"esc\x1b[31m.py", "line\u2028.py".encode()]:
        (tmp_path / os.fsdecode(name)).touch()
    make(tmp_path / os.fsdecode(b"folder\xff"), {"b.py": ""})
    found = listing(tmp_path)
    assert paths(found) == ["a.py", "e\u0301 \U0001f600.py"]
    assert {each.path for each in found.skipped} == {
        "new\\nline.py",
        "\\udcff.py",
        "esc\\x1b[31m.py",
        "line\\u2028.py",
        "folder\\udcff",
    }
    assert found.n_skipped == {"unusable name": 5}


@posix_only
def test_a_folder_too_deep_for_a_path_costs_itself(tmp_path: Path) -> None:
    make(tmp_path, {"a.py": ""})
    name = "d" * 200
    before = os.open(tmp_path, os.O_RDONLY)
    try:
        for _ in range(30):  # 6,000 bytes; a path ends at 4,096
            os.mkdir(name, dir_fd=before)
            below = os.open(name, os.O_RDONLY, dir_fd=before)
            os.close(before)
            before = below
    finally:
        os.close(before)
    found = listing(tmp_path)
    assert paths(found) == ["a.py"]
    assert found.outcome == "complete"
    assert found.n_skipped == {"unreadable": 1}


@posix_only
def test_a_folder_that_vanishes_meanwhile_costs_itself(tmp_path: Path) -> None:
    """`should_stop` runs between the folders, so it can put something else in their place."""
    make(tmp_path, {"top.py": "", "a/x.py": "", "b/y.py": "", "c/z.py": "", "d/x.py": ""})
    n_asked = 0

    def should_stop() -> bool:
        nonlocal n_asked
        n_asked += 1
        if n_asked == 2:  # the root is listed
            (tmp_path / "b/y.py").unlink()
            (tmp_path / "b").rmdir()
            (tmp_path / "b").touch()
            (tmp_path / "d/x.py").unlink()
            (tmp_path / "d").rmdir()
            (tmp_path / "d").symlink_to("c")
        return False

    found = walk(tmp_path, max_files=9, max_file_bytes=9, should_stop=should_stop)
    assert paths(found) == ["top.py", "a/x.py", "c/z.py"]
    assert found.skipped == (Skipped("b", "gone"), Skipped("d", "gone"))


def test_what_is_left_out_is_all_counted_and_partly_kept(tmp_path: Path) -> None:
    make(tmp_path, dict.fromkeys((f"{i}.pem" for i in range(300)), ""))
    found = listing(tmp_path)
    assert found.n_skipped == {"may hold a secret": 300}
    assert len(found.skipped) == 200


def test_no_file_name_is_logged_above_debug(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    make(tmp_path, {"a.pem": ""})
    listing(tmp_path)
    assert [record.levelno for record in caplog.records] == [logging.DEBUG]


# --- rules; test_ignore.py compares those of git with git ---


def test_our_own_ignore_file_beats_those_of_git(tmp_path: Path) -> None:
    make(
        tmp_path,
        {
            ".gitignore": "gen/\n*.log\n",
            ".lspassistignore": "!gen/\ndocs\n",
            "sub/.gitignore": "!*.log\n",
            "sub/.lspassistignore": "b.log\n",
            **dict.fromkeys(["gen/a.py", "docs/x.md", "a.log", "sub/a.log", "sub/b.log"], ""),
        },
    )
    assert code(tmp_path) == ["gen/a.py", "sub/a.log"]


def test_excluded_files_stay_hidden_whatever_the_workspace_says(tmp_path: Path) -> None:
    make(tmp_path, {".lspassistignore": "!*", "a.py": "", "private/x.py": "", "b.py": ""})
    found = listing(tmp_path, "private/", "b.py", "!private/x.py", "!private/")
    assert [path for path in paths(found) if path.endswith(".py")] == ["a.py"]
    assert found.n_ignored == 2
    assert found.n_skipped == {"negated exclude": 2}


def test_the_users_own_ignore_file_is_the_weakest(tmp_path: Path) -> None:
    root = make(
        tmp_path / "w", {".gitignore": "!keep.tmp", "a.tmp": "", "keep.tmp": "", "a.py": ""}
    )
    make(tmp_path, {"user": "*.tmp"})
    found = walk(root, max_files=9, max_file_bytes=9, user_ignore=tmp_path / "user")
    assert paths(found) == [".gitignore", "a.py", "keep.tmp"]
    absent = walk(root, max_files=9, max_file_bytes=9, user_ignore=tmp_path / "nothing")
    assert len(absent.files) == 4
    assert absent.skipped == ()


def test_a_nested_repository_has_rules_of_its_own(tmp_path: Path) -> None:
    """As a submodule's; what the one around it ignores is said for its own files."""
    make(
        tmp_path,
        {
            ".gitignore": "*.c\n",
            ".lspassistignore": "*.h\n",
            ".git/HEAD": "",
            "lib/.git/info/exclude": "b.c",
            **dict.fromkeys(["a.c", "lib/a.c", "lib/b.c", "lib/a.h"], ""),
        },
    )
    assert code(tmp_path) == ["lib/a.c"]


def test_a_linked_worktree_has_the_rules_of_its_repository(tmp_path: Path) -> None:
    make(
        tmp_path,
        {
            "main/.git/info/exclude": "hidden.py\n",
            "main/.git/worktrees/wt/commondir": "../..\n",
            "wt/.git": "gitdir: ../main/.git/worktrees/wt\n",
            "wt/hidden.py": "",
            "wt/a.py": "",
        },
    )
    assert code(tmp_path / "wt") == ["a.py"]


@posix_only
def test_an_ignore_file_that_cannot_be_used_costs_itself(tmp_path: Path) -> None:
    make(tmp_path, {"a.py": "", "b/.gitignore": "*\0", "b/b.py": ""})
    make(tmp_path, {"many/.gitignore": "\n".join(map(str, range(MAX_PATTERNS + 1)))})
    os.mkfifo(tmp_path / ".gitignore")
    found = listing(tmp_path, max_file_bytes=10**6)
    assert paths(found) == ["a.py", "b/.gitignore", "b/b.py", "many/.gitignore"]
    assert found.skipped == (
        Skipped(".gitignore", "not a regular file"),  # as rules
        Skipped(".gitignore", "not a regular file"),  # as a file
        Skipped("b/.gitignore", "binary"),
        Skipped("many/.gitignore", "too many patterns"),
    )


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, ".config/git/ignore"),
        ({".gitconfig": '[core]\n\texcludesFile = "~/mine"\n'}, "mine"),
        ({".config/git/config": "[user]\nname=x\n[Core]\nexcludesfile=/abs\n"}, "/abs"),
        ({".gitconfig": "[other]\nexcludesfile = no\n"}, ".config/git/ignore"),
        ({".gitconfig": "[core]\nexcludesfile = a\nexcludesfile = b\n"}, "b"),
        (
            {".gitconfig": "[core]\neditor=x\n", ".config/git/config": "[core]\nexcludesfile=y\n"},
            "y",
        ),
    ],
)
def test_the_users_own_ignore_file_is_the_one_that_git_uses(
    tmp_path: Path, files: dict[str, str], expected: str
) -> None:
    make(tmp_path, files)
    environ = {"HOME": str(tmp_path)}
    assert user_ignore_file(environ) == tmp_path / expected
    said = subprocess.run(
        ["git", "config", "--path", "core.excludesFile"],
        env={**environ, "PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1"},
        cwd=tmp_path,
        capture_output=True,
        check=False,
        text=True,
    ).stdout.strip()
    assert (
        said == "" if expected == ".config/git/ignore" else tmp_path / said == tmp_path / expected
    )


# --- secrets ---


@pytest.mark.parametrize(
    "path",
    [
        *(".env", ".ENV", "a/.env.local", "prod.env", ".env.", "d/id_rsa", "id_ed25519.pub"),
        *("Server.PEM", "x.key", "a.p12", "credentials", "credentials.json", ".netrc", ".npmrc"),
        *("secrets.yaml", "client_secret_1.json", "home/.ssh/config", ".aws/config", "x.tfvars"),
        *("d\\.env", "google-credentials.json", "terraform.tfstate.backup"),
    ],
)
def test_names_of_secrets_are_known_in_any_case(path: str) -> None:
    assert is_secret(path)


@pytest.mark.parametrize(
    "path",
    [
        *("credentials.py", "secrets.py", "env.py", "keyboard.py", "key.go", "src/environment.ts"),
        *("monkey.js", "docs/env.md", "pemmican.rs", "aws/client.py", "token.c", "secret_test.go"),
    ],
)
def test_code_about_secrets_is_none(path: str) -> None:
    assert not is_secret(path)


def test_secrets_are_never_listed(tmp_path: Path) -> None:
    make(tmp_path, {".lspassistignore": "!.env", ".env": "", "a.py": "", ".ssh/config": ""})
    found = listing(tmp_path)
    assert paths(found) == [".lspassistignore", "a.py"]
    assert found.n_skipped == {"may hold a secret": 2}


# --- one file ---


@posix_only
def test_one_file_is_judged_as_a_walk_judges_it(tmp_path: Path) -> None:
    """`find` gives what `walk` lists and nothing else; `is_hidden` says why of what is text."""
    root = make(
        tmp_path,
        {
            ".gitignore": "*.log\n/out/\n!keep.log\n",
            "a.py": "",
            "keep.log": "",
            "x.log": "",
            "out/b.py": "",
            "src/.gitignore": "gen_*\n!gen_keep.py\n",
            "src/gen_a.py": "",
            "src/gen_keep.py": "",
            "src/deep/gen_b.py": "",
            "src/deep/c.py": "",
            "src/.lspassistignore": "c.py\n",
            "node_modules/d.js": "",
            "venv/pyvenv.cfg": "",
            "venv/lib/e.py": "",
            ".env": "",
            "large.py": "x" * 5000,
        },
    )
    (root / "link.py").symlink_to("a.py")
    (root / "linked").symlink_to("src")
    listed = {entry.path: entry for entry in walk(root, max_files=100, max_file_bytes=1000).files}
    on_disk = [
        (Path(folder) / name).relative_to(root).as_posix()
        for folder, _, names in os.walk(root)
        for name in names
    ]
    for path in [*on_disk, "linked/gen_keep.py", "missing.py", "src", "", "a.py/", "src/../a.py"]:
        assert find(root, path, max_file_bytes=1000) == listed.get(path)
    for path in on_disk:
        if path not in {"large.py", "link.py"}:
            assert is_hidden(root, path) == (path not in listed), path


@pytest.mark.parametrize(
    ("path", "hidden"),
    [
        ("new.py", False),
        ("new/folder/x.py", False),
        ("out/new.py", True),
        ("new/x.log", True),
        ("../outside.py", True),
        ("new/.env", True),
        ("node_modules/new/x.js", True),
    ],
)
def test_a_file_that_is_not_there_yet_is_judged_by_its_path(
    tmp_path: Path, path: str, hidden: bool
) -> None:
    root = make(tmp_path, {".gitignore": "*.log\n/out/\n"})
    assert is_hidden(root, path) == hidden
