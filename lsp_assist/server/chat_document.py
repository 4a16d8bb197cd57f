"""A chat as a Markdown document, for editors that have no chat window of ours.

The user types below the last heading; what is said is appended. Only lines that are exactly one of
our headings count as headings. Pure: knows no editor, no file and no chat store.
"""

import re
from dataclasses import dataclass
from urllib.parse import quote as percent_encoded

__all__ = [
    "ANSWER",
    "APPLY",
    "QUESTION",
    "Pending",
    "Quote",
    "Shield",
    "asked",
    "new",
    "pending",
    "tail",
]

QUESTION = "## You"
ANSWER = "## Assistant"
APPLY = "Apply the edits"
"""What the button below a reply with edits says."""

_TITLE = "# Chat"
_HINT = (
    "<!-- Type below the last heading, then pick the code action or code lens "
    '"Send to the assistant". -->'
)
# Lines end as in LSP; str.splitlines would also split at form feeds.
_LINE_END = re.compile(r"\r\n|\r|\n")
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
_LINK = re.compile(r"^\[(?P<title>[^\]\n]*)\]\((?P<uri>[^)\s#]+)#L(?P<start>\d+)-L(?P<end>\d+)\)$")


@dataclass(frozen=True, slots=True)
class Quote:
    """Selected code. Lines zero-based, `end_line` included."""

    uri: str
    path: str
    start_line: int
    end_line: int
    text: str = ""
    language: str = ""


@dataclass(frozen=True, slots=True)
class Pending:
    """What stands below the last heading, waiting to be sent."""

    line: int
    """Of the heading, zero-based."""
    text: str
    quote: Quote | None
    """Where the code is that it is about; not its text, which may have changed since."""


def new(quote: Quote | None = None) -> str:
    """A chat without turns, ready to type in."""
    return f"{_TITLE}\n\n{_HINT}\n\n{QUESTION}\n\n" + (_quoted(quote) if quote else "")


def asked(text: str, quote: Quote | None = None) -> str:
    """A chat whose first question was asked by a command."""
    return new(quote) + text.strip()


def pending(document: str) -> Pending | None:
    """The question at the end of the document; None if there is nothing to send."""
    lines = _LINE_END.split(document)
    start = _last_heading(lines)
    if start is None or lines[start] != QUESTION:
        return None
    body = "\n".join(lines[start + 1 :]).strip()
    quote = None
    first, _, rest = body.partition("\n")
    if link := _LINK.match(first.strip()):
        quote = Quote(
            link["uri"], link["title"], int(link["start"]) - 1, max(int(link["end"]) - 1, 0)
        )
        body = _without_fence(rest.strip())
    return Pending(start, body, quote) if body or quote else None


def tail(document: str) -> int:
    """Where the running reply goes on: the offset of the end of the last answer, else of all.

    What the user types meanwhile below a heading of their own stays below.
    """
    end = len(document)
    for match in reversed(list(re.finditer(r"^## (?:You|Assistant)\r?$", document, re.MULTILINE))):
        if match[0].rstrip("\r") == ANSWER:
            return end
        end = match.start()
    return len(document)


class Shield:
    """Lets a reply pass piece by piece, and keeps its lines from being taken for our headings."""

    def __init__(self) -> None:
        self._held = ""
        self._is_at_line_start = True

    def feed(self, text: str) -> str:
        """What can be shown by now; a line that may become a heading is held back."""
        text = self._held + text
        self._held = ""
        shown: list[str] = []
        for line in _LINE.findall(text):
            is_whole = line.endswith(("\n", "\r"))
            if self._is_at_line_start:
                if not is_whole and _may_become_heading(line):
                    self._held = line
                    break
                if line.rstrip() in (QUESTION, ANSWER):
                    line = " " + line  # noqa: PLW2901  still a heading in Markdown, none of ours
            shown.append(line)
            self._is_at_line_start = is_whole
        return "".join(shown)

    def rest(self) -> str:
        """What was held back, at the end of the reply."""
        held, self._held = self._held, ""
        return " " + held if held.rstrip() in (QUESTION, ANSWER) else held


def _may_become_heading(line: str) -> bool:
    said = line.rstrip()
    return any(heading.startswith(said) for heading in (QUESTION, ANSWER)) if said else False


def _last_heading(lines: list[str]) -> int | None:
    found = (i for i in range(len(lines) - 1, -1, -1) if lines[i] in (QUESTION, ANSWER))
    return next(found, None)


def _quoted(quote: Quote) -> str:
    first, last = quote.start_line + 1, quote.end_line + 1
    where = f"line {first}" if first == last else f"lines {first} to {last}"
    title = re.sub(r"[\[\]\n]", "_", quote.path)
    uri = percent_encoded(quote.uri, safe="%:/@!$&'*+,;=~?-._")
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", quote.text)), default=0))
    code = quote.text.rstrip("\n")
    link = f"[{title}, {where}]({uri}#L{first}-L{last})"
    return f"{link}\n\n{fence}{quote.language}\n{code}\n{fence}\n\n"


def _without_fence(body: str) -> str:
    """The text behind the fenced block that it begins with."""
    opening = re.match(r"(`{3,})[^`\n]*\n", body)
    if opening is None:
        return body
    closing = re.compile(rf"^{opening[1]}[ \t]*$", re.MULTILINE).search(body, opening.end())
    return body[closing.end() :].strip() if closing else body
