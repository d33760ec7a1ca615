with coins as (
    select
        *,
        {{ is_fresh('stablecoin') }} as is_known
    from {{ ref('int_signals_as_of') }}
    where signal = 'stablecoin_supply'
),

chosen as (
    select
        *,
        asset = 'ALL_STABLES' as is_total
    from coins
    where is_known
    qualify row_number() over (partition by asset, as_of order by preference asc, newest_day desc, series asc) = 1
),

-- Growth compares the same coins at both ends, so a coin that joins or falls silent moves nothing.
baskets as (
    select
        as_of,
        is_total,
        {{ basket_growth(1) }} as growth_1d,
        {{ basket_growth(7) }} as growth_7d,
        {{ basket_growth(30) }} as growth_30d,
        {{ providers() }} as provider
    from chosen
    where value > 0
    group by as_of, is_total
),

-- A provider's total before a sum over coins, once it is old enough to have a month behind it.
best_baskets as (
    select * from baskets
    qualify row_number() over (partition by as_of order by (growth_30d is not null) desc, is_total desc) = 1
),

ages as (
    select
        as_of,
        min(age_days) as stablecoin_age_days
    from coins
    group by as_of
)

select
    ages.as_of,
    best_baskets.growth_1d as stablecoin_growth_1d,
    best_baskets.growth_7d as stablecoin_growth_7d,
    best_baskets.growth_30d as stablecoin_growth_30d,
    ages.stablecoin_age_days,
    best_baskets.as_of is null as stablecoin_missing,
    best_baskets.provider as stablecoin_provider
from ages
left join best_baskets using (as_of)
