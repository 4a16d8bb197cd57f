"""Values read from small files: ours in the package, the user's over them, read anew when changed.

A user's file that is broken costs only itself: the shipped one of that name is used, and a warning
says why. Knows folders and changes; not what the files mean.
"""

import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Generic, TypeVar

__all__ = ["DataFiles"]

MAX_BYTES = 100_000

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Read(Generic[T]):
    """A file as it was read; `value` is None where it was broken."""

    state: tuple[int, int, int]
    value: T | None
    problem: str


class DataFiles(Generic[T]):
    """The files of one kind, by name. Any thread may ask; looks at the disk each time."""

    def __init__(
        self,
        shipped: str,
        user: Path | None,
        parsers: Mapping[str, Callable[[str, str], T]],
    ) -> None:
        """`shipped` is a folder of this package; a parser takes a name and a file's text.

        A parser is found by the file's ending, and raises ValueError with what is wrong.
        """
        self._shipped = shipped
        self._user = user
        self._parsers = parsers
        self._read: dict[Path, _Read[T]] = {}

    def values(self) -> dict[str, T]:
        """All that can be used now, by name."""
        return self._current()[0]

    def warnings(self) -> tuple[str, ...]:
        """What is wrong with the user's files now, in sentences."""
        return self._current()[1]

    def _current(self) -> tuple[dict[str, T], tuple[str, ...]]:
        found: dict[str, T] = {}
        warnings: list[str] = []
        for name, ending, text in _shipped_texts(self._shipped):
            if ending in self._parsers:
                found[name] = self._parsers[ending](name, text)
        for path in self._user_files():
            read = self._user_file(path)
            if read.value is not None:
                found[path.stem] = read.value
            else:
                instead = "the shipped one is used" if path.stem in found else "it is left out"
                warnings.append(f"{str(path)!r} cannot be used: {read.problem}; {instead}.")
        return dict(sorted(found.items())), tuple(warnings)

    def _user_files(self) -> list[Path]:
        try:
            names = sorted(os.listdir(self._user)) if self._user is not None else []  # noqa: PTH208  # names are enough
        except OSError:
            return []
        assert self._user is not None or not names
        paths = [self._user / name for name in names] if self._user is not None else []
        return [path for path in paths if path.suffix in self._parsers]

    def _user_file(self, path: Path) -> _Read[T]:
        try:
            status = path.stat()
            state = (status.st_mtime_ns, status.st_size, status.st_ino)
            known = self._read.get(path)
            if known is None or known.state != state:
                known = self._read[path] = self._parsed(path, status, state)
        except OSError as error:
            return _Read((0, 0, 0), None, error.strerror or str(error))
        return known

    def _parsed(self, path: Path, status: os.stat_result, state: tuple[int, int, int]) -> _Read[T]:
        try:
            if not _NAME.fullmatch(path.stem):
                raise ValueError("its name must be lower-case letters, digits, '-' and '_'")
            if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
                raise ValueError(f"it must be a file of at most {MAX_BYTES:,} bytes")
            text = path.read_text(encoding="utf-8")
            return _Read(state, self._parsers[path.suffix](path.stem, text), "")
        except ValueError as error:  # no UTF-8, no TOML, no such key
            return _Read(state, None, str(error))


@cache
def _shipped_texts(folder: str) -> tuple[tuple[str, str, str], ...]:
    """Name, ending and text of each file that we ship."""
    entries = resources.files(__package__).joinpath(folder).iterdir()
    paths = sorted(entries, key=lambda entry: entry.name)
    texts = ((Path(entry.name), entry.read_text(encoding="utf-8")) for entry in paths)
    return tuple((path.stem, path.suffix, text) for path, text in texts)
