{#-
    The days a run builds: vars from_date and to_date, both included. Tables by as_of hold what was asked for; tables of versions
    (by known_on) must have no hole, so they reach back to the day after the newest one they hold.
-#}

{% macro window_day(name) -%}
    {%- set day = var(name, '') | string -%}
    {%- if not day -%}
        {%- if execute -%}
            {{ exceptions.raise_compiler_error(
                name ~ ": no value, expected a day; pass --vars '{from_date: 2024-01-01, to_date: 2024-01-31}'"
            ) }}
        {%- endif -%}
        {%- set day = '1970-01-01' -%}
    {%- endif -%}
    date '{{ day }}'
{%- endmacro %}

{% macro window_from() -%} {{ window_day('from_date') }} {%- endmacro %}

{% macro window_to() -%} {{ window_day('to_date') }} {%- endmacro %}

{#- Rows of a table by as_of that this run builds. -#}
{% macro as_of_in_window(column) -%}
    {{ column }} between {{ window_from() }} and {{ window_to() }}
{%- endmacro %}

{#- Versions that this run builds: all up to to_date on the first build, later those of the window and of any day skipped before it. -#}
{% macro known_on_in_window(column) -%}
    {{ column }} <= {{ window_to() }}
    {%- if is_incremental() %}
    and {{ column }} >= (
        select least({{ window_from() }}, coalesce(max(built.known_on) + 1, {{ window_from() }})) from {{ this }} as built
    )
    {%- endif %}
{%- endmacro %}

{#-
    Incremental strategy of every incremental model here: delete the window, insert the window, in one transaction. Unlike
    dbt's delete+insert this also removes rows that a rebuild no longer yields. config(meta={'window_column': ...}) names the column.
-#}
{% macro get_incremental_replace_window_sql(arg_dict) %}
    {%- set column = config.get('meta', {}).get('window_column') -%}
    {%- if column not in ('as_of', 'known_on') -%}
        {{ exceptions.raise_compiler_error(
            model.name ~ ": meta.window_column '" ~ column ~ "': expected as_of or known_on"
        ) }}
    {%- endif -%}
    {%- set columns = arg_dict['dest_columns'] | map(attribute='quoted') | join(', ') -%}
    delete from {{ arg_dict['target_relation'] }} where {{ as_of_in_window(column) }};
    insert into {{ arg_dict['target_relation'] }} ({{ columns }}) select {{ columns }} from {{ arg_dict['temp_relation'] }};
{% endmacro %}
