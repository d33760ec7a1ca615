"""Dagster's own storage with secrets masked before anything is stored: SQLite files, or PostgreSQL where ``VOLCAST_DAGSTER_DATABASE`` names one.

In: events of runs, ticks of sensors and schedules, heartbeats of the daemon and backfills, from whichever process makes them. Out: the same without
secrets, where Dagster would put them. ``dagster.yaml`` names the classes, so the daemon, the webserver and every run use them, and mask
their logs too. Never: a key, name or id changed by which Dagster finds what it stored.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
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
from orchestration.settings import Settings
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


class MaskedEvents:
    """Before a storage of events: what it is given to store, without secrets."""

    def store_event(self, event: EventLogEntry) -> None:
        super().store_event(masked(event, EventLogEntry))  # type: ignore[misc]

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        super().store_event_batch([masked(event, EventLogEntry) for event in events])  # type: ignore[misc]


class MaskedHeartbeats:
    """Before a storage of runs: what the daemon says of itself, for its heartbeat carries the errors of its loops; and backfills."""

    def add_daemon_heartbeat(self, daemon_heartbeat: DaemonHeartbeat) -> None:
        super().add_daemon_heartbeat(masked(daemon_heartbeat, DaemonHeartbeat))  # type: ignore[misc]

    def add_backfill(self, partition_backfill: PartitionBackfill) -> None:
        super().add_backfill(masked(partition_backfill, PartitionBackfill))  # type: ignore[misc]

    def update_backfill(self, partition_backfill: PartitionBackfill) -> None:
        super().update_backfill(masked(partition_backfill, PartitionBackfill))  # type: ignore[misc]


class MaskedTicks:
    """Before a storage of ticks: sensors and schedules, with the errors of those that failed."""

    def create_tick(self, tick_data: TickData) -> InstigatorTick:
        made: InstigatorTick = super().create_tick(masked(tick_data, TickData))  # type: ignore[misc]
        return made

    def update_tick(self, tick: InstigatorTick) -> InstigatorTick:
        shown = tick._replace(tick_data=masked(tick.tick_data, TickData))
        kept: InstigatorTick = super().update_tick(shown)  # type: ignore[misc]
        return kept


class MaskedEventLogStorage(_OfTheHome, MaskedEvents, EventConnections, SqliteEventLogStorage):
    """The log of every run, and the index of assets and checks over all runs."""

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Any
    ) -> MaskedEventLogStorage:
        if found := _in_postgres("PostgresEvents", inst_data):
            return found
        return cls(str(_dagster_home() / "history" / "runs"), inst_data)


class MaskedRunStorage(_OfTheHome, MaskedHeartbeats, TableConnections, SqliteRunStorage):
    """Runs, backfills and the daemon's heartbeats."""

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Any
    ) -> MaskedRunStorage:
        if found := _in_postgres("PostgresRuns", inst_data):
            return found
        return cls.from_local(str(_dagster_home() / "history"), inst_data)


class MaskedScheduleStorage(_OfTheHome, MaskedTicks, SqliteScheduleStorage):
    """Sensors and schedules: which are on, and their ticks."""

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Any
    ) -> MaskedScheduleStorage:
        if found := _in_postgres("PostgresTicks", inst_data):
            return found
        made = cls.from_local(str(_dagster_home() / "schedules"), inst_data)
        assert isinstance(made, cls)  # noqa: S101 - from_local makes an instance of its class
        return made


def _in_postgres(kind: str, inst_data: ConfigurableClassData | None) -> Any:
    """The storage of that name over PostgreSQL; None where no database is set, and SQLite files are meant."""
    database = Settings.from_env().dagster_database
    if not database:
        return None
    from orchestration import dagster_postgres_storage

    return getattr(dagster_postgres_storage, kind)(
        dagster_postgres_storage.storage_url(database), inst_data=inst_data
    )


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
