"""What a declaration says that its value is: the type of a field, what a function returns.

Reads signatures as the outline gives them. Knows no parser and no other symbol.
"""

import re

from lsp_assist.codebase.receivers import made_type, written_type
from lsp_assist.codebase.symbols import FUNCTION_KINDS

__all__ = ["declared_type"]

_TYPE_FIRST = frozenset({"c", "cpp", "java", "csharp"})
_ARROW = frozenset({"python", "rust", "swift"})
_COLON = frozenset({"typescript", "tsx", "kotlin", "scala"})
_LAST_TYPE = re.compile(r"([^\W\d][\w.:]*)\s*(?:<.*>|\[\])?[\s*&]*$")
_MADE = re.compile(r"\s*(?::=|=)\s*(?:await\s+|new\s+|&)?([^\W\d][\w.:]*)(?:<[^()]*>)?\s*[({]")
_ANNOTATED = re.compile(r"\s*[?!]?:(?!:)\s*([^=]+)")
_GO_TYPE = re.compile(r"\s+(\*?(?:\[\])?[\w.]+)")


def declared_type(name: str, kind: str, signature: str, language: str) -> str:
    """What using the symbol gives, `Session()` for an instance; empty if it does not say."""
    at = _name_at(name, signature)
    if at < 0:
        return ""
    before, after = signature[:at], signature[at + len(name) :]
    if language in _TYPE_FIRST:
        found = _LAST_TYPE.search(before)
        if found and found[1] != "auto":
            return written_type(found[1])
        return _made(after) if kind not in FUNCTION_KINDS else ""
    if kind in FUNCTION_KINDS:
        return _returned(after, language)
    if annotated := _ANNOTATED.match(after):
        return written_type(annotated[1])
    if made := _made(after):
        return made
    typed = _GO_TYPE.match(after) if language == "go" else None
    return written_type(typed[1]) if typed else ""


def _name_at(name: str, signature: str) -> int:
    """Where the name stands as a whole word: the last one before the parameters."""
    head = re.search(rf"(?<!\w){re.escape(name)}(?!\w)\s*(?:<[^()]*>|\[[^()]*\])?\s*\(", signature)
    found = head or re.search(rf"(?<!\w){re.escape(name)}(?!\w)", signature)
    return found.start() if found else -1


def _made(after: str) -> str:
    found = _MADE.match(after)
    return made_type(found[1]) if found else ""


def _returned(after: str, language: str) -> str:
    """The type behind the parameters."""
    rest = after[_parameters_end(after) :]
    if language in _ARROW:
        return written_type(rest.partition("->")[2])
    if language in _COLON:
        found = _ANNOTATED.match(rest)
        return written_type(found[1]) if found else ""
    return written_type(rest) if language == "go" else ""


def _parameters_end(text: str) -> int:
    depth = 0
    for at, char in enumerate(text):
        if char == "(":
            depth += 1
        elif char == ")":
            depth -= 1
            if depth == 0:
                return at + 1
    return len(text)
