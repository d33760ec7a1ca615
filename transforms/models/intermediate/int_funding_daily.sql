{{ config(materialized='incremental', meta={'window_column': 'known_on'}) }}

with venues as (
    select * from {{ ref('int_funding_venue_daily') }}
    where {{ known_on_in_window('known_on') }}
)

select
    asset,
    day,
    known_on,
    {{ stable('avg', 'rate_8h') }} as funding_rate,
    {{ stable('stddev_samp', 'rate_8h') }} as funding_dispersion,
    cast(count(*) as integer) as funding_venues,
    max(last_settled_at) as last_settled_at
from venues
group by asset, day, known_on
