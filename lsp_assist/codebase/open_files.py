"""Files that are open in the editor, as the parsing process keeps them between two edits.

Knows no process and no store.
"""

from lsp_assist.codebase import ingest
from lsp_assist.codebase.packing import Packed, packed
from lsp_assist.codebase.store import FileRecord

__all__ = ["OpenFiles"]


class OpenFiles:
    """The open files by path."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def text(self, path: str, text: str, problem: str) -> Packed:
        """The file with this text; with a problem the grammar is left alone."""
        record = FileRecord(len(text), 0, "unsaved")
        if problem:
            return packed(ingest.unparsed(path, text, record, problem))
        found = packed(ingest.indexed(path, text, record))
        self._texts[path] = text
        return found

    def edit(self, path: str, start: int, end: int, inserted: str) -> Packed:
        """The file after an edit of its last text; nothing if that is not known here."""
        before = self._texts.pop(path, None)
        if before is None:
            return ()
        return self.text(path, before[:start] + inserted + before[end:], "")

    def close(self, path: str) -> tuple[()]:
        """Forget a file."""
        self._texts.pop(path, None)
        return ()
