{{ config(alias='order_book', meta={'window_column': 'known_on'}) }}

{%- set measures = (
    'mid_price', 'spread_bps', 'microprice_offset_bps', 'imbalance_10', 'imbalance_50bp',
    'depth_bid_10bp_usd', 'depth_ask_10bp_usd', 'depth_bid_50bp_usd', 'depth_ask_50bp_usd'
) %}

with snapshots as (
    select
        *,
        make_timestamptz(epoch_us(ts) // 3600000000 * 3600000000) as hour
    from {{ ref('int_order_book_snapshots') }}
    where known_on <= {{ window_to() }}
),

touched_hours as (
    select distinct
        asset,
        hour
    from snapshots
    where {{ known_on_in_window('known_on') }}
),

-- The hour as it was first known: snapshots that came later change nothing.
first_known as (
    select snapshots.*
    from snapshots
    semi join touched_hours using (asset, hour)
    qualify snapshots.known_on = min(snapshots.known_on) over (partition by asset, hour)
),

-- A market counts once, however often it was looked at.
markets as (
    select
        asset,
        hour,
        known_on,
        venue,
        symbol,
        max(source) as source,
        count(*) as snapshots,
        max(spread_bps) as spread_bps_max,
        min(reach_bps) as reach_bps,
        {%- for measure in measures %}
        {{ stable('avg', measure) }} as {{ measure }}{% if not loop.last %},{% endif %}
        {%- endfor %}
    from first_known
    group by asset, hour, known_on, venue, symbol
)

select
    max(source) as source,
    asset,
    hour as ts,
    known_on,
    cast(count(distinct venue) as integer) as venues,
    cast(sum(snapshots) as integer) as snapshots,
    {{ stable('avg', 'mid_price') }} as mid_price,
    {{ stable('avg', 'spread_bps') }} as spread_bps,
    max(spread_bps_max) as spread_bps_max,
    {{ stable('avg', 'microprice_offset_bps') }} as microprice_offset_bps,
    {{ stable('avg', 'imbalance_10') }} as imbalance_10,
    {{ stable('avg', 'imbalance_50bp') }} as imbalance_50bp,
    {{ stable('sum', 'depth_bid_10bp_usd') }} as depth_bid_10bp_usd,
    {{ stable('sum', 'depth_ask_10bp_usd') }} as depth_ask_10bp_usd,
    {{ stable('sum', 'depth_bid_50bp_usd') }} as depth_bid_50bp_usd,
    {{ stable('sum', 'depth_ask_50bp_usd') }} as depth_ask_50bp_usd,
    min(reach_bps) as reach_bps
from markets
where {{ known_on_in_window('known_on') }}
group by asset, hour, known_on
