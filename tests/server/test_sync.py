"""The text at the server is the text in the editor, whatever the encoding and the edits."""

import asyncio
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.server.editor import lines, question
from tests.server.in_process import InProcess

URI = "file:///w/a.py"
UNITS = {"utf-8": ("utf-8", 1), "utf-16": ("utf-16-le", 2), "utf-32": ("utf-32-le", 4)}
PIECES = st.text(st.sampled_from("ab \n\r\x0c\x0b\x1c\x85\u2028é漢😀\t"), max_size=12)
EDITS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60), PIECES), max_size=8)


def position(text: str, offset: int, encoding: str) -> tuple[int, int]:
    """Where an editor says that an offset is, the slow way."""
    before = re.split(r"\r\n|\r(?!\n)|\n", text[:offset])
    codec, n_bytes = UNITS[encoding]
    return len(before) - 1, len(before[-1].encode(codec)) // n_bytes


def legal(text: str, offset: int) -> int:
    """An offset where a cursor can stand: not between the two characters of a line end."""
    offset = min(offset, len(text))
    return offset - 1 if text[offset - 1 : offset + 1] == "\r\n" else offset


@pytest.mark.parametrize("encoding", UNITS)
@given(text=PIECES, edits=EDITS, in_one=st.booleans())
@settings(deadline=None, max_examples=60)
def test_incremental_edits_lead_to_the_same_text(
    encoding: str, text: str, edits: list[tuple[int, int, str]], in_one: bool
) -> None:
    async def play() -> None:
        server = InProcess()
        answer = await server.start(capabilities={"general": {"positionEncodings": [encoding]}})
        assert answer["result"]["capabilities"]["positionEncoding"] == encoding
        document = {"uri": URI, "languageId": "python", "version": 0, "text": text}
        server.notify("textDocument/didOpen", {"textDocument": document})
        expected, changes = text, []
        for one, other, new in edits:
            start, end = sorted((legal(expected, one), legal(expected, other)))
            ends = position(expected, start, encoding), position(expected, end, encoding)
            changes.append({"range": lines(*ends), "text": new})
            expected = expected[:start] + new + expected[end:]
        batches = [changes] if in_one else [[change] for change in changes]
        for version, batch in enumerate(batches, 1):
            server.notify(
                "textDocument/didChange",
                {"textDocument": {"uri": URI, "version": version}, "contentChanges": batch},
            )
        assert await server.stop() == 0
        held = server.server.assistant.workspace.documents.get(URI)
        assert held is not None
        assert held.text.content == expected

    asyncio.run(play())


@pytest.mark.parametrize(
    ("offered", "picked"),
    [
        (["utf-32", "utf-8"], "utf-32"),
        (["utf-7", "utf-8", "utf-16"], "utf-8"),
        (["utf-16"], "utf-16"),
        (["utf-7"], "utf-16"),
        ([], "utf-16"),
        (None, "utf-16"),
    ],
)
async def test_the_clients_first_usable_encoding_is_picked(
    server: InProcess, offered: list[str] | None, picked: str
) -> None:
    general = {} if offered is None else {"positionEncodings": offered}
    answer = await server.start(capabilities={"general": general})

    assert answer["result"]["capabilities"]["positionEncoding"] == picked


@pytest.mark.parametrize(
    ("selected", "seen"),
    [
        (lines((0, 0), (0, 3)), "0-0|a😀"),
        (lines((0, 0), (0, 99)), "0-0|a😀b"),
        (lines((0, 1), (0, 1)), "0-0|a😀b"),
        (lines((1, 0), (2, 0)), "1-1|second\n"),
        (lines((2, 5), (1, 0)), "1-2|second\nthird"),
        (lines((1, 3), (99, 0)), "1-2|ond\nthird"),
        (lines((99, 0), (99, 9)), "2-2|third"),
    ],
)
async def test_a_selection_is_clamped_to_the_text(
    server: InProcess, selected: object, seen: str
) -> None:
    """Neovim's `$` selects one past the end; a stale range may lie beyond the last line."""
    await server.start()
    document = {"uri": URI, "languageId": "python", "version": 1, "text": "a😀b\nsecond\nthird"}
    server.notify("textDocument/didOpen", {"textDocument": document})
    context = {"selection": {"uri": URI, "range": selected, "version": 0}}
    server.request(1, "assist/ask", question("see", mode="fix", context=context))

    assert (await server.answer(1))["result"]["text"] == f"fix|see|{URI}:{seen}"


async def test_a_file_that_is_not_open_is_quoted_from_disk(server: InProcess, root: Path) -> None:
    await server.start(root)
    uri = (root / "a b.py").as_uri()
    context = {"selection": {"uri": uri, "range": lines((1, 4), (1, 99))}}
    server.request(1, "assist/ask", question("see", context=context))

    assert (await server.answer(1))["result"]["text"] == "|see|a b.py:1-1|return 1"


async def test_a_document_that_lost_touch_is_mended_by_a_save(
    server: InProcess, root: Path
) -> None:
    """A change of an older version means that one was lost; what is saved is what the user sees."""
    await server.start(root)
    file = root / "a b.py"
    uri = file.as_uri()
    document = {"uri": uri, "languageId": "python", "version": 5, "text": "old\n"}
    server.notify("textDocument/didOpen", {"textDocument": document})
    change = {"range": lines((0, 0), (0, 0)), "text": "x"}
    server.notify(
        "textDocument/didChange",
        {"textDocument": {"uri": uri, "version": 3}, "contentChanges": [change]},
    )
    file.write_text("saved\n", encoding="utf-8")
    server.notify("textDocument/didSave", {"textDocument": {"uri": uri}})
    server.request(1, "assist/ask", question("documents"))

    assert "saved" in (await server.answer(1))["result"]["text"]


async def test_messages_about_documents_that_are_not_open_are_survived(server: InProcess) -> None:
    await server.start()
    gone = {"textDocument": {"uri": URI, "version": 1}}
    server.notify("textDocument/didChange", gone | {"contentChanges": [{"text": "x"}]})
    server.notify("textDocument/didSave", gone)
    server.notify("textDocument/didClose", gone)
    server.request(1, "assist/ask", question("documents"))

    assert (await server.answer(1))["result"]["text"] == "{}"


async def test_closed_documents_are_forgotten_and_untitled_ones_are_none_the_worse(
    server: InProcess,
) -> None:
    await server.start()
    for uri in ("untitled:Untitled-1", URI, "file:///c%3A/x/y.py"):
        document = {"uri": uri, "languageId": "python", "version": 1, "text": uri}
        server.notify("textDocument/didOpen", {"textDocument": document})
    server.notify("textDocument/didClose", {"textDocument": {"uri": URI}})
    server.request(1, "assist/ask", question("documents"))

    text = (await server.answer(1))["result"]["text"]
    assert "Untitled-1" in text
    assert URI not in text


async def test_changes_on_disk_and_of_folders_reach_the_assistant(
    server: InProcess, root: Path, tmp_path: Path
) -> None:
    await server.start(root)
    other = tmp_path / "second"
    other.mkdir()
    server.notify(
        "workspace/didChangeWatchedFiles",
        {"changes": [{"uri": (root / "new.py").as_uri(), "type": 1}, {"uri": "x:y", "type": 2}]},
    )
    folder = {"uri": other.as_uri(), "name": "second"}
    missing = {"uri": (tmp_path / "gone").as_uri(), "name": "gone"}
    server.notify(
        "workspace/didChangeWorkspaceFolders",
        {"event": {"added": [folder, missing], "removed": [{"uri": root.as_uri(), "name": ""}]}},
    )
    server.request(1, "assist/ask", question("files"))
    server.request(2, "assist/ask", question("roots"))

    assert (await server.answer(1))["result"]["text"] == '["new.py"]'
    assert (await server.answer(2))["result"]["text"] == '["second"]'
    shown = [m["params"]["message"] for m in server.sent if m.get("method") == "window/showMessage"]
    assert len(shown) == 1
    assert "gone" in shown[0]
