"""A chat as a tree of turns: pure values. Knows no storage, no model and no editor."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from lsp_assist.errors import StillAnswered, UnknownTurn
from lsp_assist.llm import Message

__all__ = ["Chat", "Turn", "TurnStatus"]

TurnStatus = Literal["running", "done", "cancelled", "error"]


@dataclass(frozen=True, slots=True)
class Turn:
    """A question as it was sent and the reply to it, frozen when it ended: editing is a fork."""

    id: str
    parent_id: str | None
    question: Message
    reply: Message
    """What was said until the turn ended, hidden blocks included; empty if nothing was."""
    status: TurnStatus
    opening: tuple[Message, ...] = ()
    """What stood before the first turn when this one was sent. Two editors that begin one chat at
    the same moment may open it with different texts; each branch goes on with its own."""
    mode: str = ""
    personality: str = ""
    model: str = ""
    """The one that answered."""
    created_ns: int = 0
    """Since the epoch; 0 where nobody noted it."""
    ended_ns: int = 0

    @property
    def asked(self) -> str:
        """What the user typed, without the pieces that were shown with it."""
        return "".join(s.text for s in self.question.segments if s.kind == "question")


@dataclass(frozen=True, slots=True)
class Chat:
    """Turns by id, in the order in which they ended; those that still run stand last."""

    id: str
    opening: tuple[Message, ...] = ()
    """What stands before the first turn of a new branch, frozen when the chat starts."""
    turns: Mapping[str, Turn] = field(default_factory=dict)

    def with_turn(self, turn: Turn) -> "Chat":
        """The chat with one more turn.

        Raises: UnknownTurn if its parent is not in this chat.
        """
        if turn.parent_id is not None:
            self.turn(turn.parent_id)
        return replace(self, turns={**self.turns, turn.id: turn})

    def path(self, turn_id: str | None) -> list[Turn]:
        """The turns from the first one to this one; none for None. O(depth).

        Raises: UnknownTurn
        """
        path: list[Turn] = []
        while turn_id is not None:
            path.append(self.turn(turn_id))
            turn_id = path[-1].parent_id
        return path[::-1]

    def answered_path(self, turn_id: str | None) -> list[Turn]:
        """The path, for a question to go on from: nothing in it may still change.

        Raises: UnknownTurn; StillAnswered if a turn of it is still being answered.
        """
        path = self.path(turn_id)
        for turn in path:
            if turn.status == "running":
                raise StillAnswered(
                    f"Turn {turn.id!r} is still being answered; wait for its end or cancel it.",
                    field="parentTurnId",
                )
        return path

    def opening_after(self, turn_id: str | None) -> tuple[Message, ...]:
        """What a question after this turn begins with: what the turn itself began with.

        Raises: UnknownTurn
        """
        return self.turn(turn_id).opening if turn_id is not None else self.opening

    def last_turn_id(self) -> str | None:
        """The turn that ended last, which a question without a parent continues."""
        ended = [turn.id for turn in self.turns.values() if turn.status != "running"]
        return ended[-1] if ended else None

    def turn(self, turn_id: str) -> Turn:
        """The turn with this id.

        Raises: UnknownTurn
        """
        try:
            return self.turns[turn_id]
        except KeyError:
            raise UnknownTurn(
                f"Chat {self.id!r} has no turn {turn_id!r}; ask without `parentTurnId` to continue "
                "after its last one.",
                field="parentTurnId",
            ) from None
