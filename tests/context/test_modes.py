"""Modes and personalities: files, ours and the user's over them."""

from pathlib import Path

import pytest

from lsp_assist.context import modes
from lsp_assist.context.modes import EDITS, STRATEGY, Modes
from lsp_assist.context.personalities import Personalities, parse_json, parse_toml
from lsp_assist.errors import BadInput

SHIPPED = (
    *("ask", "brainstorm", "code", "document", "explain", "fix", "refactor", "review"),
    *("test", "tutor"),
)


def test_the_shipped_modes() -> None:
    shipped = Modes()
    assert shipped.names() == SHIPPED
    assert shipped.get("").text == shipped.get("ask").text == ""
    for mode in shipped.all():
        assert mode.description
        assert mode.text.endswith(STRATEGY) == mode.hidden_strategy
        assert (EDITS in mode.text) == mode.edits
        assert mode.name == "ask" or mode.instructions
    assert shipped.get("brainstorm").hidden_strategy
    assert shipped.get("code").edits


def test_the_users_file_wins_and_is_read_anew_when_it_changes(tmp_path: Path) -> None:
    known = Modes(tmp_path)
    shipped = known.get("explain")
    file = tmp_path / "explain.md"
    file.write_text("Explain it to a child.")
    assert known.get("explain").text == "Explain it to a child."
    file.write_text('+++\r\nanswer_length = "long"\r\n+++\r\nExplain it to an expert.\r\n')
    assert known.get("explain").text == "Explain it to an expert."
    assert known.get("explain").max_tokens(100) == 200
    file.unlink()
    assert known.get("explain") == shipped
    (tmp_path / "pirate.md").write_text("Talk like a pirate.")
    assert "pirate" in known.names()
    assert known.warnings() == ()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("+++\ntemperature = 0.1\nno end", "does not end"),
        ("+++\ntemperature = \n+++\n", "Invalid value"),
        ("+++\ntemprature = 1\n+++\n", "no key 'temprature'"),
        ("+++\ntemperature = true\n+++\n", "temperature is True"),
        ("+++\ntemperature = 9.0\n+++\n", "temperature is 9.0"),
        ("+++\ntemperature = nan\n+++\n", "temperature is nan"),
        ('+++\nanswer_length = "short"\n+++\n', "answer_length is 'short'"),
        ("+++\ncontext = []\n+++\n", "context is"),
        ("+++\nedits = 1\n+++\n", "edits is 1"),
        ("+++\ninstructions = 'x'\n+++\n", "no key 'instructions'"),
    ],
)
def test_a_broken_file_is_told_and_the_shipped_one_used(
    tmp_path: Path, text: str, problem: str
) -> None:
    (tmp_path / "fix.md").write_text(text)
    (tmp_path / "mine.md").write_text(text)
    known = Modes(tmp_path)
    assert known.get("fix") == Modes().get("fix")
    assert known.names() == SHIPPED
    first, second = known.warnings()
    assert problem in first
    assert "fix.md" in first
    assert "the shipped one is used" in first
    assert "left out" in second
    with pytest.raises(BadInput, match="no mode 'mine'"):
        known.get("mine")


@pytest.mark.parametrize("name", ["nope", "../modes/fix", "fix.md", "Fix"])
def test_an_unknown_mode_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match="There is no mode") as raised:
        Modes().get(name)
    assert raised.value.field == "mode"


def test_files_that_are_none_cost_only_themselves(tmp_path: Path) -> None:
    (tmp_path / "folder.md").mkdir()
    (tmp_path / "gone.md").symlink_to(tmp_path / "nowhere")
    (tmp_path / "large.md").write_text("x" * 200_000)
    (tmp_path / "latin.md").write_bytes(b"caf\xe9")
    (tmp_path / "Upper Case.md").write_text("x")
    (tmp_path / "notes.txt").write_text("x")
    known = Modes(tmp_path)
    assert known.names() == SHIPPED
    assert len(known.warnings()) == 5


def test_a_mode_is_its_text() -> None:
    mode = modes.parse(
        "m", '+++\ndescription = "D"\nedits = true\nhidden_strategy = true\n+++\nDo.'
    )
    assert mode.text == f"Do.\n\n{EDITS}\n\n{STRATEGY}"


def test_traits_say_something_at_their_ends_only() -> None:
    text = "[traits]\nhumor = 9\nformality = 5\nverbosity = 0\ncourage = 4\n"
    personality = parse_toml("p", text)
    assert personality.text == (
        "Your courage is 4 of 10. Be playful where it does no harm; a light joke is welcome."
        " Use as few words as possible."
    )
    as_json = '{"traits": {"humor": 9, "formality": 5, "verbosity": 0, "courage": 4}}'
    assert parse_json("p", as_json) == personality


def test_personalities_are_swapped_while_it_runs(tmp_path: Path) -> None:
    known = Personalities(tmp_path)
    assert [p.name for p in known.all()] == ["buddy", "mentor", "terse"]
    assert all(p.text and p.description for p in known.all())
    assert known.get("").text == ""
    (tmp_path / "terse.json").write_text('{"instructions": "Grunt."}')
    assert known.get("terse").text == "Grunt."
    (tmp_path / "terse.json").write_text('{"traits": {"humor": 11}}')
    assert known.get("terse") == Personalities().get("terse")
    assert "'humor' is 11" in known.warnings()[0]
    for broken in ("[]", "{", '{"trait": {}}', '{"traits": 3}', '{"description": 3}'):
        (tmp_path / "terse.json").write_text(broken)
        assert known.get("terse") == Personalities().get("terse")
        assert known.warnings()
    with pytest.raises(BadInput, match="buddy, mentor, terse"):
        known.get("nobody")
