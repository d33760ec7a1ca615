{#- coinmetrics_csv_2021-05-06, coinmetrics_api_2026-06 -> coinmetrics: downloads of one provider are versions of one series. -#}
{% macro provider_family(column) -%}
    regexp_replace({{ column }}, '(_csv|_api)?(_[0-9]{4}-[0-9]{2}(-[0-9]{2})?)?$', '')
{%- endmacro %}

{#- The day a download was made, where the provider's name tells it; the first of the month where it tells no day. -#}
{% macro downloaded_on(column) -%}
    try_cast(
        nullif(regexp_extract({{ column }}, '_([0-9]{4}-[0-9]{2})(-[0-9]{2})?$', 1), '')
        || coalesce(nullif(regexp_extract({{ column }}, '_[0-9]{4}-[0-9]{2}(-[0-9]{2})$', 1), ''), '-01') as date
    )
{%- endmacro %}

{#- Names of the providers (or venues) behind a group of series 'provider:metric', in order, joined by +. -#}
{% macro providers(series='series') -%}
    string_agg(distinct split_part({{ series }}, ':', 1), '+' order by split_part({{ series }}, ':', 1))
{%- endmacro %}
