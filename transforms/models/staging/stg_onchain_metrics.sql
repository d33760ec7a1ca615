select
    provider,
    asset,
    metric,
    ts,
    value,
    source,
    known_at,
    ingested_at,
    batch_id,
    {{ provider_family('provider') }} as provider_family,
    {{ downloaded_on('provider') }} as downloaded_on,
    {{ utc_date('ts') }} as day,
    {{ known_on('known_at') }} as known_on
from {{ source('raw', 'onchain_metrics') }}
