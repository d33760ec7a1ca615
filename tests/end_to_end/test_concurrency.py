"""Step processes beside each other; runs beside each other and killed runs are in tests/faults."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from orchestration.settings import PROJECT_ROOT
from tests.end_to_end.homes import AS_OF, Home

INGEST_IN_PROCESSES = textwrap.dedent(
    """
    import dagster as dg
    from orchestration.definitions import ASSETS, GATES
    from orchestration.platform import Platform
    from orchestration.settings import Settings

    def build():
        job = dg.define_asset_job(
            "ingest_in_processes",
            selection=dg.AssetSelection.groups("ingest"),
            executor_def=dg.multiprocess_executor.configured({"max_concurrent": 4}),
        )
        defs = dg.Definitions(assets=ASSETS, asset_checks=GATES, jobs=[job], resources={"platform": Platform(Settings.from_env())})
        return defs.resolve_job_def("ingest_in_processes")

    if __name__ == "__main__":
        import sys
        import steps
        with dg.DagsterInstance.get() as instance:
            result = dg.execute_job(
                dg.reconstructable(steps.build), instance=instance, tags={"dagster/partition": sys.argv[1]}, raise_on_error=False
            )
            print("SUCCESS" if result.success else [event.message for event in result.all_events if event.is_failure])
    """
)


@pytest.mark.slow
def test_steps_in_processes_of_their_own_do_not_hit_each_others_lock(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    (tmp_path / "steps.py").write_text(INGEST_IN_PROCESSES)
    instance = tmp_path / "dagster"
    instance.mkdir()
    done = subprocess.run(
        [sys.executable, str(tmp_path / "steps.py"), AS_OF.isoformat()],
        env={
            **home.variables,
            "DAGSTER_HOME": str(instance),
            "PYTHONPATH": f"{PROJECT_ROOT}:{tmp_path}",
        },
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.stdout.strip().endswith("SUCCESS"), done.stdout + done.stderr[-3000:]
    assert home.rows("SELECT count(DISTINCT table_name) FROM raw.batches") == [(7,)]
