"""Edits that a reply proposes: fitted to the files as they are, refused where none may be made.

A proposal changes nothing. It is named by what it would change and into what, so that who accepts
one accepts exactly the texts that were shown: if a file has changed since, the name is another.
Knows the workspace's files and open documents; no editor and no model.
"""

import asyncio
import codecs
import os
import re
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from lsp_assist.codebase import files
from lsp_assist.codebase.ignore_files import user_ignore_file
from lsp_assist.codebase.reading import Contents, Skipped, read_text
from lsp_assist.errors import BadInput, EditRefused
from lsp_assist.flows import patch
from lsp_assist.flows.patch import FileEdit, LineChange
from lsp_assist.workspace import Workspace

__all__ = ["Proposal", "ProposedFile", "Refused", "propose", "write"]

_TOOL_FILES = re.compile(
    r"jenkinsfile.*|azure-pipelines.*\.ya?ml|appveyor\.ya?ml|bitbucket-pipelines\.ya?ml|lefthook.*"
    r"|.*\.code-workspace|.*\.vimrc|_vimrc|_exrc|sitecustomize\.py|usercustomize\.py",
    re.IGNORECASE,
)
"""Files that make tools run something, beside those whose names begin with a dot."""
_UNUSABLE = re.compile('[\x00-\x1f\x7f:*?"<>|]')


@dataclass(frozen=True, slots=True)
class ProposedFile:
    """What would become of one file."""

    root: Path
    path: str
    """Relative to the root, with forward slashes."""
    before: str | None
    """Its text as it is in the editor, else on disk; None for a file that is not there."""
    after: str
    changes: tuple[LineChange, ...]
    uri: str = ""
    """Of the open document, empty if it is not open."""
    version: int | None = None
    """Of the open document."""

    @property
    def file(self) -> Path:
        """Where it is."""
        return self.root / self.path

    @property
    def diff(self) -> str:
        """What changes, for a person."""
        return patch.diff(self.path, self.before or "", self.after)


@dataclass(frozen=True, slots=True)
class Refused:
    """An edit that is not proposed, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """All edits of one reply: they are made together or not at all."""

    files: tuple[ProposedFile, ...]
    refused: tuple[Refused, ...]

    @property
    def id(self) -> str:
        """Names these very texts; empty if there is nothing to change."""
        if not self.files:
            return ""
        digest = blake2b(digest_size=16)
        for file in self.files:
            for part in (str(file.root), file.path, repr(file.before), repr(file.after)):
                digest.update(f"{len(part)}:{part}".encode(errors="surrogatepass"))
        return digest.hexdigest()


async def propose(
    workspace: Workspace, reply: str, *, known_paths: Sequence[str] = (), takes_whole_files: bool
) -> Proposal:
    """The edits of a reply, fitted to the files as they are now.

    `known_paths` are those that the model was shown: it may name one by its end.
    """
    found: list[ProposedFile] = []
    refused: list[Refused] = []
    for edit in patch.read(reply, takes_whole_files=takes_whole_files):
        try:
            proposed = await _fitted(workspace, edit, known_paths)
        except BadInput as error:  # refused, or its folder is gone
            refused.append(Refused(edit.path, str(error)))
            continue
        if any(other.file == proposed.file for other in found):
            refused.append(Refused(edit.path, "The file is named twice, in different ways."))
        elif proposed.before != proposed.after:
            found.append(proposed)
    return Proposal(tuple(found), tuple(refused))


def write(proposal: Proposal) -> None:
    """Write all files, or none: for files that no editor has open. Blocks.

    Raises: EditRefused if one cannot be written; those that were are put back.
    """
    done: list[ProposedFile] = []
    staged: list[tuple[ProposedFile, Path]] = []
    try:
        for file in proposal.files:
            _check_place(file.root, file.path)
            now = _text_on_disk(file.file)
            if now != file.before:
                raise EditRefused(f"{file.path!r} has changed since; look at the edit anew.")
            staged.append((file, _staged(file)))
        for file, temporary in staged:
            temporary.replace(file.file)
            done.append(file)
    except (OSError, EditRefused) as error:
        for file in done:
            with suppress(OSError):
                if file.before is None:
                    file.file.unlink()
                else:
                    _staged(file, file.before).replace(file.file)
        if isinstance(error, EditRefused):
            raise
        raise EditRefused(f"The files cannot be written ({error}); nothing was changed.") from error
    finally:
        for _, temporary in staged:
            temporary.unlink(missing_ok=True)


# --- one file ---


async def _fitted(workspace: Workspace, edit: FileEdit, known_paths: Sequence[str]) -> ProposedFile:
    root, path = await asyncio.to_thread(_place, workspace.roots, edit.path, known_paths)
    exclude = workspace.settings.index.exclude
    await asyncio.to_thread(_check, root, path, exclude)
    document = workspace.documents.by_path(root / path)
    if document is not None and document.is_out_of_sync:
        raise EditRefused(f"The editor's text of {path!r} is not known; close and reopen the file.")
    if document is not None:
        before: str | None = document.text.content
    else:
        before = await asyncio.to_thread(_text_on_disk, root / path)
    if before is None and not any(not hunk.search for hunk in edit.hunks) and edit.whole is None:
        raise EditRefused(f"There is no file {path!r}; name one that was shown.")
    changes = patch.changes(before, edit)
    return ProposedFile(
        root,
        path,
        before,
        patch.applied(before or "", changes),
        changes,
        document.uri if document is not None else "",
        document.version if document is not None else None,
    )


def _place(roots: Sequence[Path], said: str, known_paths: Sequence[str]) -> tuple[Path, str]:
    """The folder and the path in it that a model means.

    Raises: EditRefused for a path outside of all folders
    """
    if not roots:
        raise EditRefused("No folder is open, so no file can be changed.")
    path = said.replace("\\", "/").removeprefix("./")
    if Path(path).is_absolute():
        inside = [root for root in roots if Path(path).is_relative_to(root)]
        if not inside:
            raise EditRefused(f"{said!r} is outside of the workspace.")
        root = max(inside, key=lambda root: len(root.parts))
        path = Path(path).relative_to(root).as_posix()
        roots = [root]
    if _UNUSABLE.search(path) or not {"", ".", ".."}.isdisjoint(path.split("/")):
        raise EditRefused(f"{said!r} is no path inside of the workspace.")
    for root in roots:
        if os.path.lexists(root / path):
            return root, path
    ends = {known for known in known_paths if known.endswith(f"/{path}")}
    if len(ends) == 1:
        (known,) = ends
        return next((r for r in roots if os.path.lexists(r / known)), roots[0]), known
    return roots[0], path


def _check(root: Path, path: str, exclude: Sequence[str]) -> None:
    """Raises: EditRefused where no edit may be made, whatever a person says."""
    _check_place(root, path)
    if files.is_hidden(root, path, exclude=exclude, user_ignore=user_ignore_file()):
        raise EditRefused(f"{path!r} is ignored, or may hold a secret; it is not changed.")


def _check_place(root: Path, path: str) -> None:
    for part in path.split("/"):
        if part.startswith(".") or _TOOL_FILES.fullmatch(part):
            raise EditRefused(f"{path!r} configures tools, or is hidden; it is not changed.")
    if Path(os.path.realpath(root / path)) != Path(os.path.realpath(root)) / path:
        raise EditRefused(f"{path!r} leads through a symbolic link; it is not changed.")


_MAX_BYTES = 10_000_000


def _text_on_disk(file: Path) -> str | None:
    """The file's text, None if there is no such file.

    Raises: EditRefused for anything but a text file
    """
    read = read_text(file, _MAX_BYTES)
    if isinstance(read, Contents):
        if read.encoding != "utf-8":
            raise EditRefused(f"{file.name!r} is in {read.encoding}; only UTF-8 is changed.")
        return read.text
    assert isinstance(read, Skipped)
    if read.reason == "gone" and not os.path.lexists(file):
        return None
    raise EditRefused(f"{file.name!r} cannot be changed: {read.reason}.")


def _staged(file: ProposedFile, text: str | None = None) -> Path:
    """The new text in a file beside the old one, with its mode."""
    file.file.parent.mkdir(parents=True, exist_ok=True)
    data = (file.after if text is None else text).encode(errors="replace")
    with suppress(OSError), file.file.open("rb") as old:
        data = codecs.BOM_UTF8 * (old.read(3) == codecs.BOM_UTF8) + data
    descriptor, name = tempfile.mkstemp(prefix=".lsp-assist-", dir=file.file.parent)
    with os.fdopen(descriptor, "wb") as staged:
        staged.write(data)
        staged.flush()
        os.fsync(staged.fileno())
    temporary = Path(name)
    with suppress(FileNotFoundError):
        temporary.chmod(file.file.stat().st_mode & 0o7777)
        return temporary
    umask = os.umask(0)
    os.umask(umask)
    temporary.chmod(0o666 & ~umask)
    return temporary
