"""A whole run on live data, as a desk starts it: the command line in a process of its own, against the world of providers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.end_to_end.homes import Home
from tests.live.world import World, address


@pytest.mark.slow
def test_a_day_without_sentiment_and_chain_data_still_gets_its_forecast(
    serve, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    as_of = (now - timedelta(minutes=30)).date() - timedelta(days=1)
    world = World(as_of - timedelta(days=400), now, down={"alternative.me", "coinmetrics"})
    server = serve(**world.handlers())
    server.clock = lambda: datetime.now(UTC)
    home = Home(tmp_path / "home", {**world.environment, **address(server.url)})
    output = home.run("run", "--as-of", as_of.isoformat())
    assert "stale" in output
    made = home.rows("SELECT count(*) FROM forecasts.volatility WHERE as_of = ?", [as_of])
    assert made == [(2 * 3 * 3,)]
    flags = home.rows(
        "SELECT DISTINCT price_missing, onchain_missing, funding_missing FROM features.daily WHERE as_of = ?",
        [as_of],
    )
    assert flags == [(False, True, False)]
    refused = home.rows("SELECT DISTINCT provider FROM raw.streams WHERE status = 'refused'")
    assert {"alternative.me", "coinmetrics"} <= {name for (name,) in refused}
    page = (home.settings.reports_dir / f"{as_of}.html").read_text()
    assert "alternative.me" in page
    world.down.clear()
    home.run(
        "run", "--as-of", as_of.isoformat()
    )  # the provider is back: its history arrives, known by its own stamps
    assert home.rows(
        "SELECT count(*) > 300 FROM raw.onchain_metrics WHERE provider = 'coinmetrics'"
    ) == [(True,)]
    assert "alternative.me" not in home.run("status")
