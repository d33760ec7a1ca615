"""Pages on steps that run in processes of their own: a training worker that is killed, a dbt that fails."""

import logging
import os
import shutil
import signal

import dagster as dg
import pytest

from orchestration import dbt
from orchestration.settings import TRANSFORMS_DIR, Settings
from orchestration.warehouse import Warehouse
from orchestration.workers import WorkerFailed, run_worker
from tests.runbook.pages import assert_quoted

KILLED = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n"


def test_worker_killed(tmp_path, monkeypatch):
    (tmp_path / "out_of_memory.py").write_text(KILLED)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("orchestration.workers.fanout.WORKER_MODULE", "out_of_memory")
    settings = Settings(home=tmp_path / "home")
    spec = {"fits": [{"model": "attention", "trained_as_of": "2026-03-08", "window_days": 400}]}
    said: list[str] = []

    @dg.asset
    def registry(context: dg.AssetExecutionContext) -> None:
        try:
            run_worker(context, settings, spec, tmp_path / "specs" / "one.json")
        except WorkerFailed as error:
            said.append(str(error))

    with dg.DagsterInstance.ephemeral() as instance:
        run = dg.materialize([registry], instance=instance, raise_on_error=False)
        lines = [entry.user_message for entry in instance.all_logs(run.run_id)]
    lost = [line for line in lines if "lost its worker" in line]
    assert len(lost) == settings.worker_retries
    assert_quoted("training-failed", lost[0], line=1)
    assert_quoted("training-failed", said[0])
    assert "attention of 2026-03-08" in said[0]
    assert signal.SIGKILL.name in said[0]


@pytest.mark.slow  # a dbt process
def test_dbt_failed(tmp_path, monkeypatch, caplog):
    project = tmp_path / "transforms"
    shutil.copytree(TRANSFORMS_DIR, project, ignore=shutil.ignore_patterns("target", "logs"))
    model = sorted((project / "models").rglob("*.sql"))[0]
    model.write_text("select {{ no_such_macro( }}")
    monkeypatch.setattr(dbt, "TRANSFORMS_DIR", project)
    settings = Settings(home=tmp_path / "home")
    with caplog.at_level(logging.INFO, "orchestration.dbt"), pytest.raises(dbt.DbtError) as failed:
        dbt.ensure_manifest(settings)
    assert_quoted("dbt-failed", str(failed.value))
    assert model.stem in str(failed.value)
    lines = [record for record in caplog.records if record.event == "dbt"]
    assert any(record.levelno == logging.ERROR for record in lines)
    with Warehouse(settings).lock():  # it is free again
        assert os.path.exists(settings.dbt_target_dir / "logs" / "dbt.log")
