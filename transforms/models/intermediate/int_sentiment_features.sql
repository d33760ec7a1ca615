{%- set signals = (
    'fear_greed', 'news_positive', 'news_neutral', 'news_negative', 'gdelt_tone', 'gdelt_article_count',
    'headline_tone', 'headline_count', 'social_volume'
) %}

with asset_days as (
    select
        asset,
        as_of
    from {{ ref('int_asset_days') }}
    where wanted
),

-- Of a coin's own series only the social volume is read: its tone of a few headlines is another measure than the market's.
series as (
    select * from {{ ref('int_signals_as_of') }}
    where modality = 'sentiment' and (asset = 'MARKET' or signal = 'social_volume')
),

chosen as (
    select * from series
    where {{ is_fresh('sentiment') }}
    qualify
        row_number() over (partition by asset, as_of, signal order by preference asc, newest_day desc, series asc) = 1
),

wide as (
    select
        asset,
        as_of,
        {%- for signal in signals %}
        arg_max(chosen, newest_day) filter (where signal = '{{ signal }}') as {{ signal }},
        {%- endfor %}
        count(*) as signals
    from chosen
    group by asset, as_of
),

market as (
    select
        as_of,
        fear_greed.value / 100 as fear_greed,
        (fear_greed.value - fear_greed.value_7d_before) / 100 as fear_greed_change_7d,
        case when news_neutral.newest_day = news_positive.newest_day then news_neutral.value else 0 end as neutral_count,
        case
            when news_positive.newest_day = news_negative.newest_day
                then news_positive.value + news_negative.value + neutral_count
        end as news_count,
        -- GDELT's tone, mostly within -10 to 10, where no provider counts good and bad news.
        case
            when news_count = 0 then 0
            when news_count is not null then (news_positive.value - news_negative.value) / news_count
            when gdelt_tone.value is not null then greatest(-1, least(1, gdelt_tone.value / 10))
        end as news_tone,
        ln(1 + coalesce(news_count, gdelt_article_count.value)) as news_count_log,
        headline_tone.value as headline_tone,
        ln(1 + headline_count.value) as headline_count_log,
        social_volume
    from wide
    where asset = 'MARKET'
),

ages as (
    select
        as_of,
        asset,
        min(age_days) as age_days
    from series
    group by as_of, asset
),

-- A coin without a series of its own reads the market's, else Bitcoin's: attention to crypto as a whole.
-- What is read of the market: where news are counted GDELT's tone is not.
market_providers as (
    select
        chosen.as_of,
        {{ providers('chosen.series') }} as providers
    from chosen
    inner join market using (as_of)
    where
        chosen.asset = 'MARKET'
        and chosen.signal != 'social_volume'
        and not (market.news_count is not null and starts_with(chosen.signal, 'gdelt'))
    group by chosen.as_of
),

social as (
    select
        asset_days.asset,
        asset_days.as_of,
        coalesce(own.social_volume, market.social_volume, bitcoin.social_volume) as chosen_volume,
        struct_extract(chosen_volume, 'value') as volume,
        split_part(struct_extract(chosen_volume, 'series'), ':', 1) as provider,
        struct_extract(chosen_volume, 'value_7d_before') as volume_7d_before
    from asset_days
    left join wide as own using (asset, as_of)
    left join market using (as_of)
    left join wide as bitcoin on asset_days.as_of = bitcoin.as_of and bitcoin.asset = 'BTC'
)

select
    asset_days.asset,
    asset_days.as_of,
    market.fear_greed,
    market.fear_greed_change_7d,
    market.news_tone,
    market.news_count_log,
    market.headline_tone,
    market.headline_count_log,
    ln(1 + social.volume) - ln(1 + social.volume_7d_before) as social_volume_change_7d,
    least(own_ages.age_days, market_ages.age_days, bitcoin_ages.age_days) as sentiment_age_days,
    market.as_of is null and social.volume is null as sentiment_missing,
    case
        when market_providers.providers is null or social.provider is null
            then coalesce(market_providers.providers, social.provider)
        else list_aggregate(
            list_sort(list_distinct(list_append(string_split(market_providers.providers, '+'), social.provider))),
            'string_agg', '+'
        )
    end as sentiment_provider
from asset_days
left join market using (as_of)
left join market_providers using (as_of)
left join social using (asset, as_of)
left join ages as own_ages on asset_days.as_of = own_ages.as_of and asset_days.asset = own_ages.asset
left join ages as market_ages on asset_days.as_of = market_ages.as_of and market_ages.asset = 'MARKET'
left join ages as bitcoin_ages on asset_days.as_of = bitcoin_ages.as_of and bitcoin_ages.asset = 'BTC'
