"""Feature tables: the dbt project as Dagster assets, one for each model, built in one dbt process.

In: raw tables. Out: staging, intermediate and ``features.*``, each materialised with its row count, and dbt's data tests as asset checks.
A range that is built already from the same raw rows and the same project is not built again.
"""

import json
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from typing import Any

import dagster as dg

from orchestration import dbt
from orchestration.assets.common import WAREHOUSE_POOL, source_metadata
from orchestration.assets.dbt_specs import data_tests, key_of_node, model_specs
from orchestration.markdown import in_markdown
from orchestration.partitions import ONE_RUN, day_range
from orchestration.platform import Platform
from orchestration.settings import Settings
from orchestration.warehouse import Warehouse, bump_revision, get_json_state, set_json_state

STATE_KEY = "features_built"
MANIFEST = dbt.ensure_manifest(Settings.from_env())


TESTS = data_tests(MANIFEST)
CHECK_NAME = "data_tests"
PASSED = ("pass", "success", "warn")
BARS_AT_ONCE = 4_000_000
"""Most bars that become known in the days that one start of dbt builds."""


@dg.multi_asset(
    name="dbt_features",
    specs=model_specs(MANIFEST),
    check_specs=[
        dg.AssetCheckSpec(
            name=CHECK_NAME,
            asset=key,
            blocking=True,
            description=f"{len(tests)} data tests of the dbt project",
        )
        for key, tests in TESTS.items()
    ],
    backfill_policy=ONE_RUN,
    pool=WAREHOUSE_POOL,
)
def dbt_features(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    first, last = day_range(context)
    with platform.warehouse.building():
        results, note = _build(context, platform, first, last)
    yield from _results(platform, results, note)


def _build(
    context: dg.AssetExecutionContext, platform: Platform, first: date, last: date
) -> tuple[list[dbt.DbtResult], dict[str, Any]]:
    """Build what is missing of first .. last; what dbt said of every model and test, and what was built."""
    settings, warehouse = platform.settings, platform.warehouse
    assets = platform.source.assets
    fingerprint = _fingerprint(settings, assets)
    with warehouse.read() as connection:
        built = get_json_state(connection, STATE_KEY)
        raw_rows = _raw_rows(connection)
    if is_built(built, fingerprint, raw_rows, first, last):
        context.log.info(
            f"features up to {built['to']} are built from the same raw rows: nothing to do"
        )
        return [dbt.DbtResult(**item) for item in built["results"]], {"unchanged": True}
    from_as_of, to_as_of, refresh = range_to_build(
        built, fingerprint, first, last, platform.source.first_day()
    )
    with warehouse.read() as connection:
        parts = build_parts(connection, settings, from_as_of, to_as_of)
    state = {
        "fingerprint": fingerprint,
        "from": from_as_of.isoformat() if refresh else built["from"],
        "to": max(to_as_of.isoformat(), built.get("to", "")),
        "raw_rows": raw_rows,
        "rows_from": min(
            from_as_of.isoformat(),
            rows_from(built) if built.get("raw_rows") == raw_rows and not refresh else "9999",
        ),
        "results": [],
    }
    results: list[dbt.DbtResult] = []
    for start, end in parts:
        # Until the last part is in, the state says which days are still to be built: a run that is killed leaves them to the next one.
        _keep(warehouse, {**state, "open_from": start.isoformat(), "refresh": refresh})
        context.log.info(f"dbt builds {start} .. {end}{' from scratch' if refresh else ''}")
        with warehouse.lock() as lock:
            found = dbt.build(settings, start, end, assets, lock=lock, full_refresh=refresh)
        results = _worst(results, found)
        refresh = False
    _keep(warehouse, {**state, "results": [item.__dict__ for item in results]})
    return results, {"from": from_as_of.isoformat(), "to": to_as_of.isoformat()}


def _keep(warehouse: Warehouse, state: Mapping[str, Any]) -> None:
    for attempt in warehouse.writes():
        with attempt as connection:
            set_json_state(connection, STATE_KEY, state)
            bump_revision(connection)


def is_built(
    built: Mapping[str, Any], fingerprint: str, raw_rows: int, first: date, last: date
) -> bool:
    """Whether first .. last are built from the raw rows that there are, by the project as it is."""
    return (
        built.get("fingerprint") == fingerprint
        and built["raw_rows"] == raw_rows
        and "open_from" not in built
        and rows_from(built) <= first.isoformat()
        and last.isoformat() <= built["to"]
    )


def rows_from(built: Mapping[str, Any]) -> str:
    """The day from which on the features rest on the state's ``raw_rows``; those before were built when there were fewer."""
    return str(built.get("rows_from") or built.get("from") or "9999")


def range_to_build(
    built: Mapping[str, Any], fingerprint: str, first: date, last: date, first_day: date
) -> tuple[date, date, bool]:
    """First and last as_of to build, and whether to start from scratch.

    Days between what is built and what is asked for are built too: every row's windows need the rows before it. Days that a run began to
    build and did not finish are built again, from the first of them on, up to where it meant to go.
    """
    if not built:
        return first_day, last, True
    built_to = date.fromisoformat(built["to"])
    if built["fingerprint"] != fingerprint or built.get("refresh"):
        return first_day, max(last, built_to), True
    if "open_from" in built:
        open_from = date.fromisoformat(built["open_from"])
        return min(first, open_from), max(last, built_to), False
    return min(first, built_to + timedelta(days=1)), last, False


def _worst(before: list[dbt.DbtResult], found: list[dbt.DbtResult]) -> list[dbt.DbtResult]:
    """The results of the last part, but of a data test that failed in an earlier one its failure."""
    failed = {item.unique_id: item for item in before if item.status not in PASSED}
    return [failed.get(item.unique_id, item) if item.status in PASSED else item for item in found]


def build_parts(
    connection: Any, settings: Settings, from_as_of: date, to_as_of: date
) -> list[tuple[date, date]]:
    """The range in parts, first to last, of which each but a single day brings at most ``BARS_AT_ONCE`` bars.

    A part costs a start of dbt; all of a long history at once would not fit into memory. The rows are the same.
    """
    if from_as_of >= to_as_of:
        return [(from_as_of, to_as_of)]
    rows = connection.execute(
        "SELECT greatest(CAST(known_at - to_minutes(?) - INTERVAL 1 MICROSECOND AS DATE), ?) AS day, count(*) "
        "FROM raw.ohlcv GROUP BY 1 ORDER BY 1",
        [settings.decision_offset_minutes, from_as_of],
    ).fetchall()
    parts: list[tuple[date, date]] = []
    start, bars = from_as_of, 0
    for day, count in rows:
        if day > to_as_of:
            break
        if bars and bars + count > BARS_AT_ONCE:
            parts.append((start, day - timedelta(days=1)))
            start, bars = day, 0
        bars += count
    return [*parts, (start, to_as_of)]


def _fingerprint(settings: Settings, assets: tuple[str, ...]) -> str:
    return json.dumps(
        [
            dbt.project_fingerprint(),
            settings.decision_offset_minutes,
            settings.rv_interval,
            sorted(assets),
        ]
    )


def _raw_rows(connection: Any) -> int:
    row = connection.execute("SELECT coalesce(sum(rows_inserted), 0) FROM raw.batches").fetchone()
    released = connection.execute(
        "SELECT count(*) FROM quarantine.rows WHERE released_at IS NOT NULL"
    ).fetchone()
    return int(row[0]) + int(released[0])


def _results(
    platform: Platform, results: list[dbt.DbtResult], metadata: Mapping[str, Any]
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    by_id = {item.unique_id: item for item in results}
    with platform.warehouse.read() as connection:
        for found in results:  # in the order in which dbt built them: parents first
            node = MANIFEST["nodes"].get(found.unique_id)
            if node is None or node["resource_type"] != "model":
                continue
            relation = f'{node["schema"]}."{node["alias"]}"'
            extra: dict[str, Any] = {}
            if node["config"]["materialized"] != "view":
                row = connection.execute(f"SELECT count(*) FROM {relation}").fetchone()
                extra["dagster/row_count"] = int(row[0]) if row else 0
            yield dg.MaterializeResult(
                asset_key=key_of_node(node),
                metadata={
                    **source_metadata(platform),
                    **extra,
                    **metadata,
                    "seconds": found.seconds,
                },
            )
    for key, tests in TESTS.items():
        ran = [by_id[unique_id] for unique_id in tests if unique_id in by_id]
        failed = [test for test in ran if test.status not in PASSED]
        yield dg.AssetCheckResult(
            asset_key=key,
            check_name=CHECK_NAME,
            passed=not failed,
            severity=dg.AssetCheckSeverity.ERROR,
            metadata={
                "tests": len(ran),
                "failed": len(failed),
                **(
                    {
                        "failures": dg.MetadataValue.md(
                            "\n".join(
                                f"- {in_markdown(f'{test.unique_id}: {test.message}')}"
                                for test in failed
                            )
                        )
                    }
                    if failed
                    else {}
                ),
            },
        )
