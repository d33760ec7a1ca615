with asset_days as (
    select
        asset,
        as_of
    from {{ ref('int_asset_days') }}
    where wanted
),

versions as (
    select
        asset,
        day,
        known_on,
        lead(known_on) over (partition by asset, day order by known_on) as superseded_on
    from (select distinct
        asset,
        day,
        known_on
    from {{ ref('int_funding_venue_daily') }}) -- noqa: ST05
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
        venues.*
    from lags
    inner join versions
        on
            lags.asset = versions.asset
            and lags.as_of - lags.lag = versions.day
            and lags.as_of >= versions.known_on
            and lags.as_of < coalesce(versions.superseded_on, date '9999-12-31')
    inner join {{ ref('int_funding_venue_daily') }} as venues
        on
            versions.asset = venues.asset
            and versions.day = venues.day
            and versions.known_on = venues.known_on
),

newest_days as (
    select * from history
    where lag <= {{ max_age_days('funding') }}
    qualify row_number() over (partition by asset, as_of, venue order by lag) = 1
),

weeks as (
    select
        asset,
        as_of,
        venue,
        list_sort(list(struct_pack(lag := lag, rate_8h := rate_8h))) as days
    from history
    group by asset, as_of, venue
)

select
    newest_days.source,
    newest_days.asset,
    newest_days.as_of,
    newest_days.venue,
    newest_days.rate_8h as funding_rate_d,
    {{ window_aggregate('avg', 'rate_8h', 7) }} as funding_rate_7d,
    newest_days.rate_8h
    - median(newest_days.rate_8h) over (partition by newest_days.asset, newest_days.as_of) as funding_deviation_d,
    {{ age_days('newest_days.as_of', 'newest_days.last_settled_at') }} as funding_age_days
from newest_days
inner join weeks using (asset, as_of, venue)
