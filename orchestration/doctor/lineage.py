"""Invariants of origin: every forecast leads to a model version, its artefact, its snapshot and the gates that let it through.

In: forecasts, the registry, gate verdicts, and the files of the artefact store. Out: findings. Never: loads a model.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import fsspec

from orchestration.artifact_store import address_of
from orchestration.doctor.finding import RESTORE, Count, Invariant, Look

AGAIN = "train the version again (`volcast train --as-of DAY --force`), or restore a backup: without it its days cannot be explained or forecast again"
_BY_VERSION = (
    "forecasts.volatility",
    "forecasts.model_quantiles",
    "forecasts.risk",
    "forecasts.attention_weights",
    "forecasts.explanations",
    "forecasts.attention_audits",
    "forecasts.token_attributions",
    "forecasts.tails",
)


def _versions(look: Look) -> Count:
    tables = [table for table in _BY_VERSION if table in look.tables]
    served = " UNION ALL ".join(
        f"SELECT '{table}' AS \"table\", model_version, min(as_of) AS first_as_of, count(*) AS rows FROM {table} GROUP BY ALL"
        for table in tables
    )
    checked = " + ".join(f"(SELECT count(*) FROM {table})" for table in tables)
    return look.count(
        f"SELECT {checked}",
        f"""
        SELECT "table", s.model_version, s.first_as_of, s.rows, m.trained_as_of, m.snapshot_hash, m.artifact_uri
        FROM ({served}) AS s LEFT JOIN models.registry AS m USING (model_version)
        WHERE m.model_version IS NULL OR m.trained_as_of >= s.first_as_of
            OR coalesce(m.snapshot_hash, '') = '' OR coalesce(m.data_hash, '') = '' OR coalesce(m.artifact_hash, '') = ''
            OR coalesce(m.gate_verdicts::VARCHAR, '{{}}') IN ('', '{{}}')
        """,
    )


VERSIONS = Invariant(
    "versions",
    "every forecast names a model version of the registry, trained before its day, with snapshot, data and artefact hash",
    f"the registry lost a row, or forecasts were added by hand: {RESTORE}",
    ("models.registry", "forecasts.volatility"),
    by=_versions,
)

GATES = Invariant(
    "gate-verdicts",
    "before each forecast was made, every gate that its model version passed had an open or overridden verdict for the day",
    "verdicts were lost, or a forecast was made past a closed gate: do not trade on it; run the day again or restore a backup",
    ("forecasts.volatility", "models.registry", "quality.validations"),
    "SELECT count(*) FROM forecasts.volatility",
    """
    WITH made AS (
        SELECT as_of, f.created_at, f.run_id, m.gate_verdicts, min(f.model) AS model, count(*) AS forecasts
        FROM forecasts.volatility AS f JOIN models.registry AS m USING (model, model_version)
        GROUP BY ALL
    ),
    needed AS (SELECT * EXCLUDE (gate_verdicts), unnest(json_keys(gate_verdicts)) AS suite FROM made),
    verdicts AS (
        SELECT suite, from_as_of, as_of AS to_as_of, run_id AS judged_by, checked_at,
            count(*) FILTER (severity = 'critical' AND NOT success AND overridden_by IS NULL) AS failures
        FROM quality.validations GROUP BY ALL
    ),
    stamped AS ( -- a microsecond apart: a clock was ahead (gates.store_verdict), and neither time says when
        SELECT *, epoch_us(lead(checked_at) OVER by_time) - epoch_us(checked_at) = 1
            OR epoch_us(checked_at) - epoch_us(lag(checked_at) OVER by_time) = 1 AS clock_was_ahead
        FROM verdicts WINDOW by_time AS (PARTITION BY suite ORDER BY checked_at)
    )
    SELECT n.as_of, n.suite, n.model, n.created_at, any_value(n.forecasts) AS forecasts,
        count(v.suite) AS verdicts,
        arg_max(v.failures, v.checked_at) FILTER (v.checked_at <= n.created_at OR v.judged_by = n.run_id) AS failures
    FROM needed AS n LEFT JOIN stamped AS v
        ON v.suite = n.suite AND n.as_of BETWEEN v.from_as_of AND v.to_as_of
        AND (v.checked_at <= n.created_at OR v.judged_by = n.run_id OR v.clock_was_ahead)
    GROUP BY n.as_of, n.suite, n.model, n.created_at, n.run_id
    HAVING coalesce(failures, 1) > 0 AND count(*) FILTER (v.clock_was_ahead AND v.failures = 0) = 0
    """,
)


def _artefacts(look: Look) -> Count:
    rows = look.connection.execute(
        "SELECT model, model_version, artifact_uri, artifact_hash FROM models.registry "
        "SEMI JOIN forecasts.volatility USING (model, model_version) ORDER BY ALL"
    ).fetchall()
    wrong = []
    for model, version, uri, expected in rows:
        problem = artefact_problem(address_of(look.settings, str(uri)), str(expected))
        if problem:
            wrong.append(f"{model} {version}: {problem}")
    return Count(len(rows), len(wrong), wrong[0] if wrong else "")


def artefact_problem(folder: str | Path, expected: str) -> str:
    """Why the artefact at a path or any fsspec URI is not what its hash says; empty where it is."""
    document, tensors = f"{folder}/model.json", f"{folder}/model.safetensors"
    try:
        with fsspec.open(document, "rb") as file:
            text = file.read()
        found = hashlib.sha256(text).hexdigest()
        if found != expected:
            return f"{document} has sha256 {found[:12]}, the registry says {expected[:12]}"
        digest = hashlib.sha256()
        with fsspec.open(tensors, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        found, stated = digest.hexdigest(), str(json.loads(text)["tensors_sha256"])
        return (
            ""
            if found == stated
            else f"{tensors} has sha256 {found[:12]}, model.json says {stated[:12]}"
        )
    except (OSError, ValueError, KeyError) as error:
        return f"{folder}: {error}"


ARTEFACTS = Invariant(
    "artefacts",
    "the artefact of every model version with forecasts is there, with the hash that the registry states",
    AGAIN,
    ("models.registry", "forecasts.volatility"),
    by=_artefacts,
)


def _snapshots(look: Look) -> Count:
    rows = look.connection.execute(
        "SELECT DISTINCT snapshot_hash FROM models.registry WHERE snapshot_hash IS NOT NULL ORDER BY 1"
    ).fetchall()
    wrong, kept = [], 0
    for (digest,) in rows:
        folder = address_of(look.settings, "snapshots", str(digest))
        fs, path = fsspec.core.url_to_fs(folder)
        if not fs.exists(path):
            continue
        kept += 1
        try:
            stated = json.loads(fs.cat_file(f"{path}/snapshot.json"))["sha256"]
            if stated != digest:
                wrong.append(f"{folder}: snapshot.json says {stated}")
            elif look.deep:
                from ml.snapshot import read_snapshot

                read_snapshot(folder, str(digest))
        except (
            Exception
        ) as error:  # any file may be cut short: what reads Parquet raises many kinds
            wrong.append(f"{folder}: {type(error).__name__}: {error}")
    gone = len(rows) - kept
    note = f"{gone} no longer kept" if gone else ""
    return Count(kept, len(wrong), wrong[0] if wrong else "", note)


SNAPSHOTS = Invariant(
    "snapshots",
    "every training snapshot that is kept is finished and is what its hash says; its rows are hashed again with --deep",
    "move the folder away: training writes a snapshot again when it needs it",
    ("models.registry",),
    by=_snapshots,
)

INVARIANTS = (VERSIONS, ARTEFACTS, SNAPSHOTS, GATES)
