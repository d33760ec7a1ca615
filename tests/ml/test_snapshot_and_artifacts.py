"""What is written for and by a worker: content hashes, atomic files, no half artefacts."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ml import artifacts
from ml.artifacts import ArtifactError
from ml.model import ModelState
from ml.panel import Panel
from ml.snapshot import content_hash, read_snapshot, write_snapshot
from tests.ml.test_panel import funding_rows, small_frames

AS_OF = date(2023, 2, 9)
STATE = ModelState({"beta": np.arange(3.0), "alpha": np.eye(2)}, {"model": "log_har", "n": 3})


def test_snapshot_round_trip_gives_the_same_panel(tmp_path: Path) -> None:
    frames = small_frames()
    sha256 = write_snapshot(str(tmp_path), *frames, "simulated", AS_OF)
    assert Panel.read(str(tmp_path), sha256).data_hash() == Panel.from_frames(*frames).data_hash()
    assert sha256 == content_hash(*frames)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "daily.parquet", "hourly.parquet", "realized.parquet", "snapshot.json",
    ]  # fmt: skip


def test_a_snapshot_may_hold_funding_by_venue_and_one_without_it_is_as_before(
    tmp_path: Path,
) -> None:
    frames, funding = small_frames(), funding_rows()
    folder = str(tmp_path)
    with_funding = write_snapshot(folder, *frames, "simulated", AS_OF, funding)
    assert with_funding == content_hash(*frames, funding) != content_hash(*frames)
    panel = Panel.read(folder, with_funding)
    assert panel.data_hash() == Panel.from_frames(*frames, funding).data_hash()
    funding.assign(funding_rate_d=0.5).to_parquet(tmp_path / "funding.parquet")
    with pytest.raises(ValueError, match="content has sha256"):
        read_snapshot(folder)
    without = write_snapshot(folder, *frames, "simulated", AS_OF)
    assert without == content_hash(*frames)
    assert read_snapshot(folder).funding is None


def test_snapshot_hash_is_of_content_only() -> None:
    daily, realized, hourly = small_frames()
    reordered = daily.sample(frac=1, random_state=3)[daily.columns[::-1]]
    narrower = reordered.assign(rv_d=reordered["rv_d"].astype("float32").astype("Float64"))
    dated = narrower.assign(as_of=narrower["as_of"].dt.date)
    assert content_hash(dated, realized, hourly) == content_hash(daily, realized, hourly)
    changed = daily.assign(rv_d=daily["rv_d"] + 1e-9)
    assert content_hash(changed, realized, hourly) != content_hash(daily, realized, hourly)
    missing = daily.assign(rv_d=daily["rv_d"].mask(daily["rv_d"] == 1.0))
    assert content_hash(missing, realized, hourly) != content_hash(daily, realized, hourly)


def test_the_same_snapshot_is_not_written_twice(tmp_path: Path) -> None:
    frames = small_frames()
    write_snapshot(str(tmp_path), *frames, "simulated", AS_OF)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    write_snapshot(str(tmp_path), *frames, "simulated", AS_OF)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_a_changed_or_unfinished_snapshot_is_refused_and_can_be_written_again(
    tmp_path: Path,
) -> None:
    daily, realized, hourly = small_frames()
    folder = str(tmp_path)
    write_snapshot(folder, daily, realized, hourly, "simulated", AS_OF)
    daily.assign(rv_d=1.0).to_parquet(tmp_path / "daily.parquet")
    with pytest.raises(
        ValueError, match=r"content has sha256 .*, expected .*; write the snapshot again"
    ):
        read_snapshot(folder)
    write_snapshot(folder, daily, realized, hourly, "simulated", AS_OF)
    assert read_snapshot(folder).as_of == AS_OF
    (tmp_path / "snapshot.json").unlink()
    with pytest.raises(FileNotFoundError, match="the snapshot was never finished"):
        read_snapshot(folder)


def test_artifact_round_trip_has_one_hash(tmp_path: Path) -> None:
    sha256 = artifacts.save(str(tmp_path / "a"), STATE)
    assert artifacts.save(str(tmp_path / "b"), STATE) == sha256
    assert artifacts.save(str(tmp_path / "a"), STATE) == sha256
    loaded = artifacts.load(str(tmp_path / "a"), sha256)
    assert loaded.meta == STATE.meta
    np.testing.assert_array_equal(loaded.tensors["alpha"], np.eye(2))


def test_artifacts_and_snapshots_work_on_another_file_system() -> None:
    sha256 = artifacts.save("memory://models/a", STATE)
    assert artifacts.load("memory://models/a", sha256).meta == STATE.meta
    frames = small_frames()
    write_snapshot("memory://snapshots/a", *frames, "simulated", AS_OF)
    assert read_snapshot("memory://snapshots/a").source == "simulated"


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_a_changed_artifact_is_refused(tmp_path: Path, name: str) -> None:
    sha256 = artifacts.save(str(tmp_path / "a"), STATE)
    path = tmp_path / "a" / name
    path.write_bytes(path.read_bytes()[:-1] + b" ")
    with pytest.raises(ArtifactError, match=f"{name} has sha256"):
        artifacts.load(str(tmp_path / "a"), sha256)


def test_artifacts_are_immutable_and_missing_ones_are_named(tmp_path: Path) -> None:
    artifacts.save(str(tmp_path / "a"), STATE)
    with pytest.raises(ArtifactError, match="holds another model"):
        artifacts.save(str(tmp_path / "a"), ModelState(STATE.tensors, {"model": "ewma"}))
    with pytest.raises(
        ArtifactError, match=r"no model.json; the artefact is missing or unfinished"
    ):
        artifacts.load(str(tmp_path / "b"), "0" * 64)


def test_numbers_that_json_has_not_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        artifacts.save(str(tmp_path / "a"), ModelState({}, {"loss": float("nan")}))


@pytest.mark.parametrize("moment", ["fsync", "rename"])
def test_a_kill_while_saving_leaves_no_artifact_and_the_next_save_completes(
    tmp_path: Path, moment: str
) -> None:
    program = f"""
import os, signal
import numpy as np
from ml import artifacts
from ml.model import ModelState
os.{moment} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
artifacts.save({str(tmp_path / "m" / "v1")!r}, ModelState({{"a": np.ones(3)}}, {{"model": "ewma"}}))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parents[2], check=False
    )
    assert done.returncode == -9
    target = tmp_path / "m" / "v1"
    assert not target.exists()
    assert artifacts.stored_hash(str(target)) is None
    abandoned = next((tmp_path / "m").iterdir())
    os.utime(abandoned, (0, 0))
    artifacts.save(str(target), ModelState({"a": np.ones(3)}, {"model": "ewma"}))
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["v1"]


def test_snapshot_without_a_key_column_is_refused(tmp_path: Path) -> None:
    daily, realized, hourly = small_frames()
    with pytest.raises(ValueError, match="snapshot table daily: no column 'as_of'"):
        write_snapshot(
            str(tmp_path), daily.drop(columns="as_of"), realized, hourly, "simulated", AS_OF
        )
    empty = pd.DataFrame(
        {
            "asset": pd.Series(dtype="str"),
            "ts": pd.Series(dtype="datetime64[us, UTC]"),
            "known_on": pd.Series(dtype="datetime64[us]"),
        }
    )
    write_snapshot(str(tmp_path), daily, realized, empty, "simulated", AS_OF)
    assert Panel.read(str(tmp_path)).hourly.shape[-1] == 0
