{{ config(materialized='incremental', meta={'window_column': 'as_of'}) }}

{%- set longest_window = 66 %}

with asset_days as (
    select
        asset,
        as_of
    from {{ ref('int_asset_days') }}
    where {{ as_of_in_window('as_of') }}
),

realized as (
    select * from {{ ref('int_realized_daily') }}
),

-- Each version of a day with the day on which a newer one replaced it, and the measures that need nothing but the day itself.
versions as (
    select
        *,
        lead(known_on) over (partition by asset, day order by known_on) as superseded_on,
        ln(high / low) as log_high_low,
        ln(close / open) as log_close_open,
        ln(high / close) * ln(high / open) + ln(low / close) * ln(low / open) as rogers_satchell,
        {{ safe_ln('quote_volume') }} as log_quote_volume,
        abs(log_return) / nullif(quote_volume, 0) * 1e6 as amihud
    from realized
    where day >= {{ window_from() }} - {{ longest_window }}
),

lags as (
    select
        asset,
        as_of,
        cast(unnest(range(0, {{ longest_window }})) as integer) as lag
    from asset_days
),

-- The days of the longest window as they were known at each as_of.
history as (
    select
        lags.asset,
        lags.as_of,
        list_sort(
            list(
                struct_pack(
                    lag := lags.lag,
                    rv := versions.realized_variance,
                    r := versions.log_return,
                    overnight := versions.overnight_return,
                    intraday := versions.log_close_open,
                    rogers_satchell := versions.rogers_satchell,
                    log_volume := versions.log_quote_volume,
                    amihud := versions.amihud
                )
            )
        ) as days
    from lags
    inner join versions
        on
            lags.asset = versions.asset
            and lags.as_of - lags.lag = versions.day
            and lags.as_of >= versions.known_on
            and lags.as_of < coalesce(versions.superseded_on, date '9999-12-31')
    where versions.complete
    group by lags.asset, lags.as_of
),

newest_versions as (
    select
        lags.as_of,
        lags.lag,
        versions.*
    from lags
    inner join versions
        on
            lags.asset = versions.asset
            and lags.as_of - lags.lag = versions.day
            and lags.as_of >= versions.known_on
            and lags.as_of < coalesce(versions.superseded_on, date '9999-12-31')
    where lags.lag <= {{ max_age_days('price') }} + 1
),

today as (
    select * from newest_versions
    where lag = 0
),

recent_days as (
    select
        *,
        lag(day) over previous as previous_day,
        lag(high) over previous as previous_high,
        lag(low) over previous as previous_low,
        lag(close) over previous as previous_day_close
    from newest_versions
    where complete
    window previous as (partition by asset, as_of order by day)
),

newest_complete_day as (
    select * from recent_days
    where lag <= {{ max_age_days('price') }}
    qualify row_number() over (partition by asset, as_of order by lag) = 1
),

-- Corwin and Schultz (2012): two days' ranges, the second one shifted by its gap to the first one's close.
two_day_ranges as (
    select
        asset,
        as_of,
        previous_high,
        previous_low,
        greatest(low - previous_day_close, 0) + least(high - previous_day_close, 0) as gap,
        high - gap as shifted_high,
        low - gap as shifted_low,
        ln(previous_high / previous_low) ** 2 + ln(shifted_high / shifted_low) ** 2 as beta,
        ln(greatest(previous_high, shifted_high) / least(previous_low, shifted_low)) ** 2 as gamma,
        (sqrt(2 * beta) - sqrt(beta)) / (3 - 2 * sqrt(2)) - sqrt(gamma / (3 - 2 * sqrt(2))) as alpha
    from newest_complete_day
    where previous_day = day - 1
),

aggregates as (
    select
        asset,
        as_of,
        {%- for length in (2, 5, 22, 66) %}
        {{ window_aggregate('avg', 'rv', length) }} as rv_{{ length }}d,
        {%- endfor %}
        {{ window_aggregate('sum', 'r', 5) }} as return_5d,
        {{ window_aggregate('sum', 'r', 22) }} as return_22d,
        {{ window_aggregate('avg', 'log_volume', 22) }} as log_volume_22d,
        {{ window_aggregate('avg', 'amihud', 22) }} as amihud_22d,
        len({{ window_values('rogers_satchell', 22) }}) as yang_zhang_days,
        0.34 / (1.34 + (yang_zhang_days + 1) / (yang_zhang_days - 1)) as yang_zhang_k,
        {{ window_aggregate('var_samp', 'overnight', 22) }}
        + yang_zhang_k * {{ window_aggregate('var_samp', 'intraday', 22) }}
        + (1 - yang_zhang_k) * {{ window_aggregate('avg', 'rogers_satchell', 22) }} as yang_zhang_22d
    from history
),

-- The newest complete day however old, for the age of a coin that stopped trading.
last_complete_days as (
    select
        asset,
        known_on,
        source,
        max(day) over (partition by asset order by known_on) as last_day
    from realized
    where complete
    qualify row_number() over (partition by asset, known_on order by day desc) = 1
)

select
    coalesce(today.source, last_complete_days.source) as source,
    asset_days.asset,
    asset_days.as_of,
    coalesce(today.bar_interval, newest.bar_interval) as bar_interval,
    coalesce(today.bars_expected, newest.bars_expected) as bars_expected,
    coalesce(today.bars_used, 0) as bars_used,
    coalesce(today.complete, false) as bars_complete,
    newest.close,
    cast(asset_days.as_of - last_complete_days.last_day as double) as price_age_days,
    newest.day is null as price_missing,
    newest.log_return as return_d,
    newest.realized_variance as rv_d,
    newest.bipower_variation as bipower_d,
    greatest(newest.realized_variance - newest.bipower_variation, 0) as jump_d,
    newest.realized_quarticity as quarticity_d,
    newest.semivariance_neg as semivariance_neg_d,
    newest.semivariance_pos as semivariance_pos_d,
    newest.log_high_low ** 2 / (4 * ln(2)) as parkinson_d,
    0.5 * newest.log_high_low ** 2 - (2 * ln(2) - 1) * newest.log_close_open ** 2 as garman_klass_d,
    newest.rogers_satchell as rogers_satchell_d,
    aggregates.yang_zhang_22d,
    newest.rv_last_1h,
    newest.rv_last_4h,
    newest.rv_last_8h,
    newest.rv_last_12h,
    newest.log_high_low as high_low_range_d,
    aggregates.rv_2d,
    aggregates.rv_5d,
    aggregates.rv_22d,
    aggregates.rv_66d,
    aggregates.return_5d,
    aggregates.return_22d,
    abs(newest.log_return) as abs_return_d,
    newest.quote_volume as quote_volume_d,
    newest.log_quote_volume - aggregates.log_volume_22d as log_volume_ratio_22d,
    aggregates.amihud_22d,
    greatest(2 * (exp(two_day_ranges.alpha) - 1) / (1 + exp(two_day_ranges.alpha)), 0) as corwin_schultz_d
from asset_days
left join today using (asset, as_of)
left join newest_complete_day as newest using (asset, as_of)
left join two_day_ranges using (asset, as_of)
left join aggregates using (asset, as_of)
asof left join last_complete_days
    on asset_days.asset = last_complete_days.asset and asset_days.as_of >= last_complete_days.known_on
