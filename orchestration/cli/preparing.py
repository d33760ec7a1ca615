"""`volcast prepare`: a home that Dagster's own programs may be started on.

In: settings. Out: the home, and in its Dagster folder the project's ``dagster.yaml``. Never: a run.
"""

from __future__ import annotations

from orchestration.cli.app import app, console, guard, read_settings


@app.command()
def prepare() -> None:
    """Make the home ready for dagster-daemon and dagster-webserver; units and containers run it before them."""
    settings = read_settings()
    from orchestration.runs import prepare_home

    guard(lambda: prepare_home(settings))
    console.print(f"{settings.dagster_home} is ready", soft_wrap=True)
