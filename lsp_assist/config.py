"""Options (what may be said) become settings (resolved, frozen), once; and where files live.

Options come from, weakest first: the defaults here, the user's `config.toml`, a workspace's
`.lsp-assist.toml`, the environment (`LSP_ASSIST_MODEL_PATH=...`), and the editor or command line.
A workspace's file is somebody else's text: it may only narrow what is read, never name a model, a
path or an address. Knows no backend and no LSP.
"""

import os
import stat
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import UnionType
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints

from lsp_assist.errors import SettingError

__all__ = [
    "WORKSPACE_FILE",
    "EngineLife",
    "IndexSettings",
    "LogSettings",
    "ModelSettings",
    "Places",
    "Settings",
    "resolve",
]

WORKSPACE_FILE = ".lsp-assist.toml"
MAX_FILE_BYTES = 1_000_000

LogLevel = Literal["debug", "info", "warning", "error"]
EngineTransport = Literal["auto", "unix", "loopback"]


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """Which model answers, and how much of the machine it may take."""

    path: Path | None = None
    """A GGUF file; without one the extractive backend answers from the index."""
    url: str = ""
    """An OpenAI-compatible server on this machine that answers instead, without `/v1`."""
    name: str = ""
    """The model that the server at `url` shall answer with."""
    n_ctx: int = 8192
    """Context window in tokens; less if the model was trained with less."""
    n_threads: int = 0
    """0 takes one per core that this process may run on."""
    n_gpu_layers: int = -1
    """Layers on the GPU where llama.cpp was built for one; -1 takes all."""
    max_tokens: int = 1024
    temperature: float = 0.2


@dataclass(frozen=True, slots=True)
class EngineLife:
    """How long the engine keeps what it holds, and what it may be asked for."""

    idle_sleep_s: int = 300
    """After so many idle seconds a model's memory is freed, its KV cache kept on disk; 0 does it at
    once, -1 never."""
    exit_after_s: int = 3600
    """After so many idle seconds the process ends; the next question starts it again. -1: never."""
    kv_budget_tokens: int = 0
    """Tokens that the cache of a model holds; 0 takes twice the context window."""
    memory_budget_bytes: int = 0
    """Of all models that are awake; 0 sets no limit."""
    state_budget_bytes: int = 4 << 30
    """Of the caches kept on disk; 0 keeps none."""
    adapters: tuple[str, ...] = ()
    """GGUF files of LoRA adapters that requests may name."""
    transport: EngineTransport = "auto"
    """How clients reach it: a unix socket where there are any, else a loopback port and a token."""


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """What is read of a workspace."""

    max_file_bytes: int = 1_000_000
    """Larger files are left out; a source file of 20,000 lines fits."""
    max_files: int = 100_000
    exclude: tuple[str, ...] = ()
    """Patterns as in .gitignore, in addition to the workspace's own ignore files."""
    embedder: str = "static"
    """What turns code into vectors beside the search by words: `static` comes with the package,
    `none` leaves it at words; or name a model or folder of sentence-transformers, or
    `openai:<model>` at `embedder_url`, or `engine:<file.gguf>`, which our engine runs."""
    max_disk_bytes: int = 4 << 30
    """Of the vectors of one folder; what does not fit is found by words alone. 0: no limit."""
    embedder_url: str = ""
    """An OpenAI-compatible server on this machine, for `embedder = "openai:<model>"`."""


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Where the log goes: stderr, or a file."""

    level: LogLevel = "warning"
    file: Path | None = None


@dataclass(frozen=True, slots=True)
class Places:
    """Where files live. Everything under `cache` is derived and may be deleted at any time."""

    config: Path
    data: Path
    cache: Path

    @property
    def runtime(self) -> Path:
        """Where the engine's socket and locks live.

        Not the runtime folder of the session: that one goes at logout, and is another one for each
        way to log in, so that one user could have two engines.
        """
        return self.cache / "run"

    @classmethod
    def of_user(cls, environ: Mapping[str, str] = os.environ) -> "Places":
        """The platform's folders; `LSP_ASSIST_HOME` gathers all three under one folder."""
        if home := environ.get("LSP_ASSIST_HOME"):
            root = Path(home).expanduser()
            return cls(root / "config", root / "data", root / "cache")
        import platformdirs

        name = "lsp-assist"
        return cls(
            platformdirs.user_config_path(name, appauthor=False),
            platformdirs.user_data_path(name, appauthor=False),
            platformdirs.user_cache_path(name, appauthor=False),
        )


@dataclass(frozen=True, slots=True)
class Settings:
    """All that is configured, resolved. Passed in, never global."""

    places: Places
    model: ModelSettings = field(default_factory=ModelSettings)
    engine: EngineLife = field(default_factory=EngineLife)
    index: IndexSettings = field(default_factory=IndexSettings)
    log: LogSettings = field(default_factory=LogSettings)
    warnings: tuple[str, ...] = ()
    """What was said and not taken, in whole sentences for the user."""


_SECTIONS: dict[str, type] = {
    "model": ModelSettings,
    "engine": EngineLife,
    "index": IndexSettings,
    "log": LogSettings,
}

_RANGES: dict[str, tuple[float, float]] = {
    "model.n_ctx": (256, 10_000_000),
    "model.n_threads": (0, 1024),
    "model.n_gpu_layers": (-1, 10_000),
    "model.max_tokens": (1, 1_000_000),
    "model.temperature": (0, 5),
    "engine.idle_sleep_s": (-1, 1_000_000_000),
    "engine.exit_after_s": (-1, 1_000_000_000),
    "engine.kv_budget_tokens": (0, 1_000_000_000),
    "engine.memory_budget_bytes": (0, 1 << 50),
    "engine.state_budget_bytes": (0, 1 << 50),
    "index.max_file_bytes": (1, 100_000_000),
    "index.max_files": (1, 10_000_000),
    "index.max_disk_bytes": (0, 1 << 50),
}

# What a workspace may say, and how it is joined with what the user says: it can only narrow.
_WORKSPACE_MAY: dict[str, Callable[[Any, Any], Any]] = {
    "index.exclude": lambda user, workspace: (*user, *workspace),
    "index.max_file_bytes": min,
    "index.max_files": min,
}


def resolve(
    overrides: Mapping[str, object] | None = None,
    *,
    workspace: Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """The settings for this user and workspace.

    `overrides` are nested as in the TOML file, `{"model": {"path": "q.gguf"}}`: what the editor
    sends as initializationOptions or the command line says. A broken user file or override is
    refused; a broken workspace file costs only itself, with a warning.

    Raises: SettingError
    """
    settings = Settings(Places.of_user(environ))
    user_file = settings.places.config / "config.toml"
    settings = _apply(settings, _read_toml(user_file), origin=str(user_file))
    if workspace is not None:
        settings = _narrow(settings, workspace / WORKSPACE_FILE)
    settings = _apply(settings, _from_environ(environ), origin="the environment")
    return _apply(settings, overrides or {}, origin="the editor or the command line")


def _read_toml(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(_text_of(path))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, RecursionError) as error:  # ValueError: no UTF-8, no TOML
        raise SettingError(
            f"Settings file {str(path)!r} cannot be read: {error}; mend or delete it."
        ) from error


def _text_of(path: Path) -> str:
    """The text of a file of reasonable size; a workspace may have put a pipe or a device there."""
    with open(path, "rb", opener=_open_without_waiting) as file:  # Path has no opener
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError("it is not a regular file")
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise OSError(f"it has more than {MAX_FILE_BYTES:,} bytes")
    return content.decode("utf-8")


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _from_environ(environ: Mapping[str, str]) -> dict[str, object]:
    """`LSP_ASSIST_MODEL_N_CTX=4096` as `{"model": {"n_ctx": 4096}}`; other names are left alone."""
    options: dict[str, dict[str, object]] = {}
    for section, kind in _SECTIONS.items():
        for f in fields(kind):
            text = environ.get(f"LSP_ASSIST_{section}_{f.name}".upper())
            if text is not None:
                options.setdefault(section, {})[f.name] = _parsed(
                    text, get_type_hints(kind)[f.name]
                )
    return cast("dict[str, object]", options)


def _parsed(text: str, hint: object) -> object:
    """The text of an environment variable as the type that the setting has, or as it is."""
    if hint in (int, float):
        try:
            return cast("Callable[[str], object]", hint)(text)
        except ValueError:
            return text
    if get_origin(hint) is tuple:
        return [part for part in text.split(os.pathsep) if part]
    return text


def _narrow(settings: Settings, path: Path) -> Settings:
    """The settings with what a workspace's own file may say; a warning names the rest."""
    try:
        options = _read_toml(path)
        allowed: dict[str, dict[str, object]] = {}
        refused: list[str] = []
        for section, values in options.items():
            for name, value in values.items() if isinstance(values, dict) else [("", values)]:
                dotted = f"{section}.{name}".rstrip(".")
                if dotted in _WORKSPACE_MAY:
                    user = getattr(getattr(settings, section), name)
                    said = _checked(dotted, value, _hint(section, name))
                    allowed.setdefault(section, {})[name] = _WORKSPACE_MAY[dotted](user, said)
                else:
                    refused.append(dotted)
        settings = _apply(settings, allowed, origin=str(path))
    except SettingError as error:
        return _warn(settings, f"{error} The workspace's settings are not used.")
    if refused:
        names = ", ".join(f"`{name}`" for name in refused)
        settings = _warn(
            settings,
            f"{str(path)!r} sets {names}, which a workspace may not set; put it into your own "
            f"{str(settings.places.config / 'config.toml')!r} if you want it.",
        )
    return settings


def _warn(settings: Settings, sentence: str) -> Settings:
    return replace(settings, warnings=(*settings.warnings, sentence))


def _apply(settings: Settings, options: Mapping[str, object], *, origin: str) -> Settings:
    """The settings with these options over them, each checked by name, type and range."""
    for section, values in options.items():
        if section not in _SECTIONS:
            raise SettingError(
                f"Unknown section {section!r} in {origin}; there are {', '.join(_SECTIONS)}.",
                field=section,
            )
        if not isinstance(values, Mapping):
            raise SettingError(
                f"`{section}` in {origin} is {values!r}, not a table.", field=section
            )
        changes = {
            name: _checked(f"{section}.{name}", value, _hint(section, name))
            for name, value in values.items()
        }
        settings = replace(settings, **{section: replace(getattr(settings, section), **changes)})
    return settings


def _hint(section: str, name: str) -> object:
    hints = get_type_hints(_SECTIONS[section])
    if name not in hints:
        known = ", ".join(f"`{section}.{n}`" for n in hints)
        raise SettingError(
            f"Unknown setting `{section}.{name}`; there are {known}.", field=f"{section}.{name}"
        )
    return hints[name]


def _checked(dotted: str, value: object, hint: object) -> object:
    """The value as the setting's type.

    Raises: SettingError
    """

    def refuse(wanted: str) -> SettingError:
        return SettingError(f"`{dotted}` is {value!r}; it must be {wanted}.", field=dotted)

    if get_origin(hint) is UnionType:  # X | None
        if value is None:
            return None
        hint = next(arg for arg in get_args(hint) if arg is not type(None))
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise refuse("one of " + ", ".join(repr(choice) for choice in get_args(hint)))
        return value
    if get_origin(hint) is tuple:
        if not isinstance(value, (list, tuple)) or not all(isinstance(v, str) for v in value):
            raise refuse("a list of strings")
        return tuple(value)
    if hint is Path:
        if not isinstance(value, (str, Path)) or not str(value) or "\0" in str(value):
            raise refuse("a path")
        return Path(value).expanduser()
    if isinstance(value, bool) or not isinstance(
        value, (int, float) if hint is float else cast("type", hint)
    ):
        raise refuse(
            {int: "a whole number", float: "a number", str: "a string"}[cast("type", hint)]
        )
    low, high = _RANGES.get(dotted, (float("-inf"), float("inf")))
    if isinstance(value, (int, float)) and not low <= value <= high:
        raise refuse(f"between {low:g} and {high:g}")
    return float(value) if hint is float and isinstance(value, int) else value
