"""Flows: what happens between a question and its answer, one file each.

A flow is an async generator of the events below. It knows models and context through their doors,
and neither LSP nor the terminal.
"""

from dataclasses import dataclass
from typing import Literal

from lsp_assist.llm import Message, Source, Usage

__all__ = ["Asked", "Done", "Event", "Opened", "Step", "Text", "Titled"]


@dataclass(frozen=True, slots=True)
class Step:
    """What is being done, for a status line."""

    text: str


@dataclass(frozen=True, slots=True)
class Opened:
    """What the chat begins with: system text, memory, workspace. Frozen from here on."""

    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """The question as it is sent, with all that is shown beside it. Frozen from here on."""

    message: Message


@dataclass(frozen=True, slots=True)
class Titled:
    """The title that the chat has from now on."""

    title: str


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the reply."""

    text: str


@dataclass(frozen=True, slots=True)
class Done:
    """The end of a reply: always the last event of a flow that was not cancelled."""

    text: str
    """The whole reply."""
    sources: tuple[Source, ...]
    """What the reply was given to read, in the order shown."""
    usage: Usage
    status: Literal["done"] = "done"


Event = Step | Opened | Asked | Titled | Text | Done
