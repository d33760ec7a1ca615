"""The dbt project's models as Dagster asset specs, from its manifest alone.

In: dbt's manifest. Out: one ``AssetSpec`` a model, with the SQL address as key, and the data tests that guard it. dagster-dbt says the same
(``tests/orchestration/test_dbt_specs.py`` holds the two equal), but imports dbt for it: two seconds in every process that loads the definitions.
"""

import hashlib
import textwrap
from collections.abc import Mapping
from typing import Any

import dagster as dg

from orchestration.assets.common import DAILY_FRESHNESS, OWNERS
from orchestration.partitions import DAILY

GROUPS = {
    "staging": "features_staging",
    "intermediate": "features_intermediate",
    "features": "features",
}
Manifest = Mapping[str, Any]
Node = Mapping[str, Any]


def key_of_node(node: Node) -> dg.AssetKey:
    """A dbt relation's Dagster key is its SQL address."""
    name = node.get("alias") or node.get("identifier") or node["name"]
    return dg.AssetKey([node["schema"], name])


def node_of(manifest: Manifest, unique_id: str) -> Node:
    found: Node = manifest["nodes"].get(unique_id) or manifest["sources"][unique_id]
    return found


def model_specs(manifest: Manifest) -> list[dg.AssetSpec]:
    """Specs of every model; its group is its layer, and features are partitioned by day."""
    return [
        _spec(manifest, node)
        for node in manifest["nodes"].values()
        if node["resource_type"] == "model"
    ]


def _spec(manifest: Manifest, node: Node) -> dg.AssetSpec:
    features = node["schema"] == "features"
    sql = textwrap.indent(node["raw_code"], "    ")
    columns = [
        dg.TableColumn(name, column.get("data_type") or "?", column.get("description"))
        for name, column in node["columns"].items()
    ]
    return dg.AssetSpec(
        key=key_of_node(node),
        deps=[key_of_node(node_of(manifest, name)) for name in node["depends_on"]["nodes"]],
        description=f"{node['description']}\n\n#### Raw SQL:\n```sql\n{sql}\n```",
        metadata={
            "dagster-dbt/materialization_type": node["config"]["materialized"],
            **({"dagster/column_schema": dg.TableSchema(columns)} if columns else {}),
            "dagster/table_name": f"{node['database']}.{node['schema']}.{node['alias']}",
            "dagster/storage_kind": "duckdb",
        },
        skippable=True,
        group_name=GROUPS[node["schema"]],
        code_version=hashlib.sha1(node["raw_code"].encode(), usedforsecurity=False).hexdigest(),
        owners=OWNERS,
        kinds={"dbt", "duckdb"},
        partitions_def=DAILY if features else None,
        freshness_policy=DAILY_FRESHNESS if features else None,
    )


def data_tests(manifest: Manifest) -> dict[dg.AssetKey, list[str]]:
    """dbt data tests by the Dagster asset that they guard, as unique ids."""
    tests: dict[dg.AssetKey, list[str]] = {}
    for unique_id, node in manifest["nodes"].items():
        guarded = node.get("attached_node") or ""
        if node["resource_type"] == "test" and guarded.startswith("model."):
            tests.setdefault(key_of_node(node_of(manifest, guarded)), []).append(unique_id)
    return tests
