"""A whole world of providers for a live run: the simulated market, told in each provider's own format.

In: the moment up to which it goes. Out: handlers for ``ProviderServer`` and the settings under which a run reads them. What the providers
know stays in one place, ``raw``, so that a test can compare.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa

from orchestration.settings import Settings
from orchestration.sources.simulated import SimulatedSource
from tests.live.providers.alternative_me import FearGreedApi
from tests.live.providers.binance_files import BinanceFiles
from tests.live.providers.binance_futures import BinanceFutures
from tests.live.providers.binance_spot import BinanceSpot
from tests.live.providers.candles import Candle
from tests.live.providers.coinmetrics import CoinMetricsApi
from tests.live.providers.defillama import DefiLlamaApi
from tests.live.providers.deribit import Deribit
from tests.live.providers.rss import Feed, Item
from tests.live.providers.spot_books import BinanceBooks
from tests.live.server import Handler, Reply, Request

COINS = ("BTC", "ETH")
CHAIN_METRICS = ("AdrActCnt", "TxCnt", "FeeTotNtv", "HashRate", "CapMVRVCur")


@dataclass
class World:
    """The market from ``start`` to ``now``; hourly bars."""

    start: date
    now: datetime
    seed: int = 11
    raw: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    down: set[str] = field(default_factory=set)
    """Providers that answer 403 to everything."""

    def __post_init__(self) -> None:
        source = SimulatedSource(self.seed, COINS, self.start)
        for table in (
            "ohlcv",
            "funding_rates",
            "onchain_metrics",
            "sentiment_metrics",
            "headlines",
        ):
            batches = list(source.batches(table, None, self.now))
            self.raw[table] = pa.concat_tables(batches).to_pylist()

    @property
    def environment(self) -> dict[str, str]:
        """Settings of a run that reads this world, less the address and the home."""
        return {
            "VOLCAST_SOURCE": "live",
            "VOLCAST_ASSETS": ",".join(COINS),
            "VOLCAST_LIVE_START": self.start.isoformat(),
            "VOLCAST_LIVE_BARS": "1h",
            "VOLCAST_PRICE_VENUES": "binance",
            "VOLCAST_FUNDING_VENUES": "binanceusdm",
            "VOLCAST_OPEN_INTEREST_VENUES": "binanceusdm",
            "VOLCAST_ORDER_BOOK_VENUES": "binance",
            "VOLCAST_HEADLINE_FEEDS": "desk=https://desk.example/desk/feed.xml",
            "VOLCAST_MODELS": "random_walk,log_har,harx_cal",
        }

    def handlers(self) -> dict[str, Handler]:
        bars = self._bars()
        spot = BinanceSpot(bars, lambda: self.now)
        books = BinanceBooks({f"{coin}USDT": _book(bars[coin, "1h"][-1].close) for coin in COINS})
        made: dict[str, Handler] = {
            "binance": lambda request: (books if request.path.endswith("/depth") else spot)(
                request
            ),
            "binance_files": BinanceFiles(bars, lambda: self.now),
            "binanceusdm": self._futures(),
            "deribit": Deribit(self.now),
            "coinmetrics": self._chain(),
            "defillama": self._stablecoins(),
            "alternative.me": self._fear_greed(),
            "rss": Feed(self._items(), path="/desk/desk/feed.xml"),
        }
        return {name: self._unless_down(name, handler) for name, handler in made.items()}

    def _unless_down(self, name: str, handler: Handler) -> Handler:
        def answer(request: Request) -> Reply:
            return Reply({"error": "not for you"}, 403) if name in self.down else handler(request)

        return answer

    def _bars(self) -> dict[tuple[str, str], list[Candle]]:
        bars: dict[tuple[str, str], list[Candle]] = {(coin, "1h"): [] for coin in COINS}
        for row in sorted(self.raw["ohlcv"], key=lambda row: row["ts"]):
            if row["interval"] == "1h":
                numbers = [
                    round(row[name], 8)
                    for name in ("open", "high", "low", "close", "volume", "quote_volume")
                ]
                bars[row["symbol"].split("/")[0], "1h"].append(
                    Candle(
                        row["ts"], *numbers, int(row["trades"] or 1), round(row["volume"] / 2, 8)
                    )
                )
        return bars

    def _futures(self) -> BinanceFutures:
        made = BinanceFutures(self.now)
        for row in self.raw["funding_rates"]:
            if row["ts"].hour % 8 == 0:
                made.funding.setdefault(f"{row['asset']}USDT", {})[row["ts"]] = f"{row['rate']:.8f}"
        for coin in COINS:
            made.running[f"{coin}USDT"] = "0.00010000"
            made.open_interest[f"{coin}USDT"] = {
                _midnight(self.now) - timedelta(days=day): ("1000.0", f"{60_000_000 + day:.1f}")
                for day in range(30)
            }
        return made

    def _chain(self) -> CoinMetricsApi:
        made = CoinMetricsApi()
        for row in self.raw["onchain_metrics"]:
            if (
                row["asset"] in COINS
                and row["metric"] in CHAIN_METRICS
                and row["known_at"] <= self.now
            ):
                made.offer(
                    row["asset"].lower(), row["ts"], **{row["metric"]: f"{row['value']:.6f}"}
                )
                made.complete(row["asset"].lower(), row["ts"], row["ts"] + timedelta(hours=29))
        return made

    def _stablecoins(self) -> DefiLlamaApi:
        made = DefiLlamaApi(coins=[("1", "USDT", 9e10)])
        days = (_midnight(self.now).date() - self.start).days
        for number in range(days + 1):
            day = datetime.combine(self.start, datetime.min.time(), UTC) + timedelta(days=number)
            for coin in ("", "1"):
                made.offer(coin, day, peggedUSD=9e10 + 1e7 * number)
        return made

    def _fear_greed(self) -> FearGreedApi:
        made = FearGreedApi()
        for row in self.raw["sentiment_metrics"]:
            if row["metric"] == "fear_greed":
                made.readings[row["ts"]] = (int(row["value"]), row["label"] or "Neutral")
        return made

    def _items(self) -> list[Item]:
        newest = sorted(self.raw["headlines"], key=lambda row: row["ts"])[-20:]
        return [
            Item(
                row["title"],
                guid=f"desk-{number}",
                link=f"https://desk.example/{number}",
                published=row["ts"],
            )
            for number, row in enumerate(newest)
        ]


def address(url: str) -> dict[str, str]:
    """The setting that sends every provider to a server."""
    return {"VOLCAST_BASE_URLS": f"*={url}", "NO_PROXY": "*"}


def settings_of(world: World, home: Any, url: str) -> Settings:
    return Settings.from_env({**world.environment, **address(url), "VOLCAST_HOME": str(home)})


def _midnight(at: datetime) -> datetime:
    return at.replace(hour=0, minute=0, second=0, microsecond=0)


def _book(price: float) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    bids = [(f"{price * (1 - 0.0001 * level):.2f}", "1.5") for level in range(1, 40)]
    asks = [(f"{price * (1 + 0.0001 * level):.2f}", "1.2") for level in range(1, 40)]
    return bids, asks
