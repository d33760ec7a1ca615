{{ config(alias='daily', meta={'window_column': 'as_of'}) }}

with asset_days as (
    select *
    from {{ ref('int_asset_days') }}
    where wanted and {{ as_of_in_window('as_of') }}
),

price as (
    select * from {{ ref('int_price_features') }}
    where {{ as_of_in_window('as_of') }}
),

funding as (
    select * from {{ ref('int_funding_features') }}
    where {{ as_of_in_window('as_of') }}
),

open_interest as (
    select * from {{ ref('int_open_interest_features') }}
    where {{ as_of_in_window('as_of') }}
),

implied_volatility as (
    select * from {{ ref('int_implied_volatility_features') }}
    where {{ as_of_in_window('as_of') }}
),

onchain as (
    select * from {{ ref('int_onchain_features') }}
    where {{ as_of_in_window('as_of') }}
),

sentiment as (
    select * from {{ ref('int_sentiment_features') }}
    where {{ as_of_in_window('as_of') }}
),

market as (
    select * from {{ ref('int_market_features') }}
    where {{ as_of_in_window('as_of') }}
),

stablecoins as (
    select * from {{ ref('int_stablecoin_features') }}
    where {{ as_of_in_window('as_of') }}
),

order_book as (
    select * from {{ ref('int_order_book_features') }}
    where {{ as_of_in_window('as_of') }}
)

select
    price.source,
    asset_days.asset,
    asset_days.as_of,
    asset_days.decision_time,
    price.bar_interval,
    price.bars_expected,
    price.bars_used,
    price.bars_complete,
    price.close,
    price.price_age_days,
    price.price_missing,
    price.return_d,
    price.rv_d,
    price.bipower_d,
    price.jump_d,
    price.quarticity_d,
    price.semivariance_neg_d,
    price.semivariance_pos_d,
    price.parkinson_d,
    price.garman_klass_d,
    price.rogers_satchell_d,
    price.yang_zhang_22d,
    price.rv_last_1h,
    price.rv_last_4h,
    price.rv_last_8h,
    price.rv_last_12h,
    price.high_low_range_d,
    price.rv_2d,
    price.rv_5d,
    price.rv_22d,
    price.rv_66d,
    price.return_5d,
    price.return_22d,
    price.abs_return_d,
    price.quote_volume_d,
    price.log_volume_ratio_22d,
    price.amihud_22d,
    price.corwin_schultz_d,
    market.market_log_rv_d,
    market.market_log_rv_5d,
    bitcoin.rv_d as btc_rv_d,
    bitcoin.rv_5d as btc_rv_5d,
    bitcoin.return_d as btc_return_d,
    cast(isodow(asset_days.as_of + 1) - 1 as integer) as target_weekday,
    {{ weekend_share('asset_days.as_of', 5) }} as target_weekend_share_5,
    {{ weekend_share('asset_days.as_of', 22) }} as target_weekend_share_22,
    funding.funding_rate_d,
    funding.funding_rate_7d,
    funding.funding_dispersion_d,
    coalesce(funding.funding_venues, 0) as funding_venues,
    funding.funding_age_days,
    coalesce(funding.funding_missing, true) as funding_missing,
    open_interest.open_interest,
    open_interest.open_interest_change_1d,
    open_interest.open_interest_change_7d,
    open_interest.open_interest_age_days,
    coalesce(open_interest.open_interest_missing, true) as open_interest_missing,
    open_interest.open_interest_provider,
    implied_volatility.implied_volatility,
    implied_volatility.implied_volatility_change_1d,
    implied_volatility.implied_volatility_change_5d,
    bitcoin_volatility.implied_volatility as implied_volatility_market,
    implied_volatility.implied_volatility_age_days,
    coalesce(implied_volatility.implied_volatility_missing, true) as implied_volatility_missing,
    implied_volatility.implied_volatility_provider,
    onchain.active_addresses_change_7d,
    onchain.transactions_change_7d,
    onchain.fees_change_7d,
    onchain.hash_rate_change_7d,
    onchain.mvrv,
    onchain.exchange_netflow_ratio,
    onchain.exchange_flow_change_7d,
    coalesce(onchain.onchain_flows_revised, false) as onchain_flows_revised,
    onchain.onchain_age_days,
    coalesce(onchain.onchain_missing, true) as onchain_missing,
    onchain.onchain_provider,
    stablecoins.stablecoin_growth_1d,
    stablecoins.stablecoin_growth_7d,
    stablecoins.stablecoin_growth_30d,
    stablecoins.stablecoin_age_days,
    coalesce(stablecoins.stablecoin_missing, true) as stablecoin_missing,
    stablecoins.stablecoin_provider,
    sentiment.fear_greed,
    sentiment.fear_greed_change_7d,
    sentiment.news_tone,
    sentiment.news_count_log,
    sentiment.headline_tone,
    sentiment.headline_count_log,
    sentiment.social_volume_change_7d,
    sentiment.sentiment_age_days,
    coalesce(sentiment.sentiment_missing, true) as sentiment_missing,
    sentiment.sentiment_provider,
    order_book.book_imbalance_10_d,
    order_book.book_imbalance_50bp_d,
    order_book.book_spread_bps_d,
    order_book.book_microprice_offset_bps_d,
    order_book.book_depth_50bp_usd_d,
    order_book.order_book_age_days,
    coalesce(order_book.order_book_missing, true) as order_book_missing,
    order_book.order_book_provider
from asset_days
left join price using (asset, as_of)
left join price as bitcoin on asset_days.as_of = bitcoin.as_of and bitcoin.asset = 'BTC'
left join market using (as_of)
left join funding using (asset, as_of)
left join open_interest using (asset, as_of)
left join implied_volatility using (asset, as_of)
left join implied_volatility as bitcoin_volatility
    on asset_days.as_of = bitcoin_volatility.as_of and bitcoin_volatility.asset = 'BTC'
left join onchain using (asset, as_of)
left join stablecoins using (as_of)
left join sentiment using (asset, as_of)
left join order_book using (asset, as_of)
