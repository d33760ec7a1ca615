{{ config(alias='hourly', meta={'window_column': 'known_on'}) }}

{%- set volume_hours = 168 %}
{%- set hours_needed = 135 %}

with bars as (
    select * from {{ ref('int_hourly_bars') }}
),

new_bars as (
    select min(ts) as first_ts
    from bars
    where {{ known_on_in_window('known_on') }}
),

-- The mean runs over hours that were known at the decision time of their own day; one that came later never enters a mean.
-- Volumes are summed as decimals: exact, so that the sum does not depend on where a run starts reading.
volumes as (
    select
        bars.*,
        epoch_us(bars.ts) // 3600000000 as hour_number,
        cast({{ safe_ln('bars.quote_volume') }} as decimal(18, 9)) as log_volume,
        case when bars.known_on = bars.day then log_volume end as punctual_log_volume
    from bars
    inner join new_bars on bars.ts >= new_bars.first_ts - interval {{ volume_hours }} hour
),

ratios as (
    select
        *,
        count(punctual_log_volume) over previous_week as punctual_hours,
        cast(sum(punctual_log_volume) over previous_week as double) / punctual_hours as mean_log_volume,
        case when punctual_hours >= {{ hours_needed }} then cast(log_volume as double) - mean_log_volume end as log_volume_ratio
    from volumes
    window previous_week as (
        partition by asset order by hour_number range between {{ volume_hours }} preceding and 1 preceding
    )
)

select
    source,
    asset,
    ts,
    known_on,
    log_return,
    realized_variance,
    high_low_range,
    log_volume_ratio,
    signed_volume_share,
    bars
from ratios
where {{ known_on_in_window('known_on') }}
