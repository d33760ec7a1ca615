select
    venue,
    symbol,
    asset,
    ts,
    rate,
    interval_hours,
    source,
    known_at,
    ingested_at,
    batch_id,
    {{ utc_date('ts') }} as day,
    rate * 8 / nullif(interval_hours, 0) as rate_8h,
    {{ known_on('known_at') }} as known_on
from {{ source('raw', 'funding_rates') }}
