"""What git has not committed yet, as a diff.

The repository is somebody else's: its configuration may name programs to run. None of them is: no
hook, pager, external diff, text conversion, file system monitor or lazy fetch. Knows no index.
"""

import logging
import os
import shutil
import subprocess
from pathlib import Path

from lsp_assist.codebase.files import is_secret

__all__ = ["uncommitted_diff"]

logger = logging.getLogger(__name__)

TIMEOUT_S = 10.0
MAX_CHARS = 200_000

_SAFE = (
    *("-c", "core.fsmonitor=false"),
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "core.pager=cat"),
    *("-c", "core.attributesFile=/dev/null"),
    *("-c", "diff.external="),
    *("-c", "diff.submodule=short"),
    *("-c", "submodule.recurse=false"),
    *("-c", "protocol.allow=never"),
)
_DIFF = ("diff", "--no-ext-diff", "--no-textconv", "--no-color", "--ignore-submodules=all")


def uncommitted_diff(root: Path) -> str:
    """What differs from the last commit below a folder; empty without git or a repository.

    Files that may hold secrets are left out, as they are from the index. A diff that is too long
    ends with a line that says so. Blocking; run it on a thread.
    """
    git = shutil.which("git")
    holders = (folder for folder in (root, *root.parents) if (folder / ".git").exists())
    top = next(holders, None)
    if git is None or top is None:
        return ""
    environ = _environ(top)
    configured = _output([git, "config", "--name-only", "--list"], root, environ)
    if configured is None:
        return ""
    diff = _output([git, *_SAFE, *_unset(configured), *_DIFF, "HEAD", "--", "."], root, environ)
    return _shortened(_without_secrets(diff or ""))


def _output(command: list[str], folder: Path, environ: dict[str, str]) -> str | None:
    """What git says; None where it fails."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        logger.warning("git could not tell what is not committed: %s", type(error).__name__)
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None


def _unset(configured: str) -> list[str]:
    """Options that take from every filter and diff driver the programs that it names."""
    said: list[str] = []
    for name in dict.fromkeys(configured.split("\n")):
        section, _, rest = name.partition(".")
        if section in ("filter", "diff") and rest.rpartition(".")[2] in _PROGRAMS:
            said += ["-c", f"{name}="]
        elif section == "filter" and rest.endswith(".required"):
            said += ["-c", f"{name}=false"]
    return said


_PROGRAMS = frozenset({"clean", "smudge", "process", "command", "textconv"})


def _environ(top: Path) -> dict[str, str]:
    """What git may know: nothing that names a program, another repository or another folder.

    The folder is said, since a repository's own configuration could name any (`core.worktree`).
    """
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "SYSTEMROOT") if name in os.environ}
    return kept | {
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_DIR": str(top / ".git"),
        "GIT_WORK_TREE": str(top),
        "LC_ALL": "C",
    }


def _without_secrets(diff: str) -> str:
    parts = [part for part in ("\n" + diff).split("\ndiff --git ") if part.strip()]
    shown = [part for part in parts if not _names_secret(part.partition("\n")[0])]
    return "".join(f"diff --git {part.rstrip()}\n" for part in shown)


def _names_secret(names: str) -> bool:
    """Whether the line `a/OLD b/NEW` names a file that is not shown."""
    old, _, new = names.partition(" b/")
    return is_secret(old.strip('"').removeprefix("a/")) or is_secret(new.strip('"'))


def _shortened(diff: str) -> str:
    if len(diff) <= MAX_CHARS:
        return diff
    head = diff[:MAX_CHARS].rpartition("\n")[0]
    return f"{head}\n[{len(diff) - len(head):,} more characters of the diff are not shown]\n"
