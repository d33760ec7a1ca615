"""Dagster's own SQLite storage with secrets masked before anything is stored.

In: events of runs, ticks of sensors and schedules, heartbeats of the daemon and backfills, from whichever process makes them. Out: the same without
secrets, in the files where Dagster would put them. ``dagster.yaml`` names the classes, so the daemon, the webserver and every run use them, and mask
their logs too. Never: a key, name or id changed by which Dagster finds what it stored.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, TypeVar

from dagster._core.events.log import EventLogEntry
from dagster._core.execution.backfill import PartitionBackfill
from dagster._core.scheduler.instigation import InstigatorTick, TickData
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.runs import SqliteRunStorage
from dagster._core.storage.schedules import SqliteScheduleStorage
from dagster._daemon.types import DaemonHeartbeat
from dagster._serdes import ConfigurableClassData
from dagster_shared.serdes import deserialize_value, serialize_value

from orchestration.masking import mask_logs, mask_tracebacks
from orchestration.secrets import mask
from orchestration.sqlite_connections import EventConnections, TableConnections

mask_logs()
mask_tracebacks()
_KEYS = frozenset(
    {"AssetKey", "AssetCheckKey", "StepHandle", "NodeHandle", "UnresolvedStepHandle", "ResolvedFromDynamicStepHandle", "StepOutputHandle",
     "JobPythonOrigin", "RemoteJobOrigin", "RemoteRepositoryOrigin", "RemoteInstigatorOrigin", "RemotePartitionSetOrigin", "PartitionKeyRange"}
)  # fmt: skip
"""Dagster's classes that are a name of something and nothing else."""
_NAMES = frozenset(
    {"__class__", "__enum__", "run_id", "parent_run_id", "root_run_id", "job_name", "pipeline_name", "step_key", "step_kind_value", "event_type_value",
     "op_name", "node_name", "check_name", "asset_check_name", "input_name", "output_name", "mapping_key", "partition", "partition_key",
     "partition_names", "partition_set_name", "resource_name", "resource_fn_name", "instigator_origin_id", "instigator_name", "selector_id",
     "origin_run_ids", "run_ids", "run_keys", "reserved_run_ids", "cursor", "daemon_type", "daemon_id", "backfill_id", "asset_selection",
     "serialized_asset_backfill_data", "tick_id", "status"}
)  # fmt: skip
"""Fields by which Dagster finds things again; its cursors are JSON of it."""
V = TypeVar("V")


class _OfTheHome:
    """Lies under DAGSTER_HOME, where Dagster would put it: nothing to configure."""

    @classmethod
    def config_type(cls) -> Any:
        return {}


class MaskedEventLogStorage(_OfTheHome, EventConnections, SqliteEventLogStorage):
    """The log of every run, and the index of assets and checks over all runs."""

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Any
    ) -> MaskedEventLogStorage:
        return cls(str(_dagster_home() / "history" / "runs"), inst_data)

    def store_event(self, event: EventLogEntry) -> None:
        super().store_event(masked(event, EventLogEntry))


class MaskedRunStorage(_OfTheHome, TableConnections, SqliteRunStorage):
    """Runs, and what the daemon says of itself: its heartbeat carries the errors of its loops."""

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Any
    ) -> MaskedRunStorage:
        return cls.from_local(str(_dagster_home() / "history"), inst_data)

    def add_daemon_heartbeat(self, daemon_heartbeat: DaemonHeartbeat) -> None:
        super().add_daemon_heartbeat(masked(daemon_heartbeat, DaemonHeartbeat))

    def add_backfill(self, partition_backfill: PartitionBackfill) -> None:
        super().add_backfill(masked(partition_backfill, PartitionBackfill))

    def update_backfill(self, partition_backfill: PartitionBackfill) -> None:
        super().update_backfill(masked(partition_backfill, PartitionBackfill))


class MaskedScheduleStorage(_OfTheHome, SqliteScheduleStorage):
    """Ticks of sensors and schedules, with the errors of those that failed."""

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Any
    ) -> MaskedScheduleStorage:
        made = cls.from_local(str(_dagster_home() / "schedules"), inst_data)
        assert isinstance(made, cls)  # noqa: S101 - from_local makes an instance of its class
        return made

    def create_tick(self, tick_data: TickData) -> InstigatorTick:
        return super().create_tick(masked(tick_data, TickData))

    def update_tick(self, tick: InstigatorTick) -> InstigatorTick:
        return super().update_tick(tick._replace(tick_data=masked(tick.tick_data, TickData)))


def masked(value: V, kind: type[V]) -> V:
    """``value``, one of Dagster's serialisable objects, with every text in it masked, but for names and keys."""
    text = serialize_value(value)  # type: ignore[arg-type]
    if mask(text) == text:
        return value
    return deserialize_value(json.dumps(_masked_texts(json.loads(text))), kind)  # type: ignore[type-var]


def _masked_texts(part: Any) -> Any:
    if isinstance(part, str):
        return mask(part)
    if isinstance(part, list):
        return [_masked_texts(item) for item in part]
    if isinstance(part, dict):
        if part.get("__class__") in _KEYS:
            return part
        return {
            name: item if name in _NAMES or name.startswith("dagster/") else _masked_texts(item)
            for name, item in part.items()
        }
    return part


def _dagster_home() -> Path:
    home = os.environ.get("DAGSTER_HOME", "")
    if not home:
        raise RuntimeError("DAGSTER_HOME is not set: expected the folder `dagster` of VOLCAST_HOME")
    return Path(home)
