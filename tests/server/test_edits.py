"""Edits over LSP: shown, accepted, made by the editor; all or none; stale ones are refused."""

from typing import Any

import pytest
from lsprotocol import types
from pygls.exceptions import JsonRpcException

from tests.server.conftest import Launch
from tests.server.editor import Editor, file_of
from tests.server.test_chat_files import ended, run, selected, shown


def block(path: str, search: str, replace: str) -> str:
    search = f"{search}\n" if search else ""
    return f"\n{path}\n<<<<<<< SEARCH\n{search}=======\n{replace}\n>>>>>>> REPLACE\n"


BOTH = (
    "reply Do this:\n"
    + block("other.py", "x = 1", "x = 2")
    + block("`a b.py`", "return 1", "return 2")
)
NEW = "reply New:\n" + block("other.py", "x = 1", "x = 2") + block("new/c.py", "", "c = 3")


def capabilities(
    *, applies: bool = True, versions: bool = True, creates: bool = True, annotates: bool = False
) -> types.ClientCapabilities:
    create = [types.ResourceOperationKind.Create] if creates else None
    annotation = types.ChangeAnnotationsSupportOptions() if annotates else None
    edit = types.WorkspaceEditClientCapabilities(
        document_changes=versions,
        resource_operations=create,
        change_annotation_support=annotation,
    )
    return types.ClientCapabilities(
        workspace=types.WorkspaceClientCapabilities(apply_edit=applies, workspace_edit=edit),
        window=types.WindowClientCapabilities(
            show_document=types.ShowDocumentClientCapabilities(support=True)
        ),
    )


async def edit_of(editor: Editor, text: str, turn: str = "1") -> dict[str, Any]:
    params = {"chatId": "c", "turnId": turn, "text": text}
    assert (await editor.send("assist/ask", params))["status"] == "done"
    events = await editor.events(turn)
    kinds = [event["kind"] for event in events]
    assert kinds[-3:] == ["edit", "usage", "done"]
    edit: dict[str, Any] = events[-3]
    return edit


async def accept(editor: Editor, edit_id: str, **more: object) -> Any:
    params = {"chatId": "c", "turnId": "1", "editId": edit_id, **more}
    return await editor.send("assist/applyEdit", params)


async def test_an_edit_is_shown_and_made_when_it_is_accepted(launch: Launch) -> None:
    editor = await launch()
    await editor.open_session(capabilities())
    other, spaced = editor.root / "other.py", editor.root / "a b.py"
    editor.open(other.as_uri(), "# unsaved\nx = 1\n", version=5)
    edit = await edit_of(editor, BOTH)
    assert [(file["path"], file["isNew"]) for file in edit["files"]] == [
        *(("other.py", False), ("a b.py", False))
    ]
    assert "-x = 1\n+x = 2\n" in edit["files"][0]["diff"]
    assert editor.edits == []
    assert await accept(editor, edit["editId"]) == {"applied": True}
    assert editor.texts[other.as_uri()] == (6, "# unsaved\nx = 2\n")
    assert editor.texts[spaced.as_uri()][1] == "def f():\n    return 2\n"
    (sent,) = editor.edits
    versions = [
        change.text_document.version
        for change in sent.edit.document_changes or ()
        if isinstance(change, types.TextDocumentEdit)
    ]
    assert versions == [5, None]
    with pytest.raises(JsonRpcException, match="changed since"):
        await accept(editor, edit["editId"])
    await editor.finish()


async def test_a_stale_edit_is_refused_and_can_be_looked_at_anew(launch: Launch) -> None:
    editor = await launch()
    await editor.open_session(capabilities())
    uri = (editor.root / "other.py").as_uri()
    editor.open(uri, "x = 1\n")
    edit = await edit_of(editor, BOTH)
    editor.type(uri, "y = 0\nx = 1\n")
    with pytest.raises(JsonRpcException, match="assist/edits") as raised:
        await accept(editor, edit["editId"])
    assert (raised.value.code, raised.value.data) == (-32602, {"field": "editId"})
    anew = await editor.send("assist/edits", {"chatId": "c", "turnId": "1"})
    assert await accept(editor, anew["editId"]) == {"applied": True}
    assert editor.texts[uri][1] == "y = 0\nx = 2\n"
    await editor.finish()


async def test_an_edit_can_be_accepted_after_a_restart(launch: Launch) -> None:
    first = await launch()
    await first.open_session(capabilities())
    edit = await edit_of(first, BOTH)
    await first.finish()
    second = await launch()
    await second.open_session(capabilities())
    assert await accept(second, edit["editId"]) == {"applied": True}
    await second.finish()


@pytest.mark.parametrize("refused", ["other.py", "a b.py"])
async def test_an_editor_that_refuses_one_document_has_none_changed(
    launch: Launch, refused: str
) -> None:
    editor = await launch()
    await editor.open_session(capabilities())
    for name, text in (("other.py", "x = 1\n"), ("a b.py", "def f():\n    return 1\n")):
        editor.open((editor.root / name).as_uri(), text)
    edit = await edit_of(editor, BOTH)
    editor.refused_documents.add((editor.root / refused).as_uri())
    assert await accept(editor, edit["editId"]) == {"applied": False}
    texts = {file_of(uri).name: text for uri, (_, text) in editor.texts.items()}
    assert texts == {"other.py": "x = 1\n", "a b.py": "def f():\n    return 1\n"}
    await editor.finish()


@pytest.mark.parametrize("creates", [True, False], ids=["by the editor", "by us"])
async def test_a_new_file_is_made(launch: Launch, creates: bool) -> None:
    editor = await launch()
    await editor.open_session(capabilities(creates=creates))
    edit = await edit_of(editor, NEW)
    assert [file["isNew"] for file in edit["files"]] == [False, True]
    assert await accept(editor, edit["editId"]) == {"applied": True}
    new = editor.root / "new" / "c.py"
    made = editor.texts[new.as_uri()][1] if creates else new.read_text(encoding="utf-8")
    assert made == "c = 3\n"
    await editor.finish()


async def test_a_new_file_is_gone_again_if_the_rest_is_refused(launch: Launch) -> None:
    editor = await launch()
    await editor.open_session(capabilities(creates=False))
    edit = await edit_of(editor, NEW)
    editor.refuses_edits = 1
    assert await accept(editor, edit["editId"]) == {"applied": False}
    assert not (editor.root / "new" / "c.py").exists()
    await editor.finish()


async def test_an_editor_that_can_asks_before_each_change(launch: Launch) -> None:
    editor = await launch()
    await editor.open_session(capabilities(annotates=True))
    edit = await edit_of(editor, NEW)
    assert await accept(editor, edit["editId"]) == {"applied": True}
    sent = editor.edits[0].edit
    (annotation,) = (sent.change_annotations or {}).values()
    assert annotation.needs_confirmation
    again = await edit_of(editor, "reply " + block("`a b.py`", "return 1", "return 3"), "2")
    params = {"chatId": "c", "turnId": "2", "editId": again["editId"], "isReviewed": True}
    await editor.send("assist/applyEdit", params)
    assert editor.edits[1].edit.change_annotations is None
    await editor.finish()


async def test_a_client_that_takes_no_edits_has_the_files_written(launch: Launch) -> None:
    editor = await launch()
    await editor.open_session(capabilities(applies=False))
    edit = await edit_of(editor, BOTH)
    assert await accept(editor, edit["editId"]) == {"applied": True}
    assert (editor.root / "other.py").read_text(encoding="utf-8") == "x = 2\n"
    editor.open((editor.root / "other.py").as_uri(), "x = 1\n")
    edit = await edit_of(editor, "reply " + block("other.py", "x = 1", "x = 3"), "2")
    with pytest.raises(JsonRpcException, match="close the file"):
        await editor.send(
            "assist/applyEdit", {"chatId": "c", "turnId": "2", "editId": edit["editId"]}
        )
    await editor.finish()


async def test_what_may_not_be_changed_is_told(launch: Launch) -> None:
    editor = await launch()
    await editor.open_session(capabilities())
    reply = block(".git/config", "", "x") + block("../x.py", "", "x") + block("gone.py", "a", "b")
    edit = await edit_of(editor, f"reply {reply}")
    assert (edit["editId"], edit["files"]) == ("", [])
    assert [refused["path"] for refused in edit["refused"]] == [".git/config", "../x.py", "gone.py"]
    with pytest.raises(JsonRpcException):
        await accept(editor, "")
    await editor.finish()


@pytest.mark.parametrize("versions", [True, False])
async def test_a_chat_document_has_a_button_for_its_edits(launch: Launch, versions: bool) -> None:
    editor = await launch()
    await editor.open_session(capabilities(versions=versions), speaks_extension=False)
    refused = block(".vimrc", "", "x")
    await run(editor, "lsp-assist.fix", selected(editor) | {"text": BOTH + refused})
    uri = await shown(editor)
    text = await ended(editor, uri)
    assert '*"Apply the edits" changes other.py, a b.py.*\n\n## You' in text
    assert "*.vimrc: '.vimrc' configures tools" in text
    lens = types.CodeLensParams(types.TextDocumentIdentifier(uri))
    (button,) = await editor.text_document_code_lens_async(lens) or ()
    assert button.command is not None
    assert button.command.command == "lsp-assist.applyEdits"
    await run(editor, "lsp-assist.applyEdits", {"uri": uri})
    other = (editor.root / "other.py").as_uri()
    await editor.until(lambda: other in editor.texts)
    assert editor.texts[other][1] == "x = 2\n"
    with pytest.raises(JsonRpcException, match="no edits"):
        await run(editor, "lsp-assist.applyEdits", {"uri": uri})
    await editor.finish()
