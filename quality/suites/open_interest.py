"""Suite of raw.open_interest: notional of open contracts. Out: ``SUITE``."""

from __future__ import annotations

from quality.conditions import high_covers, low_covers, value_not_leaping
from quality.measures import age_hours, level_shift, missing_bars
from quality.suite import Suite, between, complete, holds, measured
from quality.suites.common import raw_rows
from quality.verdict import CRITICAL, WARNING

KEY = ("venue", "symbol", "asset", "ts")
SERIES = ("venue", "symbol", "asset")
OHLC = ("open", "high", "low", "close")

# fmt: off
SUITE = Suite(
    name="raw.open_interest",
    about="Open interest in USD, once a day.",
    key=KEY,
    columns={
        "venue": "text", "symbol": "text", "asset": "text", "ts": "time",
        "open": "number", "high": "number", "low": "number", "close": "number",
        "resolution": "text", "known_at": "time", "source": "text",
    },
    optional=frozenset({"open", "high", "low"}),
    empty=WARNING,
    empty_message="there should be open interest: forecasts go on without it, flagged as missing",
    expectations=(
        *raw_rows(KEY),
        complete("close", CRITICAL, "close is there: quarantine the row"),
        *(
            between(column, 0, 1e12, CRITICAL, f"{column} between 0 and 1e12 USD: quarantine, look for another unit")
            for column in OHLC
        ),
        holds("high_covers_open_and_close", high_covers, OHLC, CRITICAL,
              "high >= max(open, close): quarantine the row and fetch it again", column="high"),
        holds("low_covers_open_and_close", low_covers, OHLC, CRITICAL,
              "low <= min(open, close): quarantine the row and fetch it again", column="low"),
        holds("close_does_not_leap", value_not_leaping(10, "close", SERIES), (*KEY, "close"), WARNING,
              "close within a factor of 10 of the day before: coins, contracts or USD?", column="close"),
        measured("no_days_are_missing", missing_bars(SERIES, "resolution"), (*KEY, "resolution"), WARNING,
                 "over 95 % of days between a series' first and last are there: fetch the gap again",
                 high=5, unit=" % missing", column="ts"),
        measured("open_interest_is_fresh", age_hours("ts"), ("ts",), WARNING,
                 "the newest day began under 72 h ago: see whether the provider or the connector is down",
                 high=72, unit=" h", column="ts"),
        measured("open_interest_keeps_its_unit", level_shift("close", SERIES), (*SERIES, "close"), WARNING,
                 "median close within a factor of 30 of the reference: coins, contracts or USD?",
                 high=30, unit="x", column="close"),
    ),
)
# fmt: on
