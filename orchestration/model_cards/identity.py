"""Sections on what the version is: purpose and scope, model and assumptions, data and providers, hashes.

In: ``Facts``. Out: sections. Never: a figure of its performance.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from orchestration.model_cards.assumptions import assumptions, description
from orchestration.model_cards.sections import Column, Facts, Section, pairs, table
from orchestration.report.formats import FILTERS
from orchestration.report.queries import Row

PURPOSE = (
    "Forecasts of the realised variance of crypto assets 1, 5 and 22 days ahead, with quantiles, for risk limits, position sizing and "
    "the risk figures made from them. Not for pricing options, not for coins or horizons that the table does not name, "
    "not for decisions within a day: a forecast is made once a day, at its decision time (`volcast nowcast` updates it, unpublished and without this card's evidence)."
)
PROVIDER_MODALITIES = ("open_interest", "implied_volatility", "onchain", "stablecoin", "sentiment", "order_book")  # fmt: skip


def registry_row(facts: Facts) -> Row:
    """The version in models.registry; LookupError where it is not."""
    found = facts.rows("SELECT * FROM models.registry WHERE model = $model AND model_version = $version")  # fmt: skip
    if not found:
        raise LookupError(f"{facts.model} {facts.version}: not in models.registry")
    return found[0]


def purpose(facts: Facts, entry: Row) -> Section:
    section = Section("Purpose and scope", PURPOSE)
    served = facts.rows(
        """
        SELECT horizon, count(*) AS forecasts, count(DISTINCT asset) AS coins, min(as_of) AS first, max(as_of) AS last,
            count(*) FILTER (status <> 'ok') AS fallbacks
        FROM forecasts.volatility WHERE model = $model AND model_version = $version GROUP BY horizon ORDER BY horizon
        """
    )
    coins = facts.rows(
        "SELECT DISTINCT asset FROM forecasts.volatility WHERE model = $model AND model_version = $version ORDER BY asset"
    )
    section.notes = [f"Status: {entry['status'] or 'none'} ({entry['status_reason'] or 'no reason stored'})."]  # fmt: skip
    section.notes.append(f"Coins: {', '.join(str(row['asset']) for row in coins) or 'none'}.")
    section.tables = table(
        "Forecasts published",
        served,
        (
            Column("horizon, days", "horizon"),
            Column("forecasts", "forecasts", "count"),
            Column("coins", "coins", "count"),
            Column("by fallback", "fallbacks", "count"),
            Column("first as_of", "first", "day"),
            Column("last as_of", "last", "day"),
        ),
    )
    return section


def model(facts: Facts, entry: Row) -> Section:
    section = Section("Model and assumptions", description(facts.model))
    section.notes = list(assumptions(facts.model))
    config = json.loads(entry["config"]) if entry["config"] else {}
    shown = {name: json.dumps(value) for name, value in sorted(config.items())}
    shown |= {"seed": str(entry["seed"]), "device": str(entry["device"] or "–")}
    section.tables = [pairs("Configuration that differs from the default, seed and device", shown)]
    metrics = json.loads(entry["metrics"]) if entry["metrics"] else {}
    if metrics:
        numbers = {name: FILTERS["short"](value) if isinstance(value, (int, float)) else str(value) for name, value in sorted(metrics.items())}  # fmt: skip
        section.tables.append(pairs("Training metrics (in the window: not evidence of skill)", numbers))  # fmt: skip
    return section


def data(facts: Facts, entry: Row) -> Section:
    section = Section(
        "Data",
        "Inputs of the training window as they were known at each decision time. Presence: share of coin-days with a value young enough to be used.",
    )
    window: dict[str, Any] = {"first": entry["train_start"], "last": entry["train_end"]}
    section.tables = [
        pairs(
            "Training window",
            {
                "first day": FILTERS["day"](entry["train_start"]),
                "last day": FILTERS["day"](entry["train_end"]),
                "last day of information": FILTERS["day"](entry["trained_as_of"]),
                "source": str(entry["source"] or "–"),
            },
        )
    ]
    section.tables += table("Modalities and their providers", modalities(facts, window), MODALITY_COLUMNS)  # fmt: skip
    section.tables += table(
        "Prices and funding, by venue, over the training window",
        facts.some(
            """
            SELECT 'funding' AS what, venue, count(DISTINCT asset) AS coins, min(as_of) AS first, max(as_of) AS last
            FROM features.funding_venues WHERE as_of BETWEEN $first AND $last GROUP BY venue
            UNION ALL
            SELECT 'prices (' || "interval" || ')', venue, count(DISTINCT symbol), min(ts)::DATE, max(ts)::DATE
            FROM raw.ohlcv WHERE ts >= $first::DATE AND ts < $last::DATE + 1 GROUP BY "interval", venue
            ORDER BY what, coins DESC, venue
            """,
            **window,
        ),
        (
            Column("what", "what"),
            Column("venue", "venue"),
            Column("coins", "coins", "count"),
            Column("from", "first", "day"),
            Column("to", "last", "day"),
        ),
    )
    section.tables += table(
        "Gates that let training start",
        [{"suite": k, "verdict": v} for k, v in json.loads(entry["gate_verdicts"] or "{}").items()],
        (Column("suite", "suite"), Column("verdict", "verdict")),
    )
    return section


MODALITY_COLUMNS = (
    Column("modality", "modality", "words"),
    Column("providers", "providers"),
    Column("presence", "presence", "percent"),
    Column("median age", "age", "age"),
)


def modalities(facts: Facts, window: dict[str, Any]) -> list[Row]:
    """modality, providers, presence, age over the training window; a modality without columns is left out."""
    columns = facts.some(
        "SELECT column_name FROM duckdb_columns() WHERE schema_name = 'features' AND table_name = 'daily'"
    )
    there = {row["column_name"] for row in columns}
    parts = []
    for name in ("price", "funding", *PROVIDER_MODALITIES):
        if f"{name}_missing" not in there:
            continue
        providers = f"string_agg(DISTINCT {name}_provider, ', ' ORDER BY {name}_provider)" if f"{name}_provider" in there else "NULL"  # fmt: skip
        age = f"median({name}_age_days) FILTER (NOT {name}_missing)" if f"{name}_age_days" in there else "NULL"  # fmt: skip
        parts.append(
            f"SELECT '{name}' AS modality, {providers} AS providers, 1 - avg({name}_missing::INT) AS presence, {age} AS age "
            "FROM features.daily WHERE as_of BETWEEN $first AND $last"
        )
    return facts.some(" UNION ALL ".join(parts), **window) if parts else []


def hashes(facts: Facts, entry: Row) -> Section:
    section = Section(
        "Hashes", "The artefact's hash is checked before each use; the same data, configuration, seed, code and device give it again."
    )  # fmt: skip
    config = str(entry["config"] or "")
    section.tables = [
        pairs(
            "Content",
            {
                "data (panel, cut at the training day)": str(entry["data_hash"] or "–"),
                "training snapshot": str(entry["snapshot_hash"] or "–"),
                "artefact": str(entry["artifact_hash"] or "–"),
                "configuration (sha256 of its JSON)": hashlib.sha256(config.encode()).hexdigest(),
                "code of ml/": str(entry["code_version"] or "–"),
                "artefact's place": str(entry["artifact_uri"] or "–"),
            },
        )
    ]
    return section
