"""Files that are no text, no files, or not there."""

import os
import socket
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsp_assist.codebase import reading
from lsp_assist.codebase.reading import (
    Contents,
    Skipped,
    is_generated,
    is_minified,
    read,
    read_text,
)

MB = 1_000_000

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")


def written(folder: Path, data: bytes) -> Path:
    path = folder / "a.txt"
    path.write_bytes(data)
    return path


def text_of(path: Path) -> str:
    contents = read(path, MB)
    assert isinstance(contents, Contents)
    return contents.text


def reason_for(path: Path, max_bytes: int = MB) -> str:
    contents = read(path, max_bytes)
    assert isinstance(contents, Skipped)
    assert contents.path == str(path)
    return contents.reason


# --- encodings ---


@pytest.mark.parametrize(
    ("data", "text", "encoding"),
    [
        (b"", "", "utf-8"),
        (b"a\r\nb\rc\n", "a\r\nb\rc\n", "utf-8"),
        ("caf\u00e9 \U0001f600".encode(), "caf\u00e9 \U0001f600", "utf-8"),
        (b"\xef\xbb\xbfa", "a", "utf-8"),
        ("\ufeffa\u00e9".encode("utf-16-le"), "a\u00e9", "utf-16"),
        ("\ufeffa\u00e9".encode("utf-16-be"), "a\u00e9", "utf-16"),
        ("\ufeffa\u00e9".encode("utf-32-le"), "a\u00e9", "utf-32"),
        ("\ufeffa\u00e9".encode("utf-32-be"), "a\u00e9", "utf-32"),
        (b"caf\xe9 \x80 \x93x\x94", "caf\u00e9 \u20ac \u201cx\u201d", "windows-1252"),
        ("caf\u00e9 ".encode() + b"\xe9 \x81", "caf\u00e9 \u00e9 \ufffd", "windows-1252"),
        (b"\xef\xbb\xbfcaf\xe9", "caf\u00e9", "windows-1252"),
        (b"cut \xf0\x9f\x98", "cut \u00f0\u0178\u02dc", "windows-1252"),
    ],
)
def test_a_text_is_read_in_its_encoding(
    tmp_path: Path, data: bytes, text: str, encoding: str
) -> None:
    contents = read(written(tmp_path, data), MB)
    assert isinstance(contents, Contents)
    assert (contents.text, contents.encoding) == (text, encoding)


@pytest.mark.parametrize(
    "data",
    [
        b"\x7fELF\x02\x01\x01\x00",
        b"a" * 9_000 + b"\0",
        b"\xff\xfea",  # half a UTF-16 unit
        b"\xff\xfe\x00\xd8",  # half a pair
        "\ufeffa\0".encode("utf-16-le"),
        b"\xff\xfe\0\0\xff\xff\xff\xff",
        "no mark".encode("utf-16-le"),
    ],
)
def test_what_is_no_text_is_binary(tmp_path: Path, data: bytes) -> None:
    assert reason_for(written(tmp_path, data)) == "binary"


@given(st.binary(max_size=60))
def test_any_bytes_are_a_text_that_can_be_written_or_binary(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    contents = read(written(tmp_path_factory.getbasetemp(), data), MB)
    if isinstance(contents, Contents):
        contents.text.encode()
        assert "\0" not in contents.text
    else:
        assert contents.reason == "binary"


# --- files that are none, or not as they were ---


def test_contents_carry_the_state_of_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, b"abc")
    contents, status = read(path, MB), path.stat()
    assert isinstance(contents, Contents)
    assert (contents.size, contents.mtime_ns, contents.inode) == (
        3,
        status.st_mtime_ns,
        status.st_ino,
    )


def test_a_file_of_50_megabytes_is_not_read(tmp_path: Path) -> None:
    path = written(tmp_path, b"")
    os.truncate(path, 50 * MB)
    assert reason_for(path) == "too large"


def test_the_limit_is_the_last_size_that_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, b"abc")
    assert isinstance(read(path, 3), Contents)
    assert reason_for(path, 2) == "too large"


@posix_only
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_a_file_larger_than_it_says_ends_at_the_limit() -> None:
    """As one that grows while it is read: the files of /proc say that they are empty."""
    assert Path("/proc/self/status").stat().st_size == 0
    assert reason_for(Path("/proc/self/status"), 50) == "too large"
    assert isinstance(read(Path("/proc/self/status"), MB), Contents)


def test_a_file_that_was_deleted_is_gone(tmp_path: Path) -> None:
    assert reason_for(tmp_path / "a.txt") == "gone"
    assert reason_for(written(tmp_path, b"") / "below") == "gone"


@posix_only
def test_a_folder_where_a_file_was_is_no_file(tmp_path: Path) -> None:
    assert reason_for(tmp_path) == "not a regular file"


@posix_only
def test_a_pipe_without_a_writer_is_no_file_and_never_hangs(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert reason_for(tmp_path / "pipe") == "not a regular file"


@posix_only
def test_a_socket_and_a_device_are_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path has to be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        assert reason_for(tmp_path / "socket") == "not a regular file"
    assert reason_for(Path("/dev/zero")) == "not a regular file"


@posix_only
def test_a_link_is_not_followed_unless_it_is_the_users_own(tmp_path: Path) -> None:
    secret = written(tmp_path, b"abc")
    link = tmp_path / "link"
    link.symlink_to(secret)
    assert reason_for(link) == "link"
    contents = read_text(link, MB, follow_link=True)
    assert isinstance(contents, Contents)
    assert contents.text == "abc"


@posix_only
def test_links_in_a_circle_are_links(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert reason_for(tmp_path / "a") == "link"
    followed = read_text(tmp_path / "a", MB, follow_link=True)
    assert followed == Skipped(str(tmp_path / "a"), "link")


@posix_only
@pytest.mark.parametrize(
    ("name", "reason"),
    [("a" * 300, "unreadable"), ("d/" * 3000, "unreadable"), ("\0", "unusable name")],
)
def test_a_path_that_cannot_be_is_a_reason(tmp_path: Path, name: str, reason: str) -> None:
    assert reason_for(tmp_path / name) == reason


def test_a_file_without_permission_is_unreadable() -> None:
    """Said of the error itself: a test that runs as root can read everything."""
    assert reading.reason_of(PermissionError(13, "Permission denied")) == "unreadable"


# --- minified ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("var a=1;" * 1000, True),
        ("var a=1;" * 100, False),  # small
        ("x" * 499 + "\n", False),
        (("x" * 499 + "\n") * 20, False),
        (("x" * 600 + "\n") * 20, True),
        (("x = 1\n" * 200) + "B" * 50_001 + "\n" * 200, True),
        (("x = 1\n" * 200) + "B" * 50_000 + "\n" * 200, False),
        ("x = 1\r" * 2000, False),
        ("x = 1\r\n" * 2000, False),
    ],
)
def test_lines_that_nobody_reads_are_minified(tmp_path: Path, text: str, expected: bool) -> None:
    assert is_minified(text) is expected
    path = written(tmp_path, text.encode())
    if expected:
        assert reason_for(path) == "minified"
        assert isinstance(read_text(path, MB), Contents)
    else:
        assert text_of(path) == text


KEY = (
    "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0A\n\n"
    + "\n".join(["MIIEowIBAAKCAQEA7bq3cT0k0GmB9d8m2n5v6xQ1r4u7w9y2A5s8D1f4G7h0Jk3L"] * 3)
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (KEY, True),
        (f"key = {KEY!r}\n", True),
        ('HEADER = "-----BEGIN PRIVATE KEY-----"\n\n\ndef is_key(text): ...\n', False),
        ("-----BEGIN CERTIFICATE-----\n" + "A" * 200, False),
    ],
)
def test_a_file_with_a_private_key_is_left_out_whatever_its_name(
    tmp_path: Path, text: str, expected: bool
) -> None:
    path = tmp_path / "settings.py"
    path.write_text(text)
    found = read(path, 100_000)
    assert (isinstance(found, Skipped) and found.reason == "may hold a secret") is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("// Code generated by protoc-gen-go. DO NOT EDIT.\npackage a\n", True),
        ("/**\n * @generated SignedSource<<0>>\n */\n", True),
        ("# DO NOT EDIT: this file is autogenerated\n", True),
        ("# How documents are generated.\n# Please do edit.\n", False),
        ("x = 1\n" * 1_000 + "# @generated\n", False),
    ],
)
def test_generated_code_says_so_in_its_head(text: str, expected: bool) -> None:
    assert is_generated(text) is expected
