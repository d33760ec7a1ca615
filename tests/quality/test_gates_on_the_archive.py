"""The real archive passes: its holes and oddities are warnings, and its wildest days are not mistaken for faults."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from quality import CRITICAL, SUITES, validate
from tests.quality import archive_tables
from tests.quality.plausible_frames import CLEAN, NOW

pytestmark = pytest.mark.archive


@pytest.mark.parametrize("table", archive_tables.QUERIES)
def test_the_whole_archive_has_no_critical_failure(table: str, archive_folder: Path) -> None:
    frame = archive_tables.read(archive_folder, table)
    now = datetime(2024, 1, 1, 0, 30, tzinfo=UTC)
    frame = frame[frame["known_at"] <= now]
    verdict = validate(table, frame, now=now)
    assert [r for r in verdict.failures if r.severity == CRITICAL] == []


@pytest.mark.parametrize(
    "day", ["2018-02-09", "2020-03-12", "2020-03-13", "2021-05-19", "2022-05-12", "2022-11-09"]
)
@pytest.mark.parametrize("table", ["raw.ohlcv", "raw.funding_rates", "raw.onchain_metrics"])
def test_days_of_crisis_pass_as_a_daily_run_sees_them(
    table: str, day: str, archive_folder: Path
) -> None:
    now = pd.Timestamp(day, tz="UTC") + pd.Timedelta("24h30min")
    known = archive_tables.read(archive_folder, table, str(now - pd.Timedelta("100D")), str(now))
    known = known[known["known_at"] <= now]
    recent = known["known_at"] > now - pd.Timedelta("1D")
    verdict = validate(table, known[recent], reference=known[~recent], now=now.to_pydatetime())
    assert verdict.passed, verdict.failures


def test_half_a_million_bars_take_under_fifteen_seconds(archive_folder: Path) -> None:
    frame = archive_tables.read(archive_folder, "raw.ohlcv").head(500_000)
    validate("raw.ohlcv", frame.head(10))  # the import is not what is timed
    started = time.perf_counter()
    validate("raw.ohlcv", frame, now=datetime(2024, 1, 1, tzinfo=UTC))
    assert time.perf_counter() - started < 15


def test_a_day_of_all_suites_takes_under_ten_seconds_on_a_busy_machine() -> None:
    frames = {suite: CLEAN[suite]() for suite in SUITES}
    validate("raw.headlines", frames["raw.headlines"])
    started = time.perf_counter()
    for suite, frame in frames.items():
        validate(suite, frame, reference=frame, now=NOW)
    assert time.perf_counter() - started < 10
