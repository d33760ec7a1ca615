"""What an archive folder holds, file by file, and when each of its values was first known.

In: nothing. Out: ``ARCHIVE_FILES``: per file its columns, how they become a raw table's columns,
and its known_at rule. Never: opens a file. All SQL here is constant; paths, coins and times are
parameters elsewhere.

When a value is known, unless the file's own known_at column says otherwise:

| data | known_at |
|---|---|
| bars (ohlcv/1h, ohlcv/5m) | ts + length of the bar + 1 min |
| funding | ts + 1 min |
| open interest, daily | ts + 1 d + 5 min |
| implied volatility | ts + resolution + 1 min |
| chain metrics (Coin Metrics, Etherscan) | ts + 37 h, which is D+1 13:00 |
| exchange flows, balances (FlowIn*, FlowOut*, SplyEx*) | the above, or the download's end of day |
| stablecoins, Coin Metrics | ts + 37 h |
| stablecoins, others (DefiLlama: a snapshot at D 00:00) | ts + 12 h |
| fear_greed (made from D-1) | ts + 1 h |
| news counts | ts + 25 h |
| gdelt_*, weekly | ts + 8 d |
| *wikipedia* | ts + 48 h |
| other sentiment (Reddit, StockTwits, Google, social, unknown) | ts + 36 h |
| headlines | ts + 5 min |
| headlines stamped exactly 00:00:00: a date without a time | ts + 1 d + 5 min |

Exchange flows and balances are revised every day, so a download tells what was believed when it was
made, even where the file says when the day was first complete. The date of the download ends the
provider's name (2026-03-24; or 2026-03: its last day). Without such a date the file's own known_at
is believed; without either, nobody can say when the value was known, and the row is left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestration.sources.headline_id import ID_LENGTH
from quality.names import DOLLAR_PAIR, PAIR

_OHLC = {"open": "DOUBLE", "high": "DOUBLE", "low": "DOUBLE", "close": "DOUBLE"}
_NAMED = {"provider": "VARCHAR", "asset": "VARCHAR", "metric": "VARCHAR"}
_TS = {"ts": "TIMESTAMPTZ"}

SYMBOL_ASSET = r"""
    replace(upper(CASE
        WHEN contains(symbol, '/') THEN split_part(symbol, '/', 1)
        WHEN contains(symbol, '-') THEN split_part(symbol, '-', 1)
        ELSE regexp_replace(symbol, '(USDT|USDC|USD|PERP)[^A-Za-z]*$', '')
    END), 'XBT', 'BTC')
"""
"""The coin of a traded symbol: BTC of BTC/USDT, BTC/USDT:USDT, BTC-USD, BTC-PERPETUAL(interest_8h),
XBTUSD.
"""

DOWNLOADED_UNTIL = r"""
    CAST(coalesce(
        try_cast(regexp_extract(provider, '\d{4}-\d{2}-\d{2}$') AS DATE),
        last_day(try_cast(nullif(regexp_extract(provider, '\d{4}-\d{2}$'), '') || '-01' AS DATE))
    ) + INTERVAL 1 DAY AS TIMESTAMPTZ)
"""
"""End of the day of a download, from the provider's name; NULL where the name has no date."""

REVISED = "regexp_matches(metric, '^(FlowIn|FlowOut|SplyEx[^p])')"
"""Metrics whose history changes. SplyExpFut10yr is a forecast by the protocol's rules, not a
balance.
"""

_CHAIN_RULE = "coalesce(known_at, ts + INTERVAL 37 HOUR)"
_ONCHAIN_KNOWN_AT = f"""
    CASE WHEN NOT {REVISED} THEN {_CHAIN_RULE}
         WHEN {DOWNLOADED_UNTIL} IS NOT NULL THEN greatest({_CHAIN_RULE}, {DOWNLOADED_UNTIL})
         ELSE known_at END
"""
_RESOLUTION_LENGTH = r"""
    CASE WHEN regexp_full_match(resolution, '\d+[mhd]') THEN CAST(
        replace(replace(replace(resolution, 'm', ' minutes'), 'h', ' hours'), 'd', ' days')
    AS INTERVAL) END
"""
_SENTIMENT_DELAY = """
    CASE WHEN metric = 'fear_greed' THEN INTERVAL 1 HOUR
         WHEN regexp_matches(metric, 'news.*_count$') THEN INTERVAL 25 HOUR
         WHEN starts_with(metric, 'gdelt') THEN INTERVAL 8 DAY
         WHEN contains(metric, 'wikipedia') THEN INTERVAL 48 HOUR
         ELSE INTERVAL 36 HOUR END
"""
_HEADLINE_DELAY = """
    CASE WHEN ts = date_trunc('day', ts) THEN INTERVAL '1 day 5 minutes' ELSE INTERVAL 5 MINUTE END
"""


@dataclass(frozen=True)
class ArchiveFile:
    """One file of an archive.

    ``stem`` is its path without extension; ``columns`` must be there, ``optional`` may be;
    ``select`` maps raw columns to SQL over them (a raw column not named takes the file's column of
    that name); ``known_at`` is SQL that may read the file's own ``known_at``, NULL where the file
    has none; ``coin`` is SQL for the coin that a restriction applies to; ``others`` is SQL for rows
    that are sound but of something else, which are left out.
    """

    stem: str
    table: str
    columns: dict[str, str]
    known_at: str
    optional: dict[str, str] = field(default_factory=dict)
    select: dict[str, str] = field(default_factory=dict)
    coin: str | None = None
    others: str = "false"

    @property
    def all_columns(self) -> dict[str, str]:
        """Every column that is read, with its type; each file may carry its own ``known_at``."""
        return {**self.columns, **self.optional, "known_at": "TIMESTAMPTZ"}


def _by_rule(sql: str) -> str:
    return f"coalesce(known_at, {sql})"


def _bars(interval: str, length: str) -> ArchiveFile:
    return ArchiveFile(
        stem=f"ohlcv/{interval}",
        table="ohlcv",
        columns={"venue": "VARCHAR", "symbol": "VARCHAR", **_TS, **_OHLC, "volume": "DOUBLE"},
        optional={"quote_volume": "DOUBLE", "trades": "DOUBLE", "taker_buy_volume": "DOUBLE"},
        select={"interval": f"'{interval}'"},
        known_at=_by_rule(f"ts + INTERVAL {length} + INTERVAL 1 MINUTE"),
        coin="split_part(symbol, '/', 1)",
        others=f"regexp_matches(symbol, '{PAIR}') AND NOT regexp_matches(symbol, '{DOLLAR_PAIR}')",
    )


PRICE_FILES = (_bars("1h", "1 HOUR"), _bars("5m", "5 MINUTE"))

ARCHIVE_FILES: tuple[ArchiveFile, ...] = (
    *PRICE_FILES,
    ArchiveFile(
        stem="funding/rates",
        table="funding_rates",
        columns={
            "venue": "VARCHAR",
            "symbol": "VARCHAR",
            **_TS,
            "rate": "DOUBLE",
            "interval_hours": "DOUBLE",
        },
        select={"asset": SYMBOL_ASSET},
        known_at=_by_rule("ts + INTERVAL 1 MINUTE"),
        coin=SYMBOL_ASSET,
    ),
    ArchiveFile(
        stem="open_interest/1d",
        table="open_interest",
        columns={
            "provider": "VARCHAR",
            "asset": "VARCHAR",
            "contract": "VARCHAR",
            **_TS,
            **_OHLC,
        },
        select={"venue": "provider", "symbol": "contract", "resolution": "'1d'"},
        known_at=_by_rule("ts + INTERVAL '1 day 5 minutes'"),
        coin="asset",
    ),
    ArchiveFile(
        stem="implied_volatility/dvol",
        table="implied_volatility",
        columns={
            "venue": "VARCHAR",
            "index_name": "VARCHAR",
            "resolution": "VARCHAR",
            **_TS,
            **_OHLC,
        },
        select={"symbol": "index_name", "asset": "split_part(index_name, '-', 1)"},
        known_at=_by_rule(f"ts + {_RESOLUTION_LENGTH} + INTERVAL 1 MINUTE"),
        coin="split_part(index_name, '-', 1)",
    ),
    ArchiveFile(
        stem="onchain/metrics",
        table="onchain_metrics",
        columns={**_NAMED, **_TS, "value": "DOUBLE"},
        known_at=_ONCHAIN_KNOWN_AT,
        coin="asset",
    ),
    ArchiveFile(
        stem="onchain/stablecoins",
        table="onchain_metrics",
        columns={**_NAMED, **_TS, "value": "DOUBLE"},
        known_at=_by_rule(
            "ts + CASE WHEN starts_with(provider, 'coinmetrics') THEN INTERVAL 37 HOUR "
            "ELSE INTERVAL 12 HOUR END"
        ),
    ),
    ArchiveFile(
        stem="onchain/vintages",
        table="onchain_metrics",
        columns={**_NAMED, **_TS, "value": "DOUBLE"},
        known_at=_ONCHAIN_KNOWN_AT,
        coin="asset",
    ),
    ArchiveFile(
        stem="sentiment/metrics",
        table="sentiment_metrics",
        columns={
            "provider": "VARCHAR",
            "metric": "VARCHAR",
            **_TS,
            "value": "DOUBLE",
            "label": "VARCHAR",
        },
        select={
            "asset": "CASE WHEN starts_with(metric, 'btc_') THEN 'BTC' ELSE 'MARKET' END",
            "metric": "regexp_replace(metric, '^btc_', '')",
        },
        known_at=_by_rule(f"ts + {_SENTIMENT_DELAY}"),
    ),
    ArchiveFile(
        stem="headlines/headlines",
        table="headlines",
        columns={"publisher": "VARCHAR", **_TS, "title": "VARCHAR", "url": "VARCHAR"},
        select={
            "id": "substr(sha256(concat(publisher, '|', url, '|', title, '|', epoch_us(ts))), "
            f"1, {ID_LENGTH})"
        },
        known_at=_by_rule(f"ts + {_HEADLINE_DELAY}"),
    ),
)
"""Every file an archive may hold, in the order in which a table's rows are read."""
