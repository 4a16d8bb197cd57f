"""Code actions on a selection, and their commands for a client that speaks the extension."""

from pathlib import Path
from typing import Any

import pytest

from tests.server.editor import lines
from tests.server.in_process import InProcess

KIND: dict[str, object] = {"codeActionKind": {"valueSet": []}}
LITERALS = {
    "textDocument": {"codeAction": {"codeActionLiteralSupport": KIND}},
    "experimental": {"lspAssist": {"version": 1}},
}
SELECTED = lines((0, 0), (1, 0))
CURSOR = lines((1, 2), (1, 2))
PROBLEM = {"range": lines((1, 4), (1, 10)), "message": "bad\n  return"}


async def offered(
    server: InProcess, root: Path, selected: object = SELECTED, **context: object
) -> list[dict[str, Any]]:
    uri = (root / "a b.py").as_uri()
    text = (root / "a b.py").read_text(encoding="utf-8")
    document = {"uri": uri, "languageId": "python", "version": 3, "text": text}
    server.notify("textDocument/didOpen", {"textDocument": document})
    said = {
        "textDocument": {"uri": uri},
        "range": selected,
        "context": {"diagnostics": []} | context,
    }
    server.request("offer", "textDocument/codeAction", said)
    result = (await server.answer("offer"))["result"]
    assert isinstance(result, list)
    return result


def modes(actions: list[dict[str, Any]]) -> str:
    return " ".join(a["command"]["command"].removeprefix("lsp-assist.") for a in actions)


@pytest.mark.parametrize(
    ("selected", "context", "expected"),
    [
        (SELECTED, {}, "ask explain refactor fix document test"),
        (SELECTED, {"triggerKind": 2}, "ask explain refactor fix document test"),
        (CURSOR, {}, "ask explain refactor fix document test"),
        (CURSOR, {"triggerKind": 1}, "ask explain refactor fix document test"),
        (CURSOR, {"triggerKind": 2}, ""),
        (CURSOR, {"triggerKind": 2, "diagnostics": [PROBLEM]}, "fix"),
        (SELECTED, {"diagnostics": [PROBLEM]}, "fix ask explain refactor document test"),
        (SELECTED, {"only": ["quickfix"]}, ""),
        (SELECTED, {"only": ["quickfix"], "diagnostics": [PROBLEM]}, "fix"),
        (SELECTED, {"only": ["refactor"]}, "refactor fix document"),
        (SELECTED, {"only": ["refactor.rewrite", "source"]}, "refactor fix document"),
        (SELECTED, {"only": ["refactor.r"]}, ""),
        (SELECTED, {"only": ["source.organizeImports"]}, ""),
        (SELECTED, {"only": [""]}, "ask explain refactor fix document test"),
    ],
)
async def test_what_is_offered(
    server: InProcess, root: Path, selected: object, context: dict[str, object], expected: str
) -> None:
    """No light bulb at a bare cursor that only moved; `only` takes kinds below it."""
    await server.start(root, capabilities=LITERALS)

    assert modes(await offered(server, root, selected, **context)) == expected


async def test_kinds_are_announced_and_used(server: InProcess, root: Path) -> None:
    capabilities = (await server.start(root, capabilities=LITERALS))["result"]["capabilities"]

    assert capabilities["codeActionProvider"]["codeActionKinds"] == ["quickfix", "refactor.rewrite"]
    actions = await offered(server, root, diagnostics=[PROBLEM])
    kinds = {action["kind"] for action in actions if "kind" in action}
    assert kinds == {"quickfix", "refactor.rewrite"}
    commands = capabilities["executeCommandProvider"]["commands"]
    assert all(action["command"]["command"] in commands for action in actions)


async def test_a_client_without_code_action_literals_gets_commands(
    server: InProcess, root: Path
) -> None:
    await server.start(root)

    actions = await offered(server, root)
    assert [a["command"] for a in actions][:2] == ["lsp-assist.ask", "lsp-assist.explain"]


@pytest.mark.parametrize("mode", ["explain", "refactor", "fix", "document", "test"])
async def test_a_command_starts_a_turn_and_returns_at_once(
    server: InProcess, root: Path, mode: str
) -> None:
    """What was offered is run as it is; the events of the turn follow its answer."""
    await server.start(root, capabilities=LITERALS)
    actions = await offered(server, root, diagnostics=[PROBLEM])
    (command,) = (a["command"] for a in actions if a["command"]["command"].endswith(mode))

    server.request("run", "workspace/executeCommand", command)

    result = (await server.answer("run"))["result"]
    events = await server.turn(result["turnId"])
    assert {event["chatId"] for event in events} == {result["chatId"]}
    assert [event["seq"] for event in events] == list(range(len(events)))
    text = "".join(event["text"] for event in events if event["kind"] == "delta")
    problem = "Fix this:\n- line 2: bad return" if mode == "fix" else ""
    assert text == f"{mode}|{problem}|a b.py:0-0|def f():\n"
    assert server.sent.index(events[0]["message"]) > server.sent.index(await server.answer("run"))


async def test_the_clients_own_ids_and_question_are_used(server: InProcess, root: Path) -> None:
    await server.start(root, capabilities=LITERALS)
    (first, *_) = await offered(server, root)
    argument = first["command"]["arguments"][0]
    argument |= {"text": "say mine", "chatId": "c", "turnId": "t"}
    said = {"command": "lsp-assist.ask", "arguments": [argument]}

    server.request("run", "workspace/executeCommand", said)

    assert (await server.answer("run"))["result"] == {"chatId": "c", "turnId": "t"}
    assert (await server.turn("t"))[-1]["kind"] == "done"


async def test_a_range_of_an_older_text_is_clamped(server: InProcess, root: Path) -> None:
    """The command acts on the text as it is now."""
    await server.start(root, capabilities=LITERALS)
    actions = await offered(server, root, lines((1, 0), (2, 0)))
    uri = actions[1]["command"]["arguments"][0]["uri"]
    server.notify(
        "textDocument/didChange",
        {"textDocument": {"uri": uri, "version": 9}, "contentChanges": [{"text": "short"}]},
    )

    server.request("run", "workspace/executeCommand", actions[1]["command"])

    events = await server.turn((await server.answer("run"))["result"]["turnId"])
    text = "".join(event["text"] for event in events if event["kind"] == "delta")
    assert text == "explain||a b.py:0-0|short"
