"""A conversation as a model was trained to read it, by the Jinja chat template of its GGUF file.

Two things are untrusted here. The template is somebody else's program: it runs in a sandbox. And
what people and files say must stay text: a source file that contains `<|im_end|>` must not end the
turn. So the template never sees the contents. It renders marks in their place, and what comes out
is cut at the marks into pieces of template, which may be tokenised with control tokens, and pieces
of content, which may not.

A piece is the same in every prompt that it occurs in, and is tokenised by itself. So if the pieces
of one prompt begin those of another, its tokens do as well: the prompt of a branch only grows at
its end. Knows no llama.cpp and no token.
"""

import datetime as dt
import itertools
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lsp_assist.engine.sandbox import SandboxedTemplate, TemplateFailed
from lsp_assist.llm import Role

__all__ = ["ChatTemplate", "Piece", "Turn"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a rendered conversation."""

    text: str
    is_template: bool
    """Whether it was written by the template, and may name control tokens."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One message, as templates know it."""

    role: Role
    content: str


class ChatTemplate:
    """Renders conversations, and does for the template what it cannot.

    - It knows no system role, or moves the system text to the last message: the text is put before
      the first user message.
    - It wants user and assistant to alternate: messages of one role in a row become one.
    - It changes contents (all but stripping, which is done here in its place): they are rendered
      plainly, with the names of control tokens in them broken by a zero-width space.
    - It is missing or broken: a plain ChatML.
    """

    def __init__(
        self,
        source: str,
        *,
        now: dt.datetime,
        bos: str = "",
        eos: str = "",
        special_names: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        """`bos`, `eos`: how the file spells these tokens. `special_names`: all control tokens,
        longest first; asked for only where contents must be rendered plainly. `now` stays, so that
        a date in the template does not change the prompt of a chat at midnight.
        """
        self._special_names = special_names
        self._now = now
        self._variables = {"bos_token": bos, "eos_token": eos, "tools": None, "documents": None}
        style = self._style(source) if source.strip() else None
        self.stop: tuple[str, ...] = () if style else ("<|im_end|>",)
        """Texts that end a reply, where the vocabulary may have no token for it."""
        self._chosen = style or self._chatml()

    @property
    def is_append_only(self) -> bool:
        """Whether a longer conversation begins with the shorter one.

        Where it does not, the template rewrites history, and old turns are computed again.
        """
        return self._chosen.is_append_only

    def render(self, turns: Sequence[Turn]) -> tuple[Piece, ...]:
        """The pieces of the conversation, up to where the reply begins."""
        style = self._chosen
        if style.arrange is not None:
            arranged = style.arrange(turns)
            for candidate in (arranged, _merged(arranged)):
                pieces = self._marked(style.template, candidate)
                if pieces is not None:
                    return pieces
        try:
            return self._plain(style.template, _merged(_folded(turns)))
        except TemplateFailed as error:
            logger.warning("The chat template fails (%s); a plain one is used.", error)
            pieces = self._marked(self._chatml().template, turns)
            assert pieces is not None, "our own template takes any turns"
            return pieces

    # ---- choosing, once

    def _style(self, source: str) -> "_Style | None":
        """How to use the template, found by trying; None, with a warning, if it cannot be."""
        try:
            template = SandboxedTemplate(source, now=self._now)
            rewriting = None
            for arrange in (_as_they_are, _folded):
                texts = [self._text(template, arrange(turns)) for turns in _PROBES]
                if "" in texts:
                    continue
                if all(b.startswith(a) for a, b in itertools.pairwise(texts)):
                    return _Style(template, arrange, is_append_only=True)
                rewriting = rewriting or _Style(template, arrange, is_append_only=False)
            if rewriting is None:
                self._plain(template, _folded(_PROBES[0]))
            return rewriting or _Style(template, None, is_append_only=False)
        except TemplateFailed as error:
            logger.warning("The chat template cannot be used (%s); a plain one is.", error)
            return None

    def _chatml(self) -> "_Style":
        template = SandboxedTemplate(_CHATML, now=self._now)
        return _Style(template, _as_they_are, is_append_only=True)

    def _text(self, template: SandboxedTemplate, turns: Sequence[Turn]) -> str:
        return "".join(piece.text for piece in self._marked(template, turns) or ())

    # ---- rendering

    def _marked(
        self, template: SandboxedTemplate, turns: Sequence[Turn]
    ) -> tuple[Piece, ...] | None:
        """The pieces, by way of marks; None if the marks do not all come back, in order."""
        try:
            text = self._run(
                template, [Turn(turn.role, _mark(index)) for index, turn in enumerate(turns)]
            )
        except TemplateFailed as error:
            logger.debug("The chat template fails on %s: %s", [t.role for t in turns], error)
            return None
        matches = list(_MARK.finditer(text))
        if [int(match["index"]) for match in matches] != list(range(len(turns))):
            return None
        pieces: list[Piece] = []
        at = 0
        for match, turn in zip(matches, turns, strict=True):
            # What the template strips from a mark it would strip from the content.
            content = turn.content if match["left"] else turn.content.lstrip()
            content = content if match["right"] else content.rstrip()
            # In most vocabularies a word takes the space before it into its token.
            before = text[at : match.start()]
            bare = before.rstrip(" ")
            pieces.append(Piece(bare, is_template=True))
            pieces.append(Piece(before[len(bare) :] + content, is_template=False))
            at = match.end()
        pieces.append(Piece(text[at:], is_template=True))
        return tuple(piece for piece in pieces if piece.text)

    def _plain(self, template: SandboxedTemplate, turns: Sequence[Turn]) -> tuple[Piece, ...]:
        """One piece for all, with the contents made harmless."""
        names = [name for name in self._special_names() if len(name) > 1]
        pattern = re.compile("|".join(map(re.escape, names)) or "(?!)")

        def harmless(text: str) -> str:
            return pattern.sub(lambda match: match[0][0] + "\u200b" + match[0][1:], text)

        text = self._run(template, [Turn(turn.role, harmless(turn.content)) for turn in turns])
        return (Piece(text, is_template=True),)

    def _run(self, template: SandboxedTemplate, turns: Sequence[Turn]) -> str:
        messages = [{"role": turn.role, "content": turn.content} for turn in turns]
        limit_chars = _MAX_TEMPLATE_CHARS + 4 * sum(len(turn.content) for turn in turns)
        limit_steps = _MAX_STEPS + 200 * len(turns)
        return template.render(
            limit_chars,
            limit_steps,
            messages=messages,
            add_generation_prompt=True,
            **self._variables,
        )


# ---- arranging -----------------------------------------------------------------------------

_Arrange = Callable[[Sequence[Turn]], Sequence[Turn]]


@dataclass(frozen=True, slots=True)
class _Style:
    """How a template is to be used."""

    template: SandboxedTemplate
    arrange: _Arrange | None
    """None where marks do not survive it."""
    is_append_only: bool


def _as_they_are(turns: Sequence[Turn]) -> Sequence[Turn]:
    return turns


def _folded(turns: Sequence[Turn]) -> list[Turn]:
    """The turns with the system's text put before the user's first."""
    system = [turn.content for turn in turns if turn.role == "system"]
    others = [turn for turn in turns if turn.role != "system"]
    if not system:
        return others
    first = others[0].content if others and others[0].role == "user" else None
    head = Turn("user", "\n\n".join([*system, *([first] if first is not None else [])]))
    return [head, *(others[1:] if first is not None else others)]


def _merged(turns: Sequence[Turn]) -> list[Turn]:
    """The turns with neighbours of one role made one."""
    merged: list[Turn] = []
    for turn in turns:
        if merged and merged[-1].role == turn.role:
            merged[-1] = Turn(turn.role, f"{merged[-1].content}\n\n{turn.content}")
        else:
            merged.append(turn)
    return merged


_ROUND = (Turn("assistant", "x"), Turn("user", "x"))
_START = (Turn("system", "x"), Turn("user", "x"))
_PROBES: tuple[Sequence[Turn], ...] = (_START, _START + _ROUND, _START + _ROUND + _ROUND)

# ---- marks ---------------------------------------------------------------------------------

# An em space on either side tells whether the template strips, since `str.strip` takes it; letters
# of both cases do not come back from one that changes case; the rest is for private use.
_MARK = re.compile("(?P<left>\u2003?)\uf8e1aZ(?P<index>[0-9]+)\uf8e2(?P<right>\u2003?)")


def _mark(index: int) -> str:
    return f"\u2003\uf8e1aZ{index}\uf8e2\u2003"


# What a template may take, beside its share for each turn.
_MAX_TEMPLATE_CHARS = 1_000_000
_MAX_STEPS = 20_000

# ---- without a template --------------------------------------------------------------------

_CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
