"""Coin Metrics API v4: chain counts, exchange flows and balances, stablecoin supply; one value a day.

In: the community API, or the paid one where VOLCAST_COINMETRICS_API_KEY is set, through Coin Metrics' own client. Out: rows of
``raw.onchain_metrics``. Never asks for a metric that the catalog does not offer, never lets the key into a message or a log.

When a value is known: the completion time of its day (metric AssetEODCompletionTime: every metric of the asset is calculated); the time of
the revision where the answer marks the value as revised; without a stamp 37 h after the day began. Exchange flows and balances are
revised for years back, so they are known when they were read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from typing import Annotated, Any

from pydantic import AfterValidator, Field, create_model

from orchestration.sources.live.coinmetrics_client import Forbidden, as_json, open_client
from orchestration.sources.live.config import Providers, secret
from orchestration.sources.live.errors import (
    NotListed,
    ProviderError,
    ProviderRefused,
    ShapeChanged,
)
from orchestration.sources.live.rows import (
    Answer,
    Seconds,
    arrow,
    in_order,
    midnight,
    parse,
    unknown_field_notes,
    within,
)
from orchestration.sources.live.stream import LiveStream
from orchestration.sources.live.transport import Policy
from orchestration.sources.protocol import Page

PROVIDER = "coinmetrics"
ENDPOINT = "timeseries/asset-metrics"
PROBED = "AdrActCnt"
METRICS = (
    "AdrActCnt", "TxCnt", "TxTfrCnt", "TxTfrValAdjUSD", "TxTfrValMeanUSD", "FeeTotNtv", "HashRate", "CapMVRVCur", "SplyCur",
    "FlowInExNtv", "FlowOutExNtv", "FlowInExUSD", "FlowOutExUSD", "SplyExNtv",
)  # fmt: skip
SUPPLY = ("SplyCur",)
STABLECOINS = ("USDT", "USDC", "DAI", "BUSD", "TUSD", "GUSD", "FDUSD")
COMPLETION = "AssetEODCompletionTime"
HISTORY_MOVES = re.compile(r"(FlowIn|FlowOut|SplyEx[^p])")
"""Metrics whose past is revised; the same as ``archive_files.REVISED``."""
ASSET_IDS = {
    "AVAX": "avaxc", "ICX": "icx_eth", "LRC": "lrc_eth", "MATIC": "matic_eth", "POL": "pol_eth", "QTUM": "qtum_eth",
    "SHIB": "shib_eth", "VET": "vet_eth", "ZIL": "zil_eth",
}  # fmt: skip
"""Where Coin Metrics' id is not the ticker in lower case."""
DAY = timedelta(days=1)
WITHOUT_A_STAMP = timedelta(hours=37)
OVERLAP = timedelta(days=30)
PAGE_DAYS = 2000
FREE, PAID = Policy(requests=10, per=6.0), Policy(requests=100, per=6.0)


def _utc(value: datetime) -> datetime:
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


Instant = Annotated[datetime, AfterValidator(_utc)]


class _Frequency(Answer):
    frequency: str
    min_time: datetime | None = None
    max_time: datetime | None = None
    min_height: Any = None
    max_height: Any = None
    min_hash: Any = None
    max_hash: Any = None
    community: bool | None = None
    experimental: Any = None


class _CatalogMetric(Answer):
    metric: str
    frequencies: list[_Frequency]


class _CatalogAsset(Answer):
    asset: str
    metrics: list[_CatalogMetric]


class CoinMetrics:
    """A stream for each coin, and one for the supply of each large stablecoin."""

    provider = PROVIDER

    def __init__(self, providers: Providers, page_days: int = PAGE_DAYS) -> None:
        self.config = providers.config
        self.page_days = page_days
        self._transport = providers.transport(PROVIDER, PAID if secret(PROVIDER) else FREE)

    def streams(self) -> list[LiveStream]:
        """See ``Connector.streams``."""
        wanted: list[tuple[str, str, Sequence[str]]] = [
            (coin, f"{PROVIDER}/{coin}", METRICS) for coin in self.config.coins
        ]
        wanted += [(coin, f"{PROVIDER}/stablecoin/{coin}", SUPPLY) for coin in STABLECOINS]
        first = wanted[0][1]  # tells of new fields for all of them
        return [self._stream(*one, tells=one[1] == first) for one in wanted]

    def probe(self) -> str:
        """See ``Connector.probe``."""
        client, session = open_client(self._transport)
        newest = client.get_asset_metrics(
            "btc", [PROBED], frequency="1d", limit_per_asset=1, paging_from="end", **as_json(client)
        )
        for row in self._days(list(newest), "btc", (PROBED,)):
            if (value := getattr(row, PROBED)) is not None:
                return f"BTC {PROBED} of {row.time:%Y-%m-%d}: {value:,.0f}"
        raise ShapeChanged(PROVIDER, session.endpoint, f"field {PROBED}: no value for btc")

    def _stream(self, coin: str, name: str, metrics: Sequence[str], tells: bool) -> LiveStream:
        notes: list[str] = []
        return LiveStream(
            name=name,
            table="onchain_metrics",
            provider=PROVIDER,
            read=partial(self._read, coin, metrics, notes),
            assets=(coin,),
            overlap=OVERLAP,
            noted=lambda: (*notes, *(unknown_field_notes(self._transport) if tells else ())),
        )

    def _read(
        self,
        coin: str,
        wanted: Sequence[str],
        notes: list[str],
        known_after: datetime | None,
        known_until: datetime,
    ) -> Iterator[Page]:
        notes.clear()
        asset = ASSET_IDS.get(coin, coin.lower())
        metrics = self._offered(asset, wanted)
        since = self.config.start_time if known_after is None else known_after - 2 * DAY
        seen: set[str] = set()
        newest: datetime | None = None
        in_sequence = True
        for days in self._pages(asset, metrics, midnight(since), notes):
            rows = []
            read = self._transport.clock()
            for day in days:
                in_sequence = in_sequence and (newest is None or day.time >= newest)
                newest = day.time if newest is None else max(newest, day.time)
                for metric in metrics:
                    value = getattr(day, metric)
                    if value is None or day.time + DAY > self._transport.now():
                        continue
                    seen.add(metric)
                    rows.append(
                        {
                            "provider": PROVIDER,
                            "asset": coin,
                            "metric": metric,
                            "ts": day.time,
                            "value": value,
                            "known_at": self._known_at(day, metric, read),
                        }
                    )
            # a day that is still to come is not known before it has ended; days out of order prove nothing
            through = newest + DAY if newest is not None and in_sequence else None
            table = arrow("onchain_metrics", in_order(rows, "ts", "metric"))
            yield Page(within(table, known_after, known_until, read), through)
        if newest is not None and (silent := [metric for metric in metrics if metric not in seen]):
            notes.append(f"in the catalog but without a value: {', '.join(silent)}")

    def _offered(self, asset: str, wanted: Sequence[str]) -> list[str]:
        """Those of ``wanted`` that the catalog has for this asset day by day."""
        client, session = open_client(self._transport)
        try:
            found = list(client.catalog_asset_metrics_v2(assets=asset, format="json"))
            session.must_have_ended()
        except ProviderRefused as error:
            if "is not supported" in error.detail:
                raise NotListed(PROVIDER, error.endpoint, f"asset {asset!r} is unknown") from error
            raise
        catalog: list[_CatalogAsset] = parse(
            list[_CatalogAsset], found, self._transport, session.endpoint
        )
        daily = {
            metric.metric
            for entry in catalog
            if entry.asset == asset
            for metric in entry.metrics
            for frequency in metric.frequencies
            if frequency.frequency == "1d"
            and (secret(PROVIDER) or frequency.community is not False)
        }
        offered = [metric for metric in wanted if metric in daily]
        if not offered:
            raise NotListed(
                PROVIDER, session.endpoint, f"asset {asset!r} has none of {', '.join(wanted)}"
            )
        return offered

    def _pages(
        self, asset: str, metrics: list[str], since: datetime, notes: list[str]
    ) -> Iterator[list[Any]]:
        """Days in the provider's order, without the metrics that are not in this tier; those are taken off ``metrics``."""
        while True:
            try:
                yield from self._pages_of(asset, [*metrics, COMPLETION], since)
                return
            except Forbidden as error:
                dropped = [name for name in metrics if f"'{name}'" in error.detail]
                if not dropped or len(dropped) == len(metrics):
                    raise
                metrics[:] = [name for name in metrics if name not in dropped]
                notes.append(f"not in this tier: {', '.join(dropped)}")

    def _pages_of(self, asset: str, asked: list[str], since: datetime) -> Iterator[list[Any]]:
        """What came before a fault is given before the fault is raised."""
        client, session = open_client(self._transport)
        answered = client.get_asset_metrics(
            asset,
            asked,
            frequency="1d",
            start_time=f"{since:%Y-%m-%d}",
            paging_from="start",
            page_size=self.page_days,
            **as_json(client),
        )
        gathered: list[Any] = []
        fault: ProviderError | None = None
        try:
            for row in answered:
                gathered.append(row)
                if len(gathered) == self.page_days:
                    yield self._days(gathered, asset, asked)
                    gathered = []
            session.must_have_ended()
        except ProviderError as error:
            fault = error
        if gathered:
            yield self._days(gathered, asset, asked)
        if fault is not None:
            raise fault

    def _days(self, rows: list[Any], asset: str, asked: Sequence[str]) -> list[Any]:
        parsed: list[Any] = parse(
            list[_row_model(tuple(asked))],  # type: ignore[misc]
            rows,
            self._transport,
            ENDPOINT,
        )
        for row in parsed:
            if row.asset != asset:
                raise ShapeChanged(
                    PROVIDER, ENDPOINT, f"field asset: {row.asset[:40]!r}, not {asset!r}"
                )
            if row.time != midnight(row.time):
                raise ShapeChanged(PROVIDER, ENDPOINT, f"field time: {row.time} is not a day")
        return parsed

    def _known_at(self, day: Any, metric: str, read: datetime) -> datetime:
        stamp: datetime | None = getattr(day, COMPLETION, None)
        stated: datetime | None = getattr(day, f"{metric}_status_time", None)
        if stated is not None and (stamp is None or getattr(day, f"{metric}_status") == "revised"):
            stamp = stated if stamp is None else max(stamp, stated)
        known_at = day.time + WITHOUT_A_STAMP if stamp is None else max(stamp, day.time + DAY)
        return max(known_at, read) if HISTORY_MOVES.match(metric) else known_at


@lru_cache(maxsize=64)
def _row_model(metrics: tuple[str, ...]) -> type[Answer]:
    """A day of one asset. A metric is null where it has no value, and absent where the asset does not have it."""
    fields: dict[str, Any] = {"asset": (str, ...), "time": (Instant, ...)}
    for metric in metrics:
        fields[metric] = (Seconds | None if metric == COMPLETION else float | None, None)
        fields[f"{metric}_status"] = (str | None, Field(None, alias=f"{metric}-status"))
        fields[f"{metric}_status_time"] = (
            Instant | None,
            Field(None, alias=f"{metric}-status-time"),
        )
    return create_model("AssetMetrics", __base__=Answer, **fields)
