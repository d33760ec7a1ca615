-- Which provider's metric feeds which signal. Of two metrics for one signal the smaller preference wins while it is fresh.
-- is_snapshot: the value stamped D describes the state at D 00:00, not the day that starts there.
select
    entries.modality,
    entries.metric,
    entries.signal,
    entries.preference,
    entries.is_snapshot
from (
    values
    ('onchain', 'AdrActCnt', 'active_addresses', 1, false),
    ('onchain', 'TxCnt', 'transactions', 1, false),
    ('onchain', 'TxGrowth', 'transactions', 2, false), -- Etherscan's name for the daily transaction count
    ('onchain', 'FeeTotNtv', 'fees', 1, false),
    ('onchain', 'HashRate', 'hash_rate', 1, false),
    ('onchain', 'CapMVRVCur', 'mvrv', 1, false),
    ('onchain', 'FlowInExNtv', 'exchange_inflow', 1, false),
    ('onchain', 'FlowOutExNtv', 'exchange_outflow', 1, false),
    ('onchain', 'FlowInExUSD', 'exchange_inflow', 2, false),
    ('onchain', 'FlowOutExUSD', 'exchange_outflow', 2, false),
    ('stablecoin', 'CirculatingUSD', 'stablecoin_supply', 1, true),
    ('stablecoin', 'SplyCur', 'stablecoin_supply', 2, false),
    ('stablecoin', 'SplyCur_sum_omni_eth_trx', 'stablecoin_supply', 2, false),
    ('sentiment', 'fear_greed', 'fear_greed', 1, true),
    ('sentiment', 'market_news_positive_count', 'news_positive', 1, false),
    ('sentiment', 'market_news_neutral_count', 'news_neutral', 1, false),
    ('sentiment', 'market_news_negative_count', 'news_negative', 1, false),
    ('sentiment', 'gdelt_tone', 'gdelt_tone', 1, false),
    ('sentiment', 'gdelt_article_count', 'gdelt_article_count', 1, false),
    ('sentiment', 'headline_tone', 'headline_tone', 1, false),
    ('sentiment', 'headline_count', 'headline_count', 1, false),
    ('sentiment', 'wikipedia_pageviews', 'social_volume', 1, false),
    ('sentiment', 'social_posts_created', 'social_volume', 2, false)
) as entries (modality, metric, signal, preference, is_snapshot)
