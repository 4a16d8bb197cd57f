"""Random edits of all kinds: the index that followed them against one built from scratch."""

import random
from collections.abc import Sequence
from pathlib import Path

from tests.bench.index.changes import opened
from tests.bench.index.sameness import differences, seen, seen_anew
from tests.bench.index.sizes import Sizes
from tests.bench.index.trees import copy_tree, edited

__all__ = ["equal"]


def equal(folders: Sequence[Path], sizes: Sizes, scratch: Path) -> dict[str, float]:
    """How many things differ, over all the times that the two were compared."""
    workspace, store = scratch / "workspace", scratch / "edits.db"
    copy_tree(folders, workspace, sizes.edit_lines)
    life = _Life(workspace, random.Random(5))
    found: list[str] = []
    with opened(workspace, store) as index:
        for step in range(1, sizes.random_edits + 1):
            touched = life.step()
            for path in touched:
                if life.draw.random() < 0.7:
                    index.refresh_file(path)
            for path in life.closed:
                index.overlay(path, None)
            for path in touched & life.unsaved.keys():
                index.overlay(path, life.unsaved[path])
            if step % sizes.compared_every == 0:
                index.refresh()
                one = seen(index, store, life.unsaved)
                other = seen_anew(workspace, scratch / f"{step}.db", life.unsaved.items())
                found += differences(one, other)
                for made in scratch.glob(f"{step}.db*"):
                    made.unlink()
    for each in found[:5]:
        print(f"   differs: {each}")
    return {
        "index.rebuild_equals_incremental": float(not found),
        "index.rebuild_differences": len(found),
    }


class _Life:
    """A workspace in which somebody works: what is on disk, and what is unsaved."""

    def __init__(self, workspace: Path, draw: random.Random) -> None:
        self.draw = draw
        self.unsaved: dict[str, str] = {}
        self.closed: list[str] = []
        """Files that were closed, or saved, in the last step."""
        self._workspace = workspace
        self._before: dict[str, list[str]] = {}

    def step(self) -> set[str]:
        """Do something; returns the paths that it touched."""
        self.closed = []
        path = self.draw.choice(self._paths())
        action = self.draw.choice(
            ("type", "type", "type", "save", "write", "write", "undo", "rename", "delete", "add")
        )
        match action:
            case "type":
                self.unsaved[path] = edited(self.unsaved.get(path, self._read(path)), self.draw)
            case "save" if self.unsaved:
                path = self.draw.choice(sorted(self.unsaved))
                self._write(path, self.unsaved[path])
                self._close(path)
            case "undo" if self._before:
                path = self.draw.choice(sorted(self._before))
                self._write(path, self._before[path].pop(), is_kept=False)
                if not self._before[path]:
                    del self._before[path]
            case "rename":
                return {path, self._rename(path)}
            case "delete":
                self._keep(path)
                (self._workspace / path).unlink()
                self._close(path)
            case "add":
                text = self._read(path)
                stem, _, suffix = path.rpartition(".")
                path = f"{stem}_{self.draw.randrange(1000)}.{suffix}"
                self._write(path, text)
            case _:
                self._write(path, edited(self._read(path), self.draw))
        return {path}

    def _rename(self, path: str) -> str:
        folder, _, name = path.rpartition("/")
        renamed = f"{folder}/moved{self.draw.randrange(100)}/{name}"
        target = self._workspace / renamed
        target.parent.mkdir(parents=True, exist_ok=True)
        (self._workspace / path).rename(target)
        self._close(path)
        return renamed

    def _close(self, path: str) -> None:
        if self.unsaved.pop(path, None) is not None:
            self.closed.append(path)

    def _paths(self) -> list[str]:
        found = (p for p in self._workspace.rglob("*") if p.is_file())
        return sorted(p.relative_to(self._workspace).as_posix() for p in found)

    def _read(self, path: str) -> str:
        return (self._workspace / path).read_bytes().decode("utf-8", "surrogateescape")

    def _write(self, path: str, text: str, *, is_kept: bool = True) -> None:
        if is_kept and (self._workspace / path).exists():
            self._keep(path)
        (self._workspace / path).parent.mkdir(parents=True, exist_ok=True)
        (self._workspace / path).write_bytes(text.encode("utf-8", "surrogateescape"))

    def _keep(self, path: str) -> None:
        self._before.setdefault(path, []).append(self._read(path))
