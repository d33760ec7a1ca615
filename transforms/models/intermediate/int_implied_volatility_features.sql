with series as (
    select *, {{ is_fresh('implied_volatility') }} as is_known
    from {{ ref('int_signals_as_of') }}
    where signal = 'implied_volatility'
),

chosen as (
    select * from series
    qualify row_number() over (partition by asset, as_of order by event_end desc, series asc) = 1
)

select
    asset,
    as_of,
    case when is_known then value end as implied_volatility,
    case when is_known then {{ log_change('value', 'value_1d_before') }} end as implied_volatility_change_1d,
    case when is_known then {{ log_change('value', 'value_5d_before') }} end as implied_volatility_change_5d,
    age_days as implied_volatility_age_days,
    not is_known as implied_volatility_missing,
    case when is_known then split_part(series, ':', 1) end as implied_volatility_provider
from chosen
