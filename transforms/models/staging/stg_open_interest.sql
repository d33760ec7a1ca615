select
    venue,
    symbol,
    asset,
    resolution,
    ts,
    open,
    high,
    low,
    close,
    source,
    known_at,
    ingested_at,
    batch_id,
    {{ utc_date('ts') }} as day,
    {{ known_on('known_at') }} as known_on
from {{ source('raw', 'open_interest') }}
