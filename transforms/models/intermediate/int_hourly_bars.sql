{{ config(materialized='incremental', meta={'window_column': 'known_on'}) }}

with bars as (
    select
        venue,
        symbol,
        asset,
        bar_interval,
        day,
        minute_of_day,
        date_diff('day', date '1970-01-01', day) * 24 + minute_of_day // 60 as hour_number,
        open,
        high,
        low,
        close,
        quote_volume,
        case when taker_buy_volume between 0 and volume and volume > 0 then volume end as signed_of_volume,
        case when signed_of_volume is not null then 2 * taker_buy_volume - volume end as signed_volume,
        source,
        known_at,
        ingested_at,
        batch_id,
        greatest(known_on, day) as known_on
    from {{ ref('stg_ohlcv') }}
    where
        known_on <= {{ window_to() }}
        and bar_interval in ('5m', '1h') -- 1m bars are kept for SQL users
        and least(open, high, low, close) > 0
        and isfinite(open + high + low + close)
),

-- Hours of which something became known in the window, and the hour before each, at whose close its return starts.
touched_hours as (
    select distinct
        asset,
        hour_number
    from bars
    where {{ known_on_in_window('known_on') }}
),

needed_hours as (
    select
        asset,
        hour_number
    from touched_hours
    union distinct
    select
        asset,
        hour_number - 1 as hour_number
    from touched_hours
),

needed_bars as (
    select bars.*
    from bars
    semi join needed_hours using (asset, hour_number)
),

-- A venue's hour is first known when its own bar is, or the tenth of its twelve 5-minute bars.
first_five_minutes as (
    select
        venue,
        symbol,
        hour_number,
        minute_of_day,
        min(known_on) as known_on
    from needed_bars
    where bar_interval = '5m'
    group by venue, symbol, hour_number, minute_of_day
),

first_known_candidates as (
    select
        venue,
        symbol,
        hour_number,
        known_on
    from needed_bars
    where bar_interval = '1h'
    union all
    select
        venue,
        symbol,
        hour_number,
        list_sort(list(known_on))[10] as known_on
    from first_five_minutes
    group by venue, symbol, hour_number
    having count(*) >= 10
),

first_known as (
    select
        venue,
        symbol,
        hour_number,
        min(known_on) as first_known_on
    from first_known_candidates
    group by venue, symbol, hour_number
),

-- The hour's bars as they stood then: later arrivals and revisions change nothing.
known_bars as (
    select
        needed_bars.*,
        first_known.first_known_on
    from needed_bars
    inner join first_known
        on
            needed_bars.venue = first_known.venue
            and needed_bars.symbol = first_known.symbol
            and needed_bars.hour_number = first_known.hour_number
            and needed_bars.known_on <= first_known.first_known_on
    qualify
        row_number() over (
            partition by
                needed_bars.venue,
                needed_bars.symbol,
                needed_bars.bar_interval,
                needed_bars.day,
                needed_bars.minute_of_day
            order by needed_bars.known_at desc, needed_bars.ingested_at desc, needed_bars.batch_id desc
        ) = 1
),

five_minute_returns as (
    select
        *,
        hour_number * 12 + minute_of_day % 60 // 5 as bar_number,
        ln(
            close / case
                when
                    lag(bar_number) over by_market = bar_number - 1 and lag(first_known_on) over by_market <= first_known_on
                    then lag(close) over by_market
                else open
            end
        ) as log_return
    from known_bars
    where bar_interval = '5m'
    window by_market as (partition by venue, symbol order by hour_number, minute_of_day)
),

hours_of_five_minutes as (
    select
        venue,
        symbol,
        asset,
        day,
        hour_number,
        first_known_on,
        max(source) as source,
        cast(count(*) as integer) as bars,
        arg_min(open, minute_of_day) as open,
        max(high) as high,
        min(low) as low,
        arg_max(close, minute_of_day) as close,
        {{ stable('sum', 'quote_volume') }} as quote_volume,
        {{ stable('sum', 'signed_volume') }} as signed_volume,
        {{ stable('sum', 'signed_of_volume') }} as signed_of_volume,
        {{ stable('sum', 'log_return * log_return') }} as realized_variance
    from five_minute_returns
    group by all
    having count(*) >= 10
),

native_hours as (
    select * from known_bars
    where bar_interval = '1h'
),

hours as (
    select
        venue,
        symbol,
        hour_number,
        coalesce(native.asset, five_minutes.asset) as asset,
        coalesce(native.day, five_minutes.day) as day,
        coalesce(native.first_known_on, five_minutes.first_known_on) as known_on,
        greatest(native.source, five_minutes.source) as source,
        coalesce(native.open, five_minutes.open) as open,
        coalesce(native.high, five_minutes.high) as high,
        coalesce(native.low, five_minutes.low) as low,
        coalesce(native.close, five_minutes.close) as close,
        coalesce(native.quote_volume, five_minutes.quote_volume) as quote_volume,
        coalesce(
            native.signed_volume / native.signed_of_volume, five_minutes.signed_volume / five_minutes.signed_of_volume
        ) as signed_volume_share,
        five_minutes.realized_variance as five_minute_variance,
        coalesce(five_minutes.bars, 1) as bars
    from native_hours as native
    full join hours_of_five_minutes as five_minutes using (venue, symbol, hour_number)
),

chained_hours as (
    select
        *,
        ln(
            close / case
                when
                    lag(hour_number) over by_market = hour_number - 1 and lag(known_on) over by_market <= known_on
                    then lag(close) over by_market
                else open
            end
        ) as log_return
    from hours
    window by_market as (partition by venue, symbol order by hour_number)
),

-- An hour is taken from the market where it was known first; of several, from the one that gave most hours of that day at once,
-- then the largest volume; names break ties.
batches as (
    select
        venue,
        symbol,
        day,
        known_on,
        count(*) as batch_hours,
        {{ stable('sum', 'quote_volume') }} as batch_volume
    from hours
    group by venue, symbol, day, known_on
),

chosen_hours as (
    select chained_hours.*
    from chained_hours
    inner join batches using (venue, symbol, day, known_on)
    qualify
        row_number() over (
            partition by chained_hours.asset, chained_hours.hour_number
            order by
                chained_hours.known_on asc,
                batches.batch_hours desc,
                batches.batch_volume desc nulls last,
                chained_hours.venue asc,
                chained_hours.symbol asc
        ) = 1
)

select
    source,
    asset,
    make_timestamptz(hour_number * 3600000000) as ts,
    day,
    known_on,
    venue,
    symbol,
    open,
    high,
    low,
    close,
    quote_volume,
    signed_volume_share,
    log_return,
    coalesce(five_minute_variance, log_return * log_return) as realized_variance,
    ln(high / low) as high_low_range,
    bars
from chosen_hours
where {{ known_on_in_window('known_on') }}
