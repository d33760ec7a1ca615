{{ config(alias='funding_venues', meta={'window_column': 'as_of'}) }}

with venues as (
    select * from {{ ref('int_funding_venue_features') }}
    where {{ as_of_in_window('as_of') }}
)

select
    source,
    asset,
    as_of,
    venue,
    funding_rate_d,
    funding_rate_7d,
    funding_deviation_d,
    funding_age_days
from venues
