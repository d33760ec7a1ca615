"""Invariants of time: no row known after its decision time in any feature, and no forecast that saw its own future.

In: features beside the raw rows that they were made of. Out: findings. The first two read what is stored; ``rebuilt.py`` makes days anew.
"""

from __future__ import annotations

from orchestration.doctor.finding import Count, Invariant, Look

REBUILD = "do not trade on it: find how the row came, mend the raw rows, and build the features from scratch (docs/doctor.md)"
DAYS = 400
"""Days back from the newest feature whose bars are counted; all of them with --deep."""


def _ages(look: Look) -> Count:
    broken, tables = [], []
    for table in ("features.daily", "features.funding_venues"):
        if table not in look.tables:
            continue
        tables.append(table)
        names = [row[0] for row in look.connection.execute(f"DESCRIBE {table}").fetchall()]
        rules = [f"{name} < 0" for name in names if name.endswith("_age_days")]
        if "decision_time" in names:
            rules.append(
                "epoch_us(decision_time) IS DISTINCT FROM epoch_us(CAST(as_of + 1 AS TIMESTAMP)) + 60000000 * $offset"
            )
        shown = ", ".join(name for name in names if name.endswith(("_age_days", "decision_time")))
        broken.append(
            f"SELECT '{table}' AS \"table\", asset, as_of, struct_pack({_packed(shown)})::VARCHAR AS ages "
            f"FROM {table} WHERE {' OR '.join(rules)}"
        )
    checked = " + ".join(f"(SELECT count(*) FROM {table})" for table in tables) or "0"
    return look.count(f"SELECT {checked}", " UNION ALL ".join(broken))


AGES = Invariant(
    "known-ages",
    "each feature row stands at its day's decision time, and rests on no value younger than that",
    REBUILD,
    ("features.daily",),
    by=_ages,
)


def _packed(names: str) -> str:
    return ", ".join(f"{name} := {name}" for name in names.split(", "))


_KNOWN_ON = (
    "CAST(make_timestamp(epoch_us(known_at) - ($offset * 60000000 + 1)) AS DATE)"  # macro known_on
)
_BARS = f"""
    WITH bounds AS (SELECT max(known_on) - $days AS first_on FROM features.realized),
    bars AS (
        SELECT split_part(symbol, '/', 1) AS asset, "interval", ts, min({_KNOWN_ON}) AS first_on
        FROM raw.ohlcv
        WHERE "interval" IN ('5m', '1h') AND ts >= (SELECT first_on - 2 FROM bounds)
        GROUP BY ALL
    )
"""

HOURS = Invariant(
    "known-hours",
    "each hour of features.hourly rests on bars that were known by the decision time of its known_on",
    REBUILD,
    ("features.hourly", "features.realized", "raw.ohlcv"),
    "SELECT count(*) FROM features.hourly WHERE known_on >= (SELECT max(known_on) - $days FROM features.realized)",
    f"""
    {_BARS},
    arrived AS (
        SELECT asset, make_timestamptz(epoch_us(ts) // 3600000000 * 3600000000) AS ts, "interval", first_on, count(*) AS bars
        FROM bars GROUP BY ALL
    )
    SELECT asset, h.ts, known_on, any_value(h.bars) AS bars_used,
        greatest(
            coalesce(sum(a.bars) FILTER (a."interval" = '5m' AND a.first_on <= known_on), 0),
            coalesce(sum(a.bars) FILTER (a."interval" = '1h' AND a.first_on <= known_on), 0)
        ) AS bars_known
    FROM features.hourly AS h LEFT JOIN arrived AS a USING (asset, ts)
    WHERE known_on >= (SELECT first_on FROM bounds)
    GROUP BY asset, h.ts, known_on
    HAVING bars_known < bars_used
    """,
)
REALIZED = Invariant(
    "known-days",
    "each day of features.realized rests on bars that were known by the decision time of its known_on, which is not before the day",
    REBUILD,
    ("features.realized", "raw.ohlcv"),
    "SELECT count(*) FROM features.realized WHERE known_on >= (SELECT max(known_on) - $days FROM features.realized)",
    f"""
    {_BARS},
    arrived AS (
        SELECT asset, CAST(make_timestamp(epoch_us(ts)) AS DATE) AS day, "interval", first_on, count(*) AS bars FROM bars GROUP BY ALL
    )
    SELECT asset, day, known_on, any_value(r.bar_interval) AS bar_interval, any_value(r.bars_used) AS bars_used,
        coalesce(sum(a.bars) FILTER (a."interval" = '5m' AND a.first_on <= known_on), 0) AS five_minutes_known,
        coalesce(sum(a.bars) FILTER (a."interval" = '1h' AND a.first_on <= known_on), 0) AS hours_known
    FROM features.realized AS r LEFT JOIN arrived AS a USING (asset, day)
    WHERE known_on >= (SELECT first_on FROM bounds) AND day >= (SELECT first_on FROM bounds)
    GROUP BY asset, day, known_on
    HAVING known_on < day
        OR bars_used > CASE any_value(r.bar_interval) WHEN '5m' THEN five_minutes_known ELSE hours_known + five_minutes_known // 10 END
    """,
)

FORECASTS = Invariant(
    "known-forecasts",
    "each forecast was made of an information set that ends within the half day after its as_of",
    REBUILD,
    ("forecasts.volatility",),
    "SELECT count(*) FROM forecasts.volatility",
    """
    SELECT asset, as_of, horizon, model, model_version, decision_time FROM forecasts.volatility
    WHERE decision_time IS NULL OR epoch_us(decision_time) - epoch_us(CAST(as_of + 1 AS TIMESTAMP)) NOT BETWEEN 0 AND 43200000000
    """,
)


INVARIANTS = (AGES, HOURS, REALIZED, FORECASTS)
