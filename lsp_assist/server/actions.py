"""What an editor offers on a selection, and the commands behind it.

A command starts a turn in the background and returns at once: `$/cancelRequest` cannot stop what
runs inside of workspace/executeCommand in every client. Knows no event and no file.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from lsprotocol import types

from lsp_assist.assistant import Assistant, Question
from lsp_assist.errors import BadInput
from lsp_assist.server import places
from lsp_assist.server.chat import Turns, send_events
from lsp_assist.server.chat_document import APPLY as APPLY_TITLE
from lsp_assist.server.chat_files import ChatFiles
from lsp_assist.server.client import Client
from lsp_assist.server.protocol import (
    CommandArgument,
    CommandResult,
    structure,
    unstructure,
)

__all__ = ["COMMANDS", "KINDS", "code_actions", "code_lenses", "execute"]

_REWRITE = types.CodeActionKind.RefactorRewrite

SEND = "lsp-assist.send"
CANCEL = "lsp-assist.cancel"
APPLY = "lsp-assist.applyEdits"


@dataclass(frozen=True, slots=True)
class _Offer:
    mode: str
    title: str
    kind: types.CodeActionKind | None
    """None for what changes no code: VS Code shows that under "More Actions", while it hides what
    is of kind `source` from the menu of Ctrl+."""

    @property
    def command(self) -> str:
        return f"lsp-assist.{self.mode}"


_OFFERS = (
    _Offer("ask", "Assistant: ask about this", None),
    _Offer("explain", "Assistant: explain", None),
    _Offer("refactor", "Assistant: refactor", _REWRITE),
    _Offer("fix", "Assistant: fix", _REWRITE),
    _Offer("document", "Assistant: document", _REWRITE),
    _Offer("test", "Assistant: write tests", None),
)
_MODES = {offer.command: offer.mode for offer in _OFFERS}

COMMANDS = (*_MODES, SEND, CANCEL, APPLY)
KINDS = (types.CodeActionKind.QuickFix, _REWRITE)

_MAX_DIAGNOSTICS = 20
_MAX_DIAGNOSTIC_CHARS = 500


def code_actions(
    assistant: Assistant, client: Client, chats: ChatFiles, params: types.CodeActionParams
) -> list[types.Command | types.CodeAction]:
    """What can be done with the selection.

    Where the editor asks by itself while the cursor moves, only a selection or a diagnostic is
    answered: else every line would have a light bulb.
    """
    uri, context = params.text_document.uri, params.context
    if chats.path(uri) is not None:
        lenses = code_lenses(chats, uri)
        commands = [lens.command for lens in lenses if lens.command]
        return [] if context.only else [_action(client, command, None) for command in commands]
    is_bare = params.range.start == params.range.end
    is_automatic = context.trigger_kind == types.CodeActionTriggerKind.Automatic
    offered: list[types.Command | types.CodeAction] = []
    document = assistant.workspace.documents.get(uri)
    argument: dict[str, object] = {"uri": uri, "range": params.range}
    if document is not None:
        argument["version"] = document.version
    for offer in sorted(_OFFERS, key=lambda o: o.mode != "fix" or not context.diagnostics):
        kind, said = offer.kind, argument
        if offer.mode == "fix" and context.diagnostics:
            kind = types.CodeActionKind.QuickFix
            said = argument | {"text": _problems(context.diagnostics)}
        elif is_bare and is_automatic:
            continue
        if context.only and not any(_is_kind(kind, wanted) for wanted in context.only):
            continue
        offered.append(_action(client, _command(offer.title, offer.command, said), kind))
    return offered


def code_lenses(chats: ChatFiles, uri: str) -> list[types.CodeLens]:
    """Buttons in a chat document: send what was typed, stop the reply, apply its edits."""
    path = chats.path(uri)
    if path is None:
        return []
    found: list[tuple[int, types.Command]] = []
    if chats.is_running(path):
        found.append((0, _command("Stop the assistant", CANCEL, {"uri": uri})))
    elif pending := chats.pending(path):
        found.append((pending.line, _command("Send to the assistant", SEND, {"uri": uri})))
    if chats.has_edits(path):
        found.append((0, _command(APPLY_TITLE, APPLY, {"uri": uri})))
    starts = [(types.Position(line, 0), command) for line, command in found]
    return [types.CodeLens(types.Range(start, start), command) for start, command in starts]


def execute(
    assistant: Assistant,
    client: Client,
    turns: Turns,
    chats: ChatFiles,
    params: types.ExecuteCommandParams,
) -> object:
    """Start what a command stands for; what it started, for a client that shows chats itself.

    Raises: BadInput
    """
    if params.command not in COMMANDS:
        raise BadInput(
            f"There is no command {params.command!r}; there are {', '.join(COMMANDS)}.",
            field="command",
        )
    arguments = params.arguments or ()
    if len(arguments) != 1:
        raise BadInput(f"{params.command} takes one argument, an object.", field="arguments")
    argument = structure(CommandArgument, arguments[0])
    if params.command in (SEND, CANCEL, APPLY):
        return unstructure(_in_chat(chats, params.command, argument.uri))
    mode = _MODES[params.command]
    return unstructure(_on_selection(assistant, client, turns, chats, mode, argument))


def _in_chat(chats: ChatFiles, command: str, uri: str) -> CommandResult:
    path = chats.path(uri)
    if path is None:
        raise BadInput(f"{uri!r} is no chat document.", field="uri")
    if command == SEND:
        return chats.send(path)
    if command == APPLY:
        return chats.apply(path)
    chats.cancel(path)
    return CommandResult(path.stem)


def _on_selection(
    assistant: Assistant,
    client: Client,
    turns: Turns,
    chats: ChatFiles,
    mode: str,
    argument: CommandArgument,
) -> CommandResult:
    if argument.range is None:
        raise BadInput("required field missing: `range`", field="range")
    selection = places.selection(assistant, client.encoding, argument.uri, argument.range)
    if mode == "ask" and not argument.text.strip():
        return chats.open(selection, argument.uri)
    question = Question(
        text=argument.text,
        chat_id=argument.chat_id or str(uuid.uuid4()),
        turn_id=argument.turn_id or str(uuid.uuid4()),
        mode=mode,
        selection=selection,
    )
    if not client.speaks_extension:
        return chats.ask(question, argument.uri)
    emit = send_events(client.connection, question.chat_id, question.turn_id)
    turns.start(assistant, question, emit)
    return CommandResult(question.chat_id, question.turn_id)


def _command(title: str, command: str, argument: dict[str, object]) -> types.Command:
    return types.Command(title=title, command=command, arguments=[argument])


def _action(
    client: Client, command: types.Command, kind: types.CodeActionKind | None
) -> types.Command | types.CodeAction:
    """The command as a code action, where the client knows more than commands."""
    if not client.takes_code_actions:
        return command
    return types.CodeAction(title=command.title, kind=kind, command=command)


def _is_kind(kind: types.CodeActionKind | None, wanted: types.CodeActionKind | str) -> bool:
    """Whether a kind is the wanted one or below it; the empty kind is above all."""
    wanted = wanted.value if isinstance(wanted, types.CodeActionKind) else wanted
    if not wanted:
        return True
    return kind is not None and (kind.value == wanted or kind.value.startswith(f"{wanted}."))


def _problems(diagnostics: Sequence[types.Diagnostic]) -> str:
    """What is to be fixed, as a question."""
    lines = [
        f"- line {d.range.start.line + 1}: {' '.join(d.message.split())[:_MAX_DIAGNOSTIC_CHARS]}"
        for d in diagnostics[:_MAX_DIAGNOSTICS]
    ]
    return "\n".join(["Fix this:", *lines])
