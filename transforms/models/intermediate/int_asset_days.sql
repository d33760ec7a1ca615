{{ config(materialized='incremental', meta={'window_column': 'as_of'}) }}

-- BTC is kept whatever `assets` says: its measures are features of every coin.
with first_days as (
    select
        asset,
        {{ is_wanted('asset') }} as wanted,
        min(known_on) as first_as_of
    from {{ ref('int_realized_daily') }}
    where complete and (asset = 'BTC' or wanted)
    group by asset
),

days as (
    select
        asset,
        wanted,
        unnest(generate_series(greatest(first_as_of, {{ window_from() }}), {{ window_to() }}, interval 1 day)) as midnight
    from first_days
)

select
    asset,
    cast(midnight as date) as as_of,
    {{ decision_time('cast(midnight as date)') }} as decision_time,
    wanted
from days
