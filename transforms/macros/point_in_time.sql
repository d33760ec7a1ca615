{#-
    The one rule of time: a row is usable for as_of D iff known_at <= decision time of D, which is
    D+1 00:00 UTC + decision_offset_minutes. All arithmetic is on microseconds since 1970, so that no session time zone can
    change a result.
-#}

{#- The UTC date of a TIMESTAMPTZ. -#}
{% macro utc_date(column) -%}
    cast(make_timestamp(epoch_us({{ column }})) as date)
{%- endmacro %}

{#- The first as_of for which a row is usable: known_at in (D 00:30, D+1 00:30] gives D at an offset of 30 minutes. -#}
{% macro known_on(column) -%}
    cast(make_timestamp(epoch_us({{ column }}) - {{ var('decision_offset_minutes', 30) | int * 60000000 + 1 }}) as date)
{%- endmacro %}

{#- The instant at which the forecast of an as_of is made. -#}
{% macro decision_time(as_of) -%}
    (cast({{ as_of }} + 1 as timestamp) at time zone 'UTC' + interval {{ var('decision_offset_minutes', 30) | int }} minute)
{%- endmacro %}

{#- Days from an instant to the decision time of an as_of. -#}
{% macro age_days(as_of, instant) -%}
    (epoch_us({{ decision_time(as_of) }}) - epoch_us({{ instant }})) / 86400000000.0
{%- endmacro %}

{#- The age beyond which a modality's newest value no longer counts. -#}
{% macro max_age_days(modality) -%}
    {{ var('max_age_days_' ~ modality) }}
{%- endmacro %}

{#- Whether a row of int_signals_as_of is young enough to be used. -#}
{% macro is_fresh(modality) -%}
    newest_day >= as_of - {{ max_age_days(modality) }}
{%- endmacro %}

{#- Join condition of int_signals_as_of: the version of a day `length` days before the newest one that was valid at the as_of. -#}
{% macro same_series_days_before(alias, length) -%}
    as_of_days.signal = {{ alias }}.signal
    and as_of_days.series = {{ alias }}.series
    and as_of_days.asset = {{ alias }}.asset
    and as_of_days.newest_day - {{ length }} = {{ alias }}.day
    and as_of_days.as_of >= {{ alias }}.known_on
    and as_of_days.as_of < coalesce({{ alias }}.superseded_on, date '9999-12-31')
{%- endmacro %}

{#- Whether a coin is one of vars.assets; every coin is when the list is empty. The names may come from data, so their quotes are doubled. -#}
{% macro is_wanted(column) -%}
    {%- set coins = var('assets', []) -%}
    {%- if coins -%}
        list_contains(['{{ coins | map('replace', "'", "''") | join("', '") }}'], {{ column }})
    {%- else -%}
        true
    {%- endif -%}
{%- endmacro %}
