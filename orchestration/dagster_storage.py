"""Dagster's own SQLite storage with secrets masked before anything is stored.

In: events of runs and ticks of sensors and schedules, from whichever process makes them. Out: the same without secrets, in the files where
Dagster would put them. ``dagster.yaml`` names both classes, so the daemon, the webserver and every run use them, and mask their logs too.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, TypeVar

from dagster._core.events.log import EventLogEntry
from dagster._core.scheduler.instigation import InstigatorTick, TickData
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.schedules import SqliteScheduleStorage
from dagster._serdes import ConfigurableClassData
from dagster_shared.serdes import deserialize_value, serialize_value

from orchestration.masking import mask_logs
from orchestration.secrets import mask

mask_logs()
V = TypeVar("V")


class MaskedEventLogStorage(SqliteEventLogStorage):
    """The log of every run, and the index of assets and checks over all runs."""

    @classmethod
    def config_type(cls) -> Any:
        return {}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Any
    ) -> MaskedEventLogStorage:
        return cls(str(_dagster_home() / "history" / "runs"), inst_data)

    def store_event(self, event: EventLogEntry) -> None:
        super().store_event(masked(event, EventLogEntry))


class MaskedScheduleStorage(SqliteScheduleStorage):
    """Ticks of sensors and schedules, with the errors of those that failed."""

    @classmethod
    def config_type(cls) -> Any:
        return {}

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
    """``value``, one of Dagster's serialisable objects, with every text in it masked."""
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
        return {name: _masked_texts(item) for name, item in part.items()}
    return part


def _dagster_home() -> Path:
    home = os.environ.get("DAGSTER_HOME", "")
    if not home:
        raise RuntimeError("DAGSTER_HOME is not set: expected the folder `dagster` of VOLCAST_HOME")
    return Path(home)
