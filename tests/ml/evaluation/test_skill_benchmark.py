"""The benchmark of skill: which models it takes, and that its figures are those of the leaderboard."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from benchmarks import skill


def options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    skill.add_arguments(parser)
    return parser.parse_args(arguments)


def test_the_garch_family_runs_only_by_name() -> None:
    models = options().models
    assert {"random_walk", "har_pooled", "combination_qlike", "lstm", "attention"} <= set(models)
    assert not any("garch" in name for name in models)
    assert options("--models", "garch_t").models == ["garch_t"]
    with pytest.raises(SystemExit):
        options("--models", "prophet")


def test_without_an_archive_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VOLCAST_TEST_ARCHIVE", raising=False)
    with pytest.raises(SystemExit, match="no archive: name its folder with --archive"):
        skill.run(options())


@pytest.mark.archive
def test_two_months_of_two_coins(archive_folder: Path, tmp_path: Path) -> None:
    arguments = [
        "--archive", str(archive_folder), "--models", "log_har", "random_walk", "--coins", "BTC", "ETH",
        "--from", "2023-06-01", "--to", "2023-08-31", "--folder", str(tmp_path),
    ]  # fmt: skip
    figures, tables = skill.run(options(*arguments))
    rows = {(row["horizon"], row["model"]): row for row in figures["rows"]}
    assert len(rows) == len(tables[0][2]) == 9  # HARX-cal runs beside them
    assert rows[(1, "harx_cal")]["ratio"] == 1.0
    assert rows[(1, "harx_cal")]["forecasts"] == 2 * 92
    assert rows[(1, "random_walk")]["ratio"] > 1.2
    assert rows[(1, "random_walk")]["dm_p"] < 0.05
    assert 0.6 < rows[(1, "log_har")]["coverage_80_adapted"] < 0.95
    again, _ = skill.run(options(*arguments))
    assert again["rows"] == figures["rows"]
