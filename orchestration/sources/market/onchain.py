"""On-chain metrics, exchange flows and stablecoin supply of the simulated market.

In: the latent market. Out: batches of ``raw.onchain_metrics`` under Coin Metrics' and DefiLlama's
own metric names. Never: knows a day before the day is over and complete; a share of days never
comes.

Exchange flows carry the planted lead: log(inflow / outflow) of day t is ``flow_signal`` times the
driver z_t plus noise, and z_t enters the log variance of day t + ``lead_days``. They are released
with extra noise and revised later.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from orchestration.sources.market.coins import PROOF_OF_WORK, Coin
from orchestration.sources.market.emit import (
    DAY,
    HOUR,
    Calendar,
    IntArray,
    KnownWindow,
    table_of,
)
from orchestration.sources.market.latent import DailyStates, LatentMarket
from orchestration.sources.market.law import MARKET_KEY
from orchestration.sources.market.randomness import FloatArray
from orchestration.sources.schema import ONCHAIN_METRICS

CHAIN_PROVIDER = "coinmetrics"
STABLECOIN_PROVIDER = "defillama"
STABLECOINS = {"USDT": 7.8e10, "USDC": 4.2e10, "DAI": 9.0e9}
"""Supply at the start, in USD."""

LONGEST_DELAY_DAYS = 10
"""From the start of a day to the revision of its flows."""

_MISSING_PROBABILITY = 0.01
_LATE_PROBABILITY = 0.01  # of a day to take a day longer


class SimulatedOnchain:
    """``raw.onchain_metrics`` of the simulated market."""

    def __init__(self, market: LatentMarket, calendar: Calendar) -> None:
        self.market = market
        self.calendar = calendar

    @property
    def table(self) -> Literal["onchain_metrics"]:
        """The raw table."""
        return "onchain_metrics"

    def batches(self, known_after: datetime | None, known_until: datetime) -> Iterator[pa.Table]:
        """See ``Feed.batches``."""
        window = KnownWindow.of(known_after, known_until)
        days = window.days(self.calendar.first, self.calendar.last, LONGEST_DELAY_DAYS)
        return self._tables(window, days)

    def _tables(self, window: KnownWindow, days: range) -> Iterator[pa.Table]:
        if not days:
            return
        number = np.arange(days.start, days.stop)
        states = self.market.through(days.stop - 1)
        for position, coin in enumerate(self.market.coins):
            yield from self._coin(coin, position, states, number, window)
        yield from self._stablecoins(states, number, window)

    def _coin(
        self,
        coin: Coin,
        position: int,
        states: DailyStates,
        number: IntArray,
        window: KnownWindow,
    ) -> Iterator[pa.Table]:
        complete, there = self._completion(coin.asset, number)
        rows = number - self.market.first
        for metric, value in self._chain_values(coin, position, states, rows).items():
            yield _metric(
                CHAIN_PROVIDER, coin.asset, metric, number, value, complete, there, window
            )
        first, last = int(number[0]), int(number[-1])
        noise = self.market.draws.normal("onchain.flow", coin.asset, first, last, 4)
        revised_at = complete + self.market.truth.flow_revision_days * DAY
        for metric, sign, at in (("FlowInExUSD", 0.5, 0), ("FlowOutExUSD", -0.5, 2)):
            true, error = self._flow(coin, position, states, rows, sign, noise[:, at : at + 2])
            for value, known_at in ((true * error, complete), (true, revised_at)):
                yield _metric(
                    CHAIN_PROVIDER, coin.asset, metric, number, value, known_at, there, window
                )

    def _completion(self, asset: str, number: IntArray) -> tuple[IntArray, NDArray[np.bool_]]:
        """When a coin's day is complete, in microseconds, and whether it ever is."""
        first, last = int(number[0]), int(number[-1])
        uniform = self.market.draws.uniform("onchain.delay", asset, first, last, 2)
        delay = 5.1 * np.exp(
            0.25 * self.market.draws.normal("onchain.delay", asset, first, last, 1)[:, 0]
        )
        delay = np.clip(delay, *self.market.truth.onchain_delay_hours)
        delay = delay + 24.0 * (uniform[:, 1] < _LATE_PROBABILITY)
        seconds = np.round(delay * 3600.0).astype(np.int64)
        complete = number * DAY + DAY + seconds * (HOUR // 3600)
        return complete, uniform[:, 0] >= _MISSING_PROBABILITY

    def _chain_values(
        self, coin: Coin, position: int, states: DailyStates, rows: IntArray
    ) -> dict[str, FloatArray]:
        def noise(name: str) -> FloatArray:
            return np.asarray(np.exp(states.noise(name)[rows, position]))

        size = coin.quote_volume / 1.8e9
        excess = states.log_variance[rows, position] - self.market.law.base[position]
        closed = states.log_price_open[rows, position] + states.log_return[rows, position]
        values = {
            "AdrActCnt": np.round(9.0e5 * size**0.5 * noise("active_addresses")),
            "TxCnt": np.round(2.9e5 * size**0.3 * noise("transactions") * np.exp(0.05 * excess)),
            "FeeTotNtv": np.round(25.0 * noise("fees") * np.exp(0.25 * excess), 6),
            "CapMVRVCur": np.round(
                1.3 * np.exp(0.9 * (closed - states.log_price_slow[rows, position])), 6
            ),
        }
        if coin.asset in PROOF_OF_WORK:
            growth = np.exp(0.0007 * rows)
            values["HashRate"] = np.round(1.8e8 * size * growth * noise("hash_rate"), 3)
        return values

    def _flow(
        self,
        coin: Coin,
        position: int,
        states: DailyStates,
        rows: IntArray,
        sign: float,
        noise: FloatArray,
    ) -> tuple[FloatArray, FloatArray]:
        """The true flow in USD, and the factor by which the first release errs."""
        truth = self.market.truth
        excess = states.log_variance[rows, position] - self.market.law.base[position]
        level = np.log(0.25 * coin.quote_volume) + 0.3 * excess
        level = level + states.noise("flow_level")[rows, position]
        signal = sign * truth.flow_signal * states.flow_driver[rows, position]
        # inflow and outflow err apart, so each carries the ratio's noise over the root of two
        lasting = truth.flow_noise / np.sqrt(2.0) * noise[:, 0]
        error = np.exp(truth.flow_first_release_noise / np.sqrt(2.0) * noise[:, 1])
        return np.asarray(np.exp(level + signal + lasting)), error

    def _stablecoins(
        self, states: DailyStates, number: IntArray, window: KnownWindow
    ) -> Iterator[pa.Table]:
        rows = number - self.market.first
        always = np.ones(number.size, dtype=bool)
        # growth follows the slow noise: its sum is the supply, so days add up
        growth = np.cumsum(3e-4 + 1.2e-3 * states.shared_noise("supply")[: int(rows[-1]) + 1])
        first, last = int(number[0]), int(number[-1])
        for asset, start in STABLECOINS.items():
            own = self.market.draws.normal("stablecoin", asset, first, last, 1)[:, 0]
            supply = np.round(start * np.exp(growth[rows] + 5e-4 * own), 2)
            known_at = number * DAY + 37 * HOUR
            yield _metric(
                CHAIN_PROVIDER, asset, "SplyCur", number, supply, known_at, always, window
            )
        there = self.market.draws.uniform("stablecoin", MARKET_KEY, first, last, 1)[:, 0] > 0.005
        known_at = number * DAY + 12 * HOUR
        yesterday = np.sum(list(STABLECOINS.values())) * np.exp(
            np.concatenate([[0.0], growth])[rows]
        )
        yield _metric(
            STABLECOIN_PROVIDER,
            "ALL_STABLES",
            "CirculatingUSD",
            number,
            np.round(yesterday, 2),
            known_at,
            there,
            window,
        )


def _metric(
    provider: str,
    asset: str,
    metric: str,
    number: IntArray,
    value: FloatArray,
    known_at: IntArray,
    there: NDArray[np.bool_],
    window: KnownWindow,
) -> pa.Table:
    return table_of(
        ONCHAIN_METRICS,
        {
            "provider": provider,
            "asset": asset,
            "metric": metric,
            "ts": number * DAY,
            "value": np.round(value, 6),
            "known_at": known_at,
        },
        there & window.holds(known_at),
    )
