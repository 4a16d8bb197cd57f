"""The pattern language against git itself, and against patterns made to take for ever."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lsp_assist.codebase.files import walk
from lsp_assist.codebase.ignore import MAX_PATTERNS, Rules

NAMES = ["a", "b", "ab", "a.c", "b.py", "-", "[", "]", "!", "A", "a b", "#", "\\", "foo", "a.b.py"]
TREE = [
    *NAMES,
    *(f"{folder}/{name}" for folder in ("d", "foo.d") for name in NAMES[:8]),
    *(f"d/{folder}/{name}" for folder in ("e", "foo") for name in ("a", "b", "a.c")),
    *("d/e/d/a", "d/e/d/e/b", "d/e/d/e/a.c", "x/d/e/a", "x/foo/d/b"),
]

pieces = st.sampled_from(
    [
        *(
            "a",
            "b",
            "d",
            "e",
            "foo",
            ".c",
            ".py",
            "*",
            "**",
            "?",
            "/",
            "\\",
            "!",
            "#",
            " ",
            "-",
            "]",
        ),
        *("*/", "/**", "**/", "**/d", "d/**/", "[ab]", "[!a]", "[^a-d]", "[a-", "[]-]", "["),
        *("[z-a]", "[[:alpha:]]", "[[:punct:]x]", "[[:nope:]]", "[[:]", "[\\]a]", "[a-\\d]"),
        *("[[a]", "[/]"),
    ]
)
starts = st.sampled_from(["", "", "", "!", "/"])
patterns = st.builds(str.__add__, starts, st.lists(pieces, max_size=5).map("".join)).filter(
    lambda pattern: "\\/" not in pattern
)  # see the module's docstring
ignore_texts = st.builds(
    str.join, st.sampled_from(["\n", "\n", "\r\n"]), st.lists(patterns, max_size=6)
)


class Repository:
    """A git repository of one tree, whose ignore files are written anew for each example."""

    def __init__(self, root: Path) -> None:
        self.root = root
        home = root.parent / "home"
        home.mkdir()
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home / ".config"),
            "GIT_CONFIG_NOSYSTEM": "1",
        }
        root.mkdir()
        self.git("init", "-q")
        for path in TREE:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).touch()

    def git(self, *args: str, folder: Path | None = None) -> str:
        done = subprocess.run(
            ["git", *args],
            cwd=folder or self.root,
            env=self.environ,
            capture_output=True,
            check=True,
        )
        return done.stdout.decode()

    def write(self, ignore_files: Mapping[str, str]) -> None:
        for path in [*self.root.rglob(".gitignore"), self.root / ".git/info/exclude"]:
            path.unlink(missing_ok=True)
        for name, text in ignore_files.items():
            path = self.root / name
            if path.parent.is_dir():
                path.write_bytes(text.encode())

    def shown_by_git(self, folder: str = "") -> set[str]:
        listed = self.git("ls-files", "-coz", "--exclude-standard", folder=self.root / folder)
        return {path for path in listed.split("\0") if path}

    def shown_by_walk(self, folder: str = "") -> set[str]:
        listing = walk(self.root / folder, max_files=10_000, max_file_bytes=10_000)
        assert listing.outcome == "complete"
        return {entry.path for entry in listing.files}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    folder = tmp_path_factory.mktemp("git")
    yield Repository(folder / "r")
    shutil.rmtree(folder)


with_git = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@with_git
@given(ignore_texts)
@example("*.c\n!d\nd/*\n!d/e/")
@example("d/**\n!d/e/\n!d/e/a")
@example("/*\n!/d\n/d/*\n!/d/e")
@example("**/e/**/a.c\n!x/**")
@example("foo**/b\nd**\n**a")
@example("\\!\n\\#\na\\ b\n[[]\n]")
@example("a b   \n#\n! \n\\")
@example("d/**/\n!d/foo/")
@example("[!a-e]\n!-")
@example("*/\n!d/\n!x/")
@example("\ufeffa")
@example("d**/a")
@example("d**/e/**/**/a")
@example("d/f**")
@example("**//**")
@example("!*.b.py\n*.py")
def test_a_listing_is_what_git_shows(repository: Repository, text: str) -> None:
    repository.write({".gitignore": text})
    assert repository.shown_by_walk() == repository.shown_by_git()


@with_git
@given(
    st.dictionaries(
        st.sampled_from([".gitignore", "d/.gitignore", "d/e/.gitignore", ".git/info/exclude"]),
        ignore_texts,
    )
)
@example({".gitignore": "a\nd/*.c", "d/.gitignore": "!a\n!*.c", ".git/info/exclude": "b"})
@example({".gitignore": "d/e/", "d/e/.gitignore": "!*"})
def test_deeper_files_decide_as_in_git(
    repository: Repository, ignore_files: dict[str, str]
) -> None:
    repository.write(ignore_files)
    assert repository.shown_by_walk() == repository.shown_by_git()


@with_git
@given(ignore_texts, ignore_texts)
@example("/d/e/a\n/a\nd/e/b", "e/a.c\n/e/d")
@example("a\n!b", "!a\nb")
def test_a_folder_within_a_repository_has_the_rules_from_above(
    repository: Repository, top: str, middle: str
) -> None:
    """Shown are the files that git shows, unless the folder itself is one that it hides."""
    repository.write({".gitignore": top, "d/.gitignore": middle})
    all_shown = repository.shown_by_git()
    if not any(path.startswith("d/e/") for path in all_shown):
        return
    assert repository.shown_by_walk("d/e") == {
        path.removeprefix("d/e/") for path in all_shown if path.startswith("d/e/")
    }


# --- what git is too slow for ---


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*a" * 1000 + "b", "a" * 255),
        ("[a]*" * 500 + "b", "a" * 255),
        ("?*" * 100 + "b", "a" * 255),
        ("**/a/" * 300 + "b", "a/" * 2000 + "c"),
        ("**/*a*a*a/" * 50 + "b", f"{'a' * 50}/" * 80 + "c"),
        ("a/**/" * 200 + "**/*b*c", "a/" * 2000 + "a" * 255),
    ],
)
def test_no_pattern_takes_for_ever(pattern: str, path: str) -> None:
    """pathspec's regular expressions for these run for longer than the suite's timeout."""
    assert Rules.parse(pattern).verdict(path, is_folder=False) is None
    assert Rules.parse("*\n!" + pattern).verdict(path, is_folder=False) is True


def test_too_many_patterns_are_counted_and_not_used() -> None:
    text = "\n".join(f"a*{i}" for i in range(MAX_PATTERNS + 3))
    rules = Rules.parse(text)
    assert rules.n_dropped == 3
    assert rules.verdict(f"a-{MAX_PATTERNS - 1}", is_folder=False) is True
    assert rules.verdict("a-", is_folder=False) is None


@given(st.text(max_size=40), st.text(min_size=1, max_size=20), st.booleans())
def test_any_text_is_an_ignore_file(text: str, path: str, is_folder: bool) -> None:
    assert Rules.parse(text).verdict(path, is_folder=is_folder) in (True, False, None)


def test_a_wildcard_is_a_character_and_not_a_byte() -> None:
    """A difference from git, for which é is two."""
    assert Rules.parse("?.c").verdict("\u00e9.c", is_folder=False) is True


def test_negation_can_be_left_out() -> None:
    rules = Rules.parse("*.c\n!a.c", with_negation=False)
    assert rules.verdict("a.c", is_folder=False) is True
