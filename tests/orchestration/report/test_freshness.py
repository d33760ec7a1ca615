"""The report says how old each modality is, and which live streams are stale and why."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import duckdb
import pandas as pd
import pytest

from orchestration.report import build_report
from tests.orchestration.report.published_tables import AS_OF, DECIDED, MODALITIES, published
from tests.orchestration.report.test_report import ATTACK, _Page, section, without_scripts

HEADER = ["coin", *(name.replace("_", " ") for name in MODALITIES)]


def _stream(name: str, status: str = "ok", **columns: Any) -> dict[str, Any]:
    provider, table = name.split("/")[:2]
    return {
        "stream": name,
        "source": "live",
        "table_name": f"raw.{table}",
        "provider": provider,
        "assets": "BTC",
        "status": status,
        "detail": "",
        "notes": "",
        "succeeded_at": DECIDED + timedelta(minutes=1),
        "attempted_at": DECIDED + timedelta(minutes=1),
        **columns,
    }


def _with(*streams: dict[str, Any]) -> duckdb.DuckDBPyConnection:
    connection = published(source="live")
    connection.register("streams", pd.DataFrame(streams))
    connection.execute("INSERT INTO raw.streams BY NAME SELECT * FROM streams")
    connection.unregister("streams")
    return connection


def _freshness(connection: duckdb.DuckDBPyConnection) -> tuple[str, list[list[str]]]:
    html = build_report(connection, AS_OF)
    return " ".join(section(html, "freshness").split()), _Page(html).rows["freshness"]


def test_ages_are_of_the_day_and_a_value_older_than_usual_is_late() -> None:
    connection = published()
    connection.execute(
        "UPDATE features.daily SET onchain_age_days = 2.5, funding_age_days = 9.2, funding_missing = TRUE "
        "WHERE as_of = $1 AND asset = 'ETH'",
        [AS_OF],
    )
    _, rows = _freshness(connection)
    assert rows[0] == HEADER
    btc, eth, ada = rows[1:]
    assert btc[0:3] == ["BTC", "0 h", "7 h"]
    assert eth[HEADER.index("funding")] == "! missing newest 9.2 d"
    assert eth[HEADER.index("onchain")] == "! late 2.5 d"
    assert btc[HEADER.index("onchain")] == "24 h"
    assert ada[HEADER.index("implied volatility")].startswith("! missing")


def test_stale_streams_are_named_with_the_reason_and_the_last_good_read() -> None:
    failed = DECIDED - timedelta(days=3)
    connection = _with(
        _stream("binance/ohlcv/5m/BTC"),
        _stream("binance/ohlcv/5m/ETH", succeeded_at=DECIDED + timedelta(seconds=5)),
        *(
            _stream(
                f"gdelt/sentiment_metrics/tone/{coin}",
                "unavailable",
                detail=f"gdelt doc: HTTP 503 for {coin}",
                succeeded_at=failed,
            )
            for coin in ("BTC", "ETH")
        ),
        _stream(
            "okx/funding_rates/ADA", "not listed", detail="okx lists no ADA", succeeded_at=None
        ),
    )
    text, rows = _freshness(connection)
    assert "5 streams of a live source, 3 of them stale" in text
    assert "longest ago at 2024-07-01 00:30 UTC" in text
    stale = [row for row in rows if len(row) == 6][1:]
    assert stale == [
        ["! not listed", "okx", "raw.funding_rates", "1", "never", "okx/funding_rates/ADA okx lists no ADA"],
        [
            "! unavailable", "gdelt", "raw.sentiment_metrics", "2", "2024-06-28 00:30 UTC",
            "gdelt/sentiment_metrics/tone/BTC gdelt doc: HTTP 503 for BTC",
        ],
    ]  # fmt: skip


def test_streams_that_are_all_well_take_one_line() -> None:
    text, rows = _freshness(_with(_stream("binance/ohlcv/5m/BTC")))
    assert "1 streams of a live source, 0 of them stale" in text
    assert not [row for row in rows if len(row) == 6]


def test_streams_that_all_failed_are_shown_without_a_good_one() -> None:
    text, rows = _freshness(_with(_stream("binance/ohlcv/5m/BTC", "refused", detail="HTTP 451")))
    assert "1 of them stale" in text
    assert "longest ago" not in text
    assert [row[0] for row in rows if len(row) == 6][1:] == ["! refused"]


def test_what_the_last_reads_noticed_is_listed_once_a_provider() -> None:
    notes = "new field pair = 'x'\nEOS: not at binance, read from kraken"
    connection = _with(
        _stream("binance/ohlcv/5m/BTC", notes=notes.split("\n")[0]),
        _stream("binance/ohlcv/5m/EOS", notes=notes),
    )
    text, _ = _freshness(connection)
    assert "<li>binance (2 streams): new field pair = &#39;x&#39;</li>" in text
    assert "<li>binance: EOS: not at binance, read from kraken</li>" in text


@pytest.mark.parametrize(
    "attempted_at", [None, DECIDED + timedelta(days=1)], ids=["a source of the past", "a later day"]
)
def test_streams_of_the_past_or_of_a_later_day_are_not_shown(attempted_at: datetime | None) -> None:
    stream = _stream("archive/ohlcv", "failed", attempted_at=attempted_at, succeeded_at=None)
    text, _ = _freshness(_with(stream))
    assert "Streams" not in text


def test_a_warehouse_without_streams_still_shows_ages() -> None:
    connection = published()
    connection.execute("DROP TABLE raw.streams")
    _, rows = _freshness(connection)
    assert len(rows) == 4


@pytest.mark.parametrize("column", ["detail", "notes", "provider", "status"])
def test_markup_in_a_providers_answer_is_shown_as_text(column: str) -> None:
    connection = _with(_stream("binance/ohlcv/5m/BTC", "refused", notes="note"))
    connection.execute(f"UPDATE raw.streams SET {column} = {column} || $1", [ATTACK])
    html = build_report(connection, AS_OF)
    assert "<script>alert" not in html
    assert "<img" not in without_scripts(html)
    assert "alert(&#39;volcast&#39;)" in section(html, "freshness")
