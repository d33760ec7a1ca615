"""A seeded market with known truth, behind the same protocol as real data.

In: a seed, coins, first and last day. Out: batches of every raw table, and what no real source has:
``truth()`` and ``latent_variance(days)``, so that forecasts can be scored against the variance that
made the prices. Never: pretends to be real; every row and ``describe()`` say "simulated".

The market is a function of seed, tickers and first day. A day's data never depends on the last day or
on what was asked before, and a coin's data never on the other coins (headlines name any of them).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from orchestration.sources.bundle import FeedBundle
from orchestration.sources.market.coins import DEFAULT_ASSETS, OPTION_ASSETS, coin
from orchestration.sources.market.derivatives import (
    SimulatedFunding,
    SimulatedImpliedVolatility,
    SimulatedOpenInterest,
)
from orchestration.sources.market.emit import SOURCE, Calendar
from orchestration.sources.market.headlines import SimulatedHeadlines
from orchestration.sources.market.latent import LatentMarket, day_number
from orchestration.sources.market.onchain import SimulatedOnchain
from orchestration.sources.market.prices import SimulatedPrices
from orchestration.sources.market.sentiment import SimulatedSentiment
from orchestration.sources.market.truth import TRUTH, MarketTruth
from orchestration.sources.protocol import SourceError

DEFAULT_START = date(2022, 1, 1)
DEFAULT_FINE_FROM = date(2024, 3, 1)
BENCHMARK_ASSET = "BTC"
"""Always in the market, because features of every coin read it."""


class SimulatedSource(FeedBundle):
    """See the module. ``fine_from`` is the first day with 5-minute bars (BTC, ETH) and hourly
    implied volatility.

    Raises SourceError for a ticker that cannot be one, for a start before 1971 and for an end
    before the start.
    """

    name = SOURCE

    def __init__(
        self,
        seed: int,
        assets: Sequence[str] | None = None,
        start: date = DEFAULT_START,
        end: date | None = None,
        fine_from: date = DEFAULT_FINE_FROM,
    ) -> None:
        self.assets = _checked(DEFAULT_ASSETS if assets is None else tuple(assets))
        if start < date(1971, 1, 1):
            raise SourceError(f"simulated start {start}: expected 1971-01-01 or later")
        if end is not None and end < start:
            raise SourceError(f"simulated end {end}: expected {start} (the start) or later")
        self.seed = seed
        self.start = start
        self.end = end
        self.fine_from = fine_from
        made = self.assets
        if BENCHMARK_ASSET not in made:
            made = (BENCHMARK_ASSET, *made)
        self.market = LatentMarket(seed, [coin(asset) for asset in made], start)
        calendar = Calendar.of(start, end)
        fine = day_number(fine_from)
        super().__init__(
            [
                SimulatedPrices(self.market, calendar, OPTION_ASSETS, fine),
                SimulatedFunding(self.market, calendar),
                SimulatedOpenInterest(self.market, calendar),
                SimulatedImpliedVolatility(self.market, calendar, fine),
                SimulatedOnchain(self.market, calendar),
                SimulatedSentiment(self.market, calendar),
                SimulatedHeadlines(self.market, calendar),
            ]
        )

    def first_day(self) -> date:
        """The first day of the market."""
        return self.start

    def last_day(self) -> date | None:
        """The last day, or None: the market goes on for ever."""
        return self.end

    def truth(self) -> MarketTruth:
        """The law of the market: leads, lags and shares."""
        return TRUTH

    def latent_variance(self, days: Sequence[date]) -> pd.DataFrame:
        """What the market knows and no trader does, one row per coin and day, in the order of
        coins, then of ``days``.

        Variances are in squared daily log-return units: ``latent_variance`` is the diffusive
        integrated variance of the day, ``jump_variance`` its sum of squared jumps,
        ``quadratic_variance`` their sum, which realised variance estimates. ``latent_variance`` is
        the exponential of the sum of the columns ``log_*`` but ``log_innovation``, which is the
        part of it that was new that day. ``flow_driver`` and ``funding_driver`` are the planted
        drivers, on the day whose flows and funding show them.
        """
        if not days:
            raise SourceError("latent variance of no days: expected at least one day")
        number = np.asarray([day_number(day) for day in days], dtype=np.int64)
        if number.min() < self.market.first:
            raise SourceError(f"latent variance of {min(days)}: the market starts on {self.start}")
        states = self.market.through(int(number.max()))
        rows = number - self.market.first
        stamps = number.astype("datetime64[D]").astype("datetime64[us]")
        frames = []
        for position, made in enumerate(self.market.coins):
            variance = np.exp(states.log_variance[rows, position])
            jumps = (states.jump_size[rows, position] ** 2).sum(axis=1)
            components = {
                f"log_memory_{days:g}d": states.long_memory[rows, position, at]
                for at, days in enumerate(TRUTH.half_lives_days)
            }
            frames.append(
                pd.DataFrame(
                    {
                        "source": SOURCE,
                        "asset": made.asset,
                        "day": stamps,
                        "latent_variance": variance,
                        "jump_variance": jumps,
                        "quadratic_variance": variance + jumps,
                        "log_base": self.market.law.base[position],
                        **components,
                        "log_regime": self.market.regime_shift(states.turbulent[rows]),
                        "log_weekday": self.market.weekday_factor(number),
                        "log_leverage": states.leverage[rows, position],
                        "log_excitation": states.excitation[rows, position],
                        "log_flow_lead": states.flow_lead[rows, position],
                        "log_funding_lead": states.funding_lead[rows, position],
                        "log_innovation": states.innovation[rows, position],
                        "flow_driver": states.flow_driver[rows, position],
                        "funding_driver": states.funding_driver[rows, position],
                        "shock": states.shock[rows, position],
                        "log_return": states.log_return[rows, position],
                        "turbulent": states.turbulent[rows] > 0,
                    }
                )
            )
        return pd.concat(frames, ignore_index=True)

    def describe(self) -> dict[str, Any]:
        """Plain JSON values for people and for the metadata of a run."""
        return {
            "source": SOURCE,
            "note": "simulated market: no row of it is real",
            "seed": self.seed,
            "assets": list(self.assets),
            "first_day": self.start.isoformat(),
            "last_day": None if self.end is None else self.end.isoformat(),
            "five_minute_bars_from": self.fine_from.isoformat(),
            "truth": TRUTH.as_dict(),
        }


def _checked(assets: tuple[str, ...]) -> tuple[str, ...]:
    if not assets:
        raise SourceError("simulated market without coins: name at least one ticker, such as BTC")
    for asset in assets:
        if not re.fullmatch(r"[A-Z0-9]{1,15}", asset):
            raise SourceError(
                f"ticker {asset!r}: expected upper-case letters and digits, such as BTC"
            )
    if len(set(assets)) < len(assets):
        raise SourceError(f"tickers {', '.join(assets)}: expected each of them once")
    return assets
