"""What starts a run because of what the tables say, and the monitors beside it.

In: the published copy. Out: a run for every retrain that drift asked for and that nobody has made yet. Never waits for a writer.
"""

from datetime import timedelta

import dagster as dg

from orchestration.decisions import open_retrains
from orchestration.monitors import MONITORS
from orchestration.partitions import RANGE_END_TAG, RANGE_START_TAG
from orchestration.platform import Platform
from orchestration.schedules import DAILY_JOB, RETRAIN_JOB
from orchestration.warehouse import WarehouseError, read_published


@dg.sensor(
    name="retrain_on_drift",
    jobs=[RETRAIN_JOB, DAILY_JOB],
    minimum_interval_seconds=300,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="Trains again where models.decisions says so, ahead of the next daily run; days forecast since are run anew. Switch it on in the UI.",
)
def retrain_on_drift(
    context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]
) -> dg.RunRequest | dg.SkipReason:
    try:
        with read_published(platform.settings) as connection:
            days = open_retrains(connection, platform.settings)
            newest = connection.execute("SELECT max(as_of) FROM forecasts.volatility").fetchone()
    except WarehouseError as error:
        return dg.SkipReason(str(error))
    if not days:
        return dg.SkipReason("every retrain that was decided is made")
    decided = days[0]
    last = newest[0] if newest and newest[0] else decided
    if last <= decided:
        return dg.RunRequest(
            run_key=f"drift-{decided}", job_name=RETRAIN_JOB.name, partition_key=decided.isoformat()
        )
    first = decided + timedelta(days=1)
    return dg.RunRequest(
        run_key=f"drift-{decided}-{last}",
        job_name=DAILY_JOB.name,
        tags={RANGE_START_TAG: first.isoformat(), RANGE_END_TAG: last.isoformat()},
    )


SENSORS = [retrain_on_drift, *MONITORS]
