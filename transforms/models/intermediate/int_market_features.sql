{{ config(materialized='incremental', meta={'window_column': 'as_of'}) }}

with asset_days as (
    select
        asset,
        as_of
    from {{ ref('int_asset_days') }}
    where wanted and {{ as_of_in_window('as_of') }}
),

versions as (
    select
        asset,
        day,
        known_on,
        complete,
        {{ safe_ln('realized_variance') }} as log_rv,
        lead(known_on) over (partition by asset, day order by known_on) as superseded_on
    from {{ ref('int_realized_daily') }}
    where day >= {{ window_from() }} - 5
),

lags as (
    select
        asset,
        as_of,
        cast(unnest(range(0, 5)) as integer) as lag
    from asset_days
),

-- The market's day: the mean over the coins whose day is complete, as known at the as_of.
market_days as (
    select
        lags.as_of,
        lags.lag,
        {{ stable('avg', 'versions.log_rv') }} as log_rv
    from lags
    inner join versions
        on
            lags.asset = versions.asset
            and lags.as_of - lags.lag = versions.day
            and lags.as_of >= versions.known_on
            and lags.as_of < coalesce(versions.superseded_on, date '9999-12-31')
    where versions.complete and versions.log_rv is not null
    group by lags.as_of, lags.lag
),

windows as (
    select
        as_of,
        arg_min(log_rv, lag) filter (where lag <= {{ max_age_days('price') }}) as market_log_rv_d,
        list_sort(list(struct_pack(lag := lag, log_rv := log_rv))) as days
    from market_days
    group by as_of
)

select
    as_of,
    market_log_rv_d,
    {{ window_aggregate('avg', 'log_rv', 5) }} as market_log_rv_5d
from windows
