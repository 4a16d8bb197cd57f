"""Which files a workspace has.

A workspace is somebody else's: it holds pipes and devices, links in circles, files of gigabytes,
and it changes while it is gone through. None of that stops or hangs a walk: each costs itself, and
is named in what comes back. Links are never followed; what they point to inside the workspace is
found anyway, and what lies outside is not the workspace's.

Knows ignore files and names of secrets; knows no text, no language, no index, no open documents.
"""

import errno
import logging
import os
import re
import stat
import sys
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import translate
from pathlib import Path
from typing import Literal

from lsp_assist.codebase.ignore_files import RuleChain
from lsp_assist.codebase.reading import Reason, Skipped, reason_of
from lsp_assist.errors import WorkspaceNotFound

__all__ = [
    "SECRET_FOLDERS",
    "SECRET_NAMES",
    "SKIPPED_FOLDERS",
    "FileEntry",
    "Listing",
    "find",
    "is_hidden",
    "is_secret",
    "walk",
]

logger = logging.getLogger(__name__)

SKIPPED_FOLDERS = frozenset(
    {
        *(".git", ".hg", ".svn", ".jj", ".bzr", "CVS", "_darcs"),
        *("node_modules", "bower_components", ".yarn", ".pnpm-store"),
        *("__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis"),
        *(".tox", ".nox", ".eggs", ".ipynb_checkpoints"),
        *(".gradle", ".terraform", ".bundle", ".dart_tool", ".ccls-cache", ".clangd"),
        *(".next", ".nuxt", ".svelte-kit", ".parcel-cache", ".turbo", ".angular"),
    }
)
"""Folders that hold no code of the user's, whatever the ignore files say."""

SKIPPED_FOLDER_MARKS = frozenset({"pyvenv.cfg", "CACHEDIR.TAG"})
"""A folder with one of these is a virtual environment, or a cache by https://bford.info/cachedir/."""

SECRET_NAMES = (
    *(".env", ".env.*", ".env-*", ".env_*", "*.env", ".envrc"),
    *("*.pem", "*.key", "*.p12", "*.pfx", "*.p8", "*.jks", "*.keystore", "*.kdbx", "*.ppk"),
    *("*.gpg", "*.asc", "*.ovpn", "*.der", "*.pkcs12"),
    *("id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "*_rsa", "*_ed25519"),
    *(".netrc", "_netrc", ".pgpass", ".my.cnf", ".npmrc", ".yarnrc.yml", ".pypirc", ".htpasswd"),
    *(".git-credentials", ".dockercfg", ".boto", ".s3cfg", ".vault-token", ".terraformrc"),
    # `credentials.py` is code and stays.
    "credentials",
    *(f"*credentials*.{kind}" for kind in ("json", "yml", "yaml", "toml", "ini", "xml", "csv")),
    *(f"*credentials*.{kind}" for kind in ("txt", "cfg", "conf", "properties", "enc")),
    *(f"*secret*.{kind}" for kind in ("json", "yml", "yaml", "toml", "ini", "xml", "csv")),
    *(f"*secret*.{kind}" for kind in ("txt", "cfg", "conf", "properties", "enc")),
    *("service-account*.json", "service_account*.json", "*.tfvars", "*.tfvars.json", "*.tfstate*"),
)
"""File names that never go into the index, as in a shell, in any case."""

SECRET_FOLDERS = frozenset(
    {".ssh", ".gnupg", ".aws", ".azure", ".gcloud", ".kube", ".docker", ".password-store"}
)
"""Folders of which nothing goes into the index."""

_MAX_SKIPPED_KEPT = 200


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A regular file of the workspace as it was when it was seen."""

    path: str
    """Relative to the root, with forward slashes; plain text without control characters."""
    size: int
    mtime_ns: int
    inode: int
    """0 where the platform does not tell, as in a Windows folder listing."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a workspace, and what was left out. Shallow files come first, then by name."""

    files: tuple[FileEntry, ...]
    outcome: Literal["complete", "truncated", "stopped"]
    """"truncated": there are more than `max_files`. A file that is missing from any listing but a
    complete one may be there."""
    n_ignored: int
    """Files and folders that ignore rules hide; a folder counts as one."""
    skipped: tuple[Skipped, ...]
    """What was left out for another reason, the first few hundred."""
    n_skipped: Mapping[Reason, int]
    """How many, all counted."""


def walk(
    root: Path,
    *,
    max_files: int,
    max_file_bytes: int,
    exclude: Sequence[str] = (),
    user_ignore: Path | None = None,
    is_wanted: Callable[[str], bool] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Listing:
    """The workspace's files that are wanted by name and hidden by no rule.

    Strongest first: `exclude` (patterns as in .gitignore that can only hide), `.lspassistignore`,
    `.gitignore`, `.git/info/exclude`, and `user_ignore` (see `user_ignore_file`). A deeper file
    beats one further up, up to the top of the repository that holds the root. A nested repository
    has git rules of its own. `should_stop` is asked at every folder.

    Breadth first, so that a truncated listing has what lies near the top. O(entries).

    Raises: WorkspaceNotFound
    """
    root = _readable(root)
    tally = _Tally(root)
    rules = RuleChain.above(root, exclude, user_ignore, tally.skip_file)
    for pattern in exclude:
        if pattern.startswith("!"):
            tally.skip(pattern, "negated exclude")
    files: list[FileEntry] = []
    outcome: Literal["complete", "truncated", "stopped"] = "complete"
    queue = deque([("", rules)])
    while queue:
        if should_stop is not None and should_stop():
            outcome = "stopped"
            break
        folder, rules = queue.popleft()
        try:
            entries = _entries(root, folder)
        except OSError as error:
            tally.skip(folder, reason_of(error))
            continue
        if folder and not SKIPPED_FOLDER_MARKS.isdisjoint(entries):
            continue
        rules = rules.within(root, folder, entries.keys(), tally.skip_file)
        found, subfolders = _sorted_out(folder, entries, rules, is_wanted, max_file_bytes, tally)
        files += found
        if len(files) > max_files:
            del files[max_files:]
            outcome = "truncated"
            break
        queue.extend((subfolder, rules) for subfolder in subfolders)
    return Listing(
        tuple(files), outcome, tally.n_ignored, tuple(tally.skipped), dict(tally.n_skipped)
    )


def find(
    root: Path,
    path: str,
    *,
    max_file_bytes: int,
    exclude: Sequence[str] = (),
    user_ignore: Path | None = None,
    is_wanted: Callable[[str], bool] | None = None,
) -> FileEntry | None:
    """The entry that a walk would give for this one file, None where it would give none.

    Reads the folders on the way to it and their ignore files.
    """
    root = _readable(root)
    folder, _, name = path.rpartition("/")
    tally = _Tally(root)
    rules = _rules_at(root, folder, exclude, user_ignore, tally)
    if rules is None:
        return None
    try:
        entry = _entries(root, folder).get(name)
    except OSError:
        return None
    if entry is None:
        return None
    found, _ = _sorted_out(folder, {name: entry}, rules, is_wanted, max_file_bytes, tally)
    return found[0] if found else None


def is_hidden(
    root: Path,
    path: str,
    *,
    exclude: Sequence[str] = (),
    user_ignore: Path | None = None,
    is_wanted: Callable[[str], bool] | None = None,
) -> bool:
    """Whether a walk would leave out a file of this path, which need not be there yet."""
    root = _readable(root)
    folder, _, name = path.rpartition("/")
    rules = _rules_at(root, folder, exclude, user_ignore, _Tally(root))
    return (
        rules is None
        or is_secret(path)
        or rules.is_hidden(path, is_folder=False)
        or (is_wanted is not None and not is_wanted(name))
    )


def is_secret(path: str) -> bool:
    """Whether a file's name or one of its folders' says that it holds keys or passwords."""
    *folders, name = path.replace("\\", "/").casefold().split("/")
    # Windows opens `.env.` and `.env ` as `.env`.
    return not SECRET_FOLDERS.isdisjoint(folders) or bool(_SECRET.match(name.rstrip(" .")))


# --- one folder ---


def _rules_at(
    root: Path, folder: str, exclude: Sequence[str], user_ignore: Path | None, tally: "_Tally"
) -> RuleChain | None:
    """The rules for the entries of a folder; None where a walk would not come to it."""
    rules = RuleChain.above(root, exclude, user_ignore, tally.skip_file)
    here = ""
    steps = folder.split("/") if folder else []
    if {"", ".", ".."} & set(steps):
        return None
    for step in (*steps, None):
        try:
            entries = _entries(root, here)
        except OSError:
            return None if os.path.lexists(root / here) else rules
        if here and not SKIPPED_FOLDER_MARKS.isdisjoint(entries):
            return None
        rules = rules.within(root, here, entries.keys(), tally.skip_file)
        if step is None:
            break
        here = f"{here}/{step}" if here else step
        is_left_out = step in SKIPPED_FOLDERS or rules.is_hidden(here, is_folder=True)
        if is_left_out or (step in entries and _is_link(entries[step])):
            return None
    return rules


def _readable(root: Path) -> Path:
    """The root without links on the way to it.

    Raises: WorkspaceNotFound
    """
    try:
        os.scandir(root).close()
    except (OSError, ValueError) as error:  # the latter for a NUL
        raise WorkspaceNotFound(
            f"Workspace {str(root)!r} cannot be read: {getattr(error, 'strerror', error)}; "
            "name a folder that can be read."
        ) from error
    return Path(os.path.realpath(root))


def _entries(root: Path, folder: str) -> dict[str, os.DirEntry[str]]:
    # Since it was listed, a checkout may have put a link in its place.
    if folder and stat.S_ISLNK((root / folder).lstat().st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), folder)
    with os.scandir(root / folder) as entries:
        return {entry.name: entry for entry in entries}


def _sorted_out(
    folder: str,
    entries: Mapping[str, os.DirEntry[str]],
    rules: RuleChain,
    is_wanted: Callable[[str], bool] | None,
    max_file_bytes: int,
    tally: "_Tally",
) -> tuple[list[FileEntry], list[str]]:
    """The files of a folder that stay, and the folders to go into, by name."""
    files: list[FileEntry] = []
    folders: list[str] = []
    for name in sorted(entries):
        entry = entries[name]
        path = f"{folder}/{name}" if folder else name
        try:
            is_folder = entry.is_dir(follow_symlinks=False)
            if is_folder:
                if name in SKIPPED_FOLDERS:
                    continue
            elif name == ".git" or (is_wanted is not None and not is_wanted(name)):
                continue  # a `.git` that is a file leads to the folder of a linked worktree
            if _UNUSABLE.search(name):
                tally.skip(path, "unusable name")
            elif rules.is_hidden(path, is_folder=is_folder):
                tally.n_ignored += 1
            elif _is_link(entry):
                tally.skip(path, "link")
            elif is_folder:
                folders.append(path)
            elif not entry.is_file(follow_symlinks=False):
                tally.skip(path, "not a regular file")
            elif is_secret(path):
                tally.skip(path, "may hold a secret")
            else:
                status = entry.stat(follow_symlinks=False)
                if status.st_size > max_file_bytes:
                    tally.skip(path, "too large")
                else:
                    files.append(FileEntry(path, status.st_size, status.st_mtime_ns, status.st_ino))
        except OSError as error:
            tally.skip(path, reason_of(error))
    return files, folders


_UNUSABLE = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]")
r"""What would break a list of paths, a `path:line`, or (\ud800..., for bytes that are no UTF-8)
every message that the path is written to. Such files are left out, and named in the listing."""


def _is_link(entry: os.DirEntry[str]) -> bool:
    if sys.platform == "win32":
        # A junction is a folder to Python 3.11, and may lead in a circle.
        tag = entry.stat(follow_symlinks=False).st_reparse_tag
        return tag in (stat.IO_REPARSE_TAG_MOUNT_POINT, stat.IO_REPARSE_TAG_SYMLINK)
    return entry.is_symlink()


@dataclass(slots=True)
class _Tally:
    """What a walk left out."""

    root: Path
    n_ignored: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    n_skipped: Counter[Reason] = field(default_factory=Counter)

    def skip(self, path: str, reason: Reason) -> None:
        shown = _UNUSABLE.sub(lambda m: m[0].encode("unicode_escape").decode(), path)
        logger.debug("left out %s: %s", shown, reason)
        self.n_skipped[reason] += 1
        if len(self.skipped) < _MAX_SKIPPED_KEPT:
            self.skipped.append(Skipped(shown, reason))

    def skip_file(self, path: Path, reason: Reason) -> None:
        is_within = path.is_relative_to(self.root)
        self.skip(path.relative_to(self.root).as_posix() if is_within else str(path), reason)


_SECRET = re.compile("|".join(f"(?:{translate(name)})" for name in SECRET_NAMES))
