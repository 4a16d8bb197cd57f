"""Whether an index that was kept up through random changes equals one that is built from scratch.

For tests and benches: `lived_through` changes a workspace in every way that an editor, a shell and
git do, and `differences` compares two databases row by row, whatever tables they have.
"""

import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from lsp_assist.codebase.index import Index
from lsp_assist.config import IndexSettings
from tests.codebase.outline_text import fixtures

__all__ = ["differences", "lived_through", "rebuilt_differs"]

_FOLDERS = ("a", "b/c", "d")


def rebuilt_differs(folder: Path, n_steps: int, seed: int) -> list[str]:
    """What differs between the index after so many random changes and one built from scratch."""
    root = folder / "workspace"
    root.mkdir()
    kept, fresh = folder / "kept.sqlite3", folder / "fresh.sqlite3"
    index = Index(root, kept, IndexSettings())
    lived_through(index, root, n_steps, seed)
    index.close()
    index = Index(root, fresh, IndexSettings())
    index.refresh()
    index.close()
    return differences(kept, fresh)


def lived_through(index: Index, root: Path, n_steps: int, seed: int) -> None:
    """Edit, save, rename, delete, undo and switch branches; at the end all is saved and indexed."""
    draw = random.Random(seed)
    sources = [(Path(f.path).suffix, f.source) for f in fixtures() if Path(f.path).suffix]
    names = [f"{folder}/m{n}{draw.choice(sources)[0]}" for folder in _FOLDERS for n in range(6)]
    branches: list[dict[str, str]] = [{}]
    history: dict[str, list[str]] = {}
    for _ in range(n_steps):
        name = draw.choice(names)
        match draw.choice(
            ["type"] * 6
            + ["save", "rename", "delete", "undo", "undo", "look"] * 2
            + ["branch", "switch", "close"]
        ):
            case "type":
                text = _edited(draw, _text(root, name) or draw.choice(sources)[1])
                history.setdefault(name, []).append(text)
                index.overlay(name, text)
                index.search("value", 3)  # parses it
            case "save" if history.get(name):
                _write(root, name, history[name][-1])
                index.refresh_file(name)
            case "rename" if (root / name).exists():
                target = root / draw.choice(names)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(root / name, target)
            case "delete":
                (root / name).unlink(missing_ok=True)
            case "undo" if history.get(name):
                history[name].append(draw.choice(history[name]))
                index.overlay(name, history[name][-1])
            case "look":
                index.refresh()
            case "close":
                index.overlay(name, None)
            case "branch":
                branches.append({n: t for n in names if (t := _text(root, n)) is not None})
            case "switch":
                there = draw.choice(branches)
                for n in names:
                    if n in there:
                        _write(root, n, there[n])
                    else:
                        (root / n).unlink(missing_ok=True)
    for name in names:
        index.overlay(name, None)
    index.refresh()


def differences(one: Path, other: Path) -> list[str]:
    """The rows that only one of two databases has, without row numbers and times."""
    first, second = _rows(one), _rows(other)
    return [f"{'-' if n > 0 else '+'} {row}" for row, n in _surplus(first, second)]


def _surplus(one: Counter[str], other: Counter[str]) -> Iterator[tuple[str, int]]:
    for row in sorted({*one, *other}):
        if one[row] != other[row]:
            yield row, one[row] - other[row]


def _rows(database: Path) -> Counter[str]:
    db = sqlite3.connect(database)
    try:
        paths = dict(db.execute("SELECT id, path FROM files"))
        chunks = {
            number: f"{paths[file]}:{start}"
            for number, file, start in db.execute("SELECT id, file_id, start_line FROM chunks")
        }
        tables = db.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'words_%'"
        ).fetchall()
        rows: Counter[str] = Counter()
        for (table,) in tables:
            found = db.execute(f"SELECT rowid AS row_number, * FROM {table}")  # noqa: S608
            columns = [column[0] for column in found.description]
            for row in found:
                rows[f"{table}: {_plain(table, columns, row, paths, chunks)}"] += 1
        return rows
    finally:
        db.close()


def _plain(
    table: str,
    columns: Sequence[str],
    row: Sequence[object],
    paths: dict[object, str],
    chunks: dict[object, str],
) -> dict[str, object]:
    """A row with names for numbers that depend on the order of insertion."""
    values = dict(zip(columns, row, strict=True))
    number = values.pop("row_number", None)
    values.pop("id", None)
    values.pop("mtime_ns", None)
    if "file_id" in values:
        values["file_id"] = paths[values["file_id"]]
    if table == "words":
        values["chunk"] = chunks[number]
    return values


def _edited(draw: random.Random, text: str) -> str:
    at = draw.randrange(len(text) + 1)
    end = min(len(text), at + draw.choice([0, 0, 3, 40]))
    return text[:at] + draw.choice(["", "x", "\n", "def f():\n    pass\n", "}"]) + text[end:]


def _text(root: Path, name: str) -> str | None:
    path = root / name
    return path.read_bytes().decode() if path.exists() else None


def _write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
