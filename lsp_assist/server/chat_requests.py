"""The requests about chats that are there: list, show, fork, rename, delete, export, import.

Translates between what travels and what the assistant's chats give. Knows no running turn beyond
that one may have to end first.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable

from lsp_assist.assistant import Assistant
from lsp_assist.chat import exchange, log
from lsp_assist.chat.hidden import visible
from lsp_assist.chat.store import StoredChat
from lsp_assist.chat.tree import Turn
from lsp_assist.errors import BadInput
from lsp_assist.server import protocol
from lsp_assist.server.chat import Turns, source_infos
from lsp_assist.server.protocol import (
    ChatFound,
    ChatInfo,
    ChatParams,
    ChatsParams,
    ChatsResult,
    ChatSummary,
    Empty,
    Exported,
    ExportParams,
    FeedbackParams,
    ForkParams,
    ImportParams,
    ModeInfo,
    ModesResult,
    Named,
    PersonalityInfo,
    RenameParams,
    TurnInfo,
    structure,
    unstructure,
)

__all__ = ["HANDLERS", "Handler"]

MAX_CHATS = 1_000
MAX_LOG_CHARS = 50_000_000
_NS_PER_MS = 1_000_000

Handler = Callable[[Assistant, Turns, object], Awaitable[object]]


async def _list(assistant: Assistant, _turns: Turns, params: object) -> ChatsResult:
    asked = structure(ChatsParams, params)
    if not 1 <= asked.limit <= MAX_CHATS:
        raise BadInput(f"`limit` must be from 1 to {MAX_CHATS:,}", field="limit")
    if asked.query.strip():
        found = await assistant.chats.search(asked.query, asked.limit)
        return ChatsResult(
            (),
            tuple(
                ChatFound(f.chat_id, f.turn_id, f.title, f.excerpt, f.created_ns // _NS_PER_MS)
                for f in found
            ),
        )
    chats = await assistant.chats.summaries(
        None if asked.everywhere else _roots(assistant), asked.limit
    )
    return ChatsResult(
        tuple(
            ChatSummary(
                chat_id=chat.id,
                title=chat.title,
                n_turns=chat.n_turns,
                created_ms=chat.created_ns // _NS_PER_MS,
                updated_ms=chat.updated_ns // _NS_PER_MS,
            )
            for chat in chats
        )
    )


async def _show(assistant: Assistant, _turns: Turns, params: object) -> ChatInfo:
    chat_id = structure(ChatParams, params).chat_id
    return _info(assistant, await assistant.chats.existing(chat_id))


async def _fork(assistant: Assistant, _turns: Turns, params: object) -> ChatInfo:
    asked = structure(ForkParams, params)
    roots = _roots(assistant)
    chats = assistant.chats
    return _info(
        assistant, await chats.fork(asked.chat_id, asked.turn_id, asked.new_chat_id, roots)
    )


async def _rename(assistant: Assistant, _turns: Turns, params: object) -> Named:
    asked = structure(RenameParams, params)
    if not asked.title.strip():
        raise BadInput("`title` must not be empty", field="title")
    return Named(await assistant.chats.rename(asked.chat_id, asked.title))


async def _delete(assistant: Assistant, turns: Turns, params: object) -> Empty:
    chat_id = structure(ChatParams, params).chat_id
    await turns.end(chat_id)
    await assistant.chats.delete(chat_id)
    return Empty()


async def _export(assistant: Assistant, _turns: Turns, params: object) -> Exported:
    asked = structure(ExportParams, params)
    stored = await assistant.chats.existing(asked.chat_id)
    return Exported(await asyncio.to_thread(_log_text, stored, asked.turn_id))


async def _import(assistant: Assistant, _turns: Turns, params: object) -> ChatInfo:
    asked = structure(ImportParams, params)
    if len(asked.text) > MAX_LOG_CHARS:
        raise BadInput(f"a log has at most {MAX_LOG_CHARS:,} characters", field="text")
    roots = _roots(assistant)
    stored = await asyncio.to_thread(
        lambda: exchange.chat_of(log.parse(asked.text), asked.chat_id, roots, _new_id)
    )
    await assistant.chats.add(stored)
    return _info(assistant, await assistant.chats.existing(asked.chat_id))


async def _modes(assistant: Assistant, _turns: Turns, _params: object) -> ModesResult:
    return await asyncio.to_thread(
        lambda: ModesResult(
            tuple(
                ModeInfo(mode.name, mode.description, mode.hidden_strategy, mode.edits)
                for mode in assistant.modes.all()
            ),
            tuple(PersonalityInfo(p.name, p.description) for p in assistant.personalities.all()),
            (*assistant.modes.warnings(), *assistant.personalities.warnings()),
        )
    )


async def _feedback(assistant: Assistant, _turns: Turns, params: object) -> Empty:
    asked = structure(FeedbackParams, params)
    await assistant.chats.judge(asked.turn_id, asked.verdict, asked.text)
    return Empty()


def _travelling(
    handle: Callable[[Assistant, Turns, object], Awaitable[object]],
) -> Handler:
    async def handled(assistant: Assistant, turns: Turns, params: object) -> object:
        return unstructure(await handle(assistant, turns, params))

    return handled


HANDLERS: dict[str, Handler] = {
    protocol.CHATS: _travelling(_list),
    protocol.CHAT: _travelling(_show),
    protocol.FORK: _travelling(_fork),
    protocol.RENAME_CHAT: _travelling(_rename),
    protocol.DELETE_CHAT: _travelling(_delete),
    protocol.EXPORT_CHAT: _travelling(_export),
    protocol.IMPORT_CHAT: _travelling(_import),
    protocol.MODES: _travelling(_modes),
    protocol.FEEDBACK: _travelling(_feedback),
}


def _info(assistant: Assistant, stored: StoredChat) -> ChatInfo:
    return ChatInfo(
        chat_id=stored.chat.id,
        title=stored.title,
        turns=tuple(_turn(assistant, turn) for turn in stored.chat.turns.values()),
        created_ms=stored.created_ns // _NS_PER_MS,
        updated_ms=stored.updated_ns // _NS_PER_MS,
        fork_turn_id=stored.fork_of,
        last_turn_id=stored.chat.last_turn_id(),
    )


def _turn(assistant: Assistant, turn: Turn) -> TurnInfo:
    sources = dict.fromkeys(s.source for s in turn.question.segments if s.source is not None)
    return TurnInfo(
        turn_id=turn.id,
        text=turn.asked,
        reply=visible(turn.reply.text),
        status=turn.status,
        mode=turn.mode,
        personality=turn.personality,
        model=turn.model,
        created_ms=turn.created_ns // _NS_PER_MS,
        sources=tuple(source_infos(assistant, sources)),
        parent_turn_id=turn.parent_id,
    )


def _log_text(stored: StoredChat, turn_id: str | None) -> str:
    return log.render(exchange.log_of(stored, turn_id))


def _roots(assistant: Assistant) -> list[str]:
    return [str(root) for root in assistant.workspace.roots]


def _new_id() -> str:
    return str(uuid.uuid4())
