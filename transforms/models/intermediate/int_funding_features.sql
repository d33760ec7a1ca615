{{ config(materialized='incremental', meta={'window_column': 'as_of'}) }}

with asset_days as (
    select
        asset,
        as_of
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

settled as (
    select
        asset,
        known_on,
        max(newest_settled_at) as newest_settled_at
    from funding
    group by asset, known_on
),

lags as (
    select
        asset,
        as_of,
        cast(unnest(range(0, 7)) as integer) as lag
    from asset_days
),

history as (
    select
        lags.as_of,
        lags.lag,
        funding.*
    from lags
    inner join funding
        on
            lags.asset = funding.asset
            and lags.as_of - lags.lag = funding.day
            and lags.as_of >= funding.known_on
            and lags.as_of < coalesce(funding.superseded_on, date '9999-12-31')
),

newest_days as (
    select * from history
    where lag <= {{ max_age_days('funding') }}
    qualify row_number() over (partition by asset, as_of order by lag) = 1
),

windows as (
    select
        asset,
        as_of,
        list_sort(list(struct_pack(lag := lag, funding_rate := funding_rate))) as days
    from history
    group by asset, as_of
),

weeks as (
    select
        asset,
        as_of,
        {{ window_aggregate('avg', 'funding_rate', 7) }} as funding_rate_7d
    from windows
)

select
    asset_days.asset,
    asset_days.as_of,
    newest_days.funding_rate as funding_rate_d,
    weeks.funding_rate_7d,
    newest_days.funding_dispersion as funding_dispersion_d,
    newest_days.funding_venues,
    {{ age_days('asset_days.as_of', 'settled.newest_settled_at') }} as funding_age_days,
    newest_days.funding_rate is null as funding_missing
from asset_days
left join newest_days using (asset, as_of)
left join weeks using (asset, as_of)
asof left join settled on asset_days.asset = settled.asset and asset_days.as_of >= settled.known_on
