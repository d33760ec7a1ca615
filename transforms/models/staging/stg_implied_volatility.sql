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
    close / 100 as implied_volatility,
    {{ utc_date('ts') }} as day,
    make_timestamptz(epoch_us(ts) + case resolution when '1h' then 3600000000 else 86400000000 end) as event_end,
    {{ known_on('known_at') }} as known_on
from {{ source('raw', 'implied_volatility') }}
