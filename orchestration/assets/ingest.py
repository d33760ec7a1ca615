"""Raw tables: one Dagster asset for each, filled from the source.

In: the platform's source. Out: new rows in ``raw.*``. The network is touched here and nowhere else, so only here are steps retried.
"""

from collections.abc import Sequence
from datetime import date, timedelta

import dagster as dg

from orchestration.assets.common import (
    DAILY_FRESHNESS,
    OWNERS,
    WAREHOUSE_POOL,
    key_of,
    raw_columns,
    result,
)
from orchestration.headline_tone import daily_tone
from orchestration.ingest import WindowResult, ingest_window
from orchestration.markdown import in_markdown
from orchestration.partitions import DAILY, ONE_RUN, day_range
from orchestration.platform import Platform
from orchestration.raw_rows import IngestCount, append_batch
from orchestration.sources.schema import TABLES
from orchestration.warehouse import get_state, set_state

NETWORK_RETRY = dg.RetryPolicy(
    max_retries=3, delay=5, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS
)
NETWORK_ERRORS = (ConnectionError, TimeoutError)
DESCRIPTIONS = {
    "ohlcv": "Bars of spot prices: open, high, low, close, volumes.",
    "funding_rates": "Funding of perpetual swaps per venue and interval, decimal.",
    "open_interest": "Open interest of derivatives per venue and contract, USD.",
    "implied_volatility": "Implied-volatility indices such as DVOL, annualised percent.",
    "onchain_metrics": "On-chain metrics and stablecoin supply in long form.",
    "sentiment_metrics": "Sentiment metrics in long form, headlines scored offline among them.",
    "headlines": "News headlines as published.",
    "order_books": "Snapshots of spot order books as the venue gave them, captured on a schedule.",
}


def _ingest_asset(table: str) -> dg.AssetsDefinition:
    @dg.asset(
        key=key_of(f"raw.{table}"),
        description=f"{DESCRIPTIONS[table]} Append-only and bitemporal: a revision is a new row with a later known_at.",
        group_name="ingest",
        owners=OWNERS,
        kinds={"python", "duckdb"},
        partitions_def=DAILY,
        backfill_policy=ONE_RUN,
        pool=WAREHOUSE_POOL,
        retry_policy=NETWORK_RETRY,
        freshness_policy=DAILY_FRESHNESS,
        deps=[key_of("raw.headlines")] if table == "sentiment_metrics" else [],
        metadata={
            "dagster/column_schema": raw_columns(TABLES[table]),
            "dagster/table_name": f"raw.{table}",
            "unique key": ", ".join((*TABLES[table].key, "known_at")),
        },
    )
    def ingest(
        context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> dg.MaterializeResult[None]:
        first, last = day_range(context)
        try:
            found = ingest_window(platform.warehouse, platform.source, table, first, last)
            count = found.count
            if table == "sentiment_metrics":
                count += _score_headlines(platform, context)
            require_prices(table, found)
        except NETWORK_ERRORS:
            raise
        except Exception as error:
            raise dg.Failure(f"raw.{table}: {error}", allow_retries=False) from error
        with platform.warehouse.read() as connection:
            row = connection.execute(f"SELECT count(*) FROM raw.{table}").fetchone()
        total = int(row[0]) if row else 0
        context.log.info(
            f"raw.{table}: {count.offered} rows offered, {count.inserted} new, {count.duplicate} known already, "
            f"{count.quarantined} quarantined; {total} in the table"
        )
        for stale in found.stale:
            context.log.warning(f"stale, the line goes on without it: {stale.detail}")
        for note in found.notes:
            context.log.info(note)
        return result(
            platform,
            total,
            stale=dg.MetadataValue.md(
                _listing([f"{s.stream}: {s.status}: {s.detail}" for s in found.stale])
            ),
            notes=dg.MetadataValue.md(_listing(found.notes)),
            rows_new=count.inserted,
            rows_known_already=count.duplicate,
            rows_quarantined=count.quarantined,
        )

    return ingest


def require_prices(table: str, found: WindowResult) -> None:
    """Every modality may be stale but prices. Raises ``ConnectionError``, which is tried again, where the network was at fault."""
    if table == "ohlcv" and found.unavailable is not None:
        raise ConnectionError(str(found.unavailable)) from found.unavailable


def _listing(lines: Sequence[str]) -> str:
    return "\n".join(f"- {in_markdown(line)}" for line in lines) or "none"


def _score_headlines(platform: Platform, context: dg.AssetExecutionContext) -> IngestCount:
    first, last = day_range(context)
    warehouse, settings = platform.warehouse, platform.settings
    with warehouse.read() as connection:
        scored_to = get_state(connection, "headline_tone")
        start = platform.source.first_day()
        if scored_to:
            start = min(first, date.fromisoformat(scored_to) + timedelta(days=1))
        batch = daily_tone(
            connection, settings, platform.source.name, start, last, platform.source.assets
        )
    count = append_batch(
        warehouse, TABLES["sentiment_metrics"], batch, None, settings.decision_time(last)
    )
    for attempt in warehouse.writes():
        with attempt as connection:
            if scored_to is None or date.fromisoformat(scored_to) < last:
                set_state(connection, "headline_tone", last.isoformat())
    return count


INGEST_ASSETS = [_ingest_asset(table) for table in TABLES]
