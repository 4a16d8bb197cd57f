from hypothesis import given
from hypothesis import strategies as st

from lsp_assist.engine.decoding import TextDecoder

SHORT = st.text(alphabet="ab|é🙂", max_size=6)


def decode(data: bytes, cuts: list[int], stop: tuple[str, ...]) -> str:
    """The text of the bytes, cut at these places into pieces."""
    decoder = TextDecoder(stop)
    shown = ""
    at = 0
    for cut in [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]:
        shown += decoder.push(data[at:cut])
        at = max(at, cut)
        if decoder.is_stopped:
            break
    return shown + decoder.finish()


def expected(text: str, stop: tuple[str, ...]) -> str:
    """By the definition: read on until a stop string is complete, then drop it."""
    for end in range(len(text) + 1):
        complete = [s for s in stop if s and text[:end].endswith(s)]
        if complete:
            return text[: end - max(map(len, complete))]
    return text


@given(st.binary(max_size=60), st.lists(st.integers(0, 60)))
def test_bytes_give_the_same_text_however_they_are_cut(data: bytes, cuts: list[int]) -> None:
    """Also where they are no UTF-8."""
    assert decode(data, cuts, ()) == data.decode("utf-8", "replace")


@given(
    st.text(alphabet="ab|é🙂", max_size=40),
    st.lists(st.integers(0, 200)),
    st.lists(SHORT, max_size=3).map(tuple),
)
def test_text_ends_before_the_first_stop_string_to_be_complete(
    text: str, cuts: list[int], stop: tuple[str, ...]
) -> None:
    assert decode(text.encode(), cuts, stop) == expected(text, stop)


@given(st.text(alphabet="ab|", max_size=40), st.lists(SHORT.filter(bool), max_size=3).map(tuple))
def test_only_what_may_begin_a_stop_string_is_held_back(text: str, stop: tuple[str, ...]) -> None:
    decoder = TextDecoder(stop)
    shown = ""
    for n_read, character in enumerate(text, start=1):
        shown += decoder.push(character.encode())
        if decoder.is_stopped:
            break
        held = text[len(shown) : n_read]
        assert not held or any(s.startswith(held) for s in stop)


def test_a_character_is_shown_when_its_last_byte_is_there() -> None:
    decoder = TextDecoder()
    assert [decoder.push(bytes([byte])) for byte in "é🙂".encode()] == ["", "é", "", "", "", "🙂"]


def test_text_is_shown_at_once_where_no_stop_string_may_begin() -> None:
    decoder = TextDecoder(("###",))
    assert [decoder.push(piece) for piece in (b"a", b"#", b"b##", b"c#", b"##", b"d")] == [
        "a",
        "",
        "#b",
        "##c",
        "",
        "",
    ]
    assert decoder.is_stopped
    assert decoder.finish() == ""


def test_an_unfinished_character_becomes_a_replacement_character() -> None:
    decoder = TextDecoder()
    assert decoder.push("🙂".encode()[:3]) == ""
    assert decoder.finish() == "\ufffd"
