"""The floor: a client without our extension chats in Markdown documents of its own editor."""

import stat
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest
from lsprotocol import types
from pygls.exceptions import JsonRpcException

from tests.server.conftest import Launch
from tests.server.editor import Editor, lines

ASK, SEND, CANCEL = "lsp-assist.ask", "lsp-assist.send", "lsp-assist.cancel"


def capabilities(
    *, edits: bool = True, versions: bool = True, shows: bool = True
) -> types.ClientCapabilities:
    edit = types.WorkspaceEditClientCapabilities(document_changes=versions)
    show = types.ShowDocumentClientCapabilities(support=shows)
    return types.ClientCapabilities(
        workspace=types.WorkspaceClientCapabilities(apply_edit=edits, workspace_edit=edit),
        window=types.WindowClientCapabilities(show_document=show),
    )


async def run(editor: Editor, command: str, argument: dict[str, object]) -> dict[str, str]:
    params = types.ExecuteCommandParams(command, [argument])
    result = await editor.workspace_execute_command_async(params)
    assert isinstance(result, dict)
    return result


def selected(editor: Editor) -> dict[str, object]:
    uri = (editor.root / "a b.py").as_uri()
    return {"uri": uri, "range": lines((0, 0), (1, 0))}


async def shown(editor: Editor) -> str:
    """The document that the server had the editor show, opened as the editor would."""
    await editor.until(lambda: bool(editor.shown_documents))
    (document,) = editor.shown_documents
    editor.shown_documents.clear()
    editor.open(document.uri, path(document.uri).read_text(encoding="utf-8"), "markdown")
    return document.uri


def path(uri: str) -> Path:
    return Path(unquote(urlparse(uri).path))


async def ended(editor: Editor, uri: str, n_questions: int = 2) -> str:
    """The chat's text when the next question can be typed."""
    await editor.until(lambda: editor.texts[uri][1].split("\n").count("## You") == n_questions)
    return editor.texts[uri][1]


@pytest.mark.parametrize("versions", [True, False], ids=["versioned edits", "plain edits"])
async def test_a_command_opens_a_chat_and_writes_the_reply_into_it(
    launch: Launch, versions: bool
) -> None:
    editor = await launch()
    await editor.open_session(capabilities(versions=versions), speaks_extension=False)

    result = await run(editor, "lsp-assist.explain", selected(editor))

    uri = await shown(editor)
    assert uri == result["uri"]
    text = await ended(editor, uri)
    assert "a b.py, line 1](" in text
    assert "```\ndef f():\n```" in text
    assert "Explain this code.\n\n## Assistant\n\nexplain||a b.py:0-0|def f():\n" in text
    assert text.endswith("\n\n## You\n\n")
    await editor.finish()


async def test_a_question_is_typed_and_sent_and_another_one_after_it(launch: Launch) -> None:
    editor = await launch()
    await editor.open_session(capabilities(), speaks_extension=False)
    await run(editor, ASK, selected(editor))
    uri = await shown(editor)
    assert stat.S_IMODE(path(uri).stat().st_mode) == 0o600
    assert stat.S_IMODE(path(uri).parent.stat().st_mode) == 0o700

    editor.type(uri, editor.texts[uri][1] + "count 500")
    lens = types.CodeLensParams(types.TextDocumentIdentifier(uri))
    (send,) = await editor.text_document_code_lens_async(lens) or ()
    assert send.command is not None
    assert send.command.command == SEND
    assert editor.texts[uri][1].split("\n")[send.range.start.line] == "## You"
    await run(editor, SEND, {"uri": uri})
    text = await ended(editor, uri)
    numbers = "".join(f"{n} " for n in range(500))
    assert f"count 500\n\n## Assistant\n\n{numbers}\n\n## You\n\n" in text

    editor.type(uri, text + "say ## You\n")
    await run(editor, SEND, {"uri": uri})
    text = await ended(editor, uri, 3)
    assert "## Assistant\n\n ## You\n\n## You\n\n" in text, "a reply makes no heading of ours"
    await editor.finish()


async def test_what_the_user_types_meanwhile_is_kept(launch: Launch) -> None:
    """An edit that was made for an older version is refused, and made again."""
    editor = await launch()
    await editor.open_session(capabilities(), speaks_extension=False)
    await run(editor, ASK, selected(editor))
    uri = await shown(editor)
    editor.type(uri, editor.texts[uri][1] + "hold")
    await run(editor, SEND, {"uri": uri})
    await editor.until(lambda: "held" in editor.texts[uri][1])

    editor.type(uri, "Mine! " + editor.texts[uri][1])
    lens = types.CodeLensParams(types.TextDocumentIdentifier(uri))
    (stop,) = await editor.text_document_code_lens_async(lens) or ()
    assert stop.command is not None
    assert stop.command.command == CANCEL
    with pytest.raises(JsonRpcException, match="still coming"):
        await run(editor, SEND, {"uri": uri})
    editor.refuses_edits = 1
    await run(editor, CANCEL, {"uri": uri})

    text = await ended(editor, uri)
    assert text.startswith("Mine! # Chat")
    assert "## Assistant\n\nheld \n\n*Cancelled.*\n\n## You\n\n" in text
    await editor.finish()


async def test_a_chat_that_the_editor_opens_without_a_word_is_written_all_the_same(
    launch: Launch,
) -> None:
    """Neovim attaches another server to a file outside of the workspace, but applies our edits."""
    editor = await launch()
    await editor.open_session(capabilities(), speaks_extension=False)

    await run(editor, "lsp-assist.explain", selected(editor))
    await editor.until(lambda: bool(editor.shown_documents))
    uri = editor.shown_documents.pop().uri
    editor.untold.add(uri)
    editor.texts[uri] = (1, path(uri).read_text(encoding="utf-8"))

    text = await ended(editor, uri)
    assert "Explain this code.\n\n## Assistant\n\nexplain||a b.py:0-0|def f():\n" in text
    assert text.endswith("\n\n## You\n\n")
    await editor.finish()


async def test_an_error_is_said_in_the_chat(launch: Launch) -> None:
    editor = await launch()
    await editor.open_session(capabilities(), speaks_extension=False)
    await run(editor, ASK, selected(editor) | {"text": "unavailable"})

    text = await ended(editor, await shown(editor))

    assert "half \n\n*The model is asleep; wake it up.*\n\n## You" in text
    await editor.finish()


async def test_a_client_that_can_nothing_is_told_where_the_reply_is(launch: Launch) -> None:
    editor = await launch()
    await editor.open_session(speaks_extension=False)

    result = await run(editor, "lsp-assist.explain", selected(editor))
    await editor.until(lambda: len(editor.messages) == 2)

    file = path(result["uri"])
    assert all(str(file) in said for said in editor.read_messages())
    text = file.read_text(encoding="utf-8")
    assert text.endswith("## Assistant\n\nexplain||a b.py:0-0|def f():\n\n\n## You\n\n")
    file.write_text(text + "say from the file\n", encoding="utf-8")
    await run(editor, SEND, {"uri": result["uri"]})
    await editor.until(lambda: len(editor.messages) == 1)
    editor.read_messages()
    assert "## Assistant\n\nfrom the file\n" in file.read_text(encoding="utf-8")
    await editor.finish()


async def test_a_refused_document_is_told_by_its_path(launch: Launch) -> None:
    """The client declares showDocument and then does not know the method, as Neovim 0.7 would."""
    editor = await launch()
    del editor.protocol.fm.features[types.WINDOW_SHOW_DOCUMENT]
    await editor.open_session(capabilities(), speaks_extension=False)

    result = await run(editor, "lsp-assist.explain", selected(editor))
    await editor.until(lambda: bool(editor.messages))

    assert str(path(result["uri"])) in editor.read_messages()[0]
    await editor.finish()


@pytest.mark.parametrize("text", ["", "# Notes\n\nNothing of ours.\n"])
async def test_there_must_be_something_to_send(launch: Launch, text: str) -> None:
    editor = await launch()
    await editor.open_session(capabilities(), speaks_extension=False)
    result = await run(editor, ASK, selected(editor))
    uri = await shown(editor)
    editor.type(uri, text)

    with pytest.raises(JsonRpcException, match="no question") as caught:
        await run(editor, SEND, {"uri": result["uri"]})
    assert caught.value.code == -32602
    lens = types.CodeLensParams(types.TextDocumentIdentifier(uri))
    assert not await editor.text_document_code_lens_async(lens)
    await editor.finish()


async def test_a_chat_document_offers_to_send_and_other_documents_have_no_lens(
    launch: Launch,
) -> None:
    editor = await launch()
    await editor.open_session(capabilities(), speaks_extension=False)
    await run(editor, ASK, selected(editor))
    uri = await shown(editor)
    place = types.Range(types.Position(0, 0), types.Position(0, 0))
    context = types.CodeActionContext(diagnostics=[])
    here = types.CodeActionParams(types.TextDocumentIdentifier(uri), place, context)

    (action,) = await editor.text_document_code_action_async(here) or ()

    assert isinstance(action, types.Command)
    assert action.command == SEND
    other = types.TextDocumentIdentifier((editor.root / "a b.py").as_uri())
    assert not await editor.text_document_code_lens_async(types.CodeLensParams(other))
    await editor.finish()
