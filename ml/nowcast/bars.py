"""New bars -> whole hours since the end of the last as_of, coin by coin.

In: bars of one length, 5 minutes or an hour, that begin at or after the end of the as_of day. Out: `NewHours`, the measures that features.hourly
and features.daily are made of. Never: a bar that is filled, repaired or left out without a word: a bad one is an error that names it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]

COLUMNS = ("asset", "ts", "high", "low", "close", "volume")
"""What bars must have."""
OPTIONAL = ("open", "quote_volume", "taker_buy_volume")
"""What is read where it is there; a missing value of them is allowed, a wrong one is not."""
LEAST_BARS = {24: 1, 288: 10}
"""Bars that an hour needs to count, as in features.hourly; by the bars of a day, as features.daily counts them (`bars_expected`)."""
LONGEST_HOURS = 24
"""After so many hours the daily run is due."""
_HOUR = np.timedelta64(1, "h")


class BarsError(ValueError):
    """Bars that cannot be used; the message names the bar and what was expected."""


@dataclass(frozen=True)
class NewHours:
    """The k whole hours since the end of the as_of day, of N coins; NaN throughout for a coin that does not have them all."""

    start: np.datetime64  # end of the as_of day, UTC
    log_return: Floats  # (k, N)
    realized_variance: Floats  # (k, N) sum of squared bar returns
    fourth_moment: Floats  # (k, N) sum of fourth powers of bar returns, times bars a day / 3
    log_high: Floats  # (k, N)
    log_low: Floats  # (k, N)
    quote_volume: Floats  # (k, N)
    signed_volume_share: Floats  # (k, N) NaN where taker volume is not known
    bars: Floats  # (k, N)
    status: tuple[str, ...]  # (N,) 'ok', or why a coin has no hours
    notes: tuple[str, ...] = ()
    """What was left aside: bars of days that are forecast already, bars of an hour that is not over."""

    def __len__(self) -> int:
        return len(self.log_return)

    @property
    def end(self) -> np.datetime64:
        """The instant of the nowcast."""
        return self.start + len(self) * _HOUR

    @classmethod
    def of(
        cls,
        bars: pd.DataFrame,
        assets: tuple[str, ...],
        close: Floats,
        start: np.datetime64,
        bars_a_day: NDArray[np.int64],
        until: np.datetime64 | None = None,
    ) -> NewHours:
        """From bars `COLUMNS` in any order; `ts` is a bar's open, UTC.

        close: (N,) the last close before `start`, from which the first return runs. bars_a_day: (N,) 24 or 288, the bars that a
        coin's features are made of. until: bars that end later are an error (default: none is). The nowcast is made at the end of the newest hour that more than half
        of the coins with bars have whole; a coin that lacks one of the hours up to there is refused with the reason. Raises `BarsError`.
        """
        odd = ~np.isin(bars_a_day, list(LEAST_BARS))
        if odd.any():
            raise BarsError(
                f"{bars_a_day[odd][0]} bars a day: expected 24 (hours) or 288 (5 minutes)"
            )
        frame, opened, column, notes = _checked(bars, assets, start, bars_a_day, until)
        hour = ((opened - start) // _HOUR).astype(np.int64)
        counts = _totals(np.ones(len(frame)), hour, column, len(assets))
        whole = counts >= np.array([LEAST_BARS[int(day)] for day in bars_a_day])
        # An hour with enough bars may still be running: it is over once its last bar is there, or a bar of a later hour.
        ends = opened + _width(bars_a_day)[column] == start + (hour + 1) * _HOUR
        over = _totals(ends.astype(np.float64), hour, column, len(assets)) > 0
        over[:-1] |= np.cumsum(counts[::-1], axis=0)[::-1][1:] > 0
        whole &= over
        if not whole.any():
            raise BarsError(
                f"no whole hour among {len(frame)} bars since {_said(start)}: expected one at least"
            )
        most = whole.sum(axis=1) * 2 > (counts > 0).any(axis=0).sum()
        hours = int(np.flatnonzero(most if most.any() else whole.any(axis=1)).max()) + 1
        if hours < len(counts):
            later = int(counts[hours:].sum())
            notes.append(
                f"{later} bars after {_said(start + hours * _HOUR)}, in an hour that is not over or that most coins lack"
            )
        kept = hour < hours
        frame, hour, column, opened = frame[kept], hour[kept], column[kept], opened[kept]
        returns = _log_returns(frame, opened, column, close, start, _width(bars_a_day)[column])
        shape = (hours, len(assets))
        log_high = np.full(shape, -np.inf)
        log_low = np.full(shape, np.inf)
        np.maximum.at(log_high, (hour, column), np.log(frame["high"].to_numpy()))
        np.minimum.at(log_low, (hour, column), np.log(frame["low"].to_numpy()))

        def total(values: Any) -> Floats:
            return _totals(np.asarray(values, dtype=np.float64), hour, column, len(assets), hours)

        volume = frame["volume"].to_numpy(dtype=np.float64)
        share = np.full(shape, np.nan)
        if "taker_buy_volume" in frame:  # an hour of which it is not known throughout has no share
            signed = total(2 * frame["taker_buy_volume"].to_numpy(dtype=np.float64) - volume)
            np.divide(signed, total(volume), out=share, where=total(volume) > 0)
        quoted = frame["close"].to_numpy() * volume
        if "quote_volume" in frame:
            given = frame["quote_volume"].to_numpy(dtype=np.float64)
            quoted = np.where(np.isfinite(given), given, quoted)
        status = [_missing(whole[:hours, n], start) for n in range(len(assets))]
        unstarted = np.unique(column[~np.isfinite(returns)])
        for n in unstarted[[status[n] == "ok" for n in unstarted]]:
            status[n] = (
                f"no close of the day before, and the bar at {_said(start)} has no open: its first return is not known"
            )
        returns = np.nan_to_num(returns, nan=0.0)  # of coins that are refused
        refused = np.array([text != "ok" for text in status])

        def known(values: Floats) -> Floats:
            return np.where(refused, np.nan, values)

        return cls(
            start,
            log_return=known(total(returns)),
            realized_variance=known(total(returns**2)),
            fourth_moment=known(total(returns**4) * bars_a_day / 3),
            log_high=known(log_high),
            log_low=known(log_low),
            quote_volume=known(total(quoted)),
            signed_volume_share=known(share),
            bars=known(counts[:hours]),
            status=tuple(status),
            notes=tuple(notes),
        )


def _width(bars_a_day: NDArray[np.int64]) -> NDArray[np.timedelta64]:
    """(N,) length of a bar."""
    return np.asarray((1440 // bars_a_day).astype("timedelta64[m]"))


def _checked(
    bars: pd.DataFrame,
    assets: tuple[str, ...],
    start: np.datetime64,
    bars_a_day: NDArray[np.int64],
    until: np.datetime64 | None,
) -> tuple[pd.DataFrame, NDArray[np.datetime64], NDArray[np.int64], list[str]]:
    """The bars since `start` in order, when each opened, its coin, and notes; BarsError for what cannot be used."""
    lacking = [name for name in COLUMNS if name not in bars.columns]
    if lacking:
        raise BarsError(f"bars lack {', '.join(lacking)}: expected {', '.join(COLUMNS)}")
    frame = bars.assign(asset=bars["asset"].astype(str))
    try:
        stamps = pd.to_datetime(frame["ts"], utc=True)
    except (ValueError, TypeError) as error:
        raise BarsError(f"ts: expected instants in UTC ({error})") from None
    if stamps.isna().any():
        raise BarsError(f"bar {int(np.flatnonzero(stamps.isna())[0])}: ts is missing")
    frame = frame.assign(
        opened=stamps.dt.tz_localize(None).to_numpy().astype("datetime64[us]")
    ).sort_values(["asset", "opened"], ignore_index=True)
    unknown = sorted(set(frame["asset"]) - set(assets))
    if unknown:
        raise BarsError(f"asset {unknown[0]!r}: expected one of {', '.join(assets)}")
    notes = []
    opened = frame["opened"].to_numpy()
    early = opened < start
    if early.any():
        notes.append(f"{int(early.sum())} bars before {_said(start)}, of days that are forecast")
        frame, opened = frame[~early].reset_index(drop=True), opened[~early]
    if frame.empty:
        raise BarsError(f"no bars since {_said(start)}: expected at least one whole hour")

    def complain(wrong: Any, what: str) -> None:
        found = np.flatnonzero(np.asarray(wrong))
        if len(found):
            row = frame.iloc[found[0]]
            raise BarsError(f"bar {row['asset']} {row['opened']}: {what.format(**row)}")

    for name in ("high", "low", "close", "volume"):
        values = pd.to_numeric(frame[name], errors="coerce").to_numpy(dtype=np.float64)
        least = 0.0 if name == "volume" else np.nextafter(0.0, 1.0)
        complain(
            ~(np.isfinite(values) & (values >= least)),
            f"{name} {{{name}}}: expected a {'number of at least 0' if name == 'volume' else 'positive price'}",
        )
        frame[name] = values
    for name in OPTIONAL:
        if name in frame:
            given = frame[name].notna().to_numpy()
            values = pd.to_numeric(frame[name], errors="coerce").to_numpy(dtype=np.float64)
            least = np.nextafter(0.0, 1.0) if name == "open" else 0.0
            complain(
                given & ~(np.isfinite(values) & (values >= least)),
                f"{name} {{{name}}}: expected a {'positive price' if name == 'open' else 'number of at least 0'}, or nothing",
            )
            frame[name] = values
    complain(frame["high"] < frame["low"], "high {high} below low {low}")
    if "open" in frame:
        complain(
            (frame["open"] > frame["high"]) | (frame["open"] < frame["low"]),
            "open {open}: expected between low {low} and high {high}",
        )
    if "taker_buy_volume" in frame:
        complain(
            frame["taker_buy_volume"] > frame["volume"] * (1 + 1e-9),
            "taker_buy_volume {taker_buy_volume}: expected at most the volume {volume}",
        )
    complain(
        (frame["close"] > frame["high"]) | (frame["close"] < frame["low"]),
        "close {close}: expected between low {low} and high {high}",
    )
    complain(frame.duplicated(["asset", "opened"]), "there twice")
    column = np.asarray(pd.Index(assets).get_indexer(pd.Index(frame["asset"])), dtype=np.int64)
    width = _width(bars_a_day)[column]
    frame["minutes"] = width.astype(np.int64)
    misplaced = (opened - start) % width != np.timedelta64(0, "us")
    complain(misplaced, "expected bars of {minutes} minutes that open on the clock")
    if until is not None:
        complain(opened + width > until, f"ends after {_said(until)}")
    complain(
        opened + width > start + LONGEST_HOURS * _HOUR,
        f"ends more than {LONGEST_HOURS} hours after {_said(start)}: run the daily job for that day first",
    )
    return frame, opened, column, notes


def _log_returns(
    frame: pd.DataFrame,
    opened: NDArray[np.datetime64],
    column: NDArray[np.int64],
    close: Floats,
    start: np.datetime64,
    width: NDArray[np.timedelta64],
) -> Floats:
    """(bars,) from the close of the bar before, or of the as_of day; else from the bar's own open.

    After a gap without an open the move over it is part of the bar's return, as far as the close before it is known; NaN where nothing is.
    """
    price = np.log(frame["close"].to_numpy())
    with np.errstate(invalid="ignore", divide="ignore"):
        last_close = np.log(close)[column]
    new_coin = np.ones(len(price), dtype=bool)
    new_coin[1:] = column[1:] != column[:-1]
    before = np.concatenate([[np.nan], price[:-1]])
    before = np.where(new_coin, last_close, before)  # the newest close that is known
    follows = np.zeros(len(price), dtype=bool)
    follows[1:] = opened[1:] - opened[:-1] == width[1:]
    follows = np.where(new_coin, opened == start, follows)
    if "open" in frame:
        own = np.log(frame["open"].to_numpy(dtype=np.float64))
        before = np.where(np.isfinite(own) & ~(follows & np.isfinite(before)), own, before)
    return np.asarray(price - before)


def _totals(
    values: Floats,
    hour: NDArray[np.int64],
    column: NDArray[np.int64],
    assets: int,
    hours: int | None = None,
) -> Floats:
    """(hours, N) sums."""
    count = int(hour.max()) + 1 if hours is None else hours
    flat = np.bincount(hour * assets + column, weights=values, minlength=count * assets)
    return np.asarray(flat.reshape(count, assets), dtype=np.float64)


def _said(instant: np.datetime64) -> str:
    return f"{pd.Timestamp(instant):%Y-%m-%d %H:%M} UTC"


def _missing(whole: NDArray[np.bool_], start: np.datetime64) -> str:
    if whole.all():
        return "ok"
    first = int(np.flatnonzero(~whole)[0])
    return f"{int(whole.sum())} of {len(whole)} hours: no whole hour from {_said(start + first * _HOUR)}"
