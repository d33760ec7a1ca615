"""Views of the published copy: attention summed up exactly, with the verdict of its audit beside it.

In: a connection to a catalog that has the output tables. Out: ``VIEWS`` in it. Never: a number of its own; each is a sum of stored weights over
the number of layers and heads, so that the parts of one forecast add up to 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from ml.forecasts import HORIZONS
from orchestration.tables.layout import FORECAST_KEY, literal

_KEY = ("asset", "as_of", "model", "model_version")
_WEIGHT = "share of the forecast's attention, mean over layers and heads"
_DESCRIBED = {
    **{name: FORECAST_KEY[name][1] for name in _KEY},
    **{
        f"verdict_{horizon}": f"audit of the explanation of horizon {horizon}: valid, weak or invalid; an invalid map is not an explanation"
        for horizon in HORIZONS
    },
    "weight": _WEIGHT,
    "tokens": "tokens that the weight is spread over",
    "modality": "calendar, price, asset or the context's own, as in forecasts.attention_weights",
    "scale": "forecast, hourly, daily, weekly, context or asset",
    "layer": "layer, from 0",
    "head": "head, from 0",
    "head_scale": "what the head may read: intraday, daily, macro, context, assets or all",
    "lag_days": "age of the token at the end of as_of, in days; null for the forecast token",
    "token_time": "event time of the token; null for the forecast token",
    "other_asset": "coin that the forecast looked at",
}


@dataclass(frozen=True)
class View:
    """One view: its SQL address, what it says, and the columns of forecasts.attention_weights that it is grouped by."""

    name: str
    description: str
    by: tuple[str, ...]
    where: str = "TRUE"
    maps: str = "maps"
    """Maps that a weight is the mean of: all of a forecast, or the one that a row belongs to."""

    @property
    def ddl(self) -> str:
        keys = ", ".join(_KEY)
        grouped = ", ".join(f"w.{part.split(' AS ')[0]}" for part in self.by)
        named = ", ".join(f"w.{part}" for part in self.by)
        own = ", ".join(f"w.{key}" for key in _KEY)
        verdicts = ", ".join(
            f"any_value(verdict) FILTER (horizon = {h}) AS verdict_{h}" for h in HORIZONS
        )
        shown = ", ".join(f"any_value(v.verdict_{h}) AS verdict_{h}" for h in HORIZONS)
        return f"""
            CREATE OR REPLACE VIEW {self.name} AS
            WITH counted AS (
                SELECT {keys}, (max(layer) + 1) * (max(head) + 1) AS maps FROM forecasts.attention_weights GROUP BY {keys}
            ),
            audited AS (SELECT {keys}, {verdicts} FROM forecasts.explanations GROUP BY {keys})
            SELECT {own}, {named}, fsum(w.weight) / any_value({self.maps}) AS weight, count(DISTINCT w.token) AS tokens, {shown}
            FROM forecasts.attention_weights AS w
            JOIN counted AS c USING ({keys})
            LEFT JOIN audited AS v USING ({keys})
            WHERE {self.where}
            GROUP BY {own}, {grouped}
        """


VIEWS = (
    View(
        "forecasts.attention_by_modality", "Attention of each forecast by modality.", ("modality",)
    ),
    View(
        "forecasts.attention_by_scale",
        "Attention of each forecast by scale and modality.",
        ("scale", "modality"),
    ),
    View(
        "forecasts.attention_by_lag",
        "Attention of each forecast by the age of what it looked at.",
        ("scale", "modality", "lag_days", "token_time"),
    ),
    View(
        "forecasts.attention_by_coin",
        "Attention of each forecast on other coins.",
        ("provider AS other_asset",),
        where="w.modality = 'asset'",
    ),
    View(
        "forecasts.attention_by_head",
        "Attention of each head by scale and modality; the parts of a layer and head add up to 1.",
        ("layer", "head", "head_scale", "scale", "modality"),
        maps="1",
    ),
)


def create_views(connection: duckdb.DuckDBPyConnection) -> None:
    """Make every view, with its comments, in the current catalog."""
    for view in VIEWS:
        connection.execute(view.ddl)
        connection.execute(f"COMMENT ON VIEW {view.name} IS {literal(view.description)}")
        columns = connection.execute(f"DESCRIBE {view.name}").fetchall()
        for column, *_ in columns:
            connection.execute(
                f'COMMENT ON COLUMN {view.name}."{column}" IS {literal(_DESCRIBED[column])}'
            )
