"""Files that are open in the editor, as the parsing process keeps them between two edits.

Knows no process and no store.
"""

from dataclasses import dataclass

from lsp_assist.codebase import ingest
from lsp_assist.codebase.documents import split_lines
from lsp_assist.codebase.languages import language_of
from lsp_assist.codebase.live_outline import LiveOutline
from lsp_assist.codebase.packing import Packed, packed
from lsp_assist.codebase.store import FileRecord, IndexedFile
from lsp_assist.codebase.symbols import Outline

__all__ = ["OpenFiles"]

_MAX_OPEN = 64
"""Files whose trees are kept; of the others, those edited last."""


class OpenFiles:
    """The open files by path. Their newest texts come; what is not known yet goes back."""

    def __init__(self) -> None:
        self._files: dict[str, _OpenFile] = {}
        self._n_replies = 0

    def text(self, path: str, text: str, problem: str, n_heard: int) -> tuple[int, Packed]:
        """A number for this reply, and the file with this text.

        `n_heard` is the number of the last reply that was heard for the file: the terms of chunks
        that were in that one are left out. With a problem the grammar is left alone.
        """
        record = FileRecord(len(text), 0, "unsaved")
        language = language_of(path, text[:200].partition("\n")[0])
        known = self._files.pop(path, None)
        if problem:
            return 0, packed(ingest.unparsed(path, text, record, problem))
        if language is None:
            return 0, packed(ingest.left_out(path, record))
        if known is None or known.outline.language is not language:
            known = _OpenFile(LiveOutline(path, language))
        is_heard = known.n_reply == n_heard
        told = {c.hash for c in known.last[1].chunks} if is_heard and known.last else ()
        outlined = known.outline.of(text)
        file = ingest.as_indexed(outlined, split_lines(text), record, known.last)
        self._n_replies += 1
        known.n_reply = self._n_replies
        known.last = outlined, file
        self._files[path] = known
        for old in list(self._files)[:-_MAX_OPEN]:
            del self._files[old]
        return known.n_reply, packed(file, told)


@dataclass(slots=True)
class _OpenFile:
    """What is kept of a file: its outline, and what the last reply was made of."""

    outline: LiveOutline
    n_reply: int = 0
    last: tuple[Outline, IndexedFile] | None = None
