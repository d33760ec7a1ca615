"""The coins of the simulated market: level, volatility and liquidity of each.

In: tickers. Out: a ``Coin`` each. Never: claims to be a real quote; levels only look like 2022.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

DEFAULT_ASSETS = ("BTC", "ETH", "SOL", "XRP", "ADA", "LTC")
PROOF_OF_WORK = frozenset({"BTC", "LTC", "ETC", "DOGE", "BCH", "XMR", "ZEC", "DASH"})
"""Coins with a hash rate."""
OPTION_ASSETS = ("BTC", "ETH")
"""Coins with an implied-volatility index, as on real venues."""


@dataclass(frozen=True)
class Coin:
    """``price`` in USDT at the start, ``volatility`` annualised fraction, ``quote_volume`` USDT a
    day, ``beta`` correlation of its returns with the market's.
    """

    asset: str
    price: float
    volatility: float
    quote_volume: float
    beta: float

    @property
    def symbol(self) -> str:
        """The traded pair in unified form."""
        return f"{self.asset}/USDT"

    @property
    def decimals(self) -> int:
        """Decimals of a quoted price: about seven significant digits at the starting level."""
        return max(2, 6 - math.floor(math.log10(self.price)))


_KNOWN = {
    "BTC": (46_000.0, 0.55, 1.8e9, 0.90),
    "ETH": (3_700.0, 0.70, 1.1e9, 0.88),
    "SOL": (170.0, 0.95, 3.0e8, 0.78),
    "XRP": (0.83, 0.85, 2.5e8, 0.74),
    "ADA": (1.31, 0.90, 2.0e8, 0.78),
    "LTC": (147.0, 0.80, 9.0e7, 0.80),
    "BNB": (511.0, 0.68, 2.8e8, 0.82),
    "DOGE": (0.171, 0.95, 2.0e8, 0.72),
}


def coin(asset: str) -> Coin:
    """The coin of a ticker. A ticker without own figures gets plausible ones from its name, always
    the same.
    """
    if asset in _KNOWN:
        return Coin(asset, *_KNOWN[asset])
    digest = hashlib.sha256(asset.encode()).digest()
    share = [byte / 255.0 for byte in digest[:4]]
    return Coin(
        asset,
        price=round(10.0 ** (-2.0 + 4.0 * share[0]), 4),
        volatility=0.80 + 0.45 * share[1],
        quote_volume=10.0 ** (6.8 + 1.4 * share[2]),
        beta=0.60 + 0.20 * share[3],
    )
