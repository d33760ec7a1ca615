{{ config(materialized='incremental', meta={'window_column': 'known_on'}) }}

with bars as (
    select
        venue,
        symbol,
        asset,
        bar_interval,
        bar_minutes,
        day,
        minute_of_day,
        open,
        high,
        low,
        close,
        quote_volume,
        source,
        known_on,
        known_at,
        ingested_at,
        batch_id
    from {{ ref('stg_ohlcv') }}
    where
        known_on <= {{ window_to() }}
        and bar_interval in ('5m', '1h') -- 1m bars are kept for SQL users
        and least(open, high, low, close) > 0
        and isfinite(open + high + low + close)
),

-- A day gets a version when a bar of it becomes known, or the bar that ends where the day starts, because the day's first return
-- begins at its close. The first version is the one known at the decision time of the day itself: bars of a day that
-- are known before the previous decision time (those of 00:00 to 00:30) wait for it.
changes as (
    select
        asset,
        day,
        greatest(known_on, day) as known_on
    from bars
    where {{ known_on_in_window('greatest(known_on, day)') }}
    union distinct
    select
        asset,
        day + 1 as day,
        greatest(known_on, day + 1) as known_on
    from bars
    where minute_of_day + bar_minutes = 1440 and {{ known_on_in_window('greatest(known_on, day + 1)') }}
),

known_bars as (
    select
        changes.asset,
        changes.day,
        changes.known_on,
        bars.venue,
        bars.symbol,
        bars.bar_interval,
        bars.bar_minutes,
        bars.minute_of_day,
        bars.open,
        bars.high,
        bars.low,
        bars.close,
        bars.quote_volume,
        bars.source
    from changes
    inner join bars on changes.asset = bars.asset and changes.day = bars.day and changes.known_on >= bars.known_on
    qualify
        row_number() over (
            partition by changes.known_on, changes.day, bars.venue, bars.symbol, bars.bar_interval, bars.minute_of_day
            order by bars.known_at desc, bars.ingested_at desc, bars.batch_id desc
        ) = 1
),

known_previous_bars as (
    select
        changes.asset,
        changes.day,
        changes.known_on,
        bars.venue,
        bars.symbol,
        bars.bar_interval,
        bars.close
    from changes
    inner join bars
        on
            changes.asset = bars.asset
            and changes.day = bars.day + 1
            and changes.known_on >= bars.known_on
            and bars.minute_of_day + bars.bar_minutes = 1440
    qualify
        row_number() over (
            partition by changes.known_on, changes.day, bars.venue, bars.symbol, bars.bar_interval
            order by bars.known_at desc, bars.ingested_at desc, bars.batch_id desc
        ) = 1
),

previous_closes as (
    select
        asset,
        day,
        known_on,
        venue,
        symbol,
        max(close) filter (where bar_interval = '5m') as close_5m,
        max(close) filter (where bar_interval = '1h') as close_1h
    from known_previous_bars
    group by asset, day, known_on, venue, symbol
),

-- Hours that a venue gives only as 5-minute bars; an hour with fewer than 10 of its 12 is no bar.
hours_of_five_minutes as (
    select
        known_bars.asset,
        known_bars.day,
        known_bars.known_on,
        known_bars.venue,
        known_bars.symbol,
        '1h' as bar_interval,
        60 as bar_minutes,
        known_bars.minute_of_day // 60 * 60 as hour_minute,
        arg_min(known_bars.open, known_bars.minute_of_day) as open,
        max(known_bars.high) as high,
        min(known_bars.low) as low,
        arg_max(known_bars.close, known_bars.minute_of_day) as close,
        {{ stable('sum', 'known_bars.quote_volume') }} as quote_volume,
        max(known_bars.source) as source
    from known_bars
    anti join known_bars as hours
        on
            known_bars.asset = hours.asset
            and known_bars.day = hours.day
            and known_bars.known_on = hours.known_on
            and known_bars.venue = hours.venue
            and known_bars.symbol = hours.symbol
            and known_bars.minute_of_day // 60 * 60 = hours.minute_of_day
            and hours.bar_interval = '1h'
    where known_bars.bar_interval = '5m'
    group by all
    having count(*) >= 10
),

usable_bars as (
    select * from known_bars
    union all
    select * from hours_of_five_minutes
),

-- One venue, symbol and interval per version of a day: complete ones first, of these 5-minute bars before hours, then the
-- fullest, then the one with the largest quote volume; names break ties.
chosen_markets as (
    select
        asset,
        day,
        known_on,
        venue,
        symbol,
        bar_interval,
        bar_minutes,
        cast(1440 // bar_minutes as integer) as bars_expected,
        cast(count(*) as integer) as bars_used,
        bars_used >= 0.8 * bars_expected as complete,
        {{ stable('sum', 'quote_volume') }} as day_quote_volume
    from usable_bars
    {%- if var('rv_interval', 'finest') != 'finest' %}
    where bar_interval = '{{ var('rv_interval') }}'
    {%- endif %}
    group by asset, day, known_on, venue, symbol, bar_interval, bar_minutes
    qualify
        row_number() over (
            partition by asset, day, known_on
            order by
                complete desc,
                (complete and bar_interval = '5m') desc,
                bars_used / bars_expected desc,
                day_quote_volume desc nulls last,
                venue asc,
                symbol asc,
                bar_interval asc
        ) = 1
),

-- Each bar with where its return starts: the close of the bar that ends at its open, or its own open after a gap.
chained_bars as (
    select
        chosen_markets.*,
        usable_bars.minute_of_day,
        usable_bars.open,
        usable_bars.high,
        usable_bars.low,
        usable_bars.close,
        usable_bars.source,
        case
            when usable_bars.minute_of_day = 0
                then coalesce(
                    case chosen_markets.bar_interval when '5m' then previous_closes.close_5m end,
                    previous_closes.close_1h,
                    previous_closes.close_5m
                )
            when lag(usable_bars.minute_of_day) over within_day = usable_bars.minute_of_day - chosen_markets.bar_minutes
                then lag(usable_bars.close) over within_day
        end as previous_close
    from chosen_markets
    inner join usable_bars using (asset, day, known_on, venue, symbol, bar_interval)
    left join previous_closes using (asset, day, known_on, venue, symbol)
    window within_day as (partition by asset, day, known_on order by usable_bars.minute_of_day)
),

returns as (
    select
        *,
        ln(close / coalesce(previous_close, open)) as log_return,
        lag(log_return) over (partition by asset, day, known_on order by minute_of_day) as previous_log_return
    from chained_bars
),

days as (
    select
        asset,
        day,
        known_on,
        venue,
        symbol,
        bar_interval,
        bars_used,
        bars_expected,
        complete,
        day_quote_volume,
        max(source) as source,
        arg_min(open, minute_of_day) as open,
        max(high) as high,
        min(low) as low,
        arg_max(close, minute_of_day) as close,
        max(previous_close) filter (where minute_of_day = 0) as previous_close,
        list_sort(
            list(
                struct_pack(
                    minute_of_day := minute_of_day,
                    r := log_return,
                    previous_r := previous_log_return
                )
            )
        ) as bars
    from returns
    group by all
)

select
    source,
    asset,
    day,
    known_on,
    venue,
    symbol,
    bar_interval,
    bars_used,
    bars_expected,
    complete,
    open,
    high,
    low,
    close,
    previous_close,
    day_quote_volume as quote_volume,
    coalesce(ln(open / previous_close), 0) as overnight_return,
    list_sum([bar.r for bar in bars]) as log_return,
    list_sum([bar.r * bar.r for bar in bars]) as realized_variance,
    pi() / 2 * bars_used / nullif(bars_used - 1, 0)
    * list_sum([abs(bar.r) * abs(bar.previous_r) for bar in bars if bar.previous_r is not null]) as bipower_variation,
    bars_used / 3 * list_sum([bar.r * bar.r * bar.r * bar.r for bar in bars]) as realized_quarticity,
    coalesce(list_sum([bar.r * bar.r for bar in bars if bar.r < 0]), 0) as semivariance_neg,
    coalesce(list_sum([bar.r * bar.r for bar in bars if bar.r > 0]), 0) as semivariance_pos,
    {%- for hours in (1, 4, 8, 12) %}
    coalesce(list_sum([bar.r * bar.r for bar in bars if bar.minute_of_day >= {{ (24 - hours) * 60 }}]), 0) as rv_last_{{ hours }}h
    {%- if not loop.last %},{% endif %}
    {%- endfor %}
from days
