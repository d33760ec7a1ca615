select
    venue,
    symbol,
    "interval" as bar_interval, -- noqa: RF06
    ts,
    open,
    high,
    low,
    close,
    volume,
    trades,
    taker_buy_volume,
    source,
    known_at,
    ingested_at,
    batch_id,
    split_part(symbol, '/', 1) as asset,
    case "interval" when '1m' then 1 when '5m' then 5 when '1h' then 60 end as bar_minutes, -- noqa: RF06
    {{ utc_date('ts') }} as day,
    cast((epoch_us(ts) // 60000000) % 1440 as integer) as minute_of_day,
    coalesce(quote_volume, volume * close) as quote_volume,
    {{ known_on('known_at') }} as known_on
from {{ source('raw', 'ohlcv') }}
