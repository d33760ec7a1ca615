"""The dbt project itself: layers, documentation, its own tests, and the contract that others read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestration.settings import TRANSFORMS_DIR
from tests.transforms.conftest import Built
from tests.transforms.warehouse import connect

MODELS = sorted((TRANSFORMS_DIR / "models").rglob("*.sql"))
LAYER_OF_PREFIX = {"stg": "staging", "int": "intermediate", "features": "marts"}
MAY_READ = {
    "staging": {"source"},
    "intermediate": {"staging", "intermediate"},
    "marts": {"intermediate"},
}


def _layer(name: str) -> str:
    return LAYER_OF_PREFIX[name.split("_")[0]]


def _properties(model: Path) -> dict[str, Any]:
    (properties,) = yaml.safe_load(model.with_suffix(".yml").read_text())["models"]
    return dict(properties)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.stem)
def test_a_model_reads_only_the_layer_below_it(model: Path) -> None:
    sql = model.read_text()
    layer = _layer(model.stem)
    assert model.parent.name == layer
    read = {_layer(name) for name in re.findall(r"ref\('(\w+)'\)", sql)}
    read |= {"source" for _ in re.findall(r"source\('raw', '\w+'\)", sql)}
    assert read <= MAY_READ[layer], f"{model.stem} reads {read - MAY_READ[layer]}"
    assert not re.search(r"\b(from|join)\s+(raw|staging|intermediate|features)\.", sql)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.stem)
def test_a_model_and_each_of_its_columns_are_described(built: Built, model: Path) -> None:
    properties = _properties(model)
    assert properties["name"] == model.stem
    assert properties["description"]
    described = {column["name"]: column.get("description") for column in properties["columns"]}
    schema, name = model.parent.name, model.stem
    if schema == "marts":
        schema, name = "features", name.removeprefix("features_")
    with connect(built.path) as connection:
        found = [row[0] for row in connection.execute(f"DESCRIBE {schema}.{name}").fetchall()]
    assert list(described) == found
    assert all(described.values())


def test_unit_tests_and_data_tests_of_the_project_pass(built: Built) -> None:
    kinds = [unique_id.split(".")[0] for unique_id in built.statuses]
    assert set(built.statuses.values()) == {"pass"}
    assert kinds.count("unit_test") >= 12
    assert kinds.count("test") >= 80


def test_views_work_in_the_file_opened_by_itself(built: Built) -> None:
    import duckdb

    with duckdb.connect(str(built.path), read_only=True) as connection:
        row = connection.execute("SELECT count(*) FROM staging.stg_ohlcv").fetchone()
    assert row is not None
    assert row[0] == len(built.frames["ohlcv"])


def test_no_package_is_needed() -> None:
    assert not (TRANSFORMS_DIR / "packages.yml").exists()
    assert not (TRANSFORMS_DIR / "dependencies.yml").exists()
