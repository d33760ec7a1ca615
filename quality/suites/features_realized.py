"""Suite of features.realized: the realised variance that models are trained on and scored against. Out: ``SUITE``."""

from __future__ import annotations

from quality.drift import drifted_columns, off_scale_columns
from quality.features_conditions import flag_tells_completeness, known_after_the_day_began
from quality.suite import (
    LAST_DAY,
    Suite,
    between,
    complete,
    holds,
    measured,
    not_after_decision,
    not_before,
    one_of,
)
from quality.suites.common import SOURCES, all_readable, unique
from quality.verdict import CRITICAL, WARNING

KEY = ("asset", "day", "known_on")

# fmt: off
SUITE = Suite(
    name="features.realized",
    about="One row a coin, day and version. A wrong target teaches a model the wrong thing and flatters its score.",
    key=KEY,
    columns={
        "asset": "text", "day": "time", "known_on": "time", "source": "text", "bar_interval": "text",
        "bars_used": "number", "bars_expected": "number", "complete": "flag",
        "realized_variance": "number", "return": "number", "close": "number",
    },
    optional=frozenset({"realized_variance", "return", "close", "bar_interval"}),
    empty=CRITICAL,
    empty_message="there must be realised variances: build the features before anything is trained",
    expectations=(
        *(complete(column, CRITICAL, f"{column} names the row: rebuild the table") for column in KEY),
        unique(KEY),
        all_readable(),
        one_of("source", SOURCES, CRITICAL, "source is archive, simulated or live: rebuild the table"),
        not_after_decision("known_on", "known_on is not after the day decided on: rebuild, rows of the future got in",
                           last=LAST_DAY),
        holds("known_on_not_before_day", known_after_the_day_began("day"), ("known_on", "day"), CRITICAL,
              "known_on >= day: a day's variance is not known before the day", column="known_on"),
        between("realized_variance", 0, 10, CRITICAL,
                "realised variance between 0 and 10 per day: returns in percent, or a bad bar got in"),
        holds("complete_means_80_percent", flag_tells_completeness("complete", 0.8),
              ("complete", "bars_used", "bars_expected"), CRITICAL,
              "complete is true exactly from 80 % of the bars on: rebuild the table", column="complete"),
        not_before("bars_expected", "bars_used", CRITICAL,
                   "no more bars used than a day has: duplicates got into the features",
                   name="bars_used_at_most_expected"),
        between("return", -3, 3, CRITICAL, "|log return| at most 3 per day: a bad bar that the raw gate let in"),
        between("close", 0, None, CRITICAL, "close is above zero: a bad bar that the raw gate let in", above=True),
        measured("targets_are_on_their_scale", off_scale_columns(("realized_variance",)), ("realized_variance",), WARNING,
                 "median realised variance within 8 spreads of the reference: a crash, or a new kind of data",
                 high=0, unit=" columns off", column="realized_variance"),
        measured("targets_have_not_drifted", drifted_columns(("realized_variance",), "day", 0.5),
                 ("realized_variance", "day"), WARNING,
                 "PSI of realised variance against the reference at most 0.5: a new regime, expect wider errors",
                 high=0, unit=" columns drifted", column="realized_variance"),
    ),
)
# fmt: on
