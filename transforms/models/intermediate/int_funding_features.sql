{{ config(materialized='incremental', meta={'window_column': 'as_of'}) }}

with asset_days as (
    select asset, as_of
    from {{ ref('int_asset_days') }}
    where wanted and {{ as_of_in_window('as_of') }}
),

funding as (
    select
        *,
        lead(known_on) over (partition by asset, day order by known_on) as superseded_on,
        max(last_settled_at) over (partition by asset order by known_on) as newest_settled_at
    from {{ ref('int_funding_daily') }}
),

newest as (
    select asset, known_on, max(newest_settled_at) as newest_settled_at
    from funding
    group by asset, known_on
),

lags as (
    select asset, as_of, cast(unnest(range(0, 7)) as integer) as lag
    from asset_days
),

history as (
    select
        lags.asset,
        lags.as_of,
        arg_min(funding, lags.lag) filter (where lags.lag <= {{ max_age_days('funding') }}) as newest_day,
        list_sort(list(struct_pack(lag := lags.lag, funding_rate := funding.funding_rate))) as days
    from lags
    inner join funding
        on
            lags.asset = funding.asset
            and lags.as_of - lags.lag = funding.day
            and lags.as_of >= funding.known_on
            and lags.as_of < coalesce(funding.superseded_on, date '9999-12-31')
    group by lags.asset, lags.as_of
)

select
    asset_days.asset,
    asset_days.as_of,
    history.newest_day.funding_rate as funding_rate_d,
    {{ window_aggregate('avg', 'funding_rate', 7) }} as funding_rate_7d,
    history.newest_day.funding_dispersion as funding_dispersion_d,
    history.newest_day.funding_venues as funding_venues,
    {{ age_days('asset_days.as_of', 'newest.newest_settled_at') }} as funding_age_days,
    history.newest_day.funding_rate is null as funding_missing
from asset_days
left join history using (asset, as_of)
asof left join newest on asset_days.asset = newest.asset and asset_days.as_of >= newest.known_on
