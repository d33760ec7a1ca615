"""How a table is described, and the columns that many tables share.

In: nothing. Out: ``OutputTable``. Never: a table.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class OutputTable:
    """One table: ``name`` is its SQL address; ``key`` is unique; ``columns`` maps a name to (type, description)."""

    name: str
    description: str
    key: tuple[str, ...]
    columns: dict[str, tuple[str, str]]

    @property
    def ddl(self) -> str:
        columns = ", ".join(
            f'"{name}" {kind}{" NOT NULL" if name in self.key else ""}'
            for name, (kind, _) in self.columns.items()
        )
        return f"CREATE TABLE IF NOT EXISTS {self.name} ({columns})"


SOURCE = {"source": ("VARCHAR", "where the data came from: simulated, archive or live")}

FORECAST_KEY = {
    "asset": ("VARCHAR", "coin by its ticker"),
    "as_of": ("DATE", "UTC day D: the information set ends at D 24:00 UTC"),
    "horizon": ("INTEGER", "days h: the forecast covers D+1 .. D+h"),
    "model": ("VARCHAR", "model by name"),
    "model_version": ("VARCHAR", "version in models.registry"),
}

RUN = {
    "run_id": ("VARCHAR", "Dagster run that wrote the row"),
    "created_at": ("TIMESTAMPTZ", "when the row was written"),
}

LAKE_SNAPSHOT = {
    "lake_snapshot": (
        "BIGINT",
        "snapshot of the lake that it was made from, for time travel; null where the warehouse is a file",
    ),
}

QUANTILE_COLUMNS = {
    f"q{label}": level
    for label, level in (
        ("01", 0.01),
        ("025", 0.025),
        ("05", 0.05),
        ("10", 0.10),
        ("25", 0.25),
        ("50", 0.50),
        ("75", 0.75),
        ("90", 0.90),
        ("95", 0.95),
        ("975", 0.975),
        ("99", 0.99),
    )
}

LEVELS = ("95", "975", "99")


def literal(text: str) -> str:
    """A text as SQL writes it, for statements that take no parameters: COMMENT, ATTACH."""
    return "'" + text.replace("'", "''") + "'"
