"""Suite of features.hourly: the finer token sequence. Out: ``SUITE``."""

from __future__ import annotations

from quality.drift import drifted_columns, off_scale_columns
from quality.features_conditions import known_after_the_day_began
from quality.measures import missing_bars
from quality.suite import (
    LAST_DAY,
    Suite,
    between,
    complete,
    holds,
    measured,
    not_after_decision,
    one_of,
)
from quality.suites.common import SOURCES, all_readable, unique
from quality.verdict import CRITICAL, WARNING

KEY = ("asset", "ts")
VALUES = ("log_return", "realized_variance", "high_low_range", "log_volume_ratio")

# fmt: off
SUITE = Suite(
    name="features.hourly",
    about="One row a coin and hour, as it was first known.",
    key=KEY,
    columns={
        "asset": "text", "ts": "time", "known_on": "time", "source": "text",
        "log_return": "number", "realized_variance": "number", "high_low_range": "number",
        "log_volume_ratio": "number", "signed_volume_share": "number", "bars": "number",
    },
    optional=frozenset({*VALUES, "bars"}),
    empty=WARNING,
    empty_message="there should be hourly features: the attention network goes on with its daily tokens",
    expectations=(
        *(complete(column, CRITICAL, f"{column} names the row: rebuild the table") for column in (*KEY, "known_on")),
        unique(KEY),
        all_readable(),
        one_of("source", SOURCES, CRITICAL, "source is archive, simulated or live: rebuild the table"),
        not_after_decision("known_on", "known_on is not after the day decided on: rebuild, rows of the future got in",
                           last=LAST_DAY),
        holds("known_on_not_before_day", known_after_the_day_began("ts"), ("known_on", "ts"), CRITICAL,
              "known_on >= day of ts: an hour is not known before it happened", column="known_on"),
        between("log_return", -3, 3, CRITICAL, "|log return| at most 3 per hour: a bad bar that the raw gate let in"),
        between("realized_variance", 0, 10, CRITICAL, "hourly variance between 0 and 10: a bad bar got in"),
        between("high_low_range", 0, 3, CRITICAL, "log(high/low) between 0 and 3: a bad bar got in"),
        between("log_volume_ratio", -25, 25, WARNING, "log volume ratio within 25: a unit changed within a week?"),
        between("signed_volume_share", -1, 1, CRITICAL, "takers' net share of volume within 1: a unit mixed up"),
        between("bars", 1, 60, CRITICAL, "an hour has 1 to 60 bars: duplicates got into the features"),
        measured("no_hours_are_missing", missing_bars(("asset",), "1h"), KEY, WARNING,
                 "over 95 % of hours between a coin's first and last are there: look at the raw gate's gaps",
                 high=5, unit=" % missing", column="ts"),
        measured("tokens_are_on_their_scale", off_scale_columns(VALUES), (), WARNING,
                 "every column's median within 8 spreads of the reference: a crash, or a new kind of data",
                 high=0, unit=" columns off"),
        measured("tokens_have_not_drifted", drifted_columns(VALUES, "ts", 0.5), ("ts",), WARNING,
                 "PSI of every column against the reference at most 0.5: a new regime, or a new kind of data",
                 high=0, unit=" columns drifted"),
    ),
)
# fmt: on
