"""Sections, charts and the template put together.

In: a connection and an as_of. Out: HTML. A section whose table is missing or empty says "nothing yet" and why; the others are built all
the same. Never interpolates data into markup or script by hand: Jinja escapes every value, and JSON is made safe for a script element.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from importlib.resources import files
from typing import Any

import duckdb
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from orchestration.report import audit, charts, evidence, freshness, queries, regimes, risk
from orchestration.report.formats import FILTERS
from orchestration.report.intervals import with_interval_bars
from orchestration.report.queries import NothingYet, Row


@dataclass
class Section:
    """What a section shows: ``rows``, or ``nothing`` that says why there are none."""

    rows: list[Row] = field(default_factory=list)
    nothing: str = ""

    def by(self, *keys: str) -> dict[Any, list[Row]]:
        """Rows grouped by one column, or by several as a tuple, in their order."""
        grouped: dict[Any, list[Row]] = {}
        for row in self.rows:
            name = row[keys[0]] if len(keys) == 1 else tuple(row[key] for key in keys)
            grouped.setdefault(name, []).append(row)
        return grouped


def build_report(connection: duckdb.DuckDBPyConnection, as_of: date) -> str:
    """The report page of ``as_of``. ``connection``: the published snapshot, opened read-only."""

    def section(
        query: Callable[..., list[Row]], *arguments: Any, empty: str = "no rows for this day"
    ) -> Section:
        try:
            rows = query(connection, as_of, *arguments)
        except NothingYet as reason:
            return Section(nothing=str(reason))
        return Section(rows, "" if rows else empty)

    model, named = queries.champion(connection, as_of)
    there = [row["model"] for row in section(queries.models_with_forecasts).rows]
    if there and model not in there:  # a young warehouse, or one that trains few models
        model, named = str(there[0]), False
    summary = section(queries.summary, model)
    with_interval_bars(summary.rows)
    sections = {
        "summary": summary,
        "history": section(queries.realized_history),
        "others": section(queries.term_structures),
        "refusals": section(queries.refusals),
        "attention": section(evidence.attention),
        "lags": section(evidence.attention_by_lag),
        "explanations": section(evidence.explanations),
        "risk": section(risk.risk_figures, model, empty="no risk figures for this day"),
        "portfolio": section(risk.portfolio, model),
        "components": section(risk.portfolio_components, model),
        "lights": section(risk.traffic_lights, model, empty="no outcome is known yet"),
        "followed": section(risk.leverage_backtest, model, empty="no Sunday has judged it yet"),
        "regimes": section(regimes.regimes, empty="no fit of regimes serves this day"),
        "regime_days": section(regimes.regime_history),
        "rare": section(regimes.rare_days, empty="no fit of rare days serves this day"),
        "tails": section(regimes.tails, model),
        "events": section(regimes.events, empty="no event can be judged: its inputs are missing"),
        "effects": section(regimes.event_effects, model),
        "audits": section(audit.audit_figures),
        "checks": section(audit.version_checks),
        "spurious": section(
            audit.spurious_counts, empty="no Sunday with explanations has passed yet"
        ),
        "flags": section(audit.spurious_flags),
        "leads": section(audit.leads),
        "leaderboard": section(evidence.leaderboard, empty="no forecast has been scored yet"),
        "coverage": section(evidence.coverage, model, empty="no forecast has been scored yet"),
        "backtests": section(evidence.backtests, model, empty="no test has been run yet"),
        "gates": section(evidence.gates, empty="no gate has looked at this day"),
        "forecast_moves": section(
            queries.forecast_moves, model, empty="no forecast of the day before"
        ),
        "feature_moves": section(
            evidence.feature_moves, empty="too few days of features to tell what is usual"
        ),
        "freshness": section(freshness.freshness),
        "streams": section(freshness.streams),
        "stream_notes": section(freshness.stream_notes),
        "versions": section(evidence.versions),
        "decisions": section(evidence.decisions, empty="no Sunday with forecasts has passed yet"),
        "drift": section(evidence.drift, empty="too few days to judge any drift"),
        "quarantined": section(evidence.quarantined, empty="nothing is held"),
    }
    head = queries.header(connection, as_of)
    drawn = _charts(as_of, sections, model)
    page = _environment().get_template("report.html.j2")
    return page.render(
        as_of=as_of,
        head=head,
        model=model,
        named_champion=named,
        modalities=freshness.MODALITIES,
        parts_by=_grouped,
        charts=drawn,
        gate_counts=Counter(row["state"] for row in sections["gates"].rows),
        chart_json=_script_json(drawn),
        css=Markup(_page_file("report.css")),  # noqa: S704  # our own file
        script=Markup(_page_file("report.js")),  # noqa: S704
        plotly=Markup(_plotly()),  # noqa: S704
        **sections,
    )


def _charts(as_of: date, sections: dict[str, Section], model: str) -> dict[str, charts.Chart]:
    """Specifications by the id of the element that shows them."""
    history, others = sections["history"].by("asset"), sections["others"].by("asset")
    drawn: dict[str, charts.Chart] = {}
    for n, (asset, forecasts) in enumerate(sections["summary"].by("asset").items()):
        beside = [row for row in others.get(asset, []) if row["model"] != model]
        drawn[f"fan-{n}"] = charts.fan(asset, as_of, forecasts, history.get(asset, []), beside)
    lags = sections["lags"].by("asset")
    for n, (asset, weights) in enumerate(sections["attention"].by("asset").items()):
        drawn[f"attention-{n}"] = charts.attention_map(weights)
        if asset in lags:
            drawn[f"lags-{n}"] = charts.attention_lags(lags[asset])
    if sections["regime_days"].rows:
        drawn["regimes"] = charts.regime_area(sections["regime_days"].rows)
    for horizon, board in sections["leaderboard"].by("horizon").items():
        if any(row["coverage_80"] is not None for row in board):
            drawn[f"coverage-{horizon}"] = charts.coverage_dots(board)
    return drawn


def _grouped(lines: list[Row], *keys: str) -> list[tuple[tuple[Any, ...], list[Row]]]:
    """Rows by several columns, in their order."""
    return list(Section(lines).by(*keys).items())


def _script_json(value: Any) -> Markup:
    """JSON that can end neither its script element nor a comment in it."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704  # escaped above


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("orchestration.report", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    return environment


def _page_file(name: str) -> str:
    return files("orchestration.report").joinpath("page", name).read_text(encoding="utf-8")


@cache
def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs()).replace("</script", "<\\/script")
