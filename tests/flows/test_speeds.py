"""How fast models read, as measured and kept."""

from pathlib import Path

import pytest

from lsp_assist.flows.speeds import Speeds
from lsp_assist.llm import Usage


def usage(n_prompt: int, n_cached: int, ttft_ms: float) -> Usage:
    return Usage("m", prompt_tokens=n_prompt, cached_tokens=n_cached, ttft_ms=ttft_ms)


def test_a_prompt_takes_as_long_as_what_is_cold_of_it(tmp_path: Path) -> None:
    speeds = Speeds(tmp_path / "speeds.json")
    assert speeds.estimate("m", 1000, 0).seconds is None
    speeds.heard(usage(1100, 100, 2000.0))
    assert speeds.estimate("m", 1000, 500).seconds == pytest.approx(1.0)
    assert speeds.estimate("m", 1000, 1000).seconds == 0
    assert speeds.estimate("m", 1000, None).seconds == pytest.approx(2.0)
    assert speeds.estimate("other", 1000, 0).seconds is None


def test_what_was_measured_is_kept_and_a_newer_measure_counts_more_with_time(
    tmp_path: Path,
) -> None:
    file = tmp_path / "cache" / "speeds.json"
    speeds = Speeds(file)
    speeds.heard(usage(1000, 0, 1000.0))
    speeds.heard(usage(10, 0, 1.0))  # too few to tell
    speeds.close()
    again = Speeds(file)
    assert again.estimate("m", 500, 0).seconds == pytest.approx(0.5)
    for _ in range(40):
        again.heard(usage(2000, 0, 1000.0))
    assert again.estimate("m", 1000, 0).seconds == pytest.approx(0.5, rel=0.01)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"m": "fast"}', '{"m": -1}', '{"m": true}'])
def test_a_broken_file_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    file = tmp_path / "speeds.json"
    file.write_text(text)
    assert Speeds(file).estimate("m", 10, 0).seconds is None
