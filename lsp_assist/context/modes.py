"""Modes: how to answer, as text that travels in the turn and never in the system text.

Each is a Markdown file in the folder modes/, named by its file. Knows no model and no editor.
"""

from functools import cache
from importlib import resources

from lsp_assist.errors import BadInput

__all__ = ["instructions", "names"]

_DEFAULT = ("", "ask")


@cache
def names() -> tuple[str, ...]:
    """The modes that can be named, the plain one first."""
    files = (entry.name for entry in resources.files(__package__).joinpath("modes").iterdir())
    return ("ask", *sorted(name.removesuffix(".md") for name in files if name.endswith(".md")))


@cache
def instructions(mode: str) -> str:
    """What a mode tells the model; empty for a plain question.

    Raises: BadInput for a mode that there is not.
    """
    if mode in _DEFAULT:
        return ""
    if mode not in names():
        raise BadInput(f"There is no mode {mode!r}; use one of {', '.join(names())}.", field="mode")
    file = resources.files(__package__).joinpath("modes", f"{mode}.md")
    return file.read_text(encoding="utf-8").strip()
