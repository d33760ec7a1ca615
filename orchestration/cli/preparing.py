"""`volcast prepare` and `volcast upgrade`: a home that Dagster's own programs may be started on.

In: settings. Out: the home, and in its Dagster folder the project's ``dagster.yaml``; after `upgrade` Dagster's tables and the warehouse as this version
writes them. Never: a run.
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


@app.command()
def upgrade() -> None:
    """Bring Dagster's tables and the warehouse to this version, before its programs start; twice changes nothing. Back up first."""
    settings = read_settings()

    def bring() -> str:
        import dagster as dg

        from orchestration.runs import prepare_home
        from orchestration.warehouse import LAYOUT_VERSION, Warehouse

        prepare_home(settings)
        with dg.DagsterInstance.get() as instance:
            instance.upgrade()
        with Warehouse(settings).write():
            pass  # an older layout gets what it lacks, a newer one is refused
        return LAYOUT_VERSION

    layout = guard(bring)
    console.print(f"Dagster's tables and the warehouse (layout {layout}) are of this version")
