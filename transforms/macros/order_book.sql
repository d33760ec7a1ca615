{#- Quote units offered by the levels of one side that lie at most `distance` (a price difference) from the mid. -#}
{% macro depth_within(side, distance) -%}
    coalesce(list_sum([level[1] * level[2] for level in {{ side }} if abs(level[1] - mid_price) <= {{ distance }}]), 0)
{%- endmacro %}

{#- (bid - ask) / (bid + ask): 1 when all that is offered is bids, -1 when all of it is asks. -#}
{% macro imbalance(bid, ask) -%}
    ({{ bid }} - {{ ask }}) / nullif({{ bid }} + {{ ask }}, 0)
{%- endmacro %}
