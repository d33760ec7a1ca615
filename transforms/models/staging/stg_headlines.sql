select
    publisher,
    id,
    ts,
    title,
    url,
    source,
    known_at,
    ingested_at,
    batch_id,
    {{ utc_date('ts') }} as day,
    {{ known_on('known_at') }} as known_on
from {{ source('raw', 'headlines') }}
