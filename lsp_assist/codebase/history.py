"""What git's history says of the files: which change together, and which are being worked on.

Reads `git log` of a workspace that nobody vouches for: no hook, pager, file system monitor or other
program of its configuration is run, and time and output are bounded. Without git, or outside of
a repository, there is no history, which is no error. Knows no store but its own file.
"""

import json
import logging
import math
import os
import subprocess
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Commit", "History", "HistoryStore", "activity", "cochanges"]

logger = logging.getLogger(__name__)

FORMAT = 1  # raise it when what is kept changes
MAX_COMMITS = 5_000
MAX_COMMIT_FILES = 30
"""A commit of more files is a sweep, and says nothing of any two of them."""
MAX_LINE_CHARS = 4_096
HALF_LIFE_S = 180 * 86_400
MAX_NEIGHBOURS = 20
TIME_LIMIT_S = 10.0
MAX_OUTPUT_BYTES = 32_000_000

# Whatever the repository's configuration says, nothing of it is run. `log` without `-p` uses
# neither textconv nor external diffs; replace refs and grafts would only change what is shown.
_SAFE = (
    "--no-pager", "--no-optional-locks", "--no-replace-objects",
    "-c", "core.fsmonitor=", "-c", "core.pager=cat", "-c", "core.hooksPath=" + os.devnull,
    "-c", "log.showSignature=false", "-c", "diff.external=", "-c", "core.quotePath=false",
    "-c", "core.sshCommand=false", "-c", "protocol.allow=never", "-c", "gpg.program=false",
)  # fmt: skip
_HARMLESS = frozenset({"GIT_CEILING_DIRECTORIES", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"})
_RECORD = "\x1e"


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit: when it was made, and the files that it changed, within the workspace."""

    hash: str
    time_s: int
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class History:
    """The commits of a workspace, the latest first."""

    head: str = ""
    """Empty without a repository."""
    commits: tuple[Commit, ...] = ()


def cochanges(history: History, paths: Iterable[str]) -> dict[str, dict[str, float]]:
    """How strongly each file is tied to others that changed with it: 0 to 1, the strongest only.

    A commit of n files counts 1/(n-1) for each pair of them, and half as much when it is half a
    year older than the latest one. What a pair has in common is divided by what its two files have
    in all, so that a file which always changes is tied to none.
    """
    known = frozenset(paths)
    common: dict[tuple[str, str], float] = defaultdict(float)
    alone: dict[str, float] = defaultdict(float)
    latest = max((commit.time_s for commit in history.commits), default=0)
    for commit in history.commits:
        changed = sorted(known.intersection(commit.paths))
        if len(commit.paths) > MAX_COMMIT_FILES or not changed:
            continue
        weight = _decay(latest - commit.time_s)
        for path in changed:
            alone[path] += weight
        share = weight / max(len(commit.paths) - 1, 1)
        for at, path in enumerate(changed):
            for other in changed[at + 1 :]:
                common[path, other] += share
    tied: dict[str, dict[str, float]] = defaultdict(dict)
    for (path, other), weight in common.items():
        # One more commit below: two files that met once in a new repository are not inseparable.
        strength = weight / (math.sqrt(alone[path] * alone[other]) + 1.0)
        tied[path][other] = tied[other][path] = strength
    return {path: _strongest(others) for path, others in tied.items()}


def activity(history: History) -> dict[str, float]:
    """How much each file is being worked on: its commits, each halved by half a year of age.

    The age counts from the latest commit, so that a resting project keeps its order.
    """
    latest = max((commit.time_s for commit in history.commits), default=0)
    found: dict[str, float] = defaultdict(float)
    for commit in history.commits:
        if len(commit.paths) <= MAX_COMMIT_FILES:
            for path in commit.paths:
                found[path] += _decay(latest - commit.time_s)
    return dict(found)


class HistoryStore:
    """Owns the history of a workspace: kept in a file, read on from where it ended."""

    def __init__(self, root: Path, file: Path) -> None:
        self._git = _Git(root)
        self._file = file
        self._lock = threading.Lock()
        self._history: History | None = None
        self._failed_head: str | None = None

    def stop(self) -> None:
        """End a running refresh, which keeps what was known."""
        self._git.stop()

    def known(self) -> History:
        """The history as it was seen last, perhaps by an earlier run; asks no git."""
        with self._lock:
            if self._history is None:
                self._history = _loaded(self._file)
            return self._history

    def refresh(self) -> History:
        """The history as of now; reads only what came after the commit that was seen last.

        A history that was rewritten is read anew. Blocking, up to `TIME_LIMIT_S`.
        """
        with self._lock:
            before = self._history or _loaded(self._file)
            self._history = before
            try:
                head = _head(self._git)
                if head in (before.head, self._failed_head):
                    return before
                self._failed_head = head  # until it is read; not tried at every refresh
                self._history = _read_on(self._git, before, head) if head else History()
            except (OSError, subprocess.SubprocessError) as error:
                logger.info("No history could be read: %s", type(error).__name__)
                return before
            self._failed_head = None
            _save(self._file, self._history)
            return self._history


def _read_on(git: "_Git", before: History, head: str) -> History:
    if before.head and _is_ancestor(git, before.head, head):
        new = _commits(git, head, f"^{before.head}")
        if len(new) < MAX_COMMITS:
            return _ordered(head, (*new, *before.commits))
    return _ordered(head, _commits(git, head))


def _commits(git: "_Git", *revisions: str) -> list[Commit]:
    """Commits of a repository, the latest first, with paths relative to the workspace.

    Merges are left out: what they bring is in the commits that they merge.

    Raises: OSError, subprocess.SubprocessError if git is missing, fails or takes too long.
    """
    text = git.run(
        "log",
        "--no-merges",
        "--no-renames",
        "--no-show-signature",
        "--no-ext-diff",
        "--no-textconv",
        "--topo-order",
        f"--max-count={MAX_COMMITS}",
        "--name-only",
        "-z",
        "--relative",
        f"--format={_RECORD}%H %ct",
        *revisions,
        "--",
        ".",
    )
    return list(_parsed(text))


def _ordered(head: str, commits: Iterable[Commit]) -> History:
    """The same for the same commits, in whatever order they were read."""
    ordered = sorted(commits, key=lambda commit: (-commit.time_s, commit.hash))
    return History(head, tuple(ordered[:MAX_COMMITS]))


def _parsed(text: str) -> Iterator[Commit]:
    for record in text.split(_RECORD)[1:]:
        head, _, names = record.partition("\0")
        hash_, _, time_s = head.strip().partition(" ")
        paths = (name.strip("\n") for name in names.split("\0"))
        kept = tuple(path for path in paths if path and len(path) <= MAX_LINE_CHARS)
        if hash_ and time_s.isdigit():
            yield Commit(hash_, int(time_s), kept[: MAX_COMMIT_FILES + 1])


def _head(git: "_Git") -> str:
    """The commit that is checked out; empty without one, without a repository or without git."""
    try:
        return git.run("rev-parse", "--verify", "--quiet", "HEAD^{commit}").strip()
    except OSError:
        return ""
    except subprocess.CalledProcessError as error:
        if error.returncode < 0:
            raise
        return ""


def _is_ancestor(git: "_Git", commit: str, head: str) -> bool:
    try:
        git.run("merge-base", "--is-ancestor", commit, head)
    except subprocess.CalledProcessError:
        return False
    return True


class _Git:
    """Runs git in one folder, one command at a time, and stops it when it takes too long."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End the running command; none runs afterwards."""
        self._stopped.set()
        if process := self._process:
            process.kill()

    def run(self, *arguments: str) -> str:
        """What a command says.

        Raises: OSError, subprocess.SubprocessError if git is missing, fails or is stopped.
        """
        if self._stopped.is_set():
            raise subprocess.SubprocessError("stopped")
        with subprocess.Popen(
            ["git", *_SAFE, *arguments],
            cwd=self._root,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as process:
            self._process = process
            if self._stopped.is_set():  # by a thread that came before there was anything to kill
                process.kill()
            timer = threading.Timer(TIME_LIMIT_S, process.kill)
            timer.start()
            try:
                return self._output(process)
            finally:
                timer.cancel()
                self._process = None

    def _output(self, process: "subprocess.Popen[bytes]") -> str:
        assert process.stdout
        output = process.stdout.read(MAX_OUTPUT_BYTES)
        if len(output) == MAX_OUTPUT_BYTES:
            process.kill()  # enough: what was cut off is older
            output = output[: output.rfind(_RECORD.encode())]
        elif process.wait() != 0:
            raise subprocess.CalledProcessError(process.returncode, "git")
        return output.decode("utf-8", "replace")


def _environment() -> dict[str, str]:
    """The user's environment, without what would have git look elsewhere or run something."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("GIT_", "SSH_")) or key in _HARMLESS
    }
    return kept | {
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "LC_ALL": "C",
    }


def _decay(age_s: float) -> float:
    return float(2.0 ** (-max(age_s, 0) / HALF_LIFE_S))


def _strongest(others: Mapping[str, float]) -> dict[str, float]:
    ordered = sorted(others.items(), key=lambda item: (-item[1], item[0]))
    return dict(ordered[:MAX_NEIGHBOURS])


def _loaded(file: Path) -> History:
    """What was kept; nothing if it is missing, damaged or of another version."""
    try:
        kept = json.loads(file.read_text("utf-8"))
        if kept["format"] != FORMAT:
            return History()
        commits = tuple(Commit(h, int(t), tuple(paths)) for h, t, paths in kept["commits"])
        return History(str(kept["head"]), commits)
    except (OSError, ValueError, KeyError, TypeError):
        return History()


def _save(file: Path, history: History) -> None:
    kept = {
        "format": FORMAT,
        "head": history.head,
        "commits": [(c.hash, c.time_s, c.paths) for c in history.commits],
    }
    scratch = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        scratch.write_text(json.dumps(kept, ensure_ascii=True, separators=(",", ":")), "utf-8")
        scratch.replace(file)
    except OSError as error:
        logger.info("The history cannot be kept: %s", type(error).__name__)
        scratch.unlink(missing_ok=True)
