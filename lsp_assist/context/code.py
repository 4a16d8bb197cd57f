"""The workspace as context is picked from it: its files without their texts, and a door to read.

Values and one protocol. Knows no index, no disk and no editor.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from lsp_assist.codebase.index import Passage
from lsp_assist.codebase.store import StoredSymbol

__all__ = ["Code", "FileKey", "ProjectFile"]


class FileKey(NamedTuple):
    """What names a file of the workspace."""

    root: str
    """Absolute path of the workspace folder."""
    path: str
    """Relative to it, with forward slashes."""


@dataclass(frozen=True, slots=True)
class ProjectFile:
    """A file as the user sees it now, saved or not, without its text."""

    key: FileKey
    language: str
    digest: str
    """Names its text."""
    n_bytes: int
    n_lines: int
    activity: float = 0.0
    """How often it changed of late, as the history tells; 0 for never."""
    edited: int = 0
    """Larger the later it was edited in this session, 0 for not at all."""
    is_open: bool = False


class Code(Protocol):
    """Reading the workspace. A file that is gone meanwhile is missing from what comes back."""

    async def files(self) -> Sequence[ProjectFile]:
        """Every file that may be shown, by folder and path."""

    async def texts(self, keys: Sequence[FileKey]) -> Mapping[FileKey, str]:
        """Texts as they stand now."""

    async def outlines(self, keys: Sequence[FileKey]) -> Mapping[FileKey, Sequence[StoredSymbol]]:
        """Symbols in the order of the outlines."""

    async def ranks(self, seeds: Mapping[FileKey, float]) -> Mapping[FileKey, float]:
        """How much each file matters, seen from the seeds; from everywhere without them."""

    async def closure(self, key: FileKey, start_line: int, end_line: int) -> Sequence[Passage]:
        """Definitions of what is used between these lines, both included."""

    async def uncommitted(self) -> str:
        """What git has not committed yet, as a diff; empty where there is nothing or no git."""
