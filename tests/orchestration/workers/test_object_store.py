"""Artefacts in an object store: workers write there, readers keep a verified copy, nothing of the home holds a key."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ml import artifacts
from ml.model import ModelState
from orchestration.artifact_store import (
    address_of,
    artifact_place,
    checked_address,
    load_state,
    name_in_store,
)
from orchestration.doctor.lineage import artefact_problem
from orchestration.settings import Settings, SettingsError
from tests.orchestration.workers import market
from tests.services import object_store
from tests.services.object_store import SECRET_KEY, ObjectStore

pytest.importorskip("s3fs")


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    with object_store.running() as found, pytest.MonkeyPatch.context() as patch:
        for name, value in found.environment.items():
            patch.setenv(name, value)
        yield found


@pytest.fixture
def settings(store: ObjectStore, home: Path) -> Settings:
    return Settings(home=home, artifacts=f"s3://{store.bucket}/desk", device="cpu")


@pytest.fixture(scope="module")
def remote_snapshot(store: ObjectStore) -> str:
    return market.write_market(f"s3://{store.bucket}/desk/snapshots/one")


def test_models_of_workers_in_a_bucket_are_those_of_a_folder(
    settings, remote_snapshot, alone, small_shards
):
    spec = market.spec_of(remote_snapshot, address_of(settings, "models"), market.CHEAP)
    both = settings.model_copy(update={"workers_at_once": 2})
    results, workers, _ = market.run_in_asset(both, spec)
    assert len(workers) > 1
    assert market.same(results) == market.same(alone)
    one = results[0]
    name = name_in_store(settings, one["uri"])
    assert name == f"models/{one['model']}/{one['version']}"
    assert artefact_problem(address_of(settings, name), one["artifact_hash"]) == ""
    assert "the registry says" in artefact_problem(address_of(settings, name), "0" * 64)
    again, _, _ = market.run_in_asset(both, spec)
    assert all(result["reused"] for result in again if result["model"] == "har_pooled")
    assert market.same(again) == market.same(alone)
    written = [path for path in settings.home.rglob("*") if path.is_file()]
    assert not [path for path in written if SECRET_KEY.encode() in path.read_bytes()]


def test_a_reader_keeps_a_copy_and_looks_at_its_hash(settings, tmp_path):
    made = ModelState({"a": np.arange(3.0)}, {"model": "ewma"})
    place = address_of(settings, "models/ewma/v1")
    digest = artifacts.save(place, made)
    assert load_state(settings, "models/ewma/v1", digest).meta == made.meta
    copy = settings.artifacts_dir / "cache" / digest
    assert sorted(path.name for path in copy.iterdir()) == ["model.json", "model.safetensors"]
    artifacts.remove(place)
    assert load_state(settings, "models/ewma/v1", digest).meta == made.meta  # from the copy
    (copy / "model.safetensors").write_bytes(b"other")
    with pytest.raises(artifacts.ArtifactError, match="missing or unfinished"):
        load_state(settings, "models/ewma/v1", digest)
    assert not copy.exists()


def test_the_registry_names_no_place_outside_of_the_bucket(settings):
    assert artifact_place(settings, "models/ewma/v1") == f"{settings.artifacts}/models/ewma/v1"
    assert name_in_store(settings, f"{settings.artifacts}/models/x") == "models/x"
    for uri in ("/etc/passwd", "../else", "models/../../x", "s3://other/models/x", "", "."):
        with pytest.raises(artifacts.ArtifactError, match="expected a folder inside s3://"):
            artifact_place(settings, uri)


def test_an_address_that_cannot_be_used_says_why(monkeypatch):
    with pytest.raises(SettingsError, match=r"VOLCAST_ARTIFACTS.*expected a folder or s3://bucket"):
        Settings.from_env({"VOLCAST_ARTIFACTS": "gs://bucket/x"})
    with pytest.raises(SettingsError, match="expected no key in the address") as refused:
        Settings.from_env({"VOLCAST_ARTIFACTS": "s3://key:p4ssw0rd-of-it@bucket/x"})
    assert "p4ssw0rd" not in str(refused.value)
    monkeypatch.setattr("orchestration.artifact_store.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs the extra `s3`: uv pip install .*\[s3\]"):
        checked_address("s3://bucket/x")


def test_a_folder_elsewhere_is_used_as_the_home_s_would_be(tmp_path):
    settings = Settings(home=tmp_path / "home", artifacts=str(tmp_path / "shared"))
    assert not settings.artifacts_are_remote
    assert settings.artifacts_dir == tmp_path / "shared"
    assert address_of(settings, "models") == f"{tmp_path}/shared/models"
    default = Settings(home=tmp_path / "home")
    assert address_of(default, "models") == str(tmp_path / "home" / "artifacts" / "models")
