"""`volcast nowcast` on a finished home: from the source's bars, from a file, and from files that cannot be used."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import pandas as pd
import pytest

from orchestration.nowcast import bars_of_file, bars_of_source, open_nowcaster
from orchestration.platform import Platform
from orchestration.warehouse import read_published
from tests.end_to_end.homes import AS_OF, Home

UNTIL = datetime.combine(AS_OF + timedelta(days=1), time(9, 30), tzinfo=UTC)


@pytest.fixture(scope="module")
def bars(finished: Home) -> pd.DataFrame:
    with read_published(finished.settings) as connection:
        opened = open_nowcaster(connection, finished.settings, "harx_cal")
    return bars_of_source(Platform(finished.settings).source, opened.nowcaster, UNTIL)


def test_the_command_prints_what_the_library_gives(finished: Home, bars: pd.DataFrame):
    before = finished.rows("SELECT key, value FROM meta.state ORDER BY ALL")
    output = finished.run(
        "nowcast", "--model", "attention", "--at", f"{UNTIL:%Y-%m-%dT%H:%M}", "--csv"
    )
    rows = list(csv.DictReader(io.StringIO(output)))
    with read_published(finished.settings) as connection:
        opened = open_nowcaster(connection, finished.settings, "attention")
        stored = dict(
            connection.execute(
                "SELECT asset, volatility FROM forecasts.volatility WHERE as_of = ? AND horizon = 1 AND model = 'attention'",
                [AS_OF],
            ).fetchall()
        )
    expected = opened.beside_daily(opened.nowcaster.update(bars, UNTIL))
    assert [row["asset"] for row in rows] == expected["asset"].tolist()
    assert [float(row["volatility"]) for row in rows] == pytest.approx(
        expected["volatility"].tolist()
    )
    first = {row["asset"]: row for row in rows if row["horizon"] == "1"}
    assert {name: float(row["daily_volatility"]) for name, row in first.items()} == pytest.approx(
        stored
    )
    assert all(row["at"].startswith(f"{AS_OF + timedelta(days=1)} 09:00") for row in rows)
    for row in rows:
        levels = [float(row[name]) for name in ("q01", "q10", "q50", "q90", "q99")]
        assert levels == sorted(levels)
    assert finished.rows("SELECT key, value FROM meta.state ORDER BY ALL") == before


def test_a_file_gives_what_the_source_gives(finished: Home, bars: pd.DataFrame, tmp_path: Path):
    with read_published(finished.settings) as connection:
        nowcaster = open_nowcaster(connection, finished.settings).nowcaster
    path = tmp_path / "bars.csv"
    bars[["asset", "ts", "high", "low", "close", "volume", "quote_volume"]].to_csv(
        path, index=False
    )
    kept = bars.drop(columns=["open", "taker_buy_volume"])
    # the clock in a file is text, prices are decimals
    found, direct = nowcaster.update(bars_of_file(path)), nowcaster.update(kept)
    assert found.at == direct.at
    assert found.variance == pytest.approx(direct.variance, nan_ok=True)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("none.csv", None, "no such file"),
        ("bars.txt", b"asset,ts\n", "expected a .csv or .parquet file"),
        ("empty.csv", b"", "cannot be read"),
        ("bars.parquet", b"PAR1 but not really", "cannot be read"),
        ("bars.csv", b"asset,ts,high,low,close,volume\nBTC,2020-01-01,1,1,1,1\n", "no bars since"),
        ("binary.csv", b"\x00\xff\xfe" * 50, "error"),
    ],
)
def test_a_file_that_cannot_be_used_is_an_error_that_says_why(
    finished: Home, tmp_path: Path, name: str, content: bytes | None, says: str
):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    output = finished.run("nowcast", "--bars", str(path), fails=True)
    assert says in " ".join(output.split())
    assert "Traceback" not in output


def test_a_model_that_cannot_be_asked_between_days_is_refused(finished: Home):
    with read_published(finished.settings) as connection:
        with pytest.raises(ValueError, match="years of daily returns"):
            open_nowcaster(connection, finished.settings, "garch_t")
        with pytest.raises(LookupError, match="forecasts nothing"):
            open_nowcaster(connection, finished.settings, "har_panel")
        with pytest.raises(ValueError, match="expected one of"):
            open_nowcaster(connection, finished.settings, "crystal_ball")
