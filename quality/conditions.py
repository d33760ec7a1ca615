"""Row conditions over several columns or neighbouring rows: True where a row is as it should be.

In: ``Evidence``. Out: a boolean per row, or a few words why it could not be asked. A condition that lacks its values
(a null, no neighbour) is True: completeness is another expectation's business. Never changes a frame.
"""

from __future__ import annotations

import re
from datetime import datetime

import numpy as np
import pandas as pd

from quality.frames import Floats, Mask
from quality.sequences import BAR_LENGTHS, NO_TIME, Sequence, microseconds, series_numbers
from quality.suite import Evidence, RowCondition

SPIKE = 8.0
"""A price this many times its neighbour counts as a 10x spike: 10, less the room that an ordinary move takes from it.

The largest hourly high over low in the archive of 10 coins since 2017 is 3.6 (BNB, 2017-11).
"""


def _values(frame: pd.DataFrame, column: str) -> Floats:
    return frame[column].to_numpy(dtype=np.float64)


def readable(evidence: Evidence) -> Mask:
    """No infinity, no text where a number belongs, no time that is none."""
    return ~evidence.unreadable


def of_our_time(earliest: datetime) -> RowCondition:
    """ts is not before ``earliest``; a row without ts is another expectation's business."""
    least = int(earliest.timestamp()) * 1_000_000

    def condition(evidence: Evidence) -> Mask:
        times = microseconds(evidence.frame, "ts")
        return np.asarray((times >= least) | (times == NO_TIME), dtype=bool)

    return condition


def texts_match(columns: tuple[str, ...], pattern: str) -> RowCondition:
    """Every text of ``columns`` matches ``pattern`` as a whole. Looked at once each: a batch repeats a few names."""
    wanted = re.compile(pattern)

    def condition(evidence: Evidence) -> Mask:
        match = np.ones(len(evidence.frame), dtype=bool)
        for column in columns:
            codes, texts = pd.factorize(evidence.frame[column])
            good = [wanted.fullmatch(text) is not None for text in texts]
            match &= np.array([*good, True], dtype=bool)[codes]  # -1, nothing, is the last
        return match

    return condition


def high_covers(evidence: Evidence) -> Mask:
    frame = evidence.frame
    body = np.fmax(_values(frame, "open"), _values(frame, "close"))
    return ~(_values(frame, "high") < body)


def low_covers(evidence: Evidence) -> Mask:
    frame = evidence.frame
    body = np.fmin(_values(frame, "open"), _values(frame, "close"))
    return ~(_values(frame, "low") > body)


def bar_closed_when_known(evidence: Evidence) -> Mask:
    """known_at >= open time + length of the bar; a second of grace for venues that stamp 23:59:59.999."""
    frame = evidence.frame
    length = frame["interval"].map(BAR_LENGTHS).to_numpy(dtype=np.float64)
    spare = microseconds(frame, "known_at") - microseconds(frame, "ts") - length + 1_000_000
    unknown = frame["known_at"].isna() | frame["ts"].isna()
    return np.asarray(~(spare < 0) | unknown.to_numpy(), dtype=bool)


def _with_history(
    evidence: Evidence, columns: tuple[str, ...], series: tuple[str, ...]
) -> tuple[pd.DataFrame, int]:
    """These columns of the frame behind the reference's rows beside it, so that its first bars have a neighbour; and how many were put before."""
    wanted = [*columns, *(name for name in ("known_at",) if name in evidence.frame)]
    frame, reference = evidence.frame[wanted], evidence.reference
    if reference is None or not reference.has(wanted):
        return frame, 0
    before = reference.beside(evidence.frame, wanted, series)
    return pd.concat([before, frame], ignore_index=True), len(before)


def _price_moves(evidence: Evidence) -> tuple[Mask, Mask]:
    """(fat finger, unconfirmed): rows whose price leaps and comes back at once; rows that leap and do not.

    A leap in the last bar of the reference that the first bar of the frame undoes counts for that first bar: when the
    leap was looked at, nobody could tell.
    """
    series = ("venue", "symbol", "interval")
    frame, history = _with_history(
        evidence, (*series, "ts", "open", "high", "low", "close"), series
    )
    bars = Sequence.of(frame, series)
    opened, high = _values(frame, "open"), _values(frame, "high")
    low, close = _values(frame, "low"), _values(frame, "close")
    limit = np.log(SPIKE)
    with np.errstate(all="ignore"):
        wick = (high >= SPIKE * np.fmax(opened, close)) | (SPIKE * low <= np.fmin(opened, close))
        before = bars.before(close)
        before = np.where(np.isnan(before), opened, before)
        leap = np.log(close / before)
        back = np.abs(np.log(bars.after(close) / before)) < limit / 2
        leaps = np.abs(leap) >= limit
        fat_finger = wick | (leaps & back)
        returning = bars.before(fat_finger.astype(np.float64)) == 1.0
    priced = (opened > 0) & (close > 0) & (low > 0)
    fat_finger &= priced
    unconfirmed = leaps & priced & ~fat_finger & ~returning
    if history:
        past = np.arange(len(frame)) < history
        undone = bars.before((fat_finger & leaps & past).astype(np.float64)) == 1.0
        fat_finger |= undone & leaps
    return fat_finger[history:], unconfirmed[history:]


def no_fat_finger(evidence: Evidence) -> Mask:
    """No 10x price that is gone one bar later, and no 10x wick inside a bar; a 10x move that stays passes."""
    return ~_price_moves(evidence)[0]


def no_unconfirmed_leap(evidence: Evidence) -> Mask:
    """No 10x move that the next bar does not undo: perhaps real, perhaps a redenomination or a unit."""
    return ~_price_moves(evidence)[1]


def closes_agree(tolerance: float, least_venues: int) -> RowCondition:
    """Close within ``tolerance`` (a fraction) of the median over venues of the same symbol, interval and time."""

    def condition(evidence: Evidence) -> Mask | str:
        frame = evidence.frame
        if frame["venue"].nunique() < least_venues:
            return f"fewer than {least_venues} venues"
        groups = frame.groupby(["symbol", "interval", "ts"], sort=False, dropna=False)
        with np.errstate(all="ignore"):
            middle = groups["close"].transform("median").to_numpy(dtype=np.float64)
            apart = np.abs(_values(frame, "close") / middle - 1.0) > tolerance
        venues = groups["venue"].transform("nunique").to_numpy()
        return np.asarray(~(apart & (venues >= least_venues)), dtype=bool)

    return condition


def eight_hour_rate(frame: pd.DataFrame) -> Floats:
    """Funding rate scaled to eight hours, the common unit of venues that settle hourly and 8-hourly."""
    with np.errstate(all="ignore"):
        return _values(frame, "rate") * 8.0 / _values(frame, "interval_hours")


def venue_rate_is_decimal(limit: float) -> RowCondition:
    """The venue's median absolute eight-hour rate is at most ``limit``: a feed in percent is 100 times too high.

    A single rate in percent (0.01 for 0.01 %) looks like a high decimal rate; a whole feed of them does not.
    """

    def condition(evidence: Evidence) -> Mask:
        frame = evidence.frame
        size = pd.Series(np.abs(eight_hour_rate(frame)))
        typical = size.groupby(series_numbers(frame, ("venue", "symbol"))).transform("median")
        return np.asarray(~(typical > limit), dtype=bool)

    return condition


def value_not_leaping(
    factor: float, column: str, keys: tuple[str, ...], metrics: tuple[str, ...] | None = None
) -> RowCondition:
    """``column`` changes by less than ``factor`` against the value before it in its series; of ``metrics``, or all."""

    def condition(evidence: Evidence) -> Mask:
        frame, history = _with_history(evidence, (*keys, "ts", column), keys)
        values = _values(frame, column)
        with np.errstate(all="ignore"):
            change = np.abs(np.log(values / Sequence.of(frame, keys).before(values)))
        leaps = change[history:] >= np.log(factor)
        if metrics is not None:
            leaps &= evidence.frame["metric"].isin(metrics).to_numpy()
        return np.asarray(~leaps, dtype=bool)

    return condition


def text_is_clean(column: str) -> RowCondition:
    """No mojibake, markup or control characters: signs of a wrong encoding or of a page where a title belongs."""
    pattern = r"[\x00-\x08\x0b-\x1f\x7f�]|Ã.|â€|<[a-zA-Z/!][^>]*>"

    def condition(evidence: Evidence) -> Mask:
        texts = evidence.frame[column].astype("object")
        return np.asarray(~texts.str.contains(pattern, regex=True, na=False), dtype=bool)

    return condition
