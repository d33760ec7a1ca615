"""Where training runs: ``ml.worker`` in child processes, Ray jobs or pods, through Dagster Pipes.

``plan`` splits a spec into shards, ``fanout`` runs them side by side and again where a worker was lost, and ``processes``, ``ray_jobs`` and ``pods``
are where one shard runs. Nothing of Ray or Kubernetes is imported before it is asked for.
"""

from orchestration.workers.fanout import fan_out, run_worker
from orchestration.workers.messages import WholeLineReader, whole_lines
from orchestration.workers.processes import ABANDONED, run_module
from orchestration.workers.shard import Ended, Shard, WorkerFailed

__all__ = [
    "ABANDONED",
    "Ended",
    "Shard",
    "WholeLineReader",
    "WorkerFailed",
    "fan_out",
    "run_module",
    "run_worker",
    "whole_lines",
]
