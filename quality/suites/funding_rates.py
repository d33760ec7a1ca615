"""Suite of raw.funding_rates: perpetual-swap funding. Out: ``SUITE``."""

from __future__ import annotations

from quality.conditions import venue_rate_is_decimal
from quality.measures import (
    age_hours,
    funding_disagreement,
    level_shift,
    missing_bars,
    of_settlements,
)
from quality.suite import Suite, between, complete, holds, measured
from quality.suites.common import raw_rows
from quality.verdict import CRITICAL, WARNING

KEY = ("venue", "symbol", "asset", "ts")
SERIES = ("venue", "symbol", "asset")

# fmt: off
SUITE = Suite(
    name="raw.funding_rates",
    about="Funding per interval as a decimal. The largest rate of 2017-2023 is 0.0056 (Deribit, 2020-03-13). "
          "A symbol with (current) holds the running rate of an interval that has not ended.",
    key=KEY,
    columns={
        "venue": "text", "symbol": "text", "asset": "text", "ts": "time",
        "rate": "number", "interval_hours": "number", "known_at": "time", "source": "text",
    },
    optional=frozenset(),
    empty=WARNING,
    empty_message="there should be funding rates: forecasts go on without them, flagged as missing",
    expectations=(
        *raw_rows(KEY),
        complete("rate", CRITICAL, "rate is there: quarantine the row"),
        complete("interval_hours", CRITICAL, "interval_hours is there, or the rate has no unit: quarantine the row"),
        between("rate", -0.05, 0.05, CRITICAL,
                "|rate| <= 0.05 per interval: a percent where a decimal belongs? Quarantine and mend the connector"),
        between("interval_hours", 0.25, 24, CRITICAL, "interval_hours between 0.25 and 24: quarantine the row"),
        holds("venue_rate_is_decimal", venue_rate_is_decimal(0.006), (*SERIES, "rate", "interval_hours"), CRITICAL,
              "a venue's median |8-hour rate| is at most 0.6 %: its whole feed looks like percent; quarantine it",
              column="rate"),
        measured("venues_agree", of_settlements(funding_disagreement), ("venue", "symbol", "asset", "ts", "rate", "interval_hours"), WARNING,
                 "daily mean 8-hour rates within 0.5 % of the median venue: look at the venue that stands apart",
                 high=0.005, column="rate"),
        measured("no_settlements_are_missing", of_settlements(missing_bars(SERIES, "interval_hours")),
                 (*KEY, "interval_hours"), WARNING, "over 95 % of settlements between a series' first and last are there: fetch the gap again",
                 high=5, unit=" % missing", column="ts"),
        measured("funding_is_fresh", of_settlements(age_hours("ts")), ("symbol", "ts"), WARNING,
                 "the newest settlement is under 24 h old: see whether the venue or the connector is down",
                 high=24, unit=" h", column="ts"),
        measured("rates_keep_their_unit", level_shift("rate", SERIES), (*SERIES, "rate"), WARNING,
                 "median |rate| within a factor of 80 of the reference: a change of unit or of interval?",
                 high=80, unit="x", column="rate"),
    ),
)
# fmt: on
