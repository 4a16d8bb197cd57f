import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsp_assist.engine.llama import Weights
from lsp_assist.engine.prompt_tokens import PromptTokens
from lsp_assist.engine.template import ChatTemplate, Piece, Turn
from tests.engine.templates import APPEND_ONLY, CHATML, MISTRAL
from tests.engine.tiny import SPECIAL

TEXT = st.lists(
    st.sampled_from([*SPECIAL, "</s>", "[INST]", " ", "\n", "retry", "def ", "é", "🙂", "x", "\0"]),
    max_size=12,
).map("".join)


def spelled(weights: Weights, tokens: list[int], *, special: bool = False) -> str:
    return b"".join(weights.piece(token, special=special) for token in tokens).decode()


def chat(weights: Weights, source: str) -> ChatTemplate:
    return ChatTemplate(
        source,
        now=dt.datetime(2026, 11, 20, tzinfo=dt.UTC),
        bos=weights.piece(weights.bos, special=True).decode(),
        eos=weights.piece(weights.eos, special=True).decode(),
        special_names=weights.special_names,
    )


@given(TEXT)
def test_no_text_that_people_write_becomes_a_control_token(weights: Weights, text: str) -> None:
    tokens = PromptTokens(weights).of([Piece(text, is_template=False)])
    assert not any(map(weights.is_control, tokens))
    assert spelled(weights, tokens) == text


@given(TEXT)
def test_nor_where_the_template_rewrites_contents(weights: Weights, text: str) -> None:
    """There the contents are tokenised as a part of the template."""
    upper = "{% for m in messages %}<|im_start|>{{ m.content | lower }}{% endfor %}"
    pieces = chat(weights, upper).render([Turn("user", text)])
    tokens = PromptTokens(weights).of(pieces)
    assert [piece.is_template for piece in pieces] == [True]
    assert sum(map(weights.is_control, tokens)) == 1


def test_the_template_writes_control_tokens(weights: Weights) -> None:
    pieces = chat(weights, CHATML).render([Turn("user", "retry <|im_end|>")])
    tokens = PromptTokens(weights).of(pieces)
    control = [spelled(weights, [t], special=True) for t in tokens if weights.is_control(t)]
    assert control == ["<|im_start|>", "<|im_end|>", "<|im_start|>"]


@pytest.mark.parametrize(
    "text", ["Where is a request retried?", "def retry(n_times=3):\n    return", "é 🙂 x"]
)
def test_a_prompt_has_the_tokens_that_llama_cpp_gives_its_text(weights: Weights, text: str) -> None:
    """Pieces change nothing where the template ends them at control tokens and lines."""
    pieces = chat(weights, CHATML).render([Turn("system", "You are."), Turn("user", text)])
    whole = weights.tokenise("".join(piece.text for piece in pieces), parse_special=True)
    assert PromptTokens(weights).of(pieces) == whole


@pytest.mark.parametrize("text", ["Where is retry", "user", "a b"])
def test_words_keep_the_space_that_a_sentencepiece_template_puts_before_them(
    sentencepiece_weights: Weights, text: str
) -> None:
    weights = sentencepiece_weights
    turns = [Turn("user", text), Turn("assistant", text), Turn("user", text)]
    pieces = chat(weights, MISTRAL).render(turns)
    whole = weights.tokenise("".join(piece.text for piece in pieces), parse_special=True)
    assert PromptTokens(weights).of(pieces) == whole


def test_the_token_that_begins_a_text_is_there_once(sentencepiece_weights: Weights) -> None:
    weights = sentencepiece_weights
    tokens = PromptTokens(weights)
    said = tokens.of([Piece("<s>user", is_template=True)])
    unsaid = tokens.of([Piece("user", is_template=True)])
    assert said == unsaid
    assert said.count(weights.bos) == 1


@pytest.mark.parametrize("source", [pytest.param(v, id=k) for k, v in APPEND_ONLY.items()])
@given(contents=st.lists(TEXT, min_size=6, max_size=6))
def test_the_tokens_of_a_prompt_begin_those_of_the_next(
    weights: Weights, sentencepiece_weights: Weights, source: str, contents: list[str]
) -> None:
    for vocabulary in (weights, sentencepiece_weights):
        roles = ("system", "user", "assistant", "user", "assistant", "user")
        turns = [Turn(role, text) for role, text in zip(roles, contents, strict=True)]  # type: ignore[arg-type]  # literals, widened
        tokens = PromptTokens(vocabulary)
        template = chat(vocabulary, source)
        prompts = [tokens.of(template.render(turns[:n])) for n in (2, 4, 6)]
        assert prompts[1][: len(prompts[0])] == prompts[0]
        assert prompts[2][: len(prompts[1])] == prompts[1]


def test_a_reply_keeps_the_tokens_that_it_was_said_with(weights: Weights) -> None:
    tokens = PromptTokens(weights)
    letters = [token for c in "retry" for token in weights.tokenise(c, parse_special=False)]
    assert tokens.count("retry") < len(letters)
    tokens.remember_reply("retry", letters)
    assert tokens.of([Piece("retry", is_template=False)]) == letters


def test_a_reply_is_not_remembered_with_tokens_that_do_not_spell_it(weights: Weights) -> None:
    """It was cut at a stop string, was no UTF-8, or holds a control token."""
    tokens = PromptTokens(weights)
    usual = tokens.of([Piece("retry", is_template=False)])
    letters = [token for c in "retry" for token in weights.tokenise(c, parse_special=False)]
    tokens.remember_reply("retry", letters[:-1])
    tokens.remember_reply("retry", [*letters, weights.eos])
    tokens.remember_reply("", [])
    assert tokens.of([Piece("retry", is_template=False)]) == usual


def test_what_is_remembered_is_bounded(weights: Weights) -> None:
    tokens = PromptTokens(weights, max_remembered=50)
    for n in range(30):
        tokens.count("x" * n)
        tokens.remember_reply("y" * n, weights.tokenise("y", parse_special=False) * n)
        assert tokens.n_remembered <= 50
