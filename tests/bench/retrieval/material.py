"""Public code to search in: pinned source archives, brought by the registries' own clients.

What cannot be had (no npm, another distribution, no network) is left out and named. Knows no index.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lsp_assist.config import Places

__all__ = ["Repository", "Split", "Unavailable", "code", "given", "pinned"]

Split = Literal["dev", "test", "given"]

_FILE = Path(__file__).with_name("material.toml")


class Unavailable(Exception):
    """A source that could not be had, and why."""


@dataclass(frozen=True, slots=True)
class Repository:
    """A folder of code, or a git repository whose history is asked about."""

    name: str
    split: Split
    path: Path


@dataclass(frozen=True, slots=True)
class _Source:
    name: str
    split: Split
    sha256: str
    pypi: str = ""
    npm: str = ""
    debian: str = ""
    folders: tuple[str, ...] = ()


def pinned(split: str) -> Iterator[Repository]:
    """The pinned code of a split, downloaded where it is not there yet; says what is missing."""
    for table in tomllib.loads(_FILE.read_text("utf-8"))["source"]:
        fields: dict[str, Any] = table
        source = _Source(**fields | {"folders": tuple(table.get("folders", ()))})
        if source.split != split:
            continue
        try:
            yield Repository(source.name, source.split, code(source))
        except Unavailable as error:
            print(f"left out: {source.name}: {error}")


def given(path: Path, split: str) -> Repository | None:
    """A checkout from the command line; None if its name belongs to the other split."""
    name = path.resolve().name.removesuffix(".git")
    tables = tomllib.loads(_FILE.read_text("utf-8"))
    known: dict[str, Split] = {table["name"]: table["split"] for table in tables["source"]}
    for each in ("dev", "test"):
        known.update(dict.fromkeys(tables["given"][each], each))
    own = known.get(name, "given")
    return Repository(name, own, path.resolve()) if own in (split, "given") else None


def code(source: _Source) -> Path:
    """The folder of a source's code, in the user's cache.

    Raises: Unavailable
    """
    folder = Places.of_user().cache / "bench" / "material" / f"{source.name}-{source.sha256[:12]}"
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        downloads, part = Path(scratch, "downloads"), Path(scratch, "part")
        downloads.mkdir()
        try:
            _download(source, downloads)
        except (OSError, subprocess.SubprocessError) as error:
            said = getattr(error, "stderr", "") or str(error)
            raise Unavailable(said.strip().rpartition("\n")[2]) from error
        archives = {hashlib.sha256(p.read_bytes()).hexdigest(): p for p in downloads.iterdir()}
        if source.sha256 not in archives:
            raise Unavailable(f"no archive of sha256 {source.sha256[:12]}… among {len(archives)}")
        with tarfile.open(archives[source.sha256]) as archive:
            archive.extractall(part, filter="data")
        top = list(part.iterdir())
        root = top[0] if len(top) == 1 else part
        for entry in root.iterdir() if source.folders else ():
            if entry.is_dir() and entry.name not in source.folders:
                shutil.rmtree(entry)
        root.replace(folder)
    return folder


def _download(source: _Source, folder: Path) -> None:
    if source.pypi:
        name = source.pypi.partition("==")[0]
        pip = (sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", name)
        _run(folder, *pip, source.pypi)
    elif source.npm:
        _run(folder, "npm", "pack", "--silent", source.npm)
    else:
        apt = ("apt-get", *_apt_options(folder.parent / "apt"))
        _run(folder, *apt, "update")
        _run(folder, *apt, "source", "-qq", "--download-only", source.debian)


def _apt_options(folder: Path) -> Iterator[str]:
    """Settings for apt-get under which it knows the sources of the user's own archives.

    It keeps what it knows in a folder of its own, so neither root nor a `deb-src` line is needed.
    """
    parts = folder / "sources.list.d"
    for each in (parts, folder / "state/lists/partial", folder / "cache/archives/partial"):
        each.mkdir(parents=True)
    system = Path("/etc/apt")
    for listing in (system / "sources.list", *(system / "sources.list.d").glob("*")):
        if listing.suffix in (".list", ".sources") and listing.is_file():
            lines = listing.read_text("utf-8").splitlines()
            (parts / listing.name).write_text("\n".join(map(_of_sources, lines)) + "\n", "utf-8")
    yield from ("-o", f"Dir::State={folder / 'state'}", "-o", f"Dir::Cache={folder / 'cache'}")
    yield from ("-o", f"Dir::Etc::SourceList={os.devnull}", "-o", f"Dir::Etc::SourceParts={parts}")


def _of_sources(line: str) -> str:
    if line.startswith("deb "):
        return line.replace("deb ", "deb-src ", 1)
    return "Types: deb-src" if line.startswith("Types:") else line


def _run(folder: Path, *command: str) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=600)
