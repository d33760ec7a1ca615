"""What the live source is asked for, apart from the rest of the settings.

In: settings. Out: a frozen ``LiveConfig`` and, for each provider, one ``Transport`` that its connectors share. Never opens a connection.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from datetime import time as clock_time
from typing import Protocol

from orchestration.secrets import secret
from orchestration.sources.live.transport import Clock, Policy, Sleep, Transport, utc_now

DEFAULT_ASSETS = ("BTC", "ETH", "BNB", "XRP", "SOL", "ADA", "DOGE", "TRX", "LTC", "LINK")
BENCHMARK_ASSET = "BTC"
DEFAULT_HEADLINE_FEEDS = {
    "coindesk": "https://www.coindesk.com/arc/outboundfeeds/rss/",
    "cointelegraph": "https://cointelegraph.com/rss",
    "decrypt": "https://decrypt.co/feed",
    "bitcoinmagazine": "https://bitcoinmagazine.com/feed",
    "theblock": "https://www.theblock.co/rss.xml",
}


class LiveSettings(Protocol):
    """What of the settings concerns the live source."""

    @property
    def assets(self) -> tuple[str, ...] | None: ...
    @property
    def live_start(self) -> date: ...
    @property
    def live_bars(self) -> tuple[str, ...]: ...
    @property
    def bulk_files(self) -> bool: ...
    @property
    def price_venues(self) -> tuple[str, ...]: ...
    @property
    def funding_venues(self) -> tuple[str, ...]: ...
    @property
    def open_interest_venues(self) -> tuple[str, ...]: ...
    @property
    def order_book_venues(self) -> tuple[str, ...]: ...
    @property
    def headline_feeds(self) -> Mapping[str, str]: ...
    @property
    def base_urls(self) -> Mapping[str, str]: ...
    @property
    def decision_offset_minutes(self) -> int: ...


@dataclass(frozen=True)
class LiveConfig:
    """Coins, venues and addresses."""

    assets: tuple[str, ...] = DEFAULT_ASSETS
    start: date = date(2020, 1, 1)
    bars: tuple[str, ...] = ("5m",)
    bulk_files: bool = True
    price_venues: tuple[str, ...] = ("binance",)
    funding_venues: tuple[str, ...] = ()
    open_interest_venues: tuple[str, ...] = ()
    order_book_venues: tuple[str, ...] = ()
    headline_feeds: Mapping[str, str] = field(default_factory=dict)
    base_urls: Mapping[str, str] = field(default_factory=dict)
    decision_offset_minutes: int = 30

    @classmethod
    def of(cls, settings: LiveSettings) -> LiveConfig:
        return cls(
            assets=settings.assets or DEFAULT_ASSETS,
            start=settings.live_start,
            bars=settings.live_bars,
            bulk_files=settings.bulk_files,
            price_venues=settings.price_venues,
            funding_venues=settings.funding_venues,
            open_interest_venues=settings.open_interest_venues,
            order_book_venues=settings.order_book_venues,
            headline_feeds=settings.headline_feeds or DEFAULT_HEADLINE_FEEDS,
            base_urls=settings.base_urls,
            decision_offset_minutes=settings.decision_offset_minutes,
        )

    @property
    def coins(self) -> tuple[str, ...]:
        """The coins asked for, and BTC, which features of every coin need."""
        return tuple(dict.fromkeys((BENCHMARK_ASSET, *self.assets)))

    @property
    def start_time(self) -> datetime:
        return datetime.combine(self.start, clock_time(), tzinfo=UTC)


class Providers:
    """One transport for each provider, so that its rate limit and its circuit breaker are shared.

    ``clock`` and ``sleep`` are replaced in tests; ``attempts`` overrides every provider's policy.
    """

    def __init__(
        self,
        config: LiveConfig,
        *,
        clock: Clock = utc_now,
        sleep: Sleep = time.sleep,
        attempts: int | None = None,
    ) -> None:
        self.config, self.clock, self._sleep, self._attempts = config, clock, sleep, attempts
        self._made: dict[str, Transport] = {}

    def transport(self, provider: str, policy: Policy | None = None) -> Transport:
        """The transport of ``provider``; ``policy`` counts at the first call."""
        if provider not in self._made:
            if self._attempts is not None:
                policy = replace(policy or Policy(), attempts=self._attempts)
            self._made[provider] = Transport(
                provider,
                policy,
                base_url=self._base_url(provider),
                clock=self.clock,
                sleep=self._sleep,
            )
        return self._made[provider]

    def now(self, provider: str) -> datetime:
        """The earlier of our clock and the provider's, as far as it has told it."""
        made = self._made.get(provider)
        return self.clock() if made is None else made.now()

    def _base_url(self, provider: str) -> str | None:
        urls = self.config.base_urls
        if provider in urls:
            return urls[provider]
        return f"{urls['*'].rstrip('/')}/{provider}" if "*" in urls else None


def api_key(provider: str) -> str:
    """The API key of a provider, the secret VOLCAST_<PROVIDER>_API_KEY; '' without one."""
    return secret(f"VOLCAST_{provider.upper()}_API_KEY") or ""
