"""Source files of Debian packages whose licence lets us learn from them.

A folder holds what `apt-get download` (`*.deb`) and `apt-get source --download-only` (`*.dsc` with
its tarballs) put there; archives are read and never unpacked, nothing of them is run. A package
counts only if every licence in its machine-readable copyright file is permissive. Knows no parser
and no model.
"""

import logging
import re
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

__all__ = [
    "Package",
    "SourceFile",
    "is_evaluated_on",
    "is_permissive",
    "licences_of",
    "packages",
    "source_files",
]

logger = logging.getLogger(__name__)

MAX_FILE_BYTES = 300_000
MAX_PACKAGE_BYTES = 8_000_000

# Projects that search is measured on, by our benches or by others: never learnt from. A package is
# one of them if these words stand in its name, so `golang-github-spf13-cobra-dev` is.
EVALUATED_ON = frozenset(
    (
        "actix afero aho-corasick aiohttp alacritty attrs axios axum bat bbolt black caddy celery "
        "chalk chi cjson clap click cobra commander commons-io commons-lang commons-lang3 curl "
        "django echo effect eslint etcd express fastapi fastify fd flask fzf gin git gorm grpc "
        "gson guava hiredis httpcore httpx hugo hyper hyperfine jackson jinja jinja2 jq jsoup "
        "junit junit4 junit5 lazygit libgit2 libuv lodash logrus lua mockito mux mypy netty "
        "networkx nginx numpy okhttp openssl pandas poetry prettier prometheus pydantic pytest "
        "rayon react redis regex requests retrofit rich ripgrep rxjs scikit-learn scipy scrapy "
        "serde sqlalchemy sqlite sqlite3 starlette sympy three tmux tokio tornado typer "
        "typescript urllib3 viper vue werkzeug zap zlib zod"
    ).split()
)

_PERMISSIVE = re.compile(r"(expat|mit(-\w+)?|x11|bsd(-[234]-clauses?)?|apache-?2(\.0)?|isc)[+.]?")
_NO_SOURCE = re.compile(
    r"(^|/)(tests?|testing|testdata|vendor|third_?party|node_modules|dist|debian|docs?|examples?)/"
    r"|[._-]min\.|_test\.go$|\.pb\.go$|_pb2?\.py$|bindata"
)
# Where Debian installs sources, and how many parts of the path are not the project's own.
_INSTALLED_AT = (
    ("usr/share/gocode/src/", 7),
    ("usr/share/cargo/registry/", 5),
    ("usr/lib/python3/dist-packages/", 4),
    ("usr/share/nodejs/", 4),
)
_NAME_PARTS = re.compile(r"[-.+_]")


@dataclass(frozen=True, slots=True)
class Package:
    """A package in a folder of downloads."""

    name: str
    version: str
    archive: Path


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of a package, its path without the folders of the distribution."""

    path: str
    text: str


def packages(folder: Path) -> list[Package]:
    """The packages in a folder, by name; those that search is measured on are left out."""
    found: dict[str, Package] = {}
    for archive in sorted([*folder.rglob("*.deb"), *folder.rglob("*.dsc")]):
        name, _, rest = archive.stem.partition("_")
        if not is_evaluated_on(name):
            found.setdefault(name, Package(name, rest.partition("_")[0], archive))
    return [found[name] for name in sorted(found)]


def is_evaluated_on(name: str) -> bool:
    """Whether a package's name says that it is, or belongs to, a project that we measure with."""
    lowered = name.lower()
    # `libjackson2-core-java` is of jackson, and python's `redis3` of redis.
    for spelled in (lowered, lowered.removeprefix("lib")):
        parts = _NAME_PARTS.split(spelled)
        for start in range(len(parts)):
            for end in range(start + 1, len(parts) + 1):
                project = "-".join(parts[start:end])
                if not EVALUATED_ON.isdisjoint((project, project.rstrip("0123456789"))):
                    return True
    return False


def is_permissive(copyright_file: str) -> bool:
    """Whether every licence of a machine-readable copyright file is MIT, BSD, Apache-2.0 or ISC.

    Paragraphs about the packaging itself do not count; of "A or B" one is enough.
    """
    licences = []
    for paragraph in re.split(r"\n\s*\n", copyright_file):
        files = re.search(r"^Files:\s*(.+)", paragraph, re.MULTILINE)
        licence = re.search(r"^License:\s*(.+)", paragraph, re.MULTILINE)
        if files and not files[1].strip().startswith("debian/"):
            licences.append(licence[1].strip().lower() if licence else "")
    return bool(licences) and all(map(_is_permissive_expression, licences))


def licences_of(copyright_file: str) -> str:
    """The licences that a machine-readable copyright file names, each once, in order."""
    return ", ".join(
        dict.fromkeys(re.findall(r"^License:\s*(\S.*?)\s*$", copyright_file, re.MULTILINE))
    )


def source_files(
    package: Package, is_wanted: Callable[[str], bool]
) -> tuple[str, list[SourceFile]]:
    """The licences of a package and its wanted files; none if a licence is not permissive.

    A damaged or incomplete archive gives nothing, with a warning.
    """
    try:
        copyright_file = ""
        files: list[SourceFile] = []
        n_bytes = 0
        for path, read in _members(package.archive):
            if path in ("debian/copyright", f"usr/share/doc/{package.name}/copyright"):
                copyright_file = read().decode("utf-8", "replace")
            elif is_wanted(path) and not _NO_SOURCE.search(path) and n_bytes < MAX_PACKAGE_BYTES:
                content = read()
                n_bytes += len(content)
                files.append(SourceFile(_own_path(path), content.decode("utf-8", "replace")))
    except (OSError, EOFError, tarfile.TarError, subprocess.CalledProcessError) as error:
        logger.warning("%s could not be read: %s", package.archive.name, error)
        return "", []
    licences = licences_of(copyright_file)
    return licences, files if is_permissive(copyright_file) else []


def _is_permissive_expression(licence: str) -> bool:
    """Whether a licence in a copyright file's words lets one learn from it: `expat or gpl-2+`."""
    return any(
        all(
            _PERMISSIVE.fullmatch(name.strip())
            for name in re.split(r"\s+and/or\s+|\s+and\s+|,", one)
        )
        for one in re.split(r"\s+or\s+", licence)
    )


_Member = tuple[str, Callable[[], bytes]]


def _members(archive: Path) -> Iterator[_Member]:
    """The regular files of a package that are not too large, with a way to read each in turn."""
    if archive.suffix == ".deb":
        command = ["dpkg-deb", "--fsys-tarfile", str(archive)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as unpacked:
            assert unpacked.stdout is not None
            with tarfile.open(fileobj=unpacked.stdout, mode="r|") as tar:
                yield from _files_of(tar)
        return
    tarballs = re.findall(
        r"^ [0-9a-f]{64} \d+ (\S+\.tar\.\w+)$", archive.read_text("utf-8"), re.MULTILINE
    )
    for name in tarballs:
        with tarfile.open(archive.with_name(name), mode="r|*") as tar:
            # The upstream tarball has one folder around it all, whatever its name.
            is_packaging = ".debian.tar." in name
            for path, read in _files_of(tar):
                yield path if is_packaging else path.partition("/")[2], read


def _files_of(tar: tarfile.TarFile) -> Iterator[_Member]:
    for member in tar:
        if member.isreg() and member.size <= MAX_FILE_BYTES:
            file = tar.extractfile(member)
            assert file is not None
            yield str(PurePosixPath(member.name)), file.read


def _own_path(path: str) -> str:
    """The path as the project has it, without where a distribution installs it."""
    for start, n_parts in _INSTALLED_AT:
        if path.startswith(start):
            return "/".join(path.split("/")[n_parts:]) or path
    return path
