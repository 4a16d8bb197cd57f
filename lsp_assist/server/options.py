"""What a client said in `initialize`: its settings and its folders.

What cannot be used costs only itself: the user is told, and the rest counts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from lsprotocol import types

from lsp_assist import config
from lsp_assist.assistant import Assistant
from lsp_assist.config import Places, Settings
from lsp_assist.errors import SettingError
from lsp_assist.server import places

__all__ = ["OpenAssistant", "folders", "settings"]

Options = Mapping[str, object]
OpenAssistant = Callable[[Settings, Sequence[Path]], Assistant]


def folders(params: types.InitializeParams) -> tuple[list[Path], list[str]]:
    """The workspace folders, and a sentence for each that cannot be one."""
    uris = [folder.uri for folder in params.workspace_folders or ()]
    if not uris and params.root_uri:
        uris = [params.root_uri]
    if not uris and params.root_path:
        uris = [Path(params.root_path).as_uri()] if Path(params.root_path).is_absolute() else []
    found: list[Path] = []
    warnings: list[str] = []
    for uri in uris:
        path = places.path_of(uri)
        if path is None or not path.is_dir():
            warnings.append(f"Workspace folder {uri!r} is no folder here, and is left out.")
        else:
            found.append(path)
    return found, warnings


def settings(said: object, overrides: Options, workspace: Path | None) -> Settings:
    """The settings: the user's file, what the client says, and over it what the command line says.

    Each option that cannot be taken is left out, with a warning.
    """
    base, warnings = _of_user(workspace)
    taken: dict[str, dict[str, object]] = {}
    for options in (said, overrides):
        if options is None:
            continue
        if not isinstance(options, Mapping):
            warnings.append("`initializationOptions` must be an object, and is left out.")
            continue
        for section, name, value in _flat(options):
            one = {section: value if name is None else {name: value}}
            try:
                config.resolve(one, environ={})
            except SettingError as error:
                warnings.append(f"{error} It is left out.")
            else:
                if name is not None:
                    taken.setdefault(section, {})[name] = value
    if taken:
        base = config.resolve(taken, workspace=workspace)
    return replace(base, warnings=(*base.warnings, *warnings))


def _of_user(workspace: Path | None) -> tuple[Settings, list[str]]:
    try:
        return config.resolve(workspace=workspace), []
    except SettingError as error:
        return Settings(Places.of_user()), [f"{error} The defaults are used until then."]


def _flat(options: Options) -> list[tuple[str, str | None, object]]:
    """Section, name and value of each option; no name where a section is no table."""
    flat: list[tuple[str, str | None, object]] = []
    for section, values in options.items():
        if isinstance(values, Mapping):
            flat += [(str(section), str(name), value) for name, value in values.items()]
        else:
            flat.append((str(section), None, values))
    return flat
