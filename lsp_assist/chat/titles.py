"""The title of a chat, from the first words that were said in it. Pure."""

import re

__all__ = ["first_words"]

MAX_CHARS = 60

_FENCED = re.compile(r"^(`{3,}|~{3,}).*?^\1", re.MULTILINE | re.DOTALL)


def first_words(text: str, instead: str = "") -> str:
    """The first words of a question, on one line and without code; `instead` if there are none."""
    words = _FENCED.sub(" ", text).split()
    title = ""
    for word in words:
        longer = f"{title} {word}".strip()
        if len(longer) > MAX_CHARS:
            return f"{title or word[:MAX_CHARS]} ..."
        title = longer
    return title or instead
