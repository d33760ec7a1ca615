r"""A panel whose days end k hours later: what the features would be if the UTC day ended now.

Row j, the day d_j in the panel that comes in, becomes the 24 hours that end k hours after d_j. Hours of past days are those of features.hourly,
scaled so that those of one day add up to its own measures; so with k = 24 the newest row is the daily row of the next day:

    rv'_j = sum_{hours of the window} v_h * rv_d / sum_{hours of d} v_h

In the same way quarticity (in proportion to v_h squared) and volume (to exp of the hour's log volume ratio). A day's range is that of the path of
hourly closes, widened by the hours' own ranges, times the two days' own (range / that range), weighted by their hours.

In: a panel and `NewHours`. Out: a panel with the columns that HARX-cal, the panel HAR and the tokens read. Never: a price column that was not made
anew (a model that asks for one gets a KeyError that names it), or a context value later than the as_of day: contexts stay, their ages grow by k hours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ml.baselines.panel_regressors import market_mean, newest_known, trailing_mean
from ml.nowcast.bars import NewHours
from ml.panel import FUNDING_FIELDS, Panel

Floats = NDArray[np.float64]

WINDOWS = (2, 5, 22, 66)
LAST_HOURS = (1, 4, 8, 12)
PRICE_COLUMNS = ("rv_d", "quarticity_d", "return_d", "high_low_range_d", "log_volume_ratio_22d")
"""What must be in a panel that is to be shifted, besides `close`, `quote_volume_d`, `price_age_days` and `bars_expected`."""


@dataclass(frozen=True)
class History:
    """Hours of past days, each day's scaled to its own measures: made once for an as_of, used for every update.

    Arrays (T * 24, N) unless said; 0 in days that are not complete.
    """

    panel: Panel
    complete: NDArray[np.bool_]  # (T, N) the day has complete bars of its own
    variance: Floats
    log_return: Floats
    fourth: Floats
    volume: Floats
    log_price: Floats  # at the end of each hour, relative to the end of the last day
    half_excess: Floats  # half of what an hour's range exceeds its move by
    range_factor: Floats  # (T, N) the day's range over the range of the path
    mean_log_volume: Floats  # (N,) mean log volume of the last 168 hours

    @classmethod
    def of(cls, panel: Panel, days: int) -> History:
        """Of the last `days` days of a panel; ValueError where it lacks hours or columns."""
        recent = panel.window(min(days, len(panel.days)))
        lacking = [name for name in PRICE_COLUMNS if name not in recent.features]
        for name in ("log_return", "realized_variance", "high_low_range", "log_volume_ratio"):
            if name not in recent.hourly_fields:
                lacking.append(f"hourly {name}")
        if lacking:
            raise ValueError(f"the panel lacks {', '.join(lacking)}: a nowcast reads hours")
        complete = np.asarray(
            (recent.feature("price_age_days") == 0) & (recent.feature("rv_d") > 0)
        )
        variance = _hours(recent, "realized_variance")
        rows = (len(recent.days), 24, len(recent.assets))

        def scaled(shape: Floats, total: Floats) -> Floats:
            """Hours in proportion to `shape` (T, 24, N) that add up to `total` (T, N)."""
            known = np.where(np.isfinite(shape), shape, 0.0)
            sums = known.sum(axis=1)
            usable = complete & (sums > 0) & np.isfinite(total)
            factor = np.where(usable, total / np.where(usable, sums, 1.0), 0.0)
            return np.asarray((known * factor[:, None]).reshape(-1, rows[2]))

        with np.errstate(over="ignore"):
            volume = np.exp(_hours(recent, "log_volume_ratio"))
        known_return = np.nan_to_num(_hours(recent, "log_return"), nan=0.0)
        missing_return = recent.feature("return_d") - known_return.sum(axis=1)
        known_return[:, 0] += np.where(complete & np.isfinite(missing_return), missing_return, 0.0)
        log_return = known_return.reshape(-1, rows[2])
        path = np.cumsum(log_return, axis=0)
        path = path - path[-1]
        width = _hours(recent, "high_low_range").reshape(-1, rows[2])
        excess = np.nan_to_num(np.maximum(width - np.abs(log_return), 0.0), nan=0.0) / 2
        volumes = scaled(volume, recent.feature("quote_volume_d"))
        with np.errstate(divide="ignore", invalid="ignore"):
            of_path = _window_range(path, excess, log_return, 0).reshape(rows[0], rows[2])
            factor = recent.feature("high_low_range_d") / of_path
            last_week = np.log(np.where(volumes[-168:] > 0, volumes[-168:], np.nan))
        known = np.isfinite(last_week)
        mean = np.where(known, last_week, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        return cls(
            panel=recent,
            complete=complete,
            variance=scaled(variance, recent.feature("rv_d")),
            log_return=log_return,
            fourth=scaled(variance**2, recent.feature("quarticity_d")),
            volume=volumes,
            log_price=path,
            half_excess=excess,
            range_factor=np.where(np.isfinite(factor) & (factor > 0), factor, 1.0),
            mean_log_volume=np.where(known.sum(axis=0) > 0, mean, np.nan),
        )


def shifted(history: History, new: NewHours) -> Panel:
    """The panel as it is `len(new)` hours later; its last row is labelled with the day after the as_of, and has that day's calendar.

    A coin that `new` refuses keeps its day as it was known at the as_of, one day old.
    """
    panel, k = history.panel, len(new)
    days, assets = len(panel.days), len(panel.assets)
    there = np.array([text == "ok" for text in new.status])

    def windows(past: Floats, latest: Floats) -> Floats:
        """(T * 24, N) and (k, N) -> (T, 24, N): the hours of each shifted day."""
        both = np.concatenate([past, np.where(there, latest, 0.0)])[k:]
        return np.asarray(both.reshape(days, 24, assets))

    hours_complete = np.concatenate(
        [np.repeat(history.complete, 24, axis=0), np.repeat(there[None], k, axis=0)]
    )[k:]
    complete = np.asarray(hours_complete.reshape(days, 24, assets).all(axis=1))
    variance = windows(history.variance, new.realized_variance)
    log_return = windows(history.log_return, new.log_return)
    quarticity = windows(history.fourth, new.fourth_moment).sum(axis=1)
    volume = windows(history.volume, new.quote_volume).sum(axis=1)
    ranges = _ranges(history, new, there, k)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_volume = np.log(np.where(complete & (volume > 0), volume, np.nan))
    rv = np.where(complete, variance.sum(axis=1), np.nan)
    day_return = np.where(complete, log_return.sum(axis=1), np.nan)
    log_rv = np.log(np.where(rv > 0, rv, np.nan))
    own: dict[str, Floats] = {
        "rv_d": rv,
        "quarticity_d": np.where(complete, quarticity, np.nan),
        "return_d": day_return,
        "abs_return_d": np.abs(day_return),
        "high_low_range_d": np.where(complete, ranges, np.nan),
        "quote_volume_d": np.where(complete, volume, np.nan),
        **{
            f"rv_last_{n}h": np.where(complete, variance[:, -n:].sum(axis=1), np.nan)
            for n in LAST_HOURS
        },
        "log_volume_ratio_22d": log_volume - trailing_mean(log_volume, 22),
    }
    features = {name: newest_known(values) for name, values in own.items()}
    features |= {f"rv_{n}d": trailing_mean(rv, n) for n in WINDOWS}
    features |= {
        f"return_{n}d": trailing_mean(day_return, n) * _counted(day_return, n) for n in (5, 22)
    }
    market = market_mean(log_rv)
    features["market_log_rv_d"] = newest_known(market)
    features["market_log_rv_5d"] = trailing_mean(market, 5)
    if "BTC" in panel.assets:
        bitcoin = panel.assets.index("BTC")
        for name in ("rv_d", "rv_5d", "return_d"):
            features[f"btc_{name}"] = np.repeat(features[name][:, [bitcoin]], assets, axis=1)
    features["price_age_days"] = _age(complete)
    features["bars_expected"] = panel.feature("bars_expected")
    for name, values in panel.features.items():
        if name.startswith("target_") or name in features:
            continue
        if name.endswith("_age_days") and name != "price_age_days":
            features[name] = values + k / 24
        elif _is_context(name):
            features[name] = values
    following = panel.days + np.timedelta64(1, "D")
    moved = replace(
        panel,
        days=following,
        features=features,
        hourly=_hourly(panel, history, new, there),
        realized=panel.realized.select(panel.realized.day >= following[0]),
        funding=None
        if panel.funding is None
        else replace(panel.funding, values=_aged(panel.funding.values, k)),
    )
    return with_calendar(moved)


def with_calendar(panel: Panel) -> Panel:
    """The panel with the calendar columns of its own labels."""
    number = panel.days.astype("datetime64[D]").astype(np.int64)
    weekday = (number[:, None] + np.arange(1, 23) + 3) % 7  # (T, 22), 0 = Monday
    weekend = weekday >= 5
    columns = {
        "target_weekday": weekday[:, 0].astype(np.float64),
        "target_weekend_share_5": weekend[:, :5].mean(axis=1),
        "target_weekend_share_22": weekend.mean(axis=1),
    }
    width = len(panel.assets)
    return replace(
        panel,
        features=panel.features
        | {name: np.repeat(values[:, None], width, axis=1) for name, values in columns.items()},
    )


def relabelled(panel: Panel, days: int) -> Panel:
    """The same rows under labels `days` later, with the calendar of those."""
    labels = panel.days + np.timedelta64(days, "D")
    realized = panel.realized.select(panel.realized.day >= labels[0])
    return with_calendar(replace(panel, days=labels, realized=realized))


def _hours(panel: Panel, name: str) -> Floats:
    """(T, 24, N) of a field of features.hourly."""
    return panel.hourly[..., panel.hourly_fields.index(name)].astype(np.float64)


def _window_range(path: Floats, excess: Floats, log_return: Floats, offset: int) -> Floats:
    """Ranges of consecutive days of 24 hours from hour `offset` on, by hourly closes widened by the hours' own ranges."""
    start = path - log_return
    high = np.maximum(path, start) + excess
    low = np.minimum(path, start) - excess
    shape = (-1, 24, path.shape[1])
    return np.asarray(
        high[offset:].reshape(shape).max(axis=1) - low[offset:].reshape(shape).min(axis=1)
    )


def _ranges(history: History, new: NewHours, there: NDArray[np.bool_], k: int) -> Floats:
    """(T, N) range of each shifted day."""
    latest = np.where(there, new.log_return, 0.0)
    path = np.cumsum(latest, axis=0)
    width = np.where(there, new.log_high - new.log_low, 0.0)
    excess = np.maximum(width - np.abs(latest), 0.0) / 2
    of_path = _window_range(
        np.concatenate([history.log_price, path]),
        np.concatenate([history.half_excess, excess]),
        np.concatenate([history.log_return, latest]),
        k,
    )
    exact = np.where(there, new.log_high.max(axis=0) - new.log_low.min(axis=0), 0.0)
    new_path = _range_of_path(path, excess, latest)
    with np.errstate(divide="ignore", invalid="ignore"):
        newest = np.where(new_path > 0, exact / new_path, 1.0)
    before = history.range_factor
    after = np.concatenate([before[1:], newest[None]])
    return np.asarray(of_path * (before * (24 - k) + after * k) / 24)


def _range_of_path(path: Floats, excess: Floats, log_return: Floats) -> Floats:
    start = path - log_return
    high = (np.maximum(path, start) + excess).max(axis=0)
    return np.asarray(high - (np.minimum(path, start) - excess).min(axis=0))


def _hourly(
    panel: Panel, history: History, new: NewHours, there: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """(T, 24, N, K): the hours of features.hourly, then the new ones."""
    with np.errstate(divide="ignore", invalid="ignore"):
        log_volume = np.log(np.where(new.quote_volume > 0, new.quote_volume, np.nan))
    fields = {
        "log_return": new.log_return,
        "realized_variance": new.realized_variance,
        "high_low_range": new.log_high - new.log_low,
        "log_volume_ratio": log_volume - history.mean_log_volume,
        "bars": new.bars,
        "signed_volume_share": new.signed_volume_share,
    }
    latest = np.stack([fields[name] for name in panel.hourly_fields], axis=-1)  # (k, N, K)
    latest = np.where(there[:, None], latest, np.nan).astype(np.float32)
    flat = panel.hourly.reshape(-1, *panel.hourly.shape[2:])
    return np.concatenate([flat, latest])[len(new) :].reshape(panel.hourly.shape)


def _counted(values: Floats, days: int) -> Floats:
    count = np.cumsum(np.isfinite(values), axis=0).astype(np.float64)
    count[days:] -= count[:-days].copy()
    return count


def _age(complete: NDArray[np.bool_]) -> Floats:
    """(T, N) rows since the newest complete one; NaN before the first."""
    rows = np.arange(len(complete))[:, None]
    last = np.maximum.accumulate(np.where(complete, rows, -1), axis=0)
    return np.where(last >= 0, (rows - last).astype(np.float64), np.nan)


def _is_context(name: str) -> bool:
    """Whether a column of features.daily is no measure of the day's price."""
    prices = ("rv_", "return_", "abs_return", "bipower", "jump", "quarticity", "semivariance", "parkinson", "garman", "rogers", "yang", "high_low", "log_volume", "quote_volume", "amihud", "corwin", "close", "bars_", "price_", "market_", "btc_")  # fmt: skip
    return not name.startswith(prices)


def _aged(values: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    older = values.copy()
    older[..., FUNDING_FIELDS.index("funding_age_days")] += np.float32(k / 24)
    return older
