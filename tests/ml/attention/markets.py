"""A made-up market as a `Panel`, with a planted lead: tomorrow's variance follows today's on-chain value.

In: number of days and coins, the strength of the lead. Out: a panel with the columns that HARX-cal and the tokens read.
Sentiment is noise that leads nothing; funding and open interest are absent.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ml.panel import HOURLY_FIELDS, Panel, RealizedVersions

Floats = NDArray[np.float64]
COINS = ("BTC", "ETH", "LTC", "XRP", "ADA", "TRX", "EOS", "XLM")


def planted_market(days: int = 420, coins: int = 4, lead: float = 0.7, seed: int = 0) -> Panel:
    """log variance = a common persistent state + `lead` * yesterday's on-chain value + noise."""
    random = np.random.default_rng(seed)
    onchain = random.standard_normal((days, coins))
    sentiment = random.standard_normal((days, coins))
    state = np.zeros(days)
    for day in range(1, days):
        state[day] = 0.9 * state[day - 1] + 0.2 * random.standard_normal()
    log_variance = -7.0 + state[:, None] + 0.1 * np.arange(coins)
    log_variance[1:] += lead * onchain[:-1]
    shares = random.gamma(2.0, size=(days, 24, coins))
    shares /= shares.sum(axis=1, keepdims=True)
    rv = np.exp(log_variance + 0.3 * random.standard_normal((days, coins)))
    hourly_rv = rv[:, None] * shares  # (T, 24, N)
    hourly_return = np.sqrt(hourly_rv) * random.choice([-1.0, 1.0], size=hourly_rv.shape)
    daily_return = hourly_return.sum(axis=1)
    dates = np.datetime64("2021-01-01", "D") + np.arange(days)
    weekday = (dates.astype(np.int64) + 4) % 7  # of the next day, 0 = Monday
    everywhere = np.ones((days, coins))
    features = {
        "price_age_days": 0.0 * everywhere,
        "rv_d": rv,
        **{f"rv_{n}d": rolling_mean(rv, n) for n in (2, 5, 22, 66)},
        **{f"rv_last_{n}h": hourly_rv[:, -n:].sum(axis=1) for n in (1, 4, 8, 12)},
        "quarticity_d": 8 * (hourly_rv**2).sum(axis=1),
        "return_d": daily_return,
        "return_5d": 5 * rolling_mean(daily_return, 5),
        "high_low_range_d": 1.6 * np.sqrt(rv) * random.uniform(0.8, 1.2, rv.shape),
        "log_volume_ratio_22d": 0.3 * random.standard_normal(rv.shape),
        "market_log_rv_d": np.log(rv).mean(axis=1)[:, None] * everywhere,
        "market_log_rv_5d": rolling_mean(np.log(rv), 5).mean(axis=1)[:, None] * everywhere,
        "btc_rv_d": rv[:, :1] * everywhere,
        "btc_rv_5d": rolling_mean(rv, 5)[:, :1] * everywhere,
        "btc_return_d": daily_return[:, :1] * everywhere,
        "target_weekday": weekday[:, None] * everywhere,
        "mvrv": onchain,
        "onchain_age_days": everywhere,
        "fear_greed": sentiment,
        "sentiment_age_days": 0.0 * everywhere,
    }
    hourly = np.stack(
        [
            hourly_return,
            hourly_rv,
            np.sqrt(hourly_rv),
            0.3 * random.standard_normal(hourly_rv.shape),
            np.ones_like(hourly_rv),
            np.tanh(hourly_return / np.sqrt(hourly_rv.mean())),
        ],
        axis=-1,
    ).astype(np.float32)
    day, asset = (index.ravel() for index in np.indices(rv.shape))
    close = 100 * np.exp(np.cumsum(daily_return, axis=0))
    realized = RealizedVersions(
        dates[day],
        asset,
        dates[day],
        np.ones(rv.size, bool),
        rv.ravel(),
        daily_return.ravel(),
        close.ravel(),
    )
    return Panel("simulated", dates, COINS[:coins], features, hourly, HOURLY_FIELDS, realized)


def rolling_mean(values: Floats, days: int) -> Floats:
    """Over the last `days` rows; NaN before there are so many."""
    total = np.cumsum(np.vstack([np.zeros_like(values[:1]), values]), axis=0)
    means = np.full_like(values, np.nan)
    means[days - 1 :] = (total[days:] - total[:-days]) / days
    return means


SMALL = {
    "window_days": 360,
    "daily_tokens": 8,
    "hourly_hours": 24,
    "anchor": "harx_cal",
    "d_model": 20,
    "n_layers": 2,
    "batch_size": 64,
    "epochs": 14,
    "min_steps": 1,
    "learning_rate": 4e-3,
    "dropout": 0.0,
    "weight_decay": 0.01,
    "min_group_samples": 50,
}
"""A config that trains in a few seconds."""
