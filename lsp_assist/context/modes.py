"""Modes: how to answer, as text that travels in the turn and never in the system text.

Each is a Markdown file named by its mode, in the folder modes/ here or in the user's
`config/modes/`, which wins. It may begin with a header of TOML between two lines `+++`:

    +++
    description = "Explain code to somebody who knows the language"
    temperature = 0.3            # of the model; that of the settings if left out
    answer_length = "normal"     # "brief", "normal" or "long": times the setting `max_tokens`
    context = "auto"             # or "selection": show nothing but what was selected
    hidden_strategy = false      # let the model plan in a block that is not shown
    edits = false                # ask for changes as edit blocks that can be applied
    +++
    What the model is told.

Knows no model and no editor.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_args

from lsp_assist.context.data_files import DataFiles
from lsp_assist.errors import BadInput

__all__ = ["AnswerLength", "ContextPolicy", "Mode", "Modes", "parse"]

AnswerLength = Literal["brief", "normal", "long"]
ContextPolicy = Literal["auto", "selection"]

DEFAULT = "ask"

STRATEGY = (
    "Begin with a block that the user does not see: a line `<meta hidden k=strat>`, then in short"
    " lines the context, what the user expects, what you know, the key takeaways and an outline of"
    " your answer, then a line `</meta>`. The answer follows behind it and does not mention it."
)
EDITS = (
    "Give every change of a file as a block that can be applied: the file's path on a line of its"
    " own, then a fenced block with\n"
    "<<<<<<< SEARCH\n"
    "lines of the file, exactly as they are, enough of them to be found only once\n"
    "=======\n"
    "the lines that take their place\n"
    ">>>>>>> REPLACE\n"
    "For a new file leave the SEARCH part empty. Keep blocks small, one for each place."
)

_LENGTHS: dict[AnswerLength, float] = {"brief": 0.5, "normal": 1.0, "long": 2.0}
_FENCE = "+++"
_MAX_TEMPERATURE = 5.0


@dataclass(frozen=True, slots=True)
class Mode:
    """How to answer."""

    name: str
    description: str = ""
    instructions: str = ""
    temperature: float | None = None
    answer_length: AnswerLength = "normal"
    context: ContextPolicy = "auto"
    hidden_strategy: bool = False
    edits: bool = False

    @property
    def text(self) -> str:
        """What the turn says about how to answer; empty for a plain question."""
        parts = (self.instructions, EDITS * self.edits, STRATEGY * self.hidden_strategy)
        return "\n\n".join(part for part in parts if part)

    def max_tokens(self, normal: int) -> int:
        """The longest reply, where `normal` tokens are the setting."""
        return max(1, round(normal * _LENGTHS[self.answer_length]))


class Modes:
    """The modes there are now: ours, and the user's over them. Looks at the disk when asked."""

    def __init__(self, folder: Path | None = None) -> None:
        self._files = DataFiles("modes", folder, {".md": parse})

    def get(self, name: str) -> Mode:
        """The mode of this name; the plain one for an empty name.

        Raises: BadInput for a mode that there is not.
        """
        known = self._files.values()
        mode = known.get(name or DEFAULT)
        if mode is None:
            names = ", ".join(self.names())
            raise BadInput(f"There is no mode {name!r}; use one of {names}.", field="mode")
        return mode

    def names(self) -> tuple[str, ...]:
        """The modes that can be named, the plain one first."""
        return tuple(mode.name for mode in self.all())

    def all(self) -> tuple[Mode, ...]:
        """Every mode, the plain one first, then by name."""
        modes = self._files.values().values()
        return tuple(sorted(modes, key=lambda mode: (mode.name != DEFAULT, mode.name)))

    def warnings(self) -> tuple[str, ...]:
        """What is wrong with the user's files, in sentences."""
        return self._files.warnings()


def parse(name: str, text: str) -> Mode:
    """The mode that a file describes.

    Raises: ValueError with what is wrong with it
    """
    header, body = _split(text.removeprefix("\ufeff").replace("\r\n", "\n"))
    said = tomllib.loads(header)
    known = {field.name for field in fields(Mode)} - {"name", "instructions"}
    if unknown := sorted(set(said) - known):
        raise ValueError(f"its header has no key {unknown[0]!r}; there are {sorted(known)}")
    _check(said)
    return Mode(name, instructions=body.strip(), **said)


def _split(text: str) -> tuple[str, str]:
    lines = text.split("\n")
    if lines[0].rstrip() != _FENCE:
        return "", text
    for n, line in enumerate(lines[1:], 1):
        if line.rstrip() == _FENCE:
            return "\n".join(lines[1:n]), "\n".join(lines[n + 1 :])
    raise ValueError(f"its header begins with {_FENCE!r} and does not end with it")


def _check(said: Mapping[str, object]) -> None:
    """Raises: ValueError for a value that its key cannot have."""
    choices = {"answer_length": AnswerLength, "context": ContextPolicy}
    for key, value in said.items():
        if key == "description":
            is_right = isinstance(value, str)
        elif key == "temperature":
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            is_right = is_number and 0 <= float(str(value)) <= _MAX_TEMPERATURE
        elif key in choices:
            is_right = value in get_args(choices[key])
        else:
            is_right = isinstance(value, bool)
        if not is_right:
            raise ValueError(f"{key} is {value!r}")
