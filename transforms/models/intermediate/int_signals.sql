{{ config(materialized='incremental', meta={'window_column': 'known_on'}) }}

with catalog as (
    select * from {{ ref('int_signal_catalog') }}
),

onchain as (
    select
        catalog.modality,
        catalog.signal,
        catalog.preference,
        metrics.provider_family || ':' || metrics.metric as series,
        metrics.asset,
        metrics.day,
        make_timestamptz(epoch_us(metrics.ts) + case when catalog.is_snapshot then 0 else 86400000000 end) as event_end,
        metrics.value,
        metrics.downloaded_on,
        metrics.known_on,
        metrics.known_at,
        metrics.ingested_at,
        metrics.batch_id
    from {{ ref('stg_onchain_metrics') }} as metrics
    inner join catalog on metrics.metric = catalog.metric
    where
        catalog.modality = 'onchain'
        or (
            catalog.modality = 'stablecoin'
            and list_contains(string_split('ALL_STABLES,{{ var('stablecoins') }}', ','), metrics.asset)
        )
),

sentiment as (
    select
        catalog.modality,
        catalog.signal,
        catalog.preference,
        metrics.provider_family || ':' || metrics.metric as series,
        metrics.asset,
        metrics.day,
        make_timestamptz(epoch_us(metrics.ts) + case when catalog.is_snapshot then 0 else 86400000000 end) as event_end,
        metrics.value,
        cast(null as date) as downloaded_on,
        metrics.known_on,
        metrics.known_at,
        metrics.ingested_at,
        metrics.batch_id
    from {{ ref('stg_sentiment_metrics') }} as metrics
    inner join catalog on metrics.metric = catalog.metric and catalog.modality = 'sentiment'
),

open_interest as (
    select
        'open_interest' as modality,
        'open_interest' as signal,
        1 as preference,
        venue || ':' || symbol as series,
        asset,
        day,
        make_timestamptz(epoch_us(ts) + 86400000000) as event_end,
        close as value,
        cast(null as date) as downloaded_on,
        known_on,
        known_at,
        ingested_at,
        batch_id
    from {{ ref('stg_open_interest') }}
),

-- Hours before days where both end a day.
implied_volatility as (
    select
        'implied_volatility' as modality,
        'implied_volatility' as signal,
        case resolution when '1h' then 1 else 2 end as preference,
        venue || ':' || symbol as series,
        asset,
        day,
        event_end,
        implied_volatility as value,
        cast(null as date) as downloaded_on,
        known_on,
        known_at,
        ingested_at,
        batch_id
    from {{ ref('stg_implied_volatility') }}
),

signals as (
    select * from onchain
    union all
    select * from sentiment
    union all
    select * from open_interest
    union all
    select * from implied_volatility
)

-- One row per day and as_of on which the day's value became known or changed: the newest event first (an hourly index has 24 a
-- day), then the newest version of it.
select
    modality,
    signal,
    series,
    asset,
    day,
    known_on,
    preference,
    event_end,
    value,
    downloaded_on
from signals
where isfinite(value) and {{ known_on_in_window('known_on') }}
qualify
    row_number() over (
        partition by signal, series, asset, day, known_on
        order by event_end desc, preference asc, known_at desc, ingested_at desc, batch_id desc
    ) = 1
