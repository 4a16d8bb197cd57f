"""Where things are: URIs, files of the workspace, selected text.

Reads a file only to quote what the user selected in it. Knows no message.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from lsprotocol import types

from lsp_assist.assistant import Assistant, Selection
from lsp_assist.codebase.documents import Document, Encoding, Text
from lsp_assist.codebase.reading import Contents, read_text
from lsp_assist.codebase.store import StoredSymbol
from lsp_assist.errors import BadInput
from lsp_assist.server import protocol

__all__ = ["innermost_root", "path_of", "selection", "symbol", "uri_of"]

# LSP has no kind for these.
_OTHER_KINDS = {
    "trait": types.SymbolKind.Interface,
    "type": types.SymbolKind.Class,
    "macro": types.SymbolKind.Function,
    "heading": types.SymbolKind.String,
}


def path_of(uri: str) -> Path | None:
    """The file that a URI names; None for one that names no file, like `untitled:`."""
    from pygls.uris import to_fs_path

    try:
        path = to_fs_path(uri) if uri.startswith("file:") else None
    except ValueError:
        return None
    return Path(os.path.normpath(path)) if path and "\0" not in path else None


def uri_of(assistant: Assistant, root: str, path: str) -> str:
    """The URI of a place: the editor's own if it has the file open. `path` where it is a URI."""
    if not root:
        return path
    file = Path(root, path)
    document = assistant.workspace.documents.by_path(file)
    return document.uri if document is not None else file.as_uri()


def innermost_root(roots: Iterable[Path], path: Path) -> tuple[Path, Path] | None:
    """The workspace folder that holds a file, and the file's place in it."""
    for candidate in (path, path.resolve()):
        holders = [root for root in roots if candidate.is_relative_to(root)]
        if holders:
            root = max(holders, key=lambda root: len(root.parts))
            return root, candidate.relative_to(root)
    return None


def selection(
    assistant: Assistant, encoding: Encoding, uri: str, selected: protocol.Range, *, field: str = ""
) -> Selection:
    """The selected code, from the text as it is now: an open document, else a workspace file.

    Positions outside of the text are clamped: an editor may select one past the end of a line, and
    the text may have become shorter since. An empty range means the lines that it touches.

    Raises: BadInput if there is no such text; `field` names the request's field.
    """
    document = assistant.workspace.documents.get(uri)
    path = document.path if document is not None else path_of(uri)
    place = innermost_root(assistant.workspace.roots, path) if path is not None else None
    text = document.text if document is not None else None
    if text is None and path is not None and place is not None:
        contents = read_text(path, assistant.settings.index.max_file_bytes)
        text = Text.of(contents.text) if isinstance(contents, Contents) else None
    if text is None:
        raise BadInput(
            f"{uri!r} is neither an open document nor a readable file of the workspace.",
            field=f"{field}.uri" if field else "uri",
        )
    start_line, end_line, code = _clamped(text, selected, encoding)
    root, inside = place if place is not None else ("", None)
    return Selection(
        path=inside.as_posix() if inside is not None else uri,
        start_line=start_line,
        end_line=end_line,
        text=code,
        language=_language(document),
        root=str(root),
    )


def symbol(assistant: Assistant, root: Path, found: StoredSymbol) -> types.SymbolInformation:
    """A symbol as LSP says it. Its range is whole lines, as long as nobody knows their text."""
    name = found.qualified_name or found.name
    around = name.removesuffix(found.name).rstrip(".:#")
    kind = _OTHER_KINDS.get(found.kind) or types.SymbolKind[found.kind.capitalize()]
    start, end = types.Position(found.start_line, 0), types.Position(found.end_line + 1, 0)
    location = types.Location(uri_of(assistant, str(root), found.path), types.Range(start, end))
    return types.SymbolInformation(location, found.name, kind, container_name=around or None)


def _clamped(text: Text, selected: protocol.Range, encoding: Encoding) -> tuple[int, int, str]:
    """First line, last line and text of a range."""
    ends = (selected.start, selected.end)
    start, end = sorted(text.offset_at(p.line, p.character, encoding) for p in ends)
    start_line = text.position_at(start, encoding).line
    end_line, end_character = text.position_at(end, encoding)
    if start == end:
        return start_line, end_line, text.line(start_line)
    if end_character == 0 and end_line > start_line:  # whole lines, the end of the last included
        end_line -= 1
    return start_line, end_line, text.content[start:end]


def _language(document: Document | None) -> str:
    """What the editor calls the language, as far as it is a word that can follow a fence."""
    said = document.language_id if document is not None else ""
    return said if said.isascii() and said.replace("-", "").replace("+", "").isalnum() else ""
