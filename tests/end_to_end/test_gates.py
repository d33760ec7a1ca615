"""A failing gate stops training and forecasts in its own run and in any other, until someone overrides it by name."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from tests.end_to_end.conftest import archive_environment
from tests.end_to_end.homes import AS_OF, Home, day_before, write_archive_table


def test_a_failed_gate_stops_this_run_and_the_next_until_it_is_overridden(
    market_tables: tuple[Path, dict[str, pa.Table]], tmp_path: Path
) -> None:
    _, tables = market_tables
    folder = tmp_path / "archive"
    for name, table in tables.items():
        if name == "ohlcv":  # ETH stops trading a day before the forecast, and nobody says so
            gone = pc.and_(
                pc.equal(table["symbol"], "ETH/USDT"),
                pc.greater_equal(
                    table["ts"], pa.scalar(f"{day_before(AS_OF)}T12:00:00Z").cast(table["ts"].type)
                ),
            )
            table = table.filter(pc.invert(gone))
        write_archive_table(folder, name, table)
    home = Home(
        tmp_path / "home", archive_environment(folder, models="random_walk,log_har,harx_cal")
    )
    output = home.run("run", "--as-of", AS_OF.isoformat(), fails=True)
    assert "gate of raw.ohlcv closed" in output
    assert home.rows("SELECT count(*) FROM models.registry") == [(0,)]
    assert home.rows("SELECT count(*) FROM forecasts.volatility") == [(0,)]
    failed = home.rows(
        "SELECT DISTINCT suite FROM quality.validations WHERE NOT success AND severity = 'critical' AND as_of = ?",
        [AS_OF],
    )
    assert ("raw.ohlcv",) in failed

    other = home.run("train", "--as-of", AS_OF.isoformat(), fails=True)
    assert "gate raw.ohlcv failed" in other.replace("\n", " ")
    assert home.rows("SELECT count(*) FROM models.registry") == [(0,)]

    for (suite,) in failed:
        lifted = home.run(
            "override",
            "--suite",
            suite,
            "--as-of",
            AS_OF.isoformat(),
            "--by",
            "ada",
            "--reason",
            "ETH delisted today",
        )
        assert "overridden by ada" in lifted
    home.run("run", "--as-of", AS_OF.isoformat())
    assert home.rows("SELECT count(*) > 0 FROM forecasts.volatility WHERE asset = 'BTC'") == [
        (True,)
    ]
    named = home.rows(
        "SELECT DISTINCT overridden_by, override_reason FROM quality.validations WHERE overridden_by IS NOT NULL"
    )
    assert named == [("ada", "ETH delisted today")]
    verdicts = home.rows(
        "SELECT DISTINCT json_extract_string(gate_verdicts, '$.\"raw.ohlcv\"') FROM models.registry"
    )
    assert verdicts == [("overridden by ada: ETH delisted today",)]


def test_training_refuses_a_day_that_no_gate_has_looked_at(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    output = home.run("train", "--as-of", AS_OF.isoformat(), fails=True)
    assert "no gate verdict" in output.replace("\n", " ")
