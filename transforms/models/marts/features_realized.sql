{{ config(alias='realized', meta={'window_column': 'known_on'}) }}

with realized as (
    select * from {{ ref('int_realized_daily') }}
    where {{ known_on_in_window('known_on') }}
)

select
    source,
    asset,
    day,
    known_on,
    bar_interval,
    bars_used,
    bars_expected,
    complete,
    realized_variance,
    log_return as "return", -- noqa: RF06
    close
from realized
