"""Row conditions of the feature tables: what a wide row must agree with itself about.

In: ``Evidence``. Out: a boolean per row; a null has nothing to disagree with. Never recomputes a feature: the tests of
``transforms/`` hold those against ``ml.realized``.
"""

from __future__ import annotations

import numpy as np

from quality.frames import Floats, Mask
from quality.suite import Evidence, Measurement, RowCondition

MODALITIES: dict[str, str] = {
    "price": "close",
    "funding": "funding_rate_d",
    "open_interest": "open_interest",
    "implied_volatility": "implied_volatility",
    "onchain": "active_addresses_change_7d",
    "stablecoin": "stablecoin_growth_7d",
    "sentiment": "fear_greed",
    "order_book": "book_imbalance_50bp_d",
}
"""Modality -> the column that it cannot do without."""


def _values(evidence: Evidence, column: str) -> Floats:
    return evidence.frame[column].to_numpy(dtype=np.float64)


def ages_not_negative(columns: tuple[str, ...]) -> RowCondition:
    """No modality has a negative age: that would be a value from after the decision time."""

    def condition(evidence: Evidence) -> Mask:
        ages = evidence.frame[list(columns)].to_numpy(dtype=np.float64)
        return np.asarray(~(ages < 0).any(axis=1), dtype=bool)

    return condition


def weekday_of_the_target(evidence: Evidence) -> Mask:
    """target_weekday is the weekday of as_of + 1, Monday 0."""
    expected = (evidence.frame["as_of"].dt.dayofweek.to_numpy(dtype=np.float64) + 1) % 7
    weekday = _values(evidence, "target_weekday")
    wrong = np.isfinite(expected) & np.isfinite(weekday) & (weekday != expected)
    return np.asarray(~wrong, dtype=bool)


def decided_after_the_day(evidence: Evidence) -> Mask:
    """decision_time >= as_of + 1 day, and under a day later."""
    frame = evidence.frame
    hours = (frame["decision_time"] - frame["as_of"]).dt.total_seconds().to_numpy() / 3600.0
    return np.asarray(~((hours < 24) | (hours >= 48)), dtype=bool)


def semivariances_add_up(evidence: Evidence) -> Mask:
    """Negative and positive semivariance sum to RV (Barndorff-Nielsen, Kinnebrock and Shephard, 2010)."""
    total = _values(evidence, "semivariance_neg_d") + _values(evidence, "semivariance_pos_d")
    variance = _values(evidence, "rv_d")
    return np.asarray(~(np.abs(total - variance) > 1e-6 * np.abs(variance) + 1e-14), dtype=bool)


def flag_tells_completeness(flag: str, least: float) -> RowCondition:
    """``flag`` is true exactly when bars_used is at least ``least`` (a share) of bars_expected."""

    def condition(evidence: Evidence) -> Mask:
        used, due = _values(evidence, "bars_used"), _values(evidence, "bars_expected")
        with np.errstate(all="ignore"):
            filled = used / due >= least - 1e-9
        stated = _values(evidence, flag)
        known = np.isfinite(used) & (due > 0) & np.isfinite(stated)
        return np.asarray(~(known & (filled != (stated == 1.0))), dtype=bool)

    return condition


def present_unless_missing(modality: str) -> RowCondition:
    """A modality that is not flagged as missing has its leading column."""

    def condition(evidence: Evidence) -> Mask:
        there = np.isfinite(_values(evidence, MODALITIES[modality]))
        return np.asarray((_values(evidence, f"{modality}_missing") != 0.0) | there, dtype=bool)

    return condition


def known_after_the_day_began(time: str) -> RowCondition:
    """known_on is not before the day of ``time``."""

    def condition(evidence: Evidence) -> Mask:
        frame = evidence.frame
        return np.asarray(~(frame["known_on"] < frame[time].dt.floor("D")), dtype=bool)

    return condition


def coins_without_a_price(evidence: Evidence) -> Measurement | str:
    """Percent of coins whose price is missing on the newest day."""
    frame = evidence.frame
    newest = frame[frame["as_of"] == frame["as_of"].max()]
    if newest.empty:
        return "no as_of"
    gone = newest.loc[newest["price_missing"] != 0.0, "asset"]
    return Measurement(100.0 * len(gone) / len(newest), ", ".join(str(a) for a in gone.head(10)))
