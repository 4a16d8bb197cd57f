"""Edits that a reply proposes, as an editor makes them: shown first, made when a person says so.

Knows `workspace/applyEdit` and what editors make of it; not how edits are found or fitted.
"""

import asyncio
from collections.abc import Iterator, Sequence

from lsprotocol import types

from lsp_assist import edits
from lsp_assist.assistant import Assistant
from lsp_assist.codebase.documents import Encoding, Text
from lsp_assist.edits import Proposal, ProposedFile
from lsp_assist.errors import EditRefused
from lsp_assist.flows.patch import LineChange
from lsp_assist.server import places
from lsp_assist.server.client import Client
from lsp_assist.server.protocol import (
    Applied,
    ApplyParams,
    EditedFile,
    EditInfo,
    EditsParams,
    RefusedEdit,
    structure,
    unstructure,
)

__all__ = ["accept", "apply", "info", "preview", "workspace_edit"]

_ANNOTATION = "lsp-assist"
_LABEL = "Edits of the assistant"


def info(assistant: Assistant, proposal: Proposal) -> EditInfo:
    """The proposal as it travels."""
    return EditInfo(
        proposal.id,
        tuple(
            EditedFile(
                places.uri_of(assistant, str(file.root), file.path),
                file.path,
                file.before is None,
                file.diff,
            )
            for file in proposal.files
        ),
        tuple(RefusedEdit(refused.path, refused.reason) for refused in proposal.refused),
    )


async def preview(assistant: Assistant, params: object) -> object:
    """Handle `assist/edits`.

    Raises: BadInput
    """
    asked = structure(EditsParams, params)
    return unstructure(info(assistant, await assistant.edits_of(asked.chat_id, asked.turn_id)))


async def apply(assistant: Assistant, client: Client, params: object) -> object:
    """Handle `assist/applyEdit`.

    Raises: BadInput
    """
    asked = structure(ApplyParams, params)
    is_done = await accept(
        assistant,
        client,
        asked.chat_id,
        asked.turn_id,
        asked.edit_id,
        is_reviewed=asked.is_reviewed,
    )
    return unstructure(Applied(is_done))


async def accept(
    assistant: Assistant,
    client: Client,
    chat_id: str,
    turn_id: str,
    edit_id: str,
    *,
    is_reviewed: bool,
) -> bool:
    """Make the edits of a turn, all of them or none; whether the editor took them.

    Raises: EditRefused if a file has changed since the edit was named; UnknownTurn
    """
    proposal = await assistant.edits_of(chat_id, turn_id)
    if not proposal.files or proposal.id != edit_id:
        raise EditRefused(
            "A file has changed since the edit was shown, so it was not made; look at it as it is"
            " now (`assist/edits`) and accept that, or ask again.",
            field="editId",
        )
    if client.can_edit:
        is_done = await _through_editor(assistant, client, proposal, is_reviewed=is_reviewed)
    else:
        if any(file.uri for file in proposal.files):
            raise EditRefused(
                "The editor has a file open and takes no edits (`workspace/applyEdit`); close the"
                " file and accept again."
            )
        await asyncio.to_thread(edits.write, proposal)
        is_done = True
    for file in proposal.files:
        assistant.workspace.file_changed(file.file)
    if is_done:
        await assistant.chats.judge(turn_id, "accepted")
    return is_done


async def _through_editor(
    assistant: Assistant, client: Client, proposal: Proposal, *, is_reviewed: bool
) -> bool:
    """Have the editor make the edits; files that it cannot make are made here before."""
    can = client.edit_capabilities
    makes_files = bool(
        can.document_changes
        and can.resource_operations
        and types.ResourceOperationKind.Create in can.resource_operations
    )
    ours = () if makes_files else tuple(f for f in proposal.files if f.before is None)
    theirs = tuple(file for file in proposal.files if file not in ours)
    await asyncio.to_thread(edits.write, Proposal(ours, ()))
    if not theirs:
        return True
    asks = not is_reviewed and can.change_annotation_support is not None
    edit = workspace_edit(client, theirs, asks=asks)
    if await client.apply(edit, _LABEL, waits=asks):
        return True
    for file in ours:
        await asyncio.to_thread(file.file.unlink, missing_ok=True)
    # An editor may have changed some documents before it came to one that it refused.
    changed = [back for file in theirs if (back := _changed_back(assistant, file)) is not None]
    if changed:
        await client.apply(workspace_edit(client, changed, asks=False), f"Undo: {_LABEL}")
    return False


def _changed_back(assistant: Assistant, file: ProposedFile) -> ProposedFile | None:
    """The edit that undoes this one, if it was made."""
    document = assistant.workspace.documents.by_path(file.file)
    if document is None or file.before is None or document.text.content != file.after:
        return None
    whole = LineChange(0, document.text.n_lines, file.before)
    return ProposedFile(
        file.root, file.path, file.after, file.before, (whole,), document.uri, document.version
    )


def workspace_edit(
    client: Client, files: Sequence[ProposedFile], *, asks: bool
) -> types.WorkspaceEdit:
    """The edit as the client understands it; with `asks` it shall ask the user first."""
    if not client.edit_capabilities.document_changes:
        return types.WorkspaceEdit(
            changes={
                _uri(file): [
                    types.TextEdit(place, text) for place, text in _places(file, client.encoding)
                ]
                for file in files
            }
        )
    annotation = _ANNOTATION if asks else None
    changes: list[types.TextDocumentEdit | types.CreateFile | types.RenameFile | types.DeleteFile]
    changes = []
    for file in files:
        if file.before is None:
            changes.append(types.CreateFile(uri=_uri(file), annotation_id=annotation))
        document = types.OptionalVersionedTextDocumentIdentifier(_uri(file), file.version)
        changes.append(
            types.TextDocumentEdit(
                document,
                [
                    types.TextEdit(place, text)
                    if annotation is None
                    else types.AnnotatedTextEdit(annotation, place, text)
                    for place, text in _places(file, client.encoding)
                ],
            )
        )
    annotations = {_ANNOTATION: types.ChangeAnnotation(_LABEL, needs_confirmation=True)}
    return types.WorkspaceEdit(
        document_changes=changes, change_annotations=annotations if asks else None
    )


def _uri(file: ProposedFile) -> str:
    return file.uri or file.file.as_uri()


def _places(file: ProposedFile, encoding: Encoding) -> Iterator[tuple[types.Range, str]]:
    """What is replaced, and by which text."""
    text = Text.of(file.before or "")
    for change in file.changes:
        start, end = (_position(text, line, encoding) for line in (change.start, change.end))
        yield types.Range(start, end), change.text


def _position(text: Text, line: int, encoding: Encoding) -> types.Position:
    """Where a line begins, or the end of the text for the line behind the last one."""
    at = text.line_start(line) if line < text.n_lines else len(text.content)
    return types.Position(*text.position_at(at, encoding))
