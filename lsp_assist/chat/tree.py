"""A chat as a tree of turns: pure values. Knows no storage, no model and no editor."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from lsp_assist.errors import UnknownTurn
from lsp_assist.llm import Message

__all__ = ["Chat", "Turn", "TurnStatus"]

TurnStatus = Literal["done", "cancelled", "error"]


@dataclass(frozen=True, slots=True)
class Turn:
    """A question as it was sent and the reply to it. Frozen: editing one is a fork."""

    id: str
    parent_id: str | None
    question: Message
    reply: Message
    """What was said until the turn ended, empty if nothing was."""
    status: TurnStatus


@dataclass(frozen=True, slots=True)
class Chat:
    """Turns by id, in the order in which they ended."""

    id: str
    opening: tuple[Message, ...] = ()
    """What stands before the first turn of every branch, frozen when the chat starts."""
    turns: Mapping[str, Turn] = field(default_factory=dict)

    def with_turn(self, turn: Turn) -> "Chat":
        """The chat with one more turn.

        Raises: UnknownTurn if its parent is not in this chat.
        """
        if turn.parent_id is not None:
            self._turn(turn.parent_id)
        return replace(self, turns={**self.turns, turn.id: turn})

    def path(self, turn_id: str | None) -> list[Turn]:
        """The turns from the first one to this one; none for None. O(depth).

        Raises: UnknownTurn
        """
        path: list[Turn] = []
        while turn_id is not None:
            path.append(self._turn(turn_id))
            turn_id = path[-1].parent_id
        return path[::-1]

    def last_turn_id(self) -> str | None:
        """The turn that ended last, which a question without a parent continues."""
        return next(reversed(list(self.turns)), None)

    def _turn(self, turn_id: str) -> Turn:
        try:
            return self.turns[turn_id]
        except KeyError:
            raise UnknownTurn(
                f"Chat {self.id!r} has no turn {turn_id!r}; ask without `parentTurnId` to continue "
                "after its last one.",
                field="parentTurnId",
            ) from None
