"""Suite of raw.implied_volatility: index of option-implied volatility. Out: ``SUITE``."""

from __future__ import annotations

from quality.conditions import high_covers, low_covers, value_not_leaping
from quality.measures import age_hours, level_shift, missing_bars
from quality.suite import Suite, between, complete, holds, measured, one_of
from quality.suites.common import raw_rows
from quality.verdict import CRITICAL, WARNING

KEY = ("venue", "symbol", "asset", "resolution", "ts")
SERIES = ("venue", "symbol", "asset", "resolution")
OHLC = ("open", "high", "low", "close")

# fmt: off
SUITE = Suite(
    name="raw.implied_volatility",
    about="Implied volatility in annualised percent: 65 means 65 %. The archive's range is 31 to 168.",
    key=KEY,
    columns={
        "venue": "text", "symbol": "text", "asset": "text", "resolution": "text", "ts": "time",
        "open": "number", "high": "number", "low": "number", "close": "number",
        "known_at": "time", "source": "text",
    },
    optional=frozenset({"open", "high", "low"}),
    empty=WARNING,
    empty_message="there should be implied volatility: forecasts go on without it, flagged as missing",
    expectations=(
        *raw_rows(KEY),
        one_of("resolution", ("1h", "1d"), CRITICAL, "resolution is 1h or 1d: quarantine, others are not read"),
        complete("close", CRITICAL, "close is there: quarantine the row"),
        *(
            between(column, 1, 500, CRITICAL,
                    f"{column} between 1 and 500 percent: a fraction where percent belongs? Quarantine the row")
            for column in OHLC
        ),
        holds("high_covers_open_and_close", high_covers, OHLC, CRITICAL,
              "high >= max(open, close): quarantine the row and fetch it again", column="high"),
        holds("low_covers_open_and_close", low_covers, OHLC, CRITICAL,
              "low <= min(open, close): quarantine the row and fetch it again", column="low"),
        holds("close_does_not_leap", value_not_leaping(3, "close", SERIES), (*KEY, "close"), WARNING,
              "close within a factor of 3 of the value before: look at the index's own page", column="close"),
        measured("no_values_are_missing", missing_bars(SERIES, "resolution"), KEY, WARNING,
                 "over 95 % of values between a series' first and last are there: fetch the gap again",
                 high=5, unit=" % missing", column="ts"),
        measured("implied_volatility_is_fresh", age_hours("ts"), ("ts",), WARNING,
                 "the newest value is under 26 h old: see whether the provider or the connector is down",
                 high=26, unit=" h", column="ts"),
        measured("implied_volatility_keeps_its_unit", level_shift("close", SERIES), (*SERIES, "close"), WARNING,
                 "median close within a factor of 10 of the reference: percent or fraction?",
                 high=10, unit="x", column="close"),
    ),
)
# fmt: on
