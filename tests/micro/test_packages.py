"""Packages to learn from: licences, exclusions, archives."""

import io
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from lsp_assist.micro.packages import (
    Package,
    is_evaluated_on,
    is_permissive,
    licences_of,
    packages,
    source_files,
)

MIT = "Format: x\n\nFiles: *\nCopyright: A\nLicense: Expat\n\nLicense: Expat\n Permission is ...\n"


def is_python(path: str) -> bool:
    return path.endswith(".py")


@pytest.mark.parametrize(
    ("licences", "is_allowed"),
    [
        (["Expat"], True),
        (["BSD-3-clause", "Apache-2.0"], True),
        (["MIT or GPL-2+"], True),
        (["GPL-2+ or GPL-3+"], False),
        (["MIT and GPL-2+"], False),
        (["Apache-2.0 and ISC"], True),
        (["Expat", "LGPL-2.1"], False),
        (["BSD-3-Clause-Clear"], False),
        (["custom"], False),
        ([], False),
    ],
)
def test_every_licence_must_let_us_learn(licences: list[str], is_allowed: bool) -> None:
    text = "Format: x\n\n" + "\n\n".join(
        f"Files: {n}/*\nLicense: {x}" for n, x in enumerate(licences)
    )
    assert is_permissive(text) == is_allowed


def test_the_licence_of_the_packaging_does_not_count() -> None:
    assert is_permissive(f"{MIT}\nFiles: debian/*\nLicense: GPL-2+\n")
    assert not is_permissive("Files: debian/*\nLicense: Expat\n")
    assert not is_permissive("This package was debianised by hand. Licence: MIT.")
    assert licences_of(MIT) == "Expat"


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("python3-django", True),
        ("python3-django-filters", True),
        ("golang-github-spf13-cobra-dev", True),
        ("librust-regex-syntax-dev", True),
        ("libcommons-lang3-java", True),
        ("python3-scikit-learn", True),
        ("golang-google-grpc-dev", True),
        ("python3-requestsexceptions", False),
        ("librust-gitlab-dev", False),
    ],
)
def test_projects_that_search_is_measured_on_are_known_by_name(name: str, is_one: bool) -> None:
    assert is_evaluated_on(name) == is_one


def test_a_binary_package_gives_its_sources_by_their_own_paths(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    write(tree / "DEBIAN/control", CONTROL)
    write(tree / "usr/share/doc/python3-x/copyright", MIT)
    write(tree / "usr/lib/python3/dist-packages/x/a.py", "A = 1\n")
    write(tree / "usr/lib/python3/dist-packages/x/tests/test_a.py", "def test(): ...\n")
    write(tree / "usr/lib/python3/dist-packages/x/data.json", "{}")
    deb = tmp_path / "downloads" / "python3-x_1.0-2_all.deb"
    deb.parent.mkdir()
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "--build", tree, deb], check=True, capture_output=True
    )
    (package,) = packages(deb.parent)
    assert (package.name, package.version) == ("python3-x", "1.0-2")
    licences, files = source_files(package, is_python)
    assert licences == "Expat"
    assert [(file.path, file.text) for file in files] == [("x/a.py", "A = 1\n")]


def test_a_source_package_gives_what_is_in_its_tarballs(tmp_path: Path) -> None:
    pack(tmp_path / "y_1.orig.tar.gz", {"y-1/src/b.py": "B = 2\n", "y-1/vendor/c.py": "C = 3\n"})
    pack(tmp_path / "y_1-1.debian.tar.xz", {"debian/copyright": MIT, "debian/rules.py": "R\n"})
    names = ["y_1.orig.tar.gz", "y_1-1.debian.tar.xz"]
    hashes = "".join(f" {'0' * 64} 9 {name}\n" for name in names)
    write(tmp_path / "y_1-1.dsc", f"Source: y\nChecksums-Sha256:\n{hashes}")
    (package,) = packages(tmp_path)
    licences, files = source_files(package, is_python)
    assert licences == "Expat"
    assert [file.path for file in files] == ["src/b.py"]


def test_an_archive_that_is_damaged_or_missing_gives_nothing(tmp_path: Path) -> None:
    write(tmp_path / "z_1-1.dsc", f"Source: z\n {'0' * 64} 9 z_1.orig.tar.gz\n")
    (tmp_path / "w_1-1_all.deb").write_bytes(b"!<arch>\nnot really")
    for package in packages(tmp_path):
        assert source_files(package, is_python) == ("", [])


def test_what_is_not_permissively_licensed_is_named_and_not_read(tmp_path: Path) -> None:
    gpl = MIT.replace("Expat", "GPL-3+")
    pack(tmp_path / "g_1.tar.xz", {"g-1/a.py": "A\n", "g-1/debian/copyright": gpl})
    write(tmp_path / "g_1.dsc", f"Source: g\n {'0' * 64} 9 g_1.tar.xz\n")
    package = Package("g", "1", tmp_path / "g_1.dsc")
    assert source_files(package, is_python) == ("GPL-3+", [])


CONTROL = """\
Package: python3-x
Version: 1.0-2
Architecture: all
Maintainer: A <a@example.com>
Description: x
"""


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def pack(path: Path, files: Mapping[str, str]) -> None:
    with tarfile.open(path, f"w:{path.suffix[1:]}") as archive:  # type: ignore[call-overload]  # gz or xz
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
