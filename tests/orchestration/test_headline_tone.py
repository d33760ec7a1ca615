from __future__ import annotations

from datetime import UTC, date, datetime

import duckdb
import pytest

from orchestration.headline_tone import daily_tone, tone
from orchestration.settings import Settings

SETTINGS = Settings()


@pytest.fixture
def connection():
    with duckdb.connect() as opened:
        opened.execute("SET TimeZone = 'UTC'")
        opened.execute("CREATE SCHEMA raw")
        opened.execute(
            "CREATE TABLE raw.headlines (publisher VARCHAR, id VARCHAR, ts TIMESTAMPTZ, title VARCHAR, known_at TIMESTAMPTZ)"
        )
        yield opened


def _publish(connection, title: str | None, known_at: datetime, key: str = "a") -> None:
    connection.execute(
        "INSERT INTO raw.headlines VALUES ('wire', ?, ?, ?, ?)", [key, known_at, title, known_at]
    )


def test_words_of_this_market_carry_a_tone():
    good, bad, flat = tone(
        ["Bitcoin rallies on approval", "Exchange hacked, insolvency feared", "Token listed"]
    )
    assert good > 0.3
    assert bad < -0.5
    assert flat == 0


def test_a_headline_counts_for_the_day_whose_decision_it_precedes(connection):
    decision = SETTINGS.decision_time(date(2024, 3, 1))
    _publish(connection, "market crash", decision, "on the dot")
    _publish(connection, "big rally", decision.replace(minute=31), "a minute late")
    rows = daily_tone(
        connection, SETTINGS, "simulated", date(2024, 3, 1), date(2024, 3, 2)
    ).to_pylist()
    found = {(row["ts"].date(), row["metric"]): row for row in rows}
    assert found[date(2024, 3, 1), "headline_tone"]["value"] < 0
    assert found[date(2024, 3, 2), "headline_tone"]["value"] > 0
    assert found[date(2024, 3, 1), "headline_count"]["value"] == 1
    assert found[date(2024, 3, 1), "headline_tone"]["known_at"] == decision


def test_a_missing_title_and_no_headlines_are_no_fault(connection):
    day = date(2024, 3, 1)
    assert daily_tone(connection, SETTINGS, "simulated", day, day).num_rows == 0
    _publish(connection, None, datetime(2024, 3, 1, 12, tzinfo=UTC))
    assert daily_tone(connection, SETTINGS, "simulated", day, day).num_rows == 0
