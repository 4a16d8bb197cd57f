"""`lsp-assist chat`: the chats of an editor or the terminal, and going on with one."""

import asyncio
import json
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import click

from lsp_assist import edits
from lsp_assist.assistant import Assistant, Question
from lsp_assist.chat import exchange, log
from lsp_assist.chat.hidden import visible
from lsp_assist.chat.store import StoredChat, Summary
from lsp_assist.chat.tree import Turn
from lsp_assist.cli import terminal
from lsp_assist.cli.ask import print_reply
from lsp_assist.errors import AssistError, BadInput

__all__ = ["command"]

T = TypeVar("T")

_NS_PER_S = 1_000_000_000
_PROMPT = "> "


@click.group("chat", invoke_without_command=False)
def command() -> None:
    """List, show, search, export, import and delete chats, and go on with one.

    A chat is named by its id or a beginning of it that no other one has.
    """


@command.command("list")
@terminal.folder_option
@click.option("--all", "everywhere", is_flag=True, help="Those of other folders as well.")
@click.option("--limit", "-n", type=click.IntRange(1, 1000), default=20, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array instead of a table.")
def _list(folder: Path, everywhere: bool, limit: int, as_json: bool) -> None:
    """The chats of a folder, newest first."""

    async def listed(assistant: Assistant) -> list[Summary]:
        roots = None if everywhere else [str(root) for root in assistant.workspace.roots]
        return await assistant.chats.summaries(roots, limit)

    chats = _with_chats(folder, listed)
    if as_json:
        said = [
            {"id": c.id, "title": c.title, "turns": c.n_turns, "updatedNs": c.updated_ns}
            for c in chats
        ]
        click.echo(json.dumps(said, indent=2, ensure_ascii=False))
        return
    for chat in chats:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(chat.updated_ns / _NS_PER_S))
        title = terminal.clean(chat.title)
        click.echo(f"{terminal.clean(chat.id)}  {when}  {chat.n_turns:3} turns  {title}")
    if not chats:
        click.echo("No chats yet; `lsp-assist chat new` begins one.", err=True)


@command.command("show")
@click.argument("chat_id")
@terminal.folder_option
@click.option("--turn", default="", help="Only the turns up to this one.")
def _show(chat_id: str, folder: Path, turn: str) -> None:
    """What was said in a chat, without what is hidden."""
    stored = _with_chats(folder, lambda assistant: _named(assistant, chat_id))
    for said in _turns(stored, turn):
        click.secho(f"## You ({terminal.clean(said.id)})", bold=True)
        click.echo(f"\n{terminal.clean(said.asked)}\n")
        click.secho(f"## {terminal.clean(said.model) or 'Assistant'}", bold=True)
        remark = "" if said.status == "done" else f"\n\n[{said.status}]"
        click.echo(f"\n{terminal.clean(visible(said.reply.text)).rstrip()}{remark}\n")


@command.command("search")
@click.argument("words", nargs=-1, required=True)
@terminal.folder_option
@click.option("--limit", "-n", type=click.IntRange(1, 1000), default=20, show_default=True)
def _search(words: Sequence[str], folder: Path, limit: int) -> None:
    """The turns of all chats that hold the words. Exits with 1 if there are none."""
    query = " ".join(words)
    found = _with_chats(folder, lambda assistant: assistant.chats.search(query, limit))
    for hit in found:
        excerpt = terminal.clean(" ".join(hit.excerpt.split()))
        title = terminal.clean(hit.title)
        click.echo(f"{terminal.clean(hit.chat_id)}  {terminal.clean(hit.turn_id)}  {title}")
        click.echo(f"    {excerpt}")
    if not found:
        click.echo("Nothing found.", err=True)
        click.get_current_context().exit(1)


@command.command("export")
@click.argument("chat_id")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@terminal.folder_option
@click.option("--turn", default="", help="Only the turns up to this one.")
def _export(chat_id: str, file: Path | None, folder: Path, turn: str) -> None:
    """Write a chat as a Markdown log, to FILE or standard output."""
    stored = _with_chats(folder, lambda assistant: _named(assistant, chat_id))
    _turns(stored, turn)  # says what is wrong with it
    text = log.render(exchange.log_of(stored, turn or None))
    data = text.encode(errors="replace")
    if file is None:
        sys.stdout.buffer.write(data)
        return
    try:
        file.write_bytes(data)
    except OSError as error:
        terminal.fail(BadInput(f"{str(file)!r} cannot be written: {error.strerror}."))


@command.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@terminal.folder_option
def _import(file: Path, folder: Path) -> None:
    """Make a chat of a Markdown log, ours or somebody else's; `-` reads standard input."""
    try:
        data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        text = data.decode()
    except (OSError, UnicodeDecodeError) as error:
        terminal.fail(BadInput(f"{str(file)!r} cannot be read: {error}."))

    async def imported(assistant: Assistant) -> str:
        roots = [str(root) for root in assistant.workspace.roots]
        chat_id = _new_id()
        await assistant.chats.add(exchange.chat_of(log.parse(text), chat_id, roots, _new_id))
        return chat_id

    click.echo(_with_chats(folder, imported))


@command.command("rename")
@click.argument("chat_id")
@click.argument("title", nargs=-1, required=True)
@terminal.folder_option
def _rename(chat_id: str, title: Sequence[str], folder: Path) -> None:
    """Give a chat another title."""

    async def renamed(assistant: Assistant) -> str:
        stored = await _named(assistant, chat_id)
        return await assistant.chats.rename(stored.chat.id, " ".join(title))

    click.echo(terminal.clean(_with_chats(folder, renamed)))


@command.command("delete")
@click.argument("chat_id")
@terminal.folder_option
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def _delete(chat_id: str, folder: Path, yes: bool) -> None:
    """Delete a chat for good. What forks share with it stays with them."""
    stored = _with_chats(folder, lambda assistant: _named(assistant, chat_id))
    if not yes:
        click.confirm(f"Delete {terminal.clean(stored.title)!r}?", abort=True)
    _with_chats(folder, lambda assistant: assistant.chats.delete(stored.chat.id))


@command.command("fork")
@click.argument("chat_id")
@click.argument("turn_id", required=False)
@terminal.folder_option
def _fork(chat_id: str, turn_id: str | None, folder: Path) -> None:
    """A new chat that begins with the turns up to one, the last one if left out."""

    async def forked(assistant: Assistant) -> str:
        stored = await _named(assistant, chat_id)
        at = turn_id or stored.chat.last_turn_id()
        if at is None:
            raise BadInput("The chat has no turn to fork at; ask something first.")
        new = await assistant.chats.fork(stored.chat.id, at, _new_id())
        return new.chat.id

    click.echo(_with_chats(folder, forked))


def _asking(function: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(
        (
            terminal.folder_option,
            click.option("--model", "-m", type=click.Path(path_type=Path), help="A GGUF file."),
            click.option("--mode", default="", help="How to answer; a file of modes/."),
            click.option("--personality", default="", help="In which tone."),
        )
    ):
        function = option(function)
    return function


@command.command("new")
@click.argument("question", nargs=-1)
@_asking
def _new(
    question: Sequence[str], folder: Path, model: Path | None, mode: str, personality: str
) -> None:
    """Begin a chat with QUESTION, or type several in a row."""
    asked = Question(" ".join(question), _new_id(), "", mode=mode, personality=personality)
    terminal.run(_talk(folder, model, asked, parent=""))


@command.command("ask")
@click.argument("chat_id")
@click.argument("question", nargs=-1)
@click.option("--turn", default="", help="Go on after this turn instead of the last one.")
@_asking
def _ask(
    chat_id: str,
    question: Sequence[str],
    turn: str,
    folder: Path,
    model: Path | None,
    mode: str,
    personality: str,
) -> None:
    """Go on with a chat by QUESTION, or type several in a row."""
    asked = Question(" ".join(question), chat_id, "", mode=mode, personality=personality)
    terminal.run(_talk(folder, model, asked, parent=turn, is_there=True))


async def _talk(
    folder: Path, model: Path | None, asked: Question, *, parent: str, is_there: bool = False
) -> None:
    """Ask once, or as long as lines are typed."""
    settings = terminal.settings_for(folder, path=model)
    async with terminal.assistant(settings, folder) as assistant:
        if is_there:
            stored = await _named(assistant, asked.chat_id)
            asked = replace(asked, chat_id=stored.chat.id)
        is_once = bool(asked.text.strip())
        while True:
            text = asked.text if is_once else await asyncio.to_thread(_typed)
            if text is None:
                break
            if text.strip():
                turn = replace(asked, text=text, turn_id=_new_id(), parent_turn_id=parent or None)
                await print_reply(assistant, turn)
                await _offer_edits(assistant, turn)
                parent = ""
            if is_once:
                break
        click.secho(f"Chat {asked.chat_id}", dim=True, err=True)


def _typed() -> str | None:
    """The next line; None at the end of input."""
    try:
        return input(_PROMPT if sys.stdin.isatty() else "")
    except EOFError:
        return None


async def _offer_edits(assistant: Assistant, turn: Question) -> None:
    """Show what the reply would change, and write it if the user says so."""
    proposal = await assistant.edits_of(turn.chat_id, turn.turn_id)
    for refused in proposal.refused:
        terminal.warn(f"{refused.path}: {refused.reason}")
    if not proposal.files:
        return
    for file in proposal.files:
        click.echo(terminal.clean(file.diff))
    if not sys.stdin.isatty():
        click.echo("Not written: nobody is there to accept the edits.", err=True)
        return
    if await asyncio.to_thread(click.confirm, "Write these changes?"):
        try:
            await asyncio.to_thread(edits.write, proposal)
        except AssistError as error:
            terminal.warn(str(error))
            return
        await assistant.chats.judge(turn.turn_id, "accepted")
        for file in proposal.files:
            assistant.workspace.file_changed(file.file)


def _with_chats(folder: Path, work: Callable[[Assistant], Awaitable[T]]) -> T:
    """What the work gives, with the chats open and no index or model touched."""
    settings = terminal.settings_for(folder)

    async def run() -> T:
        assistant = Assistant(settings, [folder])
        try:
            await assistant.chats.start()
            if assistant.chats.problem is not None:
                raise assistant.chats.problem
            for warning in assistant.chats.warnings:
                terminal.warn(warning)
            return await work(assistant)
        finally:
            await assistant.close()

    return terminal.run(run())


async def _named(assistant: Assistant, name: str) -> StoredChat:
    """The chat with this id, or the only one whose id begins so.

    Raises: UnknownTurn, BadInput
    """
    stored = await assistant.chats.load(name) if name else None
    if stored is not None:
        return stored
    ids = [chat.id for chat in await assistant.chats.summaries(limit=1_000_000)]
    begins = [chat_id for chat_id in ids if chat_id.startswith(name)]
    if len(begins) > 1:
        raise BadInput(f"{name!r} begins {len(begins)} chats' ids; type more of it.")
    return await assistant.chats.existing(begins[0] if begins else name)


def _turns(stored: StoredChat, turn_id: str) -> list[Turn]:
    """The turns up to one, or all of them."""
    try:
        return stored.chat.path(turn_id) if turn_id else list(stored.chat.turns.values())
    except AssistError as error:
        terminal.fail(error)


def _new_id() -> str:
    return str(uuid.uuid4())
