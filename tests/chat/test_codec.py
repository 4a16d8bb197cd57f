"""Messages as JSON: every field comes back, and what a later version added does no harm."""

from hypothesis import given
from hypothesis import strategies as st

from lsp_assist.chat import codec
from lsp_assist.llm import Message, Relation, Segment, Source, SymbolFacts

TEXTS = st.text(st.characters(exclude_categories=()))  # half surrogate pairs as well
SOURCES = st.builds(Source, TEXTS, st.integers(), st.integers(), TEXTS, TEXTS)
FACTS = st.builds(
    SymbolFacts, TEXTS, TEXTS, TEXTS, st.tuples(st.builds(Relation, TEXTS, SOURCES)), st.just(())
)
SEGMENTS = st.builds(
    Segment,
    st.sampled_from(["system", "hit", "question", "reply"]),
    TEXTS,
    st.none() | SOURCES,
    st.none() | FACTS,
    st.sampled_from(["", "whole", "skeleton"]),
    st.integers(),
    st.integers(),
    TEXTS,
)
MESSAGES = st.builds(
    Message,
    st.sampled_from(["system", "user", "assistant"]),
    st.lists(SEGMENTS, max_size=4).map(tuple),
)


@given(MESSAGES)
def test_a_message_comes_back_whole(message: Message) -> None:
    assert codec.decoded(codec.encoded(message)) == message


def test_every_field_of_a_segment_travels() -> None:
    """A field that is added to the vocabulary needs no change here; this fails if it would."""
    source = Source("a", 1, 2, "s", "/r")
    facts = SymbolFacts("function", "f()", "")
    segment = Segment("hit", "xyz", source, facts, "part", 1, 2, "digest")
    names = set(Segment.__dataclass_fields__)
    changed = {name for name in names if getattr(segment, name) != getattr(_PLAIN, name)}
    assert changed == names, "give the new field another value than its default"
    plain = codec.plain(Message("user", (segment,)))
    assert set(plain["segments"][0]) == names
    assert codec.message_of(plain).segments[0] == segment


_PLAIN = Segment("system", "")


def test_a_field_of_a_later_version_is_passed_over() -> None:
    text = '{"role":"user","segments":[{"kind":"new kind","text":"x","later":[1]}],"more":1}'
    message = codec.decoded(text)
    assert message.text == "x"
