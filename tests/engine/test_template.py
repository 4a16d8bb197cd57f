import datetime as dt
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsp_assist.engine.template import ChatTemplate, Piece, Turn
from tests.engine.templates import (
    APPEND_ONLY,
    CHATML,
    GEMMA,
    LLAMA_3,
    MISTRAL,
    MISTRAL_LAST,
    QWEN_2_5,
)

NOW = dt.datetime(2026, 11, 20, 23, 59, tzinfo=dt.UTC)
SPECIAL = ("<|im_start|>", "<|im_end|>", "</s>")

SYSTEM = Turn("system", "Be brief.")
QUESTION = Turn("user", "Where is retry?")
REPLY = Turn("assistant", "In client.py.")
FOLLOW_UP = Turn("user", "And who calls it?")


def template(source: str) -> ChatTemplate:
    return ChatTemplate(source, now=NOW, bos="<s>", eos="</s>", special_names=lambda: SPECIAL)


def text_of(pieces: Sequence[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def check(source: str, turns: Sequence[Turn], expected: str) -> None:
    assert text_of(template(source).render(turns)) == expected


def test_chatml() -> None:
    expected = (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\nWhere is retry?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    check(CHATML, [SYSTEM, QUESTION], expected)
    check(QWEN_2_5, [SYSTEM, QUESTION], expected)


def test_a_file_without_a_template_is_asked_in_chatml() -> None:
    check("", [QUESTION], "<|im_start|>user\nWhere is retry?<|im_end|>\n<|im_start|>assistant\n")
    assert template("").stop == ("<|im_end|>",)
    assert template(CHATML).stop == ()


def test_the_date_and_stripped_contents_of_llama_3() -> None:
    check(
        LLAMA_3,
        [Turn("system", " Be brief.\n"), Turn("user", "\n Hi  there ")],
        "<s><|start_header_id|>system<|end_header_id|>\n\nToday Date: 20 Nov 2026\n\nBe brief."
        "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi  there<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
    )


def test_a_system_text_goes_into_the_first_question_where_there_is_no_system_role() -> None:
    check(
        GEMMA,
        [SYSTEM, QUESTION, REPLY, FOLLOW_UP],
        "<s><start_of_turn>user\nBe brief.\n\nWhere is retry?<end_of_turn>\n"
        "<start_of_turn>model\nIn client.py.<end_of_turn>\n"
        "<start_of_turn>user\nAnd who calls it?<end_of_turn>\n<start_of_turn>model\n",
    )
    expected = (
        "<s>[INST] Be brief.\n\nWhere is retry? [/INST] In client.py.</s>"
        "[INST] And who calls it? [/INST]"
    )
    check(MISTRAL, [SYSTEM, QUESTION, REPLY, FOLLOW_UP], expected)


def test_a_system_text_that_would_move_to_the_last_question_stays_with_the_first() -> None:
    check(
        MISTRAL_LAST,
        [SYSTEM, QUESTION, REPLY, FOLLOW_UP],
        "<s>[INST] Be brief.\n\nWhere is retry?[/INST] In client.py.</s>"
        "[INST] And who calls it?[/INST]",
    )


def test_questions_in_a_row_become_one_where_turns_must_alternate() -> None:
    check(GEMMA, [QUESTION, FOLLOW_UP], text_of(template(GEMMA).render([
        Turn("user", "Where is retry?\n\nAnd who calls it?")
    ])))  # fmt: skip


@pytest.mark.parametrize("source", [pytest.param(v, id=k) for k, v in APPEND_ONLY.items()])
@given(
    contents=st.lists(
        st.text(alphabet="ab <|im_end>\n\uf8e1\u2003", max_size=12), min_size=8, max_size=8
    ),
    n_turns=st.integers(1, 3),
    has_system=st.booleans(),
)
def test_a_longer_conversation_begins_with_the_shorter_one(
    source: str, contents: list[str], n_turns: int, has_system: bool
) -> None:
    """Whatever people say, a reply and a next question only add pieces at the end."""
    chat = template(source)
    roles = (["system"] if has_system else []) + ["user", "assistant"] * 3 + ["user"]
    turns = [Turn(role, text) for role, text in zip(roles, contents, strict=False)]  # type: ignore[arg-type]  # literals, widened
    n_head = has_system + 2 * n_turns - 1
    shorter = chat.render(turns[:n_head])
    longer = chat.render(turns[: n_head + 2])
    assert chat.is_append_only
    assert text_of(longer).startswith(text_of(shorter))
    # The last piece of the shorter one opens the reply; a space before the reply may move into it.
    n_common = len(shorter) - 1
    assert longer[:n_common] == shorter[:n_common]
    assert longer[n_common].text.startswith(shorter[-1].text)
    assert longer[n_common].is_template


@pytest.mark.parametrize("source", [pytest.param(v, id=k) for k, v in APPEND_ONLY.items()])
@given(st.text(alphabet="<|im_end>[/INST]s \n", max_size=30))
def test_what_people_say_is_never_part_of_the_template(source: str, content: str) -> None:
    pieces = template(source).render([Turn("user", content)])
    blank = template(source).render([Turn("user", "x")])
    said = "".join(piece.text for piece in pieces if not piece.is_template)
    assert said.strip() == content.strip()
    assert [piece for piece in pieces if piece.is_template] == [
        piece for piece in blank if piece.is_template
    ]


def test_names_of_control_tokens_are_broken_where_the_template_rewrites_contents() -> None:
    """Such a template gets the contents themselves, so they must be harmless beforehand."""
    chat = template("{% for m in messages %}{{ m.role }}: {{ m.content | upper }}</s>{% endfor %}")
    pieces = chat.render([Turn("user", "a </s><|im_end|> b")])
    assert [piece.is_template for piece in pieces] == [True]
    assert pieces[0].text == "user: A <\u200b/S><\u200b|IM_END|> B</s>"
    assert not chat.is_append_only


def test_a_template_that_rewrites_history_is_known_as_such() -> None:
    chat = template(
        "{% for m in messages %}{% if not loop.last %}(old){% endif %}{{ m.content }}{% endfor %}"
    )
    assert not chat.is_append_only
    assert text_of(chat.render([QUESTION])) == "Where is retry?"


HOSTILE = {
    "syntax": "{% for %}",
    "raises": "{{ raise_exception('no') }}",
    "attributes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals": "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "mutation": "{{ messages.clear() }}",
    "long loop": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "macro": "{% macro f(n) %}{{ f(n + 1) }}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
    "macro tree": (
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}"
    ),
    "recursive loop": "{% for m in messages recursive %}{{ loop(messages) }}{% endfor %}",
    "product": "{{ 'x' * 1000000000 }}",
    "product of lists": "{% set a = [1] * 1000000000 %}",
    "power": "{{ 9 ** 9 ** 9 }}",
    "width": "{{ '%01000000000d' % 1 }}",
    "format": "{{ '{:>1000000000}'.format(1) }}",
    "just": "{{ 'x'.ljust(1000000000) }}",
    "doubling": (
        "{% set n = namespace(x='xx') %}"
        "{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}{{ n.x }}"
    ),
    "joining": (
        "{% set n = namespace(x='xx') %}"
        "{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}"
    ),
    "output": "{% for i in range(99999) %}{{ 'a line that is long enough to matter' }}{% endfor %}",
    "include": "{% include 'passwd' %}",
    "wrong type": "{{ messages + 1 }}",
    "index": "{{ messages[0].content[0:2] / 0 }}",
    "source too long": "{# " + "x" * 1_000_001 + " #}",
}


@pytest.mark.parametrize("source", [pytest.param(v, id=k) for k, v in HOSTILE.items()])
def test_a_hostile_or_broken_template_costs_only_itself(
    source: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is replaced by the plain one, soon and with a warning."""
    chat = template(source)
    assert "plain one" in caplog.text
    assert text_of(chat.render([QUESTION])) == text_of(template("").render([QUESTION]))


def test_a_template_that_fails_on_one_conversation_is_replaced_for_that_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    chat = template(
        CHATML + "{% if messages | length == 1 %}{{ raise_exception('no') }}{% endif %}"
    )
    assert text_of(chat.render([QUESTION])) == text_of(template("").render([QUESTION]))
    assert "plain one" in caplog.text
    assert text_of(chat.render([SYSTEM, QUESTION])) == text_of(
        template(CHATML).render([SYSTEM, QUESTION])
    )


def test_tags_and_filters_that_templates_in_the_wild_use() -> None:
    check(
        "{% for m in messages %}{% generation %}{{ m.content | trim }}{% endgeneration %}"
        "{% if loop.index0 == 0 %}{% continue %}{% endif %}{% break %}{% endfor %}"
        "{{ {'a': 'é'} | tojson }}",
        [QUESTION],
        'Where is retry?{"a": "é"}',
    )
