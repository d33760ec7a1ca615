"""Figures about a frame as a whole: gaps, coins that are gone, age, venues that disagree.

In: ``Evidence``. Out: a ``Measurement`` (a figure and where it comes from), or a few words why it could not be taken.
Never judges: a suite says which figures are good.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from quality.conditions import eight_hour_rate
from quality.frames import Floats
from quality.reference import typical_sizes
from quality.sequences import (
    BAR_LENGTHS,
    DAY,
    HOUR,
    NO_TIME,
    Integers,
    Sequence,
    label,
    listing,
)
from quality.suite import Evidence, FrameMeasure, Measurement


def age_hours(column: str) -> FrameMeasure:
    """Hours from the newest ``column`` to the decision time."""

    def measure(evidence: Evidence) -> Measurement | str:
        if evidence.now is None:
            return "no decision time given"
        newest = evidence.frame[column].max()
        if pd.isna(newest):
            return f"no {column}"
        return Measurement((evidence.now - newest) / pd.Timedelta(hours=1), f"newest {newest}")

    return measure


def _coins(frame: pd.DataFrame) -> pd.Series:
    """The coin of each row: ``asset``, or the base of ``symbol``."""
    if "asset" in frame:
        return frame["asset"]
    return frame["symbol"].astype("object").str.partition("/")[0]


def vanished_coins(hours: float) -> FrameMeasure:
    """Coins with nothing in the last ``hours`` before the frame's newest row, though named by reference or caller."""

    def measure(evidence: Evidence) -> Measurement | str:
        frame = evidence.frame
        newest = frame["ts"].max()
        if pd.isna(newest):
            return "no ts"
        last = frame["ts"].groupby(_coins(frame), sort=True).max()
        gone = {
            str(coin): f"{coin} since {moment}"
            for coin, moment in last.items()
            if pd.isna(moment) or newest - moment >= pd.Timedelta(hours=hours)
        }
        expected = set(evidence.assets or ())
        if evidence.reference is not None and len(evidence.reference) and not expected:
            name = "asset" if evidence.reference.has(["asset"]) else "symbol"
            expected = set(_coins(evidence.reference.rows([name])).dropna().astype(str))
        for coin in expected - set(last.index.astype(str)):
            gone[coin] = f"{coin}: no row at all"
        return Measurement(len(gone), listing([gone[coin] for coin in sorted(gone)]))

    return measure


def absent_assets(time: str) -> FrameMeasure:
    """Coins that the caller or the reference names and that have no row at the frame's newest ``time``."""

    def measure(evidence: Evidence) -> Measurement | str:
        frame = evidence.frame
        newest = frame[time].max()
        if pd.isna(newest):
            return f"no {time}"
        expected = set(evidence.assets or _names(frame))
        if (
            not evidence.assets
            and evidence.reference is not None
            and evidence.reference.has(["asset"])
        ):
            expected |= _names(evidence.reference.rows(["asset"]))
        there = set(frame.loc[frame[time] == newest, "asset"].dropna().astype(str))
        gone = sorted(expected - there)
        return Measurement(len(gone), f"{listing(gone)} at {newest:%Y-%m-%d}" if gone else "")

    return measure


def _names(frame: pd.DataFrame) -> set[str]:
    return set(frame["asset"].dropna().astype(str)) if "asset" in frame else set()


def _steps(frame: pd.DataFrame, step: str) -> Floats:
    """Microseconds between a row and the next one of its series.

    ``step`` is the column that says so (interval, resolution, interval_hours), or a bar length for all rows.
    """
    if step in BAR_LENGTHS:
        return np.full(len(frame), float(BAR_LENGTHS[step]))
    if step == "interval_hours":
        return frame[step].to_numpy(dtype=np.float64) * HOUR
    return np.asarray(frame[step].map(BAR_LENGTHS), dtype=np.float64)


def _span(bars: Sequence, first: Integers, steps: Floats) -> tuple[Floats, Floats]:
    """Per series the first and last time at which a bar is due.

    A series that stops early ends with the newest row of its bar length, so that its gap shows, unless it stopped over
    a week before: then it has ended. It starts with its own first row, or with the frame where that is less than a
    day earlier: a coin may be listed later, but not go missing in the morning.
    """
    start = bars.time[first].astype(np.float64)
    last = np.maximum.reduceat(bars.time, first).astype(np.float64)
    groups = pd.Series(steps)
    earliest = pd.Series(start).groupby(groups).transform("min").to_numpy(dtype=np.float64)
    latest = pd.Series(last).groupby(groups).transform("max").to_numpy(dtype=np.float64)
    return np.where(start - earliest < DAY, earliest, start), np.where(
        latest - last > 7 * DAY, last, latest
    )


def missing_bars(columns: tuple[str, ...], step: str) -> FrameMeasure:
    """Percent of bars that are due and not there, over all series; the detail names the worst."""

    def measure(evidence: Evidence) -> Measurement | str:
        frame = evidence.frame
        bars = Sequence.of(frame, columns)
        first = np.flatnonzero(~bars.same_series_as_previous)
        steps = _steps(frame, step)[bars.newest][first]
        known = np.isfinite(steps) & (steps > 0) & (bars.time[first] != NO_TIME)
        if not known.any():
            return "no bar with a known length"
        present = np.diff(np.append(first, len(bars.time)))[known].astype(np.float64)
        start, end = _span(bars, first, np.where(known, steps, np.nan))
        due = np.floor((end - start)[known] / steps[known]) + 1.0
        gap = np.maximum(due - present, 0.0)
        worst = np.argsort(-gap, kind="stable")
        rows = bars.newest[first[known]]
        detail = [
            f"{label(frame, rows[i], columns)}: {gap[i]:.0f} of {due[i]:.0f}"
            for i in worst
            if gap[i]
        ]
        share = 100.0 * gap.sum() / due.sum()
        return Measurement(share, listing(detail))

    return measure


def thin_days(least: float) -> FrameMeasure:
    """Coin-days, the first and last of a series aside, with some but under ``least`` (a share) of their bars."""

    def measure(evidence: Evidence) -> Measurement | str:
        frame = evidence.frame
        columns = ("venue", "symbol", "interval")
        bars = Sequence.of(frame, columns)
        length = _steps(frame, "interval")[bars.newest]
        usable = np.isfinite(length) & (bars.time != NO_TIME)
        if not usable.any():
            return "no bar with a known length"
        days = pd.DataFrame({"series": bars.series, "day": bars.time // DAY, "due": DAY / length})
        counts = days[usable].groupby(["series", "day"])["due"].agg(["size", "first"]).reset_index()
        edge = counts.groupby("series")["day"].transform
        inner = (counts["day"] > edge("min")) & (counts["day"] < edge("max"))
        thin = counts[inner & (counts["size"] < least * counts["first"])]
        rows = pd.Series(bars.newest).groupby(bars.series).first()
        detail = [
            f"{label(frame, int(rows[series]), columns)} {np.datetime64(int(day), 'D')}: {size} of {due:.0f}"
            for series, day, size, due in thin.head(5).itertuples(index=False, name=None)
        ]
        return Measurement(len(thin), listing(detail + [""] * (len(thin) - len(detail))))

    return measure


def zero_share(column: str) -> FrameMeasure:
    """Percent of rows whose ``column`` is exactly zero: a few are outages, many are a dead feed."""

    def measure(evidence: Evidence) -> Measurement | str:
        values = evidence.frame[column]
        zero = int((values == 0).sum())
        return Measurement(100.0 * zero / max(len(values), 1), f"{zero} rows")

    return measure


def repeated_share(columns: tuple[str, ...], keys: tuple[str, ...]) -> FrameMeasure:
    """Percent of bars equal to the bar before them in every one of ``columns``: a feed that repeats its last answer."""

    def measure(evidence: Evidence) -> Measurement | str:
        frame = evidence.frame
        bars = Sequence.of(frame, keys)
        same = np.ones(len(frame), dtype=bool)
        for column in columns:
            values = frame[column].to_numpy(dtype=np.float64)
            same &= values == bars.before(values)
        return Measurement(100.0 * same.mean(), f"{int(same.sum())} rows")

    return measure


def funding_disagreement(evidence: Evidence) -> Measurement | str:
    """Largest distance of a venue's daily mean eight-hour rate from the median over venues, per coin."""
    frame = evidence.frame
    table = pd.DataFrame(
        {
            "venue": frame["venue"],
            "asset": frame["asset"],
            "day": frame["ts"].dt.floor("D"),
            "rate": eight_hour_rate(frame),
        }
    ).dropna()
    daily = table.groupby(["asset", "day", "venue"])["rate"].mean()
    groups = daily.groupby(["asset", "day"])
    shared = daily[groups.transform("size") > 1]
    if shared.empty:
        return "no coin with two venues on one day"
    apart = (shared - groups.transform("median")[shared.index]).abs()
    worst = apart.reset_index().iloc[int(apart.to_numpy().argmax())]
    return Measurement(
        float(worst["rate"]), f"{worst['venue']} {worst['asset']} on {worst['day']:%Y-%m-%d}"
    )


def of_settlements(measure: FrameMeasure) -> FrameMeasure:
    """The same figure, of the frame alone, without running funding rates, whose symbols say ``(current)``: they settle nothing and come at any time."""

    def settled(frame: pd.DataFrame) -> pd.Series:
        return ~frame["symbol"].astype("object").str.contains("(current)", regex=False, na=False)

    def measured(evidence: Evidence) -> Measurement | str:
        rows = settled(evidence.frame)
        if not rows.any():
            return "no settlement"
        return measure(
            replace(
                evidence,
                frame=evidence.frame[rows].reset_index(drop=True),
                unreadable=evidence.unreadable[rows.to_numpy()],
                reference=None,
            )
        )

    return measured


def level_shift(
    column: str,
    keys: tuple[str, ...],
    metrics: tuple[str, ...] | None = None,
    besides: tuple[str, ...] = (),
) -> FrameMeasure:
    """Largest factor between a series' median size in frame and reference: other units, another contract.

    ``metrics``: look at these alone; ``besides``: not at these, whose values lie around zero and have no typical size.
    """

    def measure(evidence: Evidence) -> Measurement | str:
        reference = evidence.reference
        if reference is None or not reference.has([column, *keys]):
            return "no reference given"
        medians = [
            typical_sizes(evidence.frame, column, keys, metrics, besides),
            reference.typical_sizes(column, keys, metrics, besides),
        ]
        both = pd.concat(medians, axis=1, join="inner").replace(np.inf, np.nan).dropna()
        if both.empty:
            return "no series in common with the reference"
        ratio = both.to_numpy(dtype=np.float64)
        factor = np.exp(np.abs(np.log(ratio[:, 0] / ratio[:, 1])))
        worst = int(factor.argmax())
        return Measurement(
            float(factor[worst]), " ".join(map(str, np.atleast_1d(both.index[worst])))
        )

    return measure


def missing_days(evidence: Evidence) -> Measurement | str:
    """Days without a feature row between a coin's first and last; the detail names the coins."""
    table = evidence.frame[["asset", "as_of"]].dropna().drop_duplicates()
    if table.empty:
        return "no as_of"
    span = table.groupby("asset")["as_of"].agg(["min", "max", "size"])
    gaps = (span["max"] - span["min"]).dt.days + 1 - span["size"]
    holes = gaps[gaps > 0].sort_values(ascending=False)
    return Measurement(
        float(holes.sum()), listing([f"{asset}: {days}" for asset, days in holes.items()])
    )
