"""Options become settings: order of sources, types, ranges, and what a workspace may say."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsp_assist.config import WORKSPACE_FILE, Settings, resolve
from lsp_assist.errors import SettingError


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home" / "config").mkdir(parents=True)
    return tmp_path / "home"


def settings(
    home: Path, *, user: str = "", workspace: str | None = None, **environ: str
) -> Settings:
    (home / "config" / "config.toml").write_text(user, "utf-8")
    folder = None
    if workspace is not None:
        folder = home / "workspace"
        folder.mkdir(exist_ok=True)
        (folder / WORKSPACE_FILE).write_text(workspace, "utf-8")
    return resolve(workspace=folder, environ={"LSP_ASSIST_HOME": str(home), **environ})


def test_without_any_file_the_defaults_apply(tmp_path: Path) -> None:
    found = resolve(environ={"LSP_ASSIST_HOME": str(tmp_path)})
    assert found.model.path is None
    assert found.places.cache == tmp_path / "cache"
    assert not found.warnings


def test_the_environment_wins_over_the_file_and_overrides_win_over_both(home: Path) -> None:
    (home / "config" / "config.toml").write_text("[model]\nn_ctx = 1000\nmax_tokens = 7\n")
    environ = {"LSP_ASSIST_HOME": str(home), "LSP_ASSIST_MODEL_N_CTX": "2000"}
    assert resolve(environ=environ).model.n_ctx == 2000
    assert resolve({"model": {"n_ctx": 3000}}, environ=environ).model.n_ctx == 3000
    assert resolve(environ=environ).model.max_tokens == 7


@pytest.mark.parametrize(
    ("user", "field", "wanted"),
    [
        ("[model]\nn_ctx = 'many'", "model.n_ctx", "a whole number"),
        ("[model]\nn_ctx = 3", "model.n_ctx", "between 256"),
        ("[model]\nn_ctx = true", "model.n_ctx", "a whole number"),
        ("[model]\npath = 5", "model.path", "a path"),
        ("[model]\ncolour = 5", "model.colour", "Unknown setting"),
        ("[motor]\nx = 1", "motor", "Unknown section"),
        ("model = 3", "model", "not a table"),
        ("[log]\nlevel = 'loud'", "log.level", "one of"),
        ("[index]\nexclude = 'x'", "index.exclude", "a list of strings"),
        ("[model]\ntemperature = nan", "model.temperature", "between 0"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(home: Path, user: str, field: str, wanted: str) -> None:
    with pytest.raises(SettingError, match=wanted) as raised:
        settings(home, user=user)
    assert raised.value.field == field


def test_a_broken_user_file_is_named(home: Path) -> None:
    with pytest.raises(SettingError, match=r"config\.toml.*cannot be read"):
        settings(home, user="[model")


def test_a_wrong_environment_variable_is_refused(home: Path) -> None:
    with pytest.raises(SettingError, match=r"model\.n_ctx"):
        settings(home, LSP_ASSIST_MODEL_N_CTX="lots")


def test_a_workspace_can_only_narrow(home: Path) -> None:
    """Its patterns are added, its limits can only go down, whatever it says."""
    user = "[index]\nexclude = ['a']\nmax_file_bytes = 1000"
    found = settings(home, user=user, workspace="[index]\nexclude = ['b']\nmax_file_bytes = 9999")
    assert found.index.exclude == ("a", "b")
    assert found.index.max_file_bytes == 1000
    found = settings(home, user=user, workspace="[index]\nmax_file_bytes = 10")
    assert found.index.max_file_bytes == 10


@pytest.mark.parametrize(
    "said",
    [
        "[model]\npath = 'evil.gguf'",
        "[log]\nfile = '/etc/passwd'",
        "[network]\nurl = 'http://x'",
        "x = 1",
    ],
)
def test_a_workspace_may_not_name_models_paths_or_addresses(home: Path, said: str) -> None:
    found = settings(home, workspace=said)
    assert found.model.path is None
    assert found.log.file is None
    assert len(found.warnings) == 1
    assert "may not set" in found.warnings[0]


@pytest.mark.parametrize("said", ["[index", "[index]\nmax_files = 'x'", "\x00"])
def test_a_broken_workspace_file_costs_only_itself(home: Path, said: str) -> None:
    found = settings(home, user="[model]\nn_ctx = 999", workspace=said)
    assert found.model.n_ctx == 999
    assert len(found.warnings) == 1


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "huge", "deep", "binary"])
def test_whatever_a_workspace_put_in_the_place_of_its_settings_costs_only_them(
    home: Path, kind: str
) -> None:
    """Nothing hangs, nothing is read without end."""
    folder = home / "workspace"
    folder.mkdir()
    path = folder / WORKSPACE_FILE
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "device":
            path.symlink_to("/dev/zero")
        case "huge":
            with path.open("wb") as file:
                file.truncate(50_000_000)
        case "deep":
            path.write_text("x = " + "[" * 100_000)
        case "binary":
            path.write_bytes(b"\xff\xfe\x00")
    found = resolve(workspace=folder, environ={"LSP_ASSIST_HOME": str(home)})
    assert found.index == Settings(found.places).index
    assert len(found.warnings) == 1


@given(
    st.dictionaries(
        st.sampled_from(["model", "index", "log", "other"]),
        st.one_of(
            st.integers(),
            st.dictionaries(
                st.sampled_from(["path", "n_ctx", "temperature", "exclude", "level", "max_files"]),
                st.one_of(
                    st.none(),
                    st.booleans(),
                    st.integers(),
                    st.floats(),
                    st.text(),
                    st.lists(st.text()),
                ),
            ),
        ),
    )
)
def test_any_options_give_settings_or_a_setting_error(options: dict[str, object]) -> None:
    """What an editor sends can be anything; nothing else than a SettingError may come of it."""
    try:
        found = resolve(options, environ={"LSP_ASSIST_HOME": "nowhere"})
    except SettingError:
        return
    assert found.model.n_ctx >= 256
    assert 0 <= found.model.temperature <= 5
