select
    provider,
    asset,
    metric as provider_metric,
    ts,
    value,
    label,
    source,
    known_at,
    ingested_at,
    batch_id,
    {{ provider_family('provider') }} as provider_family,
    case
        when starts_with(metric, lower(asset) || '_') and asset != 'MARKET' then substr(metric, len(asset) + 2)
        else metric
    end as metric,
    {{ utc_date('ts') }} as day,
    {{ known_on('known_at') }} as known_on
from {{ source('raw', 'sentiment_metrics') }}
