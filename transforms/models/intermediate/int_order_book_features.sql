{%- set measures = ('imbalance_10', 'imbalance_50bp', 'spread_bps', 'microprice_offset_bps') %}

with asset_days as (
    select
        asset,
        as_of
    from {{ ref('int_asset_days') }}
    where wanted
),

-- The newest version of each snapshot that was known at the as_of, of its newest known day.
snapshots as (
    select
        asset_days.as_of,
        books.*,
        {{ utc_date('books.ts') }} as day
    from asset_days
    inner join {{ ref('int_order_book_snapshots') }} as books
        on
            asset_days.asset = books.asset
            and asset_days.as_of >= books.known_on
            and {{ utc_date('books.ts') }} >= asset_days.as_of - {{ max_age_days('order_book') }}
    qualify
        row_number() over (
            partition by asset_days.as_of, books.asset, books.venue, books.symbol, books.ts
            order by books.known_on desc
        ) = 1
),

newest_days as (
    select * from snapshots
    qualify day = max(day) over (partition by asset, as_of)
),

-- A market counts once, however often it was looked at.
markets as (
    select
        asset,
        as_of,
        venue,
        symbol,
        max(ts) as newest_at,
        {%- for measure in measures %}
        {{ stable('avg', measure) }} as {{ measure }},
        {%- endfor %}
        {{ stable('avg', 'depth_bid_50bp_usd') }} as depth_bid_50bp_usd,
        {{ stable('avg', 'depth_ask_50bp_usd') }} as depth_ask_50bp_usd
    from newest_days
    group by asset, as_of, venue, symbol
)

select
    asset,
    as_of,
    {%- for measure in measures %}
    {{ stable('avg', measure) }} as book_{{ measure }}_d,
    {%- endfor %}
    {{ stable('avg', 'depth_bid_50bp_usd + depth_ask_50bp_usd') }} as book_depth_50bp_usd_d,
    {{ age_days('as_of', 'max(newest_at)') }} as order_book_age_days,
    false as order_book_missing,
    string_agg(distinct venue, '+' order by venue) as order_book_provider
from markets
group by asset, as_of
