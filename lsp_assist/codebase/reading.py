"""The text of a file that may be anything: a pipe, a link, gigabytes, binary, in broken encoding.

Never hangs and never raises for what the file is: what cannot be used comes back with the reason.
Knows no workspace and no rules.
"""

import codecs
import errno
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = [
    "Contents",
    "Reason",
    "Skipped",
    "holds_key",
    "is_generated",
    "is_minified",
    "read",
    "read_text",
    "reason_of",
]

Reason = Literal[
    "gone",  # not there, or no longer
    "unreadable",  # no permission, a path that is too long, a broken disk
    "link",  # symbolic links are not followed
    "not a regular file",  # a pipe, a socket, a device; or a folder where a file was
    "too large",
    "binary",
    "minified",  # lines that no person reads, see `is_minified`
    "unusable name",  # control characters, or bytes that are not UTF-8
    "may hold a secret",
    "too many patterns",  # an ignore file whose last patterns are not used
    "negated exclude",  # a setting that can only hide was asked to show
]


@dataclass(frozen=True, slots=True)
class Contents:
    """A file's text, line ends as they are, and the state of the file before it was read.

    Who compares that state with a later one reads again what changed meanwhile.
    """

    text: str
    encoding: "_Named"
    size: int
    mtime_ns: int
    inode: int


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something that was left out, and why."""

    path: str
    reason: Reason


def read(path: Path, max_bytes: int) -> Contents | Skipped:
    """The text of a workspace's file for the index, or why there is none. Never waits."""
    contents = read_text(path, max_bytes)
    if isinstance(contents, Contents):
        if is_minified(contents.text):
            return Skipped(str(path), "minified")
        if holds_key(contents.text):
            return Skipped(str(path), "may hold a secret")
    return contents


def read_text(path: Path, max_bytes: int, *, follow_link: bool = False) -> Contents | Skipped:
    """The text of any regular file, or why there is none. Never waits for a writer.

    `follow_link` is for files that the user named; what a workspace links to is not read.
    """
    try:
        descriptor = os.open(path, _FLAGS if follow_link else _FLAGS | _NO_LINK)
    except OSError as error:
        return Skipped(str(path), reason_of(error))
    except ValueError:  # a NUL in the path
        return Skipped(str(path), "unusable name")
    try:
        # Asked of what is open, not of the path: it may have been swapped in between.
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return Skipped(str(path), "not a regular file")
        if status.st_size > max_bytes:
            return Skipped(str(path), "too large")
        data = _bytes(descriptor, status.st_size, max_bytes + 1)
    except OSError as error:
        return Skipped(str(path), reason_of(error))
    finally:
        os.close(descriptor)
    if len(data) > max_bytes:
        return Skipped(str(path), "too large")
    decoded = _decoded(data)
    if decoded is None:
        return Skipped(str(path), "binary")
    text, encoding = decoded
    return Contents(text, encoding, status.st_size, status.st_mtime_ns, status.st_ino)


def holds_key(text: str) -> bool:
    """Whether a private key stands in the text, whatever its file is called.

    A header alone, as in code that reads keys, is none: it takes two full lines of the key.
    """
    return "PRIVATE KEY" in text and _KEY.search(text) is not None


def is_generated(text: str) -> bool:
    """Whether the head of a file says that a program wrote it and nobody shall edit it.

    Such code is found by its names, since other code calls it, and not by what it means.
    """
    return _GENERATED.search(text[:2_000]) is not None


_KEY = re.compile(
    r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----[\s\S]{0,400}?"
    r"[A-Za-z0-9+/]{40}[\s\S]{1,60}?[A-Za-z0-9+/]{40}"
)
_GENERATED = re.compile(
    r"@generated\b|\bgenerated\b[^\n]{0,120}\bdo not (?:edit|modify)\b"
    r"|\bdo not (?:edit|modify)\b[^\n]{0,120}\b(?:auto-?)?generated\b",
    re.IGNORECASE,
)


def is_minified(text: str) -> bool:
    """Whether the lines are such as no person writes or reads: bundled or packed code, data.

    More than 500 characters a line on average, or a line of more than 50,000. Texts below 5,000
    characters harm nobody. Generated code with lines for people is kept, whatever its header says:
    other code calls it.
    """
    if len(text) < 5_000:
        return False
    n_lines = max(text.count("\n"), text.count("\r")) + 1
    return len(text) > 500 * n_lines or max(map(len, text.splitlines())) > 50_000


def reason_of(error: OSError) -> Reason:
    """What an error of the operating system means for the file."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return "gone"
    if error.errno in (errno.ELOOP, errno.EMLINK):  # what O_NOFOLLOW says, the latter on the BSDs
        return "link"
    # Opening a socket, or a device without a driver.
    return "not a regular file" if error.errno == errno.ENXIO else "unreadable"


# O_NONBLOCK: opening a pipe does not wait for its writer. Windows has neither pipes in folders nor
# these flags, and reads text as text without O_BINARY.
_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)
_NO_LINK: int = getattr(os, "O_NOFOLLOW", 0)


def _bytes(descriptor: int, size: int, limit: int) -> bytes:
    """The file's bytes, at most `limit` however it grows meanwhile."""
    chunks = [os.read(descriptor, min(size + 1, limit))]
    n_read = len(chunks[0])
    while chunks[-1] and n_read < limit:
        chunks.append(os.read(descriptor, min(65_536, limit - n_read)))
        n_read += len(chunks[-1])
    return b"".join(chunks)


_Named = Literal["utf-8", "utf-16", "utf-32", "windows-1252"]

# UTF-32 first: its mark starts with that of UTF-16.
_MARKS: tuple[tuple[bytes, str, _Named], ...] = (
    (codecs.BOM_UTF32_LE, "utf-32-le", "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32-be", "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16-le", "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16-be", "utf-16"),
)


def _decoded(data: bytes) -> tuple[str, _Named] | None:
    """The text without its byte order mark, and its encoding; None for what is no text.

    A NUL is in no text. What is neither marked nor UTF-8 is taken as UTF-8 with bytes of
    Windows-1252 in it: right for either, and for a file that mixes the two.
    """
    for mark, codec, name in _MARKS:
        if data.startswith(mark):
            try:
                text = data[len(mark) :].decode(codec)
            except UnicodeDecodeError:
                return None
            return None if "\0" in text else (text, name)
    if b"\0" in data:
        return None
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        return data.decode(), "utf-8"
    except UnicodeDecodeError:
        codecs.register_error("lsp_assist.windows_1252", _as_windows_1252)
        return data.decode(errors="lsp_assist.windows_1252"), "windows-1252"


def _as_windows_1252(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    wrong = error.object[error.start : error.end]
    return wrong.decode("windows-1252", errors="replace"), error.end
