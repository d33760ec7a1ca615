"""What is loaded is data, is what the registry says, and lies in the store."""

from __future__ import annotations

import ast
import json
import shutil
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load, save

from ml import artifacts
from ml.attention.checkpoints import Checkpoints
from ml.baselines.ewma import Ewma
from ml.explain.stored_checks import load_checks, save_checks
from ml.model import ModelState
from ml.snapshot import read_snapshot, write_snapshot
from orchestration.artifact_store import artifact_place
from orchestration.assets.training import _registry_rows
from orchestration.settings import PROJECT_ROOT, Settings
from orchestration.versions import ServedDays

CODE = ("ml", "quality", "orchestration", "benchmarks", "docs")
FORBIDDEN_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "jsonpickle", "imp"}  # fmt: skip
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
LOADERS = {"ml/artifacts.py", "ml/attention/checkpoints.py"}
"""The two modules that may read tensors; both verify a hash first."""


def _sources() -> Iterator[tuple[str, ast.Module]]:
    for folder in CODE:
        for path in sorted((PROJECT_ROOT / folder).rglob("*.py")):
            yield path.relative_to(PROJECT_ROOT).as_posix(), ast.parse(path.read_text())


def unsafe_loads(tree: ast.AST) -> list[str]:
    """Whatever in a module could run code that comes with data."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else names
            found += [f"import {m}" for m in modules if m.split(".")[0] in FORBIDDEN_MODULES]
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        given = {word.arg: ast.unparse(word.value) for word in node.keywords}
        if called in FORBIDDEN_CALLS or called.endswith(("read_pickle", "to_pickle")):
            found.append(called)
        if called.endswith("torch.load") and given.get("weights_only") != "True":
            found.append("torch.load without weights_only=True")
        if called.endswith("np.load") or given.get("allow_pickle", "False") != "False":
            found.append(f"{called}: allow_pickle")
        if called.endswith(("yaml.load", "yaml.unsafe_load", "yaml.full_load")):
            found.append(called)
        if given.get("shell", "False") != "False" or called in ("os.system", "os.popen"):
            found.append(f"{called}: a shell")
    return found


def test_nothing_is_unpickled_evaluated_or_given_to_a_shell() -> None:
    found = {name: unsafe for name, tree in _sources() if (unsafe := unsafe_loads(tree))}
    assert found == {}


@pytest.mark.parametrize(
    "code",
    ["import pickle", "from joblib import load", "eval(text)", "torch.load(path)", "np.load(p, allow_pickle=True)",
     "yaml.load(text)", "pd.read_pickle(p)", "subprocess.run(line, shell=True)"],
)  # fmt: skip
def test_the_search_finds_what_it_looks_for(code: str) -> None:
    assert unsafe_loads(ast.parse(code))


def test_tensors_are_read_in_two_modules_only() -> None:
    readers = {
        name
        for name, tree in _sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        and (node.module or "").startswith("safetensors")
        and {"load", "load_file", "safe_open"} & {alias.name for alias in node.names}
    }
    assert readers == LOADERS


# -- artefacts that were changed -----------------------------------------------------------------------------------


def _state(seed: int) -> ModelState:
    chance = np.random.default_rng(seed)
    return ModelState(
        tensors={"weights": chance.normal(size=(4, 3)), "bias": chance.normal(size=3)},
        meta={"model": Ewma.__name__, "seed": seed},
    )


@pytest.fixture
def stored(tmp_path: Path) -> tuple[Settings, ServedDays, Path]:
    """A home with two versions of a model; the first, and its folder."""
    settings = Settings.from_env({"VOLCAST_HOME": str(tmp_path / "home")})
    hashes = [
        artifacts.save(str(settings.artifacts_dir / "models" / "ewma" / name), _state(seed))
        for seed, name in enumerate(("first", "second"))
    ]
    block = ServedDays("ewma", "first", "models/ewma/first", hashes[0], (date(2024, 3, 20),))
    return settings, block, settings.artifacts_dir / "models" / "ewma"


def _flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("name", [artifacts.TENSORS, artifacts.DOCUMENT])
@pytest.mark.parametrize("position", [0, 9, -1])
def test_one_flipped_bit_is_refused(
    stored: tuple[Settings, ServedDays, Path], name: str, position: int
) -> None:
    settings, block, folder = stored
    assert block.state(settings).meta["seed"] == 0
    _flip(folder / "first" / name, position)
    with pytest.raises(artifacts.ArtifactError, match=rf"{name} has sha256 .*, expected .*changed"):
        block.load(settings)


def test_an_extra_tensor_is_refused(stored: tuple[Settings, ServedDays, Path]) -> None:
    settings, block, folder = stored
    path = folder / "first" / artifacts.TENSORS
    path.write_bytes(save({**load(path.read_bytes()), "more": np.zeros(2)}))
    with pytest.raises(artifacts.ArtifactError, match="it was changed"):
        block.load(settings)


def test_another_versions_files_are_refused(stored: tuple[Settings, ServedDays, Path]) -> None:
    settings, block, folder = stored
    for names in ((artifacts.TENSORS,), (artifacts.TENSORS, artifacts.DOCUMENT)):
        for name in names:
            shutil.copy(folder / "second" / name, folder / "first" / name)
        with pytest.raises(artifacts.ArtifactError, match="it was changed"):
            block.load(settings)


@pytest.mark.parametrize("uri", ["../outside", "/etc", "models/../../outside", "models/link", "", ".", "s3://bucket/x/../../../.."])  # fmt: skip
def test_no_address_leads_out_of_the_store(
    stored: tuple[Settings, ServedDays, Path], tmp_path: Path, uri: str
) -> None:
    settings, block, folder = stored
    outside = tmp_path / "home" / "outside"
    shutil.copytree(folder / "first", outside)
    (settings.artifacts_dir / "models" / "link").symlink_to(outside)
    moved = ServedDays(block.model, block.model_version, uri, block.artifact_hash, block.days)
    with pytest.raises(artifacts.ArtifactError, match="expected a folder inside"):
        moved.load(settings)


def test_a_workers_answer_cannot_register_a_place_outside(
    stored: tuple[Settings, ServedDays, Path],
) -> None:
    settings, block, _ = stored
    item: dict[str, Any] = {
        "model": "ewma", "version": "v", "trained_as_of": "2024-03-17", "train_start": "2023-03-01", "train_end": "2024-03-17",
        "data_hash": "d", "artifact_hash": block.artifact_hash, "code_version": "c", "seed": 7, "device": "cpu", "metrics": {},
    }  # fmt: skip
    inside = {**item, "uri": str(settings.artifacts_dir / "models" / "ewma" / "first")}
    rows = _registry_rows(settings, [inside], "simulated", "s", {}, "run")
    assert rows["artifact_uri"].tolist() == ["models/ewma/first"]
    for uri in ("/etc/passwd", f"{settings.artifacts_dir}/../outside"):
        with pytest.raises(artifacts.ArtifactError, match="expected a folder inside"):
            _registry_rows(settings, [{**item, "uri": uri}], "simulated", "s", {}, "run")
    assert artifact_place(settings, "models/ewma/first").endswith("artifacts/models/ewma/first")


# -- what stands beside artefacts ----------------------------------------------------------------------------------


def test_a_changed_checkpoint_is_not_resumed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    slot = Checkpoints(str(tmp_path), "this fit").slot("network-0")
    slot.save({"w": torch.arange(6.0)}, {"epoch": 3})
    path = tmp_path / "network-0.safetensors"
    content = path.read_bytes()
    found = slot.load()
    assert found is not None
    assert found.facts == {"epoch": 3}
    for position in (len(content) - 1, content.index(b"epoch")):
        changed = bytearray(content)
        changed[position] ^= 1
        path.write_bytes(bytes(changed))
        assert slot.load() is None
    path.write_bytes(content)
    assert Checkpoints(str(tmp_path), "another fit").slot("network-0").load() is None
    assert "damaged" in caplog.text
    assert "of other data, settings or code" in caplog.text


def test_changed_explanation_checks_count_as_not_made(tmp_path: Path) -> None:
    uri = str(tmp_path / "version")
    save_checks(uri, "hash", [])
    assert load_checks(uri, "hash") == []
    assert load_checks(uri, "other") is None
    path = next(tmp_path.iterdir())
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "artifact_hash": "other"}))
    assert load_checks(uri, "other") is None


def test_a_snapshot_that_was_rewritten_whole_is_refused_by_its_expected_hash(
    tmp_path: Path,
) -> None:
    def frames(value: float) -> list[pd.DataFrame]:
        day = date(2024, 3, 20)
        return [
            pd.DataFrame({"asset": ["BTC"], "as_of": [day], "x": [value]}),
            pd.DataFrame({"asset": ["BTC"], "day": [day], "known_on": [day], "rv": [value]}),
            pd.DataFrame({"asset": ["BTC"], "ts": [pd.Timestamp(day, tz="UTC")], "r": [value]}),
        ]

    first = write_snapshot(str(tmp_path / "a"), *frames(1.0), "simulated", date(2024, 3, 20))
    write_snapshot(str(tmp_path / "b"), *frames(2.0), "simulated", date(2024, 3, 20))
    assert read_snapshot(str(tmp_path / "a"), first).sha256 == first
    shutil.rmtree(tmp_path / "a")
    shutil.copytree(tmp_path / "b", tmp_path / "a")  # consistent in itself, manifest and all
    with pytest.raises(ValueError, match=f"expected {first}; write the snapshot again"):
        read_snapshot(str(tmp_path / "a"), first)
