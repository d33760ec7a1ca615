{#- Values that are there lie within [minimum, maximum]; NaN and infinity never do. -#}
{% test in_range(model, column_name, minimum=none, maximum=none) %}
    select {{ column_name }}
    from {{ model }}
    where
        {{ column_name }} is not null
        and not (
            isfinite(cast({{ column_name }} as double))
            {%- if minimum is not none %} and {{ column_name }} >= {{ minimum }}{% endif %}
            {%- if maximum is not none %} and {{ column_name }} <= {{ maximum }}{% endif %}
        )
{% endtest %}
