{#-
    Sums of floats depend on their order, and DuckDB's parallel sum() has none. Every float sum that reaches a feature runs over a
    sorted list, so that a day built alone equals the same day built in a backfill, bit for bit. (An ordered aggregate,
    list(x order by y), says the same but takes 100 kB for each group.)
-#}
{% macro stable(aggregate, expression) -%}
    list_aggregate(list_sort(list({{ expression }})), '{{ aggregate }}')
{%- endmacro %}

{#- Log growth over `length` days of a sum over the coins that have a value at both ends. -#}
{% macro basket_growth(length) -%}
    {%- set before = 'value_' ~ length ~ 'd_before' -%}
    ln(
        list_sum(list_sort(list(value) filter (where {{ before }} > 0)))
        / list_sum(list_sort(list({{ before }}) filter (where {{ before }} > 0)))
    )
{%- endmacro %}

{#- ln that is NULL, not an error, where it does not exist. -#}
{% macro safe_ln(expression) -%}
    ln(case when {{ expression }} > 0 then {{ expression }} end)
{%- endmacro %}

{#- Log change between two positive values; NULL where either is missing. -#}
{% macro log_change(current, previous) -%}
    {{ safe_ln(current) }} - {{ safe_ln(previous) }}
{%- endmacro %}

{#- Values of one field of the list of structs `days` over the newest `length` calendar days. -#}
{% macro window_values(field, length) -%}
    [past.{{ field }} for past in days if past.lag < {{ length }} and past.{{ field }} is not null]
{%- endmacro %}

{#-
    Days that a window needs before its mean counts: 80 % of it, but one of 2 and three of 5, so that an outage of two days
    does not silence the short windows that the forecast depends on most.
-#}
{% macro days_needed(length) -%}
    {{ {2: 1, 5: 3}.get(length, (length * 0.8) | round(0, 'ceil') | int) }}
{%- endmacro %}

{#- An aggregate (avg, sum, stddev_samp) of a field over the newest `length` calendar days, NULL where too few are there. -#}
{% macro window_aggregate(aggregate, field, length) -%}
    case
        when len({{ window_values(field, length) }}) >= {{ days_needed(length) }}
            then list_aggregate({{ window_values(field, length) }}, '{{ aggregate }}')
    end
{%- endmacro %}

{#- Share of Saturdays and Sundays among the `length` days after an as_of. -#}
{% macro weekend_share(as_of, length) -%}
    len([ahead for ahead in range(1, {{ length + 1 }}) if isodow({{ as_of }} + cast(ahead as integer)) >= 6]) / {{ length }}
{%- endmacro %}
