"""Personalities: in which tone to answer, beside the mode. The text travels in the turn.

Each is a TOML or JSON file of traits from 0 to 10, and maybe a text of its own, in the folder
personalities/ here or in the user's `config/personalities/`, which wins and is read anew when it
changes:

    description = "A patient mentor"
    instructions = "Praise what is good before what is not."

    [traits]
    humor = 3
    formality = 4
    curiosity = 8

Knows no model and no editor.
"""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lsp_assist.context.data_files import DataFiles
from lsp_assist.errors import BadInput

__all__ = ["Personalities", "Personality", "parse_json", "parse_toml"]

_MAX = 10
_LOW, _HIGH = 3, 7

_TRAITS: dict[str, tuple[str, str]] = {
    "humor": ("Stay serious.", "Be playful where it does no harm; a light joke is welcome."),
    "formality": ("Talk casually, as to a friend.", "Write formally and politely."),
    "curiosity": ("Ask nothing back.", "Ask one short question back about what the user is up to."),
    "patience": ("Come to the point at once.", "Explain patiently, one step after the other."),
    "warmth": ("Stay factual, without praise.", "Be warm and encouraging."),
    "directness": ("Suggest gently.", "Say plainly what is wrong."),
    "verbosity": ("Use as few words as possible.", "Go into the details."),
}
"""What a trait says when it is low and when it is high; between the two it says nothing."""


@dataclass(frozen=True, slots=True)
class Personality:
    """In which tone to answer."""

    name: str
    description: str = ""
    instructions: str = ""
    traits: Mapping[str, float] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """What the turn says about the tone; the same traits give the same text."""
        said = [self.instructions] if self.instructions else []
        for name, value in sorted(self.traits.items()):
            if name not in _TRAITS:
                said.append(f"Your {name.replace('_', ' ')} is {value:g} of {_MAX}.")
            elif value <= _LOW or value >= _HIGH:
                said.append(_TRAITS[name][value >= _HIGH])
        return " ".join(said)


class Personalities:
    """The personalities there are now: ours, and the user's over them."""

    def __init__(self, folder: Path | None = None) -> None:
        parsers = {".toml": parse_toml, ".json": parse_json}
        self._files = DataFiles("personalities", folder, parsers)

    def get(self, name: str) -> Personality:
        """The personality of this name; one without any traits for an empty name.

        Raises: BadInput for one that there is not.
        """
        if not name:
            return Personality("")
        known = self._files.values()
        if name not in known:
            raise BadInput(
                f"There is no personality {name!r}; use one of {', '.join(known)}.",
                field="personality",
            )
        return known[name]

    def all(self) -> tuple[Personality, ...]:
        """Every personality, by name."""
        return tuple(self._files.values().values())

    def warnings(self) -> tuple[str, ...]:
        """What is wrong with the user's files, in sentences."""
        return self._files.warnings()


def parse_toml(name: str, text: str) -> Personality:
    """The personality that a TOML file describes.

    Raises: ValueError with what is wrong with it
    """
    return _personality(name, tomllib.loads(text))


def parse_json(name: str, text: str) -> Personality:
    """The personality that a JSON file describes.

    Raises: ValueError with what is wrong with it
    """
    return _personality(name, json.loads(text))


def _personality(name: str, said: object) -> Personality:
    if not isinstance(said, dict):
        raise ValueError("it must hold an object")
    if unknown := sorted(set(said) - {"description", "instructions", "traits"}):
        raise ValueError(
            f"it has no key {unknown[0]!r}; there are description, instructions, traits"
        )
    traits = said.get("traits", {})
    if not isinstance(traits, dict):
        raise ValueError("its traits must be numbers by name")
    for trait, value in traits.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not 0 <= value <= _MAX:
            raise ValueError(f"the trait {trait!r} is {value!r}; it must be from 0 to {_MAX}")
    texts = [said.get(key, "") for key in ("description", "instructions")]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("description and instructions must be texts")
    return Personality(name, texts[0], texts[1].strip(), traits)
