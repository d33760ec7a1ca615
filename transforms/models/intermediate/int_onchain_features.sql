{%- set counts = ('active_addresses', 'transactions', 'fees', 'hash_rate') %}

with series as (
    select
        *,
        {{ is_fresh('onchain') }} as is_known
    from {{ ref('int_signals_as_of') }}
    where modality = 'onchain'
),

chosen as (
    select * from series
    qualify
        row_number() over (
            partition by asset, as_of, signal
            order by is_known desc, preference asc, newest_day desc, series asc
        ) = 1
),

known as (
    select * from chosen
    where is_known
),

ages as (
    select
        asset,
        as_of,
        min(age_days) as onchain_age_days
    from series
    group by asset, as_of
),

counts as (
    select
        asset,
        as_of,
        {%- for signal in counts %}
        max({{ log_change('value', 'value_7d_before') }}) filter (where signal = '{{ signal }}') as {{ signal }}_change_7d,
        {%- endfor %}
        max(value) filter (where signal = 'mvrv') as mvrv,
        {{ providers() }} as onchain_provider
    from known
    group by asset, as_of
),

flows as (
    select
        asset,
        as_of,
        (inflow.value - outflow.value) / nullif(inflow.value + outflow.value, 0) as exchange_netflow_ratio,
        inflow.value + outflow.value as flow,
        inflow.value_7d_before + outflow.value_7d_before as flow_7d_before,
        {{ log_change('flow', 'flow_7d_before') }} as exchange_flow_change_7d,
        inflow.revised or outflow.revised as onchain_flows_revised
    from known as inflow
    inner join known as outflow using (asset, as_of, newest_day, preference)
    where inflow.signal = 'exchange_inflow' and outflow.signal = 'exchange_outflow'
)

select
    ages.asset,
    ages.as_of,
    {%- for signal in counts %}
    counts.{{ signal }}_change_7d,
    {%- endfor %}
    counts.mvrv,
    flows.exchange_netflow_ratio,
    flows.exchange_flow_change_7d,
    coalesce(flows.onchain_flows_revised, false) as onchain_flows_revised,
    ages.onchain_age_days,
    counts.asset is null as onchain_missing,
    counts.onchain_provider
from ages
left join counts using (asset, as_of)
left join flows using (asset, as_of)
