"""Feature tables: the dbt project as Dagster assets, one for each model, built in one dbt process.

In: raw tables. Out: staging, intermediate and ``features.*``, each materialised with its row count, and dbt's data tests as asset checks.
A range that is built already from the same raw rows and the same project is not built again.
"""

import json
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, build_dbt_asset_specs

from orchestration import dbt
from orchestration.assets.common import DAILY_FRESHNESS, OWNERS, WAREHOUSE_POOL, source_metadata
from orchestration.markdown import in_markdown
from orchestration.partitions import DAILY, ONE_RUN, day_range
from orchestration.platform import Platform
from orchestration.settings import Settings
from orchestration.warehouse import bump_revision, get_json_state, set_json_state

STATE_KEY = "features_built"
GROUPS = {
    "staging": "features_staging",
    "intermediate": "features_intermediate",
    "features": "features",
}
MANIFEST = dbt.ensure_manifest(Settings.from_env())


class TableAddresses(DagsterDbtTranslator):
    """A dbt relation's Dagster key is its SQL address; its group is its layer."""

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        name = (
            dbt_resource_props.get("alias")
            or dbt_resource_props.get("identifier")
            or dbt_resource_props["name"]
        )
        return dg.AssetKey([dbt_resource_props["schema"], name])

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        return GROUPS.get(dbt_resource_props["schema"])


def _specs() -> list[dg.AssetSpec]:
    specs = build_dbt_asset_specs(manifest=MANIFEST, dagster_dbt_translator=TableAddresses())
    return [
        spec.replace_attributes(
            owners=OWNERS,
            kinds={"dbt", "duckdb"},
            partitions_def=DAILY if spec.key.path[0] == "features" else None,
            freshness_policy=DAILY_FRESHNESS if spec.key.path[0] == "features" else None,
        )
        for spec in specs
    ]


def _key_of_node(unique_id: str) -> dg.AssetKey:
    node = MANIFEST["nodes"].get(unique_id) or MANIFEST["sources"][unique_id]
    return TableAddresses().get_asset_key(node)


def _tests() -> dict[dg.AssetKey, list[str]]:
    """dbt data tests by the Dagster asset that they guard, as unique ids."""
    tests: dict[dg.AssetKey, list[str]] = {}
    for unique_id, node in MANIFEST["nodes"].items():
        guarded = node.get("attached_node") or ""
        if node["resource_type"] == "test" and guarded.startswith("model."):
            tests.setdefault(_key_of_node(guarded), []).append(unique_id)
    return tests


TESTS = _tests()
CHECK_NAME = "data_tests"


@dg.multi_asset(
    name="dbt_features",
    specs=_specs(),
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
    settings, warehouse = platform.settings, platform.warehouse
    assets = platform.source.assets
    fingerprint = _fingerprint(settings, assets)
    with warehouse.read() as connection:
        built = get_json_state(connection, STATE_KEY)
        raw_rows = _raw_rows(connection)
    if (
        built.get("fingerprint") == fingerprint
        and built["raw_rows"] == raw_rows
        and last.isoformat() <= built["to"]
    ):
        context.log.info(
            f"features up to {built['to']} are built from the same raw rows: nothing to do"
        )
        yield from _results(
            platform, [dbt.DbtResult(**item) for item in built["results"]], {"unchanged": True}
        )
        return
    from_as_of, to_as_of, refresh = _range_to_build(
        built, fingerprint, first, last, platform.source.first_day()
    )
    context.log.info(f"dbt builds {from_as_of} .. {to_as_of}{' from scratch' if refresh else ''}")
    with warehouse.lock() as lock:
        results = dbt.build(settings, from_as_of, to_as_of, assets, lock=lock, full_refresh=refresh)
    with warehouse.write() as connection:
        set_json_state(
            connection,
            STATE_KEY,
            {
                "fingerprint": fingerprint,
                "from": from_as_of if refresh else built["from"],
                "to": to_as_of if refresh else max(to_as_of.isoformat(), built["to"]),
                "raw_rows": raw_rows,
                "results": [item.__dict__ for item in results],
            },
        )
        bump_revision(connection)
    yield from _results(
        platform, results, {"from": from_as_of.isoformat(), "to": to_as_of.isoformat()}
    )


def _range_to_build(
    built: Mapping[str, Any], fingerprint: str, first: date, last: date, first_day: date
) -> tuple[date, date, bool]:
    """First and last as_of to build, and whether to start from scratch.

    Days between what is built and what is asked for are built too: every row's windows need the rows before it.
    """
    if not built:
        return first_day, last, True
    built_to = date.fromisoformat(built["to"])
    if built["fingerprint"] != fingerprint:
        return first_day, max(last, built_to), True
    return min(first, built_to + timedelta(days=1)), last, False


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
                asset_key=_key_of_node(node["unique_id"]),
                metadata={
                    **source_metadata(platform),
                    **extra,
                    **metadata,
                    "seconds": found.seconds,
                },
            )
    for key, tests in TESTS.items():
        ran = [by_id[unique_id] for unique_id in tests if unique_id in by_id]
        failed = [test for test in ran if test.status not in ("pass", "success", "warn")]
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
