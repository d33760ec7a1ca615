-- Units and coverage differ between sources, so sources are never added up: the largest fresh series of a coin speaks for it.
with series as (
    select *, {{ is_fresh('open_interest') }} as is_known
    from {{ ref('int_signals_as_of') }}
    where signal = 'open_interest'
),

chosen as (
    select * from series
    qualify
        row_number() over (
            partition by asset, as_of
            order by is_known desc, case when is_known then value end desc, event_end desc, series asc
        ) = 1
)

select
    asset,
    as_of,
    case when is_known then value end as open_interest,
    case when is_known then {{ log_change('value', 'value_1d_before') }} end as open_interest_change_1d,
    case when is_known then {{ log_change('value', 'value_7d_before') }} end as open_interest_change_7d,
    age_days as open_interest_age_days,
    not is_known as open_interest_missing,
    case when is_known then split_part(series, ':', 1) end as open_interest_provider
from chosen
