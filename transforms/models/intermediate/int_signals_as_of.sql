{{ config(materialized='incremental', meta={'window_column': 'as_of'}) }}

{%- set changes_over = (1, 5, 7, 30) %}

with days as (
    select cast(midnight as date) as as_of
    from (select unnest(generate_series({{ window_from() }}, {{ window_to() }}, interval 1 day)) as midnight)
),

-- A version that became known later but tells of an earlier event of the same day (a late hour) replaces nothing.
versions as (
    select *
    from {{ ref('int_signals') }}
    qualify event_end >= max(event_end) over (
        partition by signal, series, asset, day order by known_on rows between unbounded preceding and current row
    )
),

valid_versions as (
    select
        *,
        lead(known_on) over same_day as superseded_on,
        value != first_value(value) over same_day as differs_from_first
    from versions
    window same_day as (partition by signal, series, asset, day order by known_on)
),

-- The newest day of each series that is known at an as_of: a late value of an older day does not displace it.
newest_days as (
    select
        modality,
        signal,
        series,
        asset,
        known_on,
        max(day) over (partition by signal, series, asset order by known_on) as newest_day
    from valid_versions
    qualify row_number() over (partition by signal, series, asset, known_on order by day desc) = 1
),

series as (
    select distinct
        modality,
        signal,
        series,
        asset
    from valid_versions
),

as_of_days as (
    select
        days.as_of,
        series.modality,
        series.signal,
        series.series,
        series.asset,
        newest_days.newest_day
    from days
    cross join series
    asof inner join newest_days
        on
            series.signal = newest_days.signal
            and series.series = newest_days.series
            and series.asset = newest_days.asset
            and days.as_of >= newest_days.known_on
)

select
    as_of_days.modality,
    as_of_days.signal,
    as_of_days.series,
    as_of_days.asset,
    as_of_days.as_of,
    newest.preference,
    as_of_days.newest_day,
    newest.event_end,
    {{ age_days('as_of_days.as_of', 'newest.event_end') }} as age_days,
    newest.value,
    {%- for length in changes_over %}
    before_{{ length }}d.value as value_{{ length }}d_before,
    {%- endfor %}
    newest.differs_from_first or coalesce(newest.downloaded_on > as_of_days.as_of, false) as revised
from as_of_days
inner join valid_versions as newest
    on {{ same_series_days_before('newest', 0) }}
{%- for length in changes_over %}
left join valid_versions as before_{{ length }}d
    on {{ same_series_days_before('before_' ~ length ~ 'd', length) }}
{%- endfor %}
