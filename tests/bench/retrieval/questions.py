"""Questions with known answers: documentation of functions, and messages of commits.

Makes the workspaces that they are asked in. Knows no ranking.
"""

import random
import re
import subprocess
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from lsp_assist.codebase import files, ingest, ranking, reading
from lsp_assist.codebase.languages import language_of
from tests.bench.retrieval.docs import MIN_WORDS, undocumented
from tests.bench.retrieval.material import Repository

__all__ = [
    "Commit",
    "FileQuestion",
    "PlaceQuestion",
    "SymbolQuestion",
    "commits",
    "guard_questions",
    "symbol_questions",
    "trees",
]

MAX_FILE_BYTES = 1_000_000
MAX_CHANGED = 10
"""A commit that changes more files is a sweep, and is about none of them."""
MAX_MESSAGE_CHARS = 1_000


@dataclass(frozen=True, slots=True)
class SymbolQuestion:
    """A text and the one symbol that it is about, by its place in its file's outline."""

    text: str
    path: str
    ordinal: int


@dataclass(frozen=True, slots=True)
class PlaceQuestion:
    """A text and the places that answer it: paths, each with a qualified name or none."""

    text: str
    places: tuple[tuple[str, str], ...]

    def is_answered_by(self, path: str, symbol: str) -> bool:
        """Whether a symbol is one of the places, or a part of one."""
        return any(
            path == own
            and (symbol == name or not name or symbol.startswith((f"{name}.", f"{name}::")))
            for own, name in self.places
        )


@dataclass(frozen=True, slots=True)
class FileQuestion:
    """A text and the files that it is about."""

    text: str
    paths: frozenset[str]


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit: the tree before it, and what its message asks for."""

    parent: str
    question: FileQuestion


def symbol_questions(
    repository: Repository, workspace: Path, n: int, n_lines: int | None = None
) -> list[SymbolQuestion]:
    """Copies the code without the documentation of its functions; returns `n` of what it said.

    `n_lines` leaves it at so many lines, of files drawn at random. Tests and copies of other
    projects stay in the code and are not asked about, nor is a paragraph that describes several
    functions.
    """
    found: dict[str, list[SymbolQuestion]] = {}
    listing = files.walk(
        repository.path,
        max_files=100_000,
        max_file_bytes=MAX_FILE_BYTES,
        is_wanted=ingest.is_wanted,
    )
    entries = sorted(listing.files, key=lambda entry: entry.path)
    random.Random(2).shuffle(entries)
    n_copied = 0
    for entry in entries:
        if n_lines is not None and n_copied >= n_lines:
            break
        contents = reading.read(repository.path / entry.path, MAX_FILE_BYTES)
        if isinstance(contents, reading.Skipped):
            continue
        n_copied += contents.text.count("\n")
        bare = undocumented(entry.path, contents.text)
        target = workspace / entry.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(bare.text.encode("utf-8", "surrogatepass"))
        if ranking.is_test(entry.path) or ranking.is_vendored(entry.path):
            continue
        for function in bare.functions:
            question = SymbolQuestion(function.paragraph, entry.path, function.ordinal)
            found.setdefault(function.paragraph, []).append(question)
    alone = [questions[0] for questions in found.values() if len(questions) == 1]
    alone.sort(key=lambda question: (question.path, question.ordinal))
    return random.Random(1).sample(alone, min(n, len(alone)))


def guard_questions(repository: Repository) -> list[PlaceQuestion]:
    """The questions about a repository that people wrote, with the places that they named."""
    tables = tomllib.loads(Path(__file__).with_name("guard.toml").read_text("utf-8"))["question"]
    found = []
    for table in tables:
        if table["repository"] == repository.name:
            parts = (place.partition(" ") for place in table["places"])
            found.append(PlaceQuestion(table["text"], tuple((p, name) for p, _, name in parts)))
    return found


def trees(repository: Repository, workspace: Path, n: int) -> Iterator[FileQuestion]:
    """Each commit's question while the workspace holds the tree before the commit.

    The workspace is a repository that knows the past up to there, and nothing of the commit.
    """
    _git(repository, "clone", "-q", "--shared", "--no-checkout", ".", str(workspace.resolve()))
    before = ""
    for commit in commits(repository, n):
        _check_out(repository, commit.parent, before, workspace)
        past = replace(repository, path=workspace)
        _git(past, "update-ref", "--no-deref", "HEAD", commit.parent)
        before = commit.parent
        yield commit.question


def commits(repository: Repository, n: int) -> list[Commit]:
    """The newest `n` commits that a person could have asked for by their message, oldest first.

    Left out: merges, commits of more than `MAX_CHANGED` files, and those that change no code that
    was there before. Changelogs are changed with everything and are no answer.
    """
    found: list[Commit] = []
    log = _git(repository, "log", "--first-parent", "--no-merges", "--format=%H %P", "HEAD")
    for line in log.splitlines():
        commit, *parents = line.split()
        if len(parents) == 1:
            changes = _changes(repository, parents[0], commit)
            asked = _message(_git(repository, "show", "-s", "--format=%B", commit))
            paths = frozenset(p for kind, p in changes if kind in "MD" and _is_code(p))
            is_asked = len(re.findall(r"\w+", asked)) >= MIN_WORDS
            if paths and is_asked and len(changes) <= MAX_CHANGED:
                found.append(Commit(parents[0], FileQuestion(asked, paths)))
        if len(found) == n:
            break
    return found[::-1]


def _check_out(repository: Repository, tree: str, before: str, workspace: Path) -> None:
    """Make the workspace hold a tree, which holds the one `before` or is empty."""
    empty = _git(repository, "hash-object", "-t", "tree", "/dev/null").strip()
    for kind, path in _changes(repository, before or empty, tree):
        target = workspace / path
        if kind == "D":
            target.unlink(missing_ok=True)
            continue
        if target.is_dir():
            continue  # where a folder of left out files stands
        target.parent.mkdir(parents=True, exist_ok=True)
        command = ("git", "-C", str(repository.path), "cat-file", "blob", f"{tree}:{path}")
        target.write_bytes(subprocess.run(command, check=True, capture_output=True).stdout)


def _changes(repository: Repository, before: str, after: str) -> list[tuple[str, str]]:
    """What happened to which regular file: A, M, D or T, and its path."""
    raw = _git(repository, "diff-tree", "-r", "-z", "--no-renames", before, after)
    fields = raw.split("\0")[:-1]
    changes = []
    for about, path in zip(fields[::2], fields[1::2], strict=True):
        _, mode, _, _, kind = about.split(" ")
        if mode.startswith("100") or kind == "D":
            changes.append((kind, path))
    return changes


_CHANGELOG = re.compile(r"(^|/)(changes|changelog|history|news|releases?)[^/]*$", re.IGNORECASE)
_TRAILER = re.compile(
    r"^(?:[A-Z][\w-]+-by:|\(cherry picked|Change-Id:"
    r"|(?:Fix(?:es)?|Close[sd]?|PR|Refs?)\b.{0,12}#\d)"
)
_NUMBER = re.compile(r"\(?#\d+\)?|\bhttps?://\S+")


def _is_code(path: str) -> bool:
    language = language_of(PurePosixPath(path).name)
    is_code = language is not None and bool(language.grammar) and language.name != "markdown"
    return is_code and not _CHANGELOG.search(path)


def _message(message: str) -> str:
    """What the message says, without its trailers, numbers of issues and addresses."""
    kept: list[str] = []
    for line in message.splitlines():
        if _TRAILER.match(line):
            break
        kept.append(_NUMBER.sub("", line).strip())
    return " ".join(" ".join(kept).split())[:MAX_MESSAGE_CHARS]


def _git(repository: Repository, *arguments: str) -> str:
    command: Sequence[str] = ("git", "-C", str(repository.path), *arguments)
    done = subprocess.run(command, check=True, capture_output=True)
    return done.stdout.decode("utf-8", "replace")
