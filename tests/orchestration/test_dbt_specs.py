"""Our asset specs of the dbt project against those that dagster-dbt makes of the same manifest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, build_dbt_asset_specs

from orchestration.assets.common import OWNERS
from orchestration.assets.dbt_specs import GROUPS, key_of_node, model_specs
from orchestration.assets.features import MANIFEST


class _Reference(DagsterDbtTranslator):
    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        return key_of_node(dbt_resource_props)

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        return GROUPS.get(dbt_resource_props["schema"])


def test_the_specs_are_those_of_dagster_dbt() -> None:
    ours = {spec.key: spec for spec in model_specs(MANIFEST)}
    theirs = {
        spec.key: spec
        for spec in build_dbt_asset_specs(manifest=MANIFEST, dagster_dbt_translator=_Reference())
    }
    assert ours.keys() == theirs.keys()
    for key, spec in ours.items():
        other = theirs[key]
        assert {dep.asset_key for dep in spec.deps} == {dep.asset_key for dep in other.deps}
        for name in ("description", "group_name", "code_version", "kinds", "skippable", "tags"):
            assert getattr(spec, name) == getattr(other, name), (key, name)
        shown = {
            name: value
            for name, value in other.metadata.items()
            if not name.startswith("dagster_dbt/")
        }
        assert dict(spec.metadata) == shown
        assert list(spec.owners) == OWNERS
        features = key.path[0] == "features"
        assert (spec.partitions_def is not None) is features
        assert (spec.freshness_policy is not None) is features
