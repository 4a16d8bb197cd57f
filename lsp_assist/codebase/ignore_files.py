"""The ignore files that bear on a folder: which there are, and which of them is the strongest.

Reads the workspace's, those of the repository around it, and the user's own. A file that cannot be
used costs itself, and is reported. Knows nothing of the pattern language.
"""

import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lsp_assist.codebase.ignore import Rules
from lsp_assist.codebase.reading import Contents, Reason, Skipped, read_text

__all__ = ["GIT_IGNORE", "OWN_IGNORE", "RuleChain", "user_ignore_file"]

OWN_IGNORE = ".lspassistignore"
GIT_IGNORE = ".gitignore"

_MAX_BYTES = 500_000

OnSkip = Callable[[Path, Reason], None]


@dataclass(frozen=True, slots=True)
class RuleChain:
    """The rules that bear on a folder's entries, the strongest kind first, the deepest file first.

    `excluded` is what the settings say, `own` what our ignore files say, `git` what git's say.
    """

    excluded: tuple["_Scope", ...] = ()
    own: tuple["_Scope", ...] = ()
    git: tuple["_Scope", ...] = ()
    user: tuple["_Scope", ...] = ()

    @classmethod
    def above(
        cls, root: Path, exclude: Sequence[str], user_ignore: Path | None, on_skip: OnSkip
    ) -> "RuleChain":
        """The rules that hold before the root's own ignore files are read.

        Those of `exclude`, which can only hide; of the user's own ignore file; and of the folders
        from the root up to the top of the repository that it lies in, if it lies in one.
        """
        excluded = Rules.parse("\n".join(exclude), with_negation=False)
        user = () if user_ignore is None else _scopes(user_ignore, on_skip, follow_link=True)
        own: tuple[_Scope, ...] = ()
        git: tuple[_Scope, ...] = ()
        top = next((folder for folder in (root, *root.parents) if _is_top(folder)), root)
        if top != root:
            prefix = f"{root.relative_to(top).as_posix()}/"
            git = _scopes(_info_exclude(top), on_skip, prefix=prefix)
        for folder in reversed(root.parents[: len(root.parts) - len(top.parts)]):
            prefix = f"{root.relative_to(folder).as_posix()}/"
            own = (*_scopes(folder / OWN_IGNORE, on_skip, prefix=prefix), *own)
            git = (*_scopes(folder / GIT_IGNORE, on_skip, prefix=prefix), *git)
        return cls((_Scope(excluded),), own, git, user)

    def within(
        self, root: Path, folder: str, names: Collection[str], on_skip: OnSkip
    ) -> "RuleChain":
        """The rules for a folder's entries: these, and those of the ignore files among `names`.

        `folder` is relative to the root, empty for the root itself.
        """
        is_top, has_own, has_git = ".git" in names, OWN_IGNORE in names, GIT_IGNORE in names
        if not (is_top or has_own or has_git):
            return self
        here = root / folder
        n_cut = len(folder) + 1 if folder else 0
        own, git = self.own, self.git
        if is_top:
            git = _scopes(_info_exclude(here), on_skip, n_cut=n_cut)
        if has_own:
            own = (*_scopes(here / OWN_IGNORE, on_skip, n_cut=n_cut), *own)
        if has_git:
            git = (*_scopes(here / GIT_IGNORE, on_skip, n_cut=n_cut), *git)
        return RuleChain(self.excluded, own, git, self.user)

    def is_hidden(self, path: str, *, is_folder: bool) -> bool:
        """Whether the rules hide an entry of this folder; `path` is relative to the root."""
        for scopes in (self.excluded, self.own, self.git, self.user):
            for scope in scopes:
                seen = scope.prefix + path[scope.n_cut :]
                verdict = scope.rules.verdict(seen, is_folder=is_folder)
                if verdict is not None:
                    return verdict
        return False


def user_ignore_file(environ: Mapping[str, str] = os.environ) -> Path:
    """The user's own ignore file for all repositories, which need not exist.

    It is git's `core.excludesFile`, or its default. Reads git's configuration files itself, but
    not what they include: starting git would take longer than walking through most projects.
    """
    home = Path(environ.get("HOME") or environ.get("USERPROFILE") or "~").expanduser()
    git_folder = Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "git"
    only = environ.get("GIT_CONFIG_GLOBAL")
    for config in [Path(only)] if only else [home / ".gitconfig", git_folder / "config"]:
        contents = read_text(config, _MAX_BYTES, follow_link=True)
        value = _excludes_file(contents.text) if isinstance(contents, Contents) else None
        if value:
            return home / value.removeprefix("~/")
    return git_folder / "ignore"


@dataclass(frozen=True, slots=True)
class _Scope:
    """An ignore file's rules, and how a path of the workspace looks from its folder."""

    rules: Rules
    n_cut: int = 0
    """Characters to leave away at the start, for an ignore file within the workspace."""
    prefix: str = ""
    """What to put before the path, for one above the workspace."""


def _scopes(
    path: Path, on_skip: OnSkip, *, n_cut: int = 0, prefix: str = "", follow_link: bool = False
) -> tuple[_Scope, ...]:
    """One scope for an ignore file; none where there is none, or where it cannot be read."""
    contents = read_text(path, _MAX_BYTES, follow_link=follow_link)
    if isinstance(contents, Skipped):
        if contents.reason != "gone":
            on_skip(path, contents.reason)
        return ()
    rules = Rules.parse(contents.text)
    if rules.n_dropped:
        on_skip(path, "too many patterns")
    return (_Scope(rules, n_cut, prefix),)


def _is_top(folder: Path) -> bool:
    try:
        (folder / ".git").lstat()
    except OSError:
        return False
    return True


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
