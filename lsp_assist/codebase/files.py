"""Which files a workspace has, and the text of one.

A workspace is somebody else's: it holds pipes and devices, links in circles, files of gigabytes and
of no text at all, and it changes while it is read. None of that stops a walk or hangs a read: each
costs itself, and is named in what comes back. Links are never followed; what they point to inside
the workspace is found anyway, and what lies outside is not the workspace's.

Knows ignore files and names of secrets; knows no language, no index and no open documents.
"""

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

from lsp_assist.codebase.ignore import MAX_PATTERNS, Rules
from lsp_assist.codebase.reading import Contents, Reason, Skipped, read_text, reason_of
from lsp_assist.errors import WorkspaceNotFound

__all__ = [
    "IGNORE_FILES",
    "SECRET_FOLDERS",
    "SECRET_NAMES",
    "SKIPPED_FOLDERS",
    "FileEntry",
    "Listing",
    "find",
    "is_secret",
    "user_ignore_file",
    "walk",
]

logger = logging.getLogger(__name__)

IGNORE_FILES = (".lspassistignore", ".gitignore")
"""Strongest first: a pattern of any of the first kind beats all of the second."""

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

MAX_IGNORE_FILE_BYTES = 500_000

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
    tally = _Tally()
    root = _readable(root)
    rules = _rules_above(root, exclude, user_ignore, tally)
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
        rules = _rules_within(root, folder, entries, rules, tally)
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
    is_wanted: Callable[[str], bool] = lambda name: True,
) -> FileEntry | None:
    """The entry that a walk would give for this one file, or None where it would give none.

    Reads the ignore files from the root down to it. O(entries of the folders on the way).
    """
    *folders, name = path.split("/")
    if not name or {"", ".", ".."} & {*folders, name}:
        return None
    tally = _Tally()
    rules = _rules_above(root.resolve(), exclude, user_ignore, tally)
    here = ""
    try:
        for step in (*folders, name):
            entries = _entries(root, here)
            if step not in entries or (here and not SKIPPED_FOLDER_MARKS.isdisjoint(entries)):
                return None
            rules = _rules_within(root, here, entries, rules, tally)
            only = {step: entries[step]}
            files, subfolders = _sorted_out(here, only, rules, is_wanted, max_file_bytes, tally)
            if files and step is name:
                return files[0]
            if not subfolders:
                return None
            here = subfolders[0]
    except OSError:
        pass
    return None


def is_secret(path: str) -> bool:
    """Whether a file's name or one of its folders' says that it holds keys or passwords."""
    *folders, name = path.replace("\\", "/").casefold().split("/")
    # Windows opens `.env.` and `.env ` as `.env`.
    return not SECRET_FOLDERS.isdisjoint(folders) or bool(_SECRET.match(name.rstrip(" .")))


def user_ignore_file(environ: Mapping[str, str] = os.environ) -> Path:
    """The user's own ignore file for all repositories, which need not exist.

    It is git's `core.excludesFile`, or its default. Reads git's configuration files itself, but
    not what they include: starting git takes longer than most walks.
    """
    home = Path(environ.get("HOME") or environ.get("USERPROFILE") or "~").expanduser()
    git_folder = Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "git"
    only = environ.get("GIT_CONFIG_GLOBAL")
    for config in [Path(only)] if only else [home / ".gitconfig", git_folder / "config"]:
        contents = read_text(config, MAX_IGNORE_FILE_BYTES, follow_link=True)
        value = _excludes_file(contents.text) if isinstance(contents, Contents) else None
        if value:
            return home / value.removeprefix("~/")
    return git_folder / "ignore"


# --- one folder ---


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
    with os.scandir(root / folder) as entries:
        return {entry.name: entry for entry in entries}


def _sorted_out(
    folder: str,
    entries: Mapping[str, os.DirEntry[str]],
    rules: "_RuleChain",
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
            elif is_wanted is not None and not is_wanted(name):
                continue
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

    n_ignored: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    n_skipped: Counter[Reason] = field(default_factory=Counter)

    def skip(self, path: str, reason: Reason) -> None:
        shown = _UNUSABLE.sub(lambda m: m[0].encode("unicode_escape").decode(), path)
        logger.debug("left out %s: %s", shown, reason)
        self.n_skipped[reason] += 1
        if len(self.skipped) < _MAX_SKIPPED_KEPT:
            self.skipped.append(Skipped(shown, reason))


# --- the ignore files that bear on a folder ---


@dataclass(frozen=True, slots=True)
class _Scope:
    """An ignore file's rules and how a path of the workspace looks from its folder."""

    rules: Rules
    n_cut: int = 0
    """Characters of the path to leave away, for an ignore file within the workspace."""
    prefix: str = ""
    """What to put before the path, for one above the workspace."""


@dataclass(frozen=True, slots=True)
class _RuleChain:
    """The rules that bear on a folder, each kind with the deepest file first."""

    excluded: tuple[_Scope, ...] = ()
    own: tuple[_Scope, ...] = ()
    git: tuple[_Scope, ...] = ()
    user: tuple[_Scope, ...] = ()

    def is_hidden(self, path: str, *, is_folder: bool) -> bool:
        for scopes in (self.excluded, self.own, self.git, self.user):
            for scope in scopes:
                seen = scope.prefix + path[scope.n_cut :]
                verdict = scope.rules.verdict(seen, is_folder=is_folder)
                if verdict is not None:
                    return verdict
        return False


def _rules_above(
    root: Path, exclude: Sequence[str], user_ignore: Path | None, tally: _Tally
) -> _RuleChain:
    """The rules that hold before the root's own ignore files are read."""
    for pattern in exclude:
        if pattern.startswith("!"):
            tally.skip(pattern, "negated exclude")
    excluded = Rules.parse("\n".join(exclude), with_negation=False)
    user = () if user_ignore is None else _scopes(user_ignore, "", tally, follow_link=True)
    chain = _RuleChain(excluded=(_Scope(excluded),), user=user)
    top = next((folder for folder in (root, *root.parents) if _is_there(folder / ".git")), root)
    if top == root:
        return chain
    own: tuple[_Scope, ...] = ()
    git = _scopes(_info_exclude(top), f"{root.relative_to(top).as_posix()}/", tally)
    for folder in reversed(root.parents[: len(root.parts) - len(top.parts)]):
        prefix = f"{root.relative_to(folder).as_posix()}/"
        own = (*_scopes(folder / IGNORE_FILES[0], prefix, tally), *own)
        git = (*_scopes(folder / IGNORE_FILES[1], prefix, tally), *git)
    return _RuleChain(chain.excluded, own, git, chain.user)


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except OSError:
        return False
    return True


def _rules_within(
    root: Path,
    folder: str,
    entries: Mapping[str, os.DirEntry[str]],
    outer: _RuleChain,
    tally: _Tally,
) -> _RuleChain:
    """The rules for a folder's entries: those from above, and those of its own ignore files."""
    if not (".git" in entries or IGNORE_FILES[0] in entries or IGNORE_FILES[1] in entries):
        return outer
    here = root / folder
    n_cut = len(folder) + 1 if folder else 0
    own, git = outer.own, outer.git
    if ".git" in entries:
        git = _scopes(_info_exclude(here), "", tally, n_cut=n_cut)
    if IGNORE_FILES[0] in entries:
        own = (*_scopes(here / IGNORE_FILES[0], "", tally, n_cut=n_cut), *own)
    if IGNORE_FILES[1] in entries:
        git = (*_scopes(here / IGNORE_FILES[1], "", tally, n_cut=n_cut), *git)
    return _RuleChain(outer.excluded, own, git, outer.user)


def _scopes(
    path: Path, prefix: str, tally: _Tally, *, n_cut: int = 0, follow_link: bool = False
) -> tuple[_Scope, ...]:
    """The rules of one ignore file; none where it cannot be read, which is said."""
    contents = read_text(path, MAX_IGNORE_FILE_BYTES, follow_link=follow_link)
    if isinstance(contents, Skipped):
        if contents.reason != "gone":
            tally.skip(str(path), contents.reason)
        return ()
    rules = Rules.parse(contents.text)
    if rules.n_dropped:
        logger.debug("%s has more than %d patterns", path, MAX_PATTERNS)
        tally.skip(str(path), "too many patterns")
    return (_Scope(rules, n_cut, prefix),)


def _info_exclude(top: Path) -> Path:
    """`info/exclude` of the repository at `top`."""
    git_folder = top / ".git"
    pointer = read_text(git_folder, 4096)  # a file, in a linked worktree or a submodule
    if isinstance(pointer, Contents):
        git_folder = top / pointer.text.removeprefix("gitdir:").strip()
    common = read_text(git_folder / "commondir", 4096)
    if isinstance(common, Contents):
        git_folder = git_folder / common.text.strip()
    return git_folder / "info" / "exclude"


def _excludes_file(config: str) -> str | None:
    """The value of `core.excludesFile` in a git configuration file."""
    section = value = ""
    for line in config.splitlines():
        if header := re.match(r"\s*\[\s*([^\]\s]*)", line):
            section = header[1].lower()
        elif section == "core" and (
            said := re.match(r"\s*excludesfile\s*=\s*\"?(.*?)\"?\s*$", line, re.IGNORECASE)
        ):
            value = said[1]
    return value or None


_SECRET = re.compile("|".join(f"(?:{translate(name)})" for name in SECRET_NAMES))
