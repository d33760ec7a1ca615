select
    venue,
    symbol,
    asset,
    ts,
    source,
    known_at,
    ingested_at,
    batch_id,
    try_cast(try_cast(bids as json) as double[][]) as bids,
    try_cast(try_cast(asks as json) as double[][]) as asks,
    {{ utc_date('ts') }} as day,
    {{ known_on('known_at') }} as known_on
from {{ source('raw', 'order_books') }}
