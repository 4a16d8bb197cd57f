"""A server as a process: how it starts, what it prints, and that it ends."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from lsprotocol import types
from pytest_lsp import client_capabilities

from lsp_assist.server.wire import frame
from tests.server.conftest import Launch
from tests.server.editor import REAL, ROOT, SCRIPTED, lines, question


def message(method: str, params: object = None, msg_id: object = None) -> bytes:
    said: dict[str, object] = {"jsonrpc": "2.0", "method": method, "params": params}
    return frame(json.dumps(said | ({} if msg_id is None else {"id": msg_id})).encode())


def hello(process_id: int | None = None, **params: object) -> bytes:
    said = {"processId": process_id, "capabilities": {}, "rootUri": None, **params}
    return message("initialize", said, 1) + message("initialized", {})


def run(command: list[str], said: bytes) -> subprocess.CompletedProcess[bytes]:
    """A server that is told all this, and then that there is no more."""
    return subprocess.run(command, input=said, capture_output=True, cwd=ROOT, check=False)


def bodies(output: bytes) -> list[Any]:
    """The messages in an output that holds nothing else."""
    found = []
    while output:
        head, _, rest = output.partition(b"\r\n\r\n")
        assert head.startswith(b"Content-Length: "), head
        length = int(head.removeprefix(b"Content-Length: "))
        found.append(json.loads(rest[:length]))
        output = rest[length:]
    return found


@asynccontextmanager
async def started(
    command: list[str], said: bytes = b""
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A server that is waiting for more."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *command, stdin=pipe, stdout=pipe, stderr=pipe, cwd=ROOT
    )
    try:
        assert process.stdin is not None
        process.stdin.write(said)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def until(process: asyncio.subprocess.Process, word: bytes) -> bytes:
    """The output up to and with a word."""
    assert process.stdout is not None
    return await process.stdout.readuntil(word)


@pytest.mark.parametrize("command", [SCRIPTED, REAL], ids=["scripted", "real"])
@pytest.mark.parametrize(
    ("goodbye", "code"),
    [
        ([message("shutdown", None, 2), message("exit")], 0),
        ([message("exit")], 1),
        ([message("shutdown", None, 2)], 0),
        ([], 1),
    ],
    ids=["shutdown and exit", "exit alone", "shutdown and end of input", "end of input"],
)
def test_the_exit_code_says_whether_there_was_a_shutdown(
    command: list[str], goodbye: Iterable[bytes], code: int
) -> None:
    ended = run(command, hello() + b"".join(goodbye))

    assert ended.returncode == code
    assert ended.stderr == b""
    assert bodies(ended.stdout)[0]["result"]["serverInfo"]["name"] == "lsp-assist"


def test_exit_before_initialize_ends_the_server() -> None:
    assert run(SCRIPTED, message("exit")).returncode == 1


def test_nothing_but_the_protocol_is_on_stdout() -> None:
    """Prints of Python, of C and of child processes go to stderr."""
    ask = message("assist/ask", question("print"), 2)
    ended = run(SCRIPTED, hello() + ask + message("shutdown", None, 3) + message("exit"))

    assert {m.get("id") for m in bodies(ended.stdout)} >= {1, 2, 3}
    for printed in (b"printed by Python", b"printed by C", b"printed by a child"):
        assert printed in ended.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signals_end_the_server(number: signal.Signals) -> None:
    async with started(SCRIPTED, hello()) as server:
        await until(server, b"serverInfo")
        server.send_signal(number)

        assert await server.wait() == 128 + number


async def test_the_server_ends_with_the_process_that_it_was_named() -> None:
    """Its stdin stays open, as with an editor whose plugin host crashed."""
    editor = await asyncio.create_subprocess_exec("sleep", "600")
    async with started(SCRIPTED, hello(editor.pid)) as server:
        await until(server, b"serverInfo")
        assert server.returncode is None
        editor.kill()
        await editor.wait()

        assert await server.wait() == 1


async def test_a_process_that_is_not_there_is_not_waited_for() -> None:
    """An editor outside of our container sends a number that means nothing here."""
    gone = await asyncio.create_subprocess_exec("true")
    await gone.wait()
    async with started(SCRIPTED, hello(gone.pid) + message("assist/status", {}, 2)) as server:
        await until(server, b"nDocuments")
        assert server.returncode is None


async def test_a_client_that_leaves_in_the_middle_of_a_reply_is_survived() -> None:
    """stdout is closed under a stream: the server ends, without a traceback."""
    said = hello() + message("assist/ask", question("count 100000"), 2)
    async with started(SCRIPTED, said) as server:
        await until(server, b"delta")
        assert server.stdout is not None
        server.stdout._transport.close()  # type: ignore[attr-defined]
        assert server.stderr is not None

        assert await server.wait() == 1
        assert await server.stderr.read() == b""


async def test_a_server_on_a_loopback_port(launch: Launch, home: Path, root: Path) -> None:
    pipe = asyncio.subprocess.PIPE
    server = await asyncio.create_subprocess_exec(*SCRIPTED, "0", stderr=pipe, cwd=ROOT)
    assert server.stderr is not None
    address = (await server.stderr.readline()).decode().removeprefix("Listening on ").strip()
    reader, writer = await asyncio.open_connection(*address.split(":"))
    writer.write(hello() + message("assist/ask", question("say hi"), 2))
    await reader.readuntil(b'"done"')
    writer.write(message("shutdown", None, 3) + message("exit"))

    assert await server.wait() == 0
    writer.close()


@pytest.mark.parametrize("address", ["0.0.0.0:1", "example.org:80", "[::]:1", "x", "1:x", "99999"])
def test_another_address_than_our_own_is_refused(address: str) -> None:
    """Whoever can connect can read what the user can."""
    ended = run([*REAL, "--tcp", address], b"")

    assert ended.returncode == 2
    assert b"Traceback" not in ended.stderr
    assert ended.stderr


async def test_the_first_index_shows_its_progress(launch: Launch) -> None:
    editor = await launch()
    window = types.WindowClientCapabilities(work_done_progress=True)
    await editor.open_session(types.ClientCapabilities(window=window))

    await editor.until_progress_ends()

    (reports,) = editor.reports.values()
    kinds = [report.kind for report in reports]
    assert kinds == ["begin", *["report"] * (len(reports) - 2), "end"]
    assert reports[0].cancellable
    percents = [report.percentage for report in reports[1:-1]]
    assert percents == sorted(set(percents))
    assert percents[-1] == 100
    await editor.finish()


async def test_the_first_index_can_be_cancelled(launch: Launch, root: Path) -> None:
    (root / "HOLD").touch()
    editor = await launch()
    window = types.WindowClientCapabilities(work_done_progress=True)
    await editor.open_session(types.ClientCapabilities(window=window))
    await editor.until(lambda: any(len(r) > 1 for r in editor.reports.values()))

    (token,) = editor.reports
    editor.window_work_done_progress_cancel(types.WorkDoneProgressCancelParams(token))

    await editor.until_progress_ends()
    assert (await editor.ask("say still here", turnId="t"))["text"] == "still here"
    await editor.events("t")
    await editor.finish()


async def test_a_question_during_the_first_index_says_what_it_is_answered_from(
    launch: Launch, root: Path
) -> None:
    (root / "HOLD").touch()
    editor = await launch()
    await editor.open_session()

    assert (await editor.ask("really f?", turnId="t"))["status"] == "done"

    steps = [e["text"] for e in await editor.events("t") if e["kind"] == "step"]
    assert "answering from what is there" in steps[0]
    await editor.finish()


async def test_files_are_watched_where_the_client_can(launch: Launch) -> None:
    editor = await launch()
    watched = types.DidChangeWatchedFilesClientCapabilities(dynamic_registration=True)
    workspace = types.WorkspaceClientCapabilities(did_change_watched_files=watched)
    await editor.open_session(types.ClientCapabilities(workspace=workspace))

    await editor.until(lambda: bool(editor.registered))

    assert [r.method for r in editor.registered] == ["workspace/didChangeWatchedFiles"]
    await editor.finish()


@pytest.mark.parametrize("name", ["neovim@v0.11.0", "neovim@v0.7.0", "visual_studio_code", "emacs"])
async def test_recorded_clients_are_served_from_end_to_end(launch: Launch, name: str) -> None:
    """The real server, asked with the capabilities that real editors declare."""
    editor = await launch(REAL)
    await editor.open_session(client_capabilities(name), speaks_extension=False)
    uri = (editor.root / "a b.py").as_uri()
    editor.open(uri, "def retry():\n    '''Try again.'''\n    return 2\n")
    await editor.until_indexed()

    result = await editor.ask("Where is retry?", turnId="t")

    assert result["status"] == "done"
    assert "retry" in result["text"], "unsaved text is found"
    assert result["sources"][0]["uri"] == uri
    await editor.events("t")
    actions = await editor.text_document_code_action_async(
        types.CodeActionParams(
            types.TextDocumentIdentifier(uri),
            types.Range(types.Position(0, 0), types.Position(1, 0)),
            types.CodeActionContext(diagnostics=[]),
        )
    )
    assert actions
    await editor.finish()


async def test_a_client_with_almost_no_capabilities_is_served(launch: Launch) -> None:
    """It is asked nothing: no request goes to it."""
    editor = await launch(REAL)
    await editor.open_session(speaks_extension=False)
    await editor.until_indexed()

    assert (await editor.ask("Where is f?", turnId="t"))["status"] == "done"

    await editor.events("t")
    assert editor.server_ids == []
    await editor.finish()


async def test_a_question_about_a_selection_is_answered_by_the_real_server(
    launch: Launch, root: Path
) -> None:
    editor = await launch(REAL)
    await editor.open_session()
    uri = (root / "other.py").as_uri()
    editor.open(uri, "def shout(text):\n    return text.upper()\n")

    context = {"selection": {"uri": uri, "range": lines((0, 0), (2, 0)), "version": 1}}
    result = await editor.ask("", turnId="t", mode="explain", context=context)

    assert result["status"] == "done"
    assert "shout" in result["text"]
    assert result["sources"][0]["path"] == "other.py"
    await editor.events("t")
    await editor.finish()


async def test_no_folder_is_no_error(launch: Launch) -> None:
    editor = await launch(REAL)
    await editor.open_session(folders=[])

    result = await editor.ask("Where is f?", turnId="t")

    assert result["status"] == "done"
    assert any("No folder" in e.get("text", "") for e in await editor.events("t"))
    await editor.finish()
