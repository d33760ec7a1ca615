"""Shards of a command that is no Dagster run: in a run of its own, which the UI shows with their logs.

In: settings, a name and shards. Out: how each ended. Never: a run that dead runs' cleaning would take for none.
"""

from collections.abc import Sequence

import dagster as dg

from orchestration.cleaning import running
from orchestration.runs import prepare_home
from orchestration.settings import Settings
from orchestration.workers.fanout import fan_out
from orchestration.workers.shard import Ended, Shard


def fan_out_in_own_run(settings: Settings, name: str, shards: Sequence[Shard]) -> list[Ended]:
    """Run the shards in a new run called ``name``. Raises what ``fan_out`` raises."""
    ended: list[Ended] = []

    def work(context: dg.OpExecutionContext) -> None:
        ended.extend(fan_out(context, settings, shards))

    op = dg.op(name=f"{name}_fits")(work)
    job = dg.GraphDefinition(name=name, node_defs=[op]).to_job()
    prepare_home(settings)
    with dg.DagsterInstance.get() as instance, running(settings, instance, name, name):
        job.execute_in_process(instance=instance)
    return ended
