{{ config(materialized='incremental', meta={'window_column': 'known_on'}) }}

{%- set basis_points = (10, 50) %}

with books as (
    select
        *,
        greatest(known_on, day) as usable_on,
        bids[1][1] as best_bid,
        asks[1][1] as best_ask,
        (best_bid + best_ask) / 2 as mid_price,
        least(mid_price - bids[-1][1], asks[-1][1] - mid_price) as reach
    from {{ ref('stg_order_books') }}
    where
        {{ known_on_in_window('greatest(known_on, day)') }}
        and list_contains(string_split('{{ var("dollar_quotes") }}', ','), split_part(split_part(symbol, '/', 2), ':', 1))
    qualify
        row_number() over (
            partition by venue, symbol, asset, ts, usable_on
            order by known_at desc, ingested_at desc, batch_id desc
        ) = 1
),

measures as (
    select
        source,
        venue,
        symbol,
        asset,
        ts,
        usable_on as known_on,
        mid_price,
        10000 * (best_ask - best_bid) / mid_price as spread_bps,
        -- The touch weighted by the amounts across it: a heavy bid moves the fair price towards the ask.
        (best_bid * asks[1][2] + best_ask * bids[1][2]) / nullif(bids[1][2] + asks[1][2], 0) as microprice,
        10000 * (microprice - mid_price) / mid_price as microprice_offset_bps,
        {{ imbalance(
            'list_sum([level[1] * level[2] for level in bids[1:10]])', 'list_sum([level[1] * level[2] for level in asks[1:10]])'
        ) }} as imbalance_10,
        -- On both sides as far as the shorter of them shows, so that a snapshot cut off on one side leans to neither.
        {{ imbalance(
            depth_within('bids', 'least(reach, mid_price * 0.005)'), depth_within('asks', 'least(reach, mid_price * 0.005)')
        ) }} as imbalance_50bp,
        {%- for distance in basis_points %}
        {{ depth_within('bids', 'mid_price * ' ~ distance / 10000) }} as depth_bid_{{ distance }}bp_usd,
        {{ depth_within('asks', 'mid_price * ' ~ distance / 10000) }} as depth_ask_{{ distance }}bp_usd,
        {%- endfor %}
        10000 * reach / mid_price as reach_bps
    from books
    where best_bid > 0 and best_ask > best_bid
)

select * exclude (microprice) from measures
where isfinite(spread_bps + imbalance_10 + imbalance_50bp + depth_bid_50bp_usd + depth_ask_50bp_usd + reach_bps)
