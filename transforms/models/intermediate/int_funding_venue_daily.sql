{{ config(materialized='incremental', meta={'window_column': 'known_on'}) }}

-- Deribit's interest_8h is a rolling figure that repeats the hourly rates beside it; a (current) rate is not settled yet.
with rates as (
    select *
    from {{ ref('stg_funding_rates') }}
    where
        known_on <= {{ window_to() }}
        and isfinite(rate_8h)
        and not contains(symbol, 'interest_8h')
        and not contains(symbol, '(current)')
),

-- As in int_realized_daily: a version per as_of on which a rate of the day became known, none before the day itself is over.
changes as (
    select distinct
        asset,
        day,
        greatest(known_on, day) as known_on
    from rates
    where {{ known_on_in_window('greatest(known_on, day)') }}
),

known_rates as (
    select
        changes.asset,
        changes.day,
        changes.known_on,
        rates.venue,
        rates.symbol,
        rates.ts,
        rates.rate_8h,
        rates.source
    from changes
    inner join rates
        on changes.asset = rates.asset and changes.day = rates.day and changes.known_on >= rates.known_on
    qualify
        row_number() over (
            partition by changes.known_on, rates.venue, rates.symbol, rates.asset, rates.ts
            order by rates.known_at desc, rates.ingested_at desc, rates.batch_id desc
        ) = 1
)

select
    max(source) as source,
    asset,
    day,
    known_on,
    venue,
    max(ts) as last_settled_at,
    {{ stable('avg', 'rate_8h') }} as rate_8h
from known_rates
group by asset, day, known_on, venue
