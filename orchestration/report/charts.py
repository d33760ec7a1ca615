"""Rows -> chart specifications that the page draws with plotly.js.

In: rows of ``queries.py``. Out: plain dictionaries (traces and layout), ready for JSON. Colours are tokens such as ``@accent`` or
``@accent/0.2`` that the page resolves from its stylesheet, so that charts follow the light and the dark theme. Every text from the
data is escaped, because plotly reads markup in labels. Never computes a figure that is not in the rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from html import escape
from typing import Any

from orchestration.report.queries import Row

Chart = dict[str, Any]
BANDS = (("q01", "q99", "98 %", 0.13), ("q10", "q90", "80 %", 0.22), ("q25", "q75", "50 %", 0.35))
_PERCENT_AXIS = {
    "type": "log",
    "tickvals": [0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 3, 5],
    "ticktext": ["5%", "10%", "20%", "30%", "50%", "100%", "200%", "300%", "500%"],
}


def label(text: object) -> str:
    """Text from the data, safe as a plotly label."""
    return escape(str(text), quote=False)


def fan(
    asset: str, as_of: date, forecasts: list[Row], history: list[Row], others: list[Row]
) -> Chart:
    """Realised volatility up to ``as_of`` and, per horizon h, the forecast of its mean over D+1 .. D+h with intervals."""
    ends = [_day(as_of + timedelta(days=int(row["horizon"]))) for row in forecasts]
    traces: list[Chart] = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": "realised, daily",
            "x": [_day(row["day"]) for row in history],
            "y": [row["volatility"] for row in history],
            "line": {"color": "@muted", "width": 1.3},
            "hovertemplate": "%{x|%d %b} realised %{y:.1%}<extra></extra>",
        }
    ]
    for low, high, name, opacity in BANDS:
        if any(row[low] is None or row[high] is None for row in forecasts):
            continue
        fill = {"type": "scatter", "mode": "lines", "hoverinfo": "skip", "legendgroup": name}
        traces += [
            {
                **fill,
                "x": ends,
                "y": [row[high] for row in forecasts],
                "line": {"width": 0},
                "showlegend": False,
            },
            {
                **fill,
                "x": ends,
                "y": [row[low] for row in forecasts],
                "line": {"width": 0},
                "fill": "tonexty",
                "fillcolor": f"@accent/{opacity}",
                "name": name,
            },
        ]
    traces += _other_models(as_of, others)
    implied = next((row["implied"] for row in forecasts if row["implied"] is not None), None)
    if implied is not None:
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": "implied",
                "x": [_day(as_of), _day(as_of + timedelta(days=30))],
                "y": [implied, implied],
                "line": {"color": "@second", "width": 2, "dash": "dash"},
                "hovertemplate": "implied %{y:.1%}, 30 days<extra></extra>",
            }
        )
    model = label(forecasts[0]["model"]) if forecasts else ""
    traces.append(
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": f"forecast ({model})",
            "x": ends,
            "y": [row["volatility"] for row in forecasts],
            "customdata": [row["horizon"] for row in forecasts],
            "line": {"color": "@accent", "width": 2.5},
            "marker": {"size": 7, "color": "@accent"},
            "hovertemplate": "mean of the next %{customdata} d: %{y:.1%}<extra></extra>",
        }
    )
    layout = {
        "height": 300,
        "margin": {"l": 48, "r": 12, "t": 8, "b": 30},
        "yaxis": {**_PERCENT_AXIS, "title": {"text": ""}},
        "xaxis": {"type": "date", "tickformat": "%d %b"},
        "shapes": [
            {
                "type": "line",
                "x0": _day(as_of),
                "x1": _day(as_of),
                "yref": "paper",
                "y0": 0,
                "y1": 1,
                "line": {"color": "@muted", "width": 1, "dash": "dot"},
            }
        ],
        "legend": {"orientation": "h", "y": -0.16, "font": {"size": 10}},
        "showlegend": False,
    }
    return {"data": traces, "layout": layout, "asset": asset}


def _other_models(as_of: date, others: list[Row]) -> list[Chart]:
    by_model: dict[str, list[Row]] = {}
    for row in others:
        by_model.setdefault(str(row["model"]), []).append(row)
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "name": label(model),
            "x": [_day(as_of + timedelta(days=int(row["horizon"]))) for row in lines],
            "y": [row["volatility"] for row in lines],
            "line": {"color": "@muted/0.55", "width": 1},
            "hovertemplate": f"{label(model)} %{{y:.1%}}<extra></extra>",
        }
        for model, lines in sorted(by_model.items())
    ]


def attention_map(weights: list[Row]) -> Chart:
    """Share of attention per layer and head (rows) and group of tokens (columns)."""
    columns = list(
        dict.fromkeys(
            str(r["label"]) for r in sorted(weights, key=lambda r: (_scale_order(r), r["label"]))
        )
    )
    scales = {(int(r["layer"]), int(r["head"])): r["head_scale"] for r in weights}
    heads = sorted(scales)
    one_layer = heads[-1][0] == 0
    cells = {(int(r["layer"]), int(r["head"]), str(r["label"])): r for r in weights}
    share = [
        [cells[(*head, c)]["weight"] if (*head, c) in cells else None for c in columns]
        for head in heads
    ]
    counts = [
        [cells[(*head, c)]["tokens"] if (*head, c) in cells else 0 for c in columns]
        for head in heads
    ]
    return {
        "data": [
            {
                "type": "heatmap",
                "x": [label(c) for c in columns],
                "y": [
                    f"{scales[layer, head] or 'head'} {head + 1}"
                    + ("" if one_layer else f", layer {layer + 1}")
                    for layer, head in heads
                ],
                "z": share,
                "customdata": counts,
                "colorscale": [[0, "@surface"], [1, "@accent"]],
                "zmin": 0,
                "xgap": 2,
                "ygap": 2,
                "showscale": False,
                "texttemplate": "%{z:.0%}",
                "textfont": {"size": 11},
                "hovertemplate": "%{y}<br>%{x}: %{z:.1%} of attention<br>%{customdata} tokens<extra></extra>",
            }
        ],
        "layout": {
            "height": 130 + 30 * len(heads),
            "margin": {"l": 104, "r": 8, "t": 8, "b": 96},
            "yaxis": {"autorange": "reversed", "showgrid": False},
            "xaxis": {"tickangle": -40, "showgrid": False},
        },
    }


def regime_area(days: list[Row]) -> Chart:
    """Probabilities of the three regimes by day, stacked to one."""
    names = (("p_calm", "calm", "@accent/0.25"), ("p_normal", "normal", "@accent/0.8"), ("p_turbulent", "turbulent", "@second/0.9"))  # fmt: skip
    return {
        "data": [
            {
                "type": "bar",
                "name": name,
                "x": [str(row["as_of"]) for row in days],
                "y": [row[column] for row in days],
                "marker": {"color": colour},
                "hovertemplate": f"%{{x}}<br>{name} %{{y:.0%}}<extra></extra>",
            }
            for column, name, colour in names
        ],
        "layout": {
            "barmode": "stack",
            "bargap": 0.05,
            "height": 240,
            "margin": {"l": 44, "r": 8, "t": 8, "b": 36},
            "yaxis": {"tickformat": ".0%", "range": [0, 1]},
            "showlegend": True,
            "legend": {"orientation": "h", "y": 1.12},
        },
    }


def _scale_order(row: Row) -> int:
    order = ("hourly", "daily", "weekly", "context", "asset", "forecast")
    return order.index(row["scale"]) if row["scale"] in order else len(order)


def attention_lags(weights: list[Row]) -> Chart:
    """Mean attention on each past token against its age; a token of one scale stands for an hour patch, a day or a week."""
    traces = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": f"{label(scale)} tokens",
            "x": [row["lag_days"] for row in weights if row["scale"] == scale],
            "y": [row["weight"] for row in weights if row["scale"] == scale],
            "line": {"color": color, "width": 1.5},
            "marker": {"size": 4, "color": color},
            "hovertemplate": "%{x:.1f} days ago: %{y:.2%}<extra></extra>",
        }
        for scale, color in (("hourly", "@second"), ("daily", "@accent"), ("weekly", "@muted"))
        if any(row["scale"] == scale for row in weights)
    ]
    return {
        "data": traces,
        "layout": {
            "height": 240,
            "margin": {"l": 48, "r": 12, "t": 8, "b": 40},
            "xaxis": {"autorange": "reversed", "title": {"text": "days before the end of as_of"}},
            "yaxis": {"tickformat": ".1%", "rangemode": "tozero"},
            "showlegend": True,
            "legend": {"orientation": "h", "y": 1.12},
        },
    }


def coverage_dots(board: list[Row]) -> Chart:
    """Share of realised values inside each model's 80 and 98 % intervals; the dotted lines are where they belong."""
    lines = [row for row in board if row["coverage_80"] is not None]
    names = [label(row["model"]) for row in lines]
    return {
        "data": [
            {
                "type": "scatter",
                "mode": "markers",
                "name": f"inside the {level} % interval",
                "x": [row[column] for row in lines],
                "y": names,
                "marker": {"size": 9, "color": color, "symbol": symbol},
                "hovertemplate": f"%{{y}}: %{{x:.1%}} inside {level} %<extra></extra>",
            }
            for column, level, color, symbol in (
                ("coverage_80", 80, "@accent", "circle"),
                ("coverage_98", 98, "@second", "diamond"),
            )
        ],
        "layout": {
            "height": 60 + 26 * len(lines),
            "margin": {"l": 92, "r": 12, "t": 8, "b": 30},
            "xaxis": {"tickformat": ".0%", "range": _coverage_range(lines)},
            "yaxis": {"autorange": "reversed"},
            "showlegend": False,
            "shapes": [
                {
                    "type": "line",
                    "x0": level,
                    "x1": level,
                    "yref": "paper",
                    "y0": 0,
                    "y1": 1,
                    "line": {"color": color, "dash": "dot", "width": 1.5},
                }
                for level, color in ((0.80, "@accent"), (0.98, "@second"))
            ],
        },
    }


def _coverage_range(lines: Iterable[Row]) -> list[float]:
    seen = [row[c] for row in lines for c in ("coverage_80", "coverage_98") if row[c] is not None]
    return [max(0.0, min([0.75, *seen]) - 0.03), 1.02]


def _day(day: Any) -> str:
    return f"{day:%Y-%m-%d}"
