{#-
    Views are stored without the catalog's name, which DuckDB then takes from the file that the view lives in: they work in a copy
    of the warehouse, and in the file opened by itself, under whatever name.
-#}
{% macro duckdb__create_view_as(relation, sql) -%}
    create view {{ relation }} as (
        {{ sql | replace('"' ~ relation.database ~ '".', '') }}
    );
{%- endmacro %}
