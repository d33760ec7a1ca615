"""The one merge point: every asset, gate, job, schedule and sensor, and the resource that they share.

In: the environment. Out: ``defs``, which `dagster dev -w workspace.yaml` and `volcast` load; from then on this process masks what it logs.
"""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg

from orchestration.assets.evaluation import EVALUATION_ASSETS
from orchestration.assets.explanations import EXPLANATION_ASSETS
from orchestration.assets.features import dbt_features
from orchestration.assets.forecasts import risk, volatility
from orchestration.assets.ingest import INGEST_ASSETS
from orchestration.assets.lake import MAINTENANCE_JOB, MAINTENANCE_SCHEDULE, lake_maintenance
from orchestration.assets.learning import learning
from orchestration.assets.leverage import leverage_backtest
from orchestration.assets.portfolio import PORTFOLIO_ASSETS
from orchestration.assets.publish import model_cards, published_snapshot, report
from orchestration.assets.regimes import REGIME_ASSETS
from orchestration.assets.spurious import spurious_checks
from orchestration.assets.study import studies
from orchestration.assets.training import registry
from orchestration.checks import GATES
from orchestration.cleaning import running
from orchestration.masking import check_storage, mask_logs, mask_tracebacks
from orchestration.platform import Platform
from orchestration.schedules import CAPTURE_JOB, DAILY_JOB, RETRAIN_JOB, SCHEDULES, STUDY_JOB
from orchestration.sensors import SENSORS
from orchestration.settings import Settings

SETTINGS = Settings.from_env()
ASSETS = [
    *INGEST_ASSETS,
    dbt_features,
    registry,
    studies,
    volatility,
    risk,
    *PORTFOLIO_ASSETS,
    *EXPLANATION_ASSETS,
    *REGIME_ASSETS,
    *EVALUATION_ASSETS,
    learning,
    leverage_backtest,
    spurious_checks,
    published_snapshot,
    report,
    model_cards,
    *([lake_maintenance] if SETTINGS.warehouse else []),
]

mask_logs()
mask_tracebacks()
check_storage()
PLATFORM = Platform(SETTINGS)


@dg.resource(
    description="Settings, warehouse and source of this home; a run that asks for it first cleans up after runs that died."
)
def platform(context: dg.InitResourceContext) -> Iterator[Platform]:
    if context.run is None or context.instance is None:  # a schedule or a sensor
        yield PLATFORM
        return
    run = context.run
    with running(PLATFORM.settings, context.instance, run.run_id, run.job_name) as cleaned:
        if cleaned.runs or cleaned.slots or cleaned.files:
            context.log.warning(str(cleaned))  # type: ignore[union-attr]
        yield PLATFORM


defs = dg.Definitions(
    assets=ASSETS,
    asset_checks=GATES,
    jobs=[
        DAILY_JOB,
        RETRAIN_JOB,
        STUDY_JOB,
        CAPTURE_JOB,
        *([MAINTENANCE_JOB] if SETTINGS.warehouse else []),
    ],
    schedules=[*SCHEDULES, *([MAINTENANCE_SCHEDULE] if SETTINGS.warehouse else [])],
    sensors=SENSORS,
    resources={"platform": platform},
    executor=dg.in_process_executor,
)
