"""Changes on disk are told by the operating system, many at once as one."""

import threading
from collections.abc import Collection
from pathlib import Path

from lsp_assist.codebase.watching import Watcher


class Told:
    """Gathers what a watcher tells."""

    def __init__(self) -> None:
        self.paths: set[Path] = set()
        self.n_times = 0
        self._changed = threading.Condition()

    def __call__(self, paths: Collection[Path]) -> None:
        with self._changed:
            self.paths.update(paths)
            self.n_times += 1
            self._changed.notify_all()

    def wait_for(self, paths: Collection[Path]) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self.paths.issuperset(paths), 30)


def test_what_changes_is_told_and_a_thousand_files_are_few_calls(tmp_path: Path) -> None:
    told = Told()
    watcher = Watcher([tmp_path], told)
    assert watcher.begins()
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "index").write_text("not the user's code")
    paths = {tmp_path / f"m{n}.py" for n in range(1_000)}
    for path in paths:
        path.write_text("x = 1\n")
    assert told.wait_for(paths)
    assert told.n_times < 100
    gone = min(paths)
    told.paths.clear()
    gone.unlink()
    assert told.wait_for({gone})
    assert not any(".git" in path.parts for path in told.paths)
    watcher.close()
    assert not watcher.is_watching


def test_a_folder_that_cannot_be_watched_is_said_and_costs_nothing(tmp_path: Path) -> None:
    watcher = Watcher([tmp_path / "not-there"], Told())
    assert not watcher.begins()
    watcher.close()
