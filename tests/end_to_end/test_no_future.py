"""The poison test: what became known after a decision time changes no number of that day."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tests.end_to_end.conftest import archive_environment
from tests.end_to_end.homes import AS_OF, Home, day_before, write_archive_table

LAST = day_before(AS_OF, -5)
PRICES = ("open", "high", "low", "close")


def poisoned(name: str, table: pa.Table, after: pa.TimestampScalar, seed: int = 3) -> pa.Table:
    """Other values, plausible to every gate, in each row that became known after ``after``."""
    generator = np.random.default_rng(seed)
    late = np.asarray(pc.greater(table["known_at"], after))
    frame = table.to_pandas()
    if name in ("ohlcv", "open_interest", "implied_volatility"):
        factor = np.where(late, np.exp(0.01 * generator.standard_normal(len(frame))), 1.0)
        for column in PRICES:
            frame[column] = frame[column] * factor
        if name == "ohlcv":
            for column in ("volume", "quote_volume", "trades", "taker_buy_volume"):
                frame[column] = np.where(late, frame[column] * 1.5, frame[column])
    elif name == "funding_rates":
        frame["rate"] = np.where(late, -frame["rate"] + 1e-5, frame["rate"])
    elif name in ("onchain_metrics", "sentiment_metrics"):
        frame["value"] = np.where(late, frame["value"] * 0.7, frame["value"])
    else:
        frame["title"] = np.where(late, "crash hack insolvency bankruptcy", frame["title"])
    return pa.Table.from_pandas(frame, schema=table.schema, preserve_index=False)


def test_rows_known_after_the_decision_change_no_number(
    market_tables: tuple[Path, dict[str, pa.Table]], tmp_path: Path
) -> None:
    folder, tables = market_tables
    clean = Home(tmp_path / "clean", archive_environment(folder))
    decision = pa.scalar(clean.settings.decision_time(AS_OF), tables["ohlcv"]["known_at"].type)
    poison = tmp_path / "poison"
    changed = 0
    for name, table in tables.items():
        other = poisoned(name, table, decision)
        changed += sum(
            pc.sum(pc.not_equal(table[c], other[c])).as_py() or 0
            for c in ("value", "rate", "close", "title")
            if c in table.column_names
        )
        write_archive_table(poison, name, other)
    assert changed > 1000
    poisoned_home = Home(tmp_path / "poisoned", archive_environment(poison))
    for home in (clean, poisoned_home):
        # All later rows are in the warehouse when the features of AS_OF are built, from scratch, in one go.
        home.run("backfill", "--from", day_before(AS_OF, 2).isoformat(), "--to", LAST.isoformat())
    for table, day in (
        ("features.daily", "as_of"),
        ("features.hourly", "known_on"),
        ("features.realized", "known_on"),
        ("forecasts.volatility", "as_of"),
        ("forecasts.refusals", "as_of"),
        ("forecasts.risk", "as_of"),
        ("forecasts.correlations", "as_of"),
        ("forecasts.portfolio_risk", "as_of"),
        ("forecasts.portfolio_components", "as_of"),
        ("forecasts.attention_weights", "as_of"),
        ("forecasts.explanations", "as_of"),
        ("forecasts.attention_audits", "as_of"),
        ("forecasts.token_attributions", "as_of"),
        ("forecasts.regimes", "as_of"),
        ("forecasts.jumps", "as_of"),
        ("forecasts.tails", "as_of"),
        ("forecasts.events", "as_of"),
    ):
        kept = f"{day} <= DATE '{AS_OF}'"
        assert clean.table_hash(table, where=kept) == poisoned_home.table_hash(table, where=kept), (
            table
        )
        if table != "forecasts.refusals":
            later = f"{day} > DATE '{AS_OF}'"
            assert clean.table_hash(table, where=later) != poisoned_home.table_hash(
                table, where=later
            ), f"{table}: the poison had no effect at all"
