"""The house rules that a machine can hold: layers, homes of libraries, names, start-up."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "lsp_assist"

# A module may import from its own package and from lower layers; packages of one layer are
# neighbours and never import each other.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("llm", "words"),
    ("config",),
    ("engine", "codebase", "backends", "chat", "memory", "micro"),
    ("context",),
    ("flows",),
    ("models", "workspace"),
    ("edits",),
    ("assistant",),
    ("server",),
    ("cli",),
    ("__main__",),
)

# One home for each library, so that it can be replaced in one place.
HOMES: dict[str, tuple[str, ...]] = {
    "anthropic": ("backends/anthropic.py",),
    "click": ("cli/",),
    "httpx2": ("backends/",),
    "jinja2": ("engine/sandbox.py",),
    "lancedb": ("codebase/vectors.py",),
    "llama_cpp": ("engine/",),
    "lsprotocol": ("server/",),
    "pyarrow": ("codebase/vectors.py",),
    "platformdirs": ("config.py",),
    "pygls": ("server/",),
    "rich": ("cli/",),
    "starlette": ("engine/",),
    "sqlite3": ("chat/", "codebase/store.py"),
    "Stemmer": ("codebase/lexical.py",),
    # Where it is loaded into a process of its own, or by a command that trains.
    "sentence_transformers": ("backends/embedders/_transformer_worker.py",),
    "torch": ("micro/static_embedding.py",),
    "tree_sitter": ("codebase/outline.py", "codebase/live_outline.py"),
    "tree_sitter_language_pack": ("codebase/outline.py",),
    "uvicorn": ("engine/",),
    "watchfiles": ("codebase/watching.py",),
}

NAMELESS = {"utils", "helpers", "common", "manager", "base", "core", "misc"}

MODULES = sorted(PACKAGE.rglob("*.py"))


def imports(module: Path) -> Iterator[str]:
    """Dotted names that a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def bound_names(tree: ast.Module) -> Iterator[str]:
    """What a module's top level gives a name to."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.ImportFrom | ast.If | ast.Try):
            for part in ast.walk(node):
                if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                    yield part.id
                elif isinstance(part, ast.alias):
                    yield part.asname or part.name


def layer(name: str) -> int:
    return next(n for n, names in enumerate(LAYERS) if name in names)


def check_layers(part: str, imported: str) -> str:
    """Why a module of a part may not import this; empty if it may."""
    target = imported.split(".")[1] if imported.startswith("lsp_assist.") else ""
    if not target or target == part or not any(target in names for names in LAYERS):
        return ""
    if layer(target) < layer(part):
        return ""
    return f"{part} imports {imported}, which is not below it"


@pytest.mark.parametrize("module", MODULES, ids=lambda m: str(m.relative_to(PACKAGE)))
def test_a_module_imports_only_from_below_and_from_the_homes_of_libraries(module: Path) -> None:
    relative = module.relative_to(PACKAGE).as_posix()
    part = relative.split("/")[0].removesuffix(".py")
    for name in imports(module):
        if part != "__init__":
            assert not check_layers(part, name)
        homes = HOMES.get(name.split(".")[0])
        if homes is not None:
            assert any(relative.startswith(home) for home in homes), f"{name} belongs to {homes}"


def test_the_layer_check_sees_a_wrong_import() -> None:
    """The check itself fails where it must: upwards, sideways, and not downwards."""
    assert check_layers("codebase", "lsp_assist.server.app")
    assert check_layers("codebase", "lsp_assist.engine.process")
    assert not check_layers("context", "lsp_assist.codebase.index")
    assert not check_layers("codebase", "lsp_assist.codebase.files")


@pytest.mark.parametrize("module", MODULES, ids=lambda m: str(m.relative_to(PACKAGE)))
def test_a_module_says_what_it_is_and_has_a_telling_name(module: Path) -> None:
    assert ast.get_docstring(ast.parse(module.read_text("utf-8"))), "no module docstring"
    assert module.stem not in NAMELESS


@pytest.mark.parametrize("module", MODULES, ids=lambda m: str(m.relative_to(PACKAGE)))
def test_all_lists_what_exists(module: Path) -> None:
    tree = ast.parse(module.read_text("utf-8"))
    names = set(bound_names(tree))
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            assert set(ast.literal_eval(node.value)) <= names


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [
        ("import lsp_assist.__main__", {"click", "asyncio", "dataclasses"}),
        ("import lsp_assist.cli", {"rich", "asyncio", "pygls", "sqlite3"}),
        (
            "import lsp_assist.cli.ask",
            {"torch", "lancedb", "llama_cpp", "numpy", "tree_sitter", "pygls", "rich", "jinja2"}
            | {"httpx2", "starlette", "uvicorn"},
        ),
        (
            "import lsp_assist.server.app",
            {"torch", "lancedb", "llama_cpp", "numpy", "tree_sitter", "httpx2", "starlette"},
        ),
        # What a question to the engine needs: starting it must not cost what running it does.
        (
            "import lsp_assist.assistant, lsp_assist.engine.process, lsp_assist.backends.openai",
            {"llama_cpp", "numpy", "starlette", "uvicorn", "jinja2", "pydantic", "openai"},
        ),
    ],
)
def test_start_up_imports_nothing_heavy(statement: str, unwanted: set[str]) -> None:
    """Heavy libraries come in when they are used: a keystroke waits for every import."""
    script = f"{statement}; import sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert not unwanted & {name.split(".")[0] for name in loaded.stdout.split()}


def test_no_file_names_a_machine() -> None:
    """Nothing committed holds a path of somebody's machine."""
    tracked = subprocess.run(
        ["git", "ls-files", "*.py", "*.md", "*.toml", "*.txt", "Makefile", ".ci/*"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    for name in tracked.stdout.split():
        text = (ROOT / name).read_text("utf-8")
        for unwanted in ("/" + "root/", "/" + "work/", "/" + "home/"):
            assert unwanted not in text, f"{name} holds {unwanted}"
