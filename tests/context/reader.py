"""Makes tokens of prompts as the engine does: real vocabularies, llama.cpp, any chat template."""

import datetime as dt
from collections.abc import Sequence

from lsp_assist.engine.llama import Weights
from lsp_assist.engine.prompt_tokens import PromptTokens
from lsp_assist.engine.template import ChatTemplate, Piece
from lsp_assist.engine.template import Turn as EngineTurn
from lsp_assist.llm import Prompt
from tests.engine import templates

__all__ = ["TEMPLATES", "Reader"]

TEMPLATES = {
    "ChatML": templates.CHATML,
    "Qwen 2.5": templates.QWEN_2_5,
    "Llama 3": templates.LLAMA_3,
    "Gemma": templates.GEMMA,
    "Mistral": templates.MISTRAL,
    "Mistral, system last": templates.MISTRAL_LAST,
}


class Reader:
    """Makes tokens of prompts as the engine does."""

    def __init__(self, weights: Weights, source: str) -> None:
        now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
        self._chat = ChatTemplate(source, now=now, special_names=weights.special_names)
        self._tokens = PromptTokens(weights)
        self._weights = weights

    def tokens(self, prompt: Prompt) -> list[int]:
        """All of it, up to where the reply begins."""
        return self._tokens.of(self._pieces(prompt))

    def open_tokens(self, prompt: Prompt) -> list[int]:
        """Without what the template puts behind the last content."""
        return self._tokens.of(self._pieces(prompt)[:-1])

    def text(self, tokens: Sequence[int]) -> str:
        """What the tokens say."""
        return b"".join(map(self._weights.piece, tokens)).decode()

    def _pieces(self, prompt: Prompt) -> tuple[Piece, ...]:
        return self._chat.render([EngineTurn(m.role, m.text) for m in prompt.messages])
