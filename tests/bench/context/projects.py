"""Projects to ask about, made of the Python that runs this."""

import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

__all__ = ["commit", "copy_python", "sized_project"]

MAX_FILE_BYTES = 400_000


def copy_python(target: Path, n_lines: int) -> int:
    """Copies modules of installed packages and of the standard library; how many lines there are.

    No file twice, so that names mean what they mean in one repository.
    """
    copied = 0
    for source, relative in _modules():
        (target / relative).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target / relative)
        copied += source.read_bytes().count(b"\n")
        if copied >= n_lines:
            break
    return copied


def sized_project(target: Path, n_chars: int, n_files: int) -> list[Path]:
    """A project of so many characters in so many files of about the same length; the files."""
    target.mkdir(parents=True, exist_ok=True)
    sources = (source for source, _ in _modules() if source.stat().st_size > 4 * n_chars // n_files)
    files = []
    for n, source in zip(range(n_files), sources, strict=False):
        text = source.read_text("utf-8", "replace")[: n_chars // n_files]
        folder = target / f"part_{n % 5}"
        folder.mkdir(exist_ok=True)
        files.append(folder / f"{source.stem.strip('_')}_{n}.py")
        files[-1].write_text(text.rpartition("\n")[0] + "\n", "utf-8")
    assert len(files) == n_files
    return files


def commit(root: Path, *paths: Path) -> None:
    """Commits these files, or all."""
    said = [str(path) for path in paths] or ["."]
    who = ("-c", "user.name=bench", "-c", "user.email=bench@localhost")
    for command in (["add", "--", *said], [*who, "commit", "-q", "-m", "a change"]):
        subprocess.run(["git", *command], cwd=root, check=True, capture_output=True)


def _modules() -> Iterator[tuple[Path, Path]]:
    """Files of Python and where they belong below a root."""
    for name in ("stdlib", "purelib"):
        library = Path(sysconfig.get_path(name))
        for source in sorted(library.rglob("*.py")):
            relative = source.relative_to(library)
            is_other = name == "stdlib" and "site-packages" in relative.parts
            if is_other or "tests" in relative.parts or source.stat().st_size > MAX_FILE_BYTES:
                continue
            yield source, Path(name) / relative
