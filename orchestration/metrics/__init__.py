"""Metrics for Prometheus: as text, as a file for node_exporter's textfile collector, and from a small endpoint.

In: settings. Out: ``metrics/volcast.prom`` in the home or the file of ``VOLCAST_METRICS_FILE``, written whole at the end of each run, failed ones included; the same text for `volcast metrics`.
A part that cannot be read is missing from it, and ``volcast_collector_success`` says so. Never: stops a run.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestration.metrics import home, tables
from orchestration.metrics.definitions import METRICS
from orchestration.metrics.home import note_backup
from orchestration.metrics.samples import Sample
from orchestration.observing import look, utc_now
from orchestration.secrets import mask
from orchestration.settings import Settings

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

__all__ = ["METRICS", "note_backup", "render", "serve", "write_metrics"]

logger = logging.getLogger(__name__)


def collect(settings: Settings) -> Iterator[Metric]:
    """Every metric that this home can give now."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    found: dict[str, list[Sample]] = {}
    for sample in _samples(settings):
        found.setdefault(sample.name, []).append(sample)
    for name, definition in METRICS.items():
        if name not in found:
            continue
        kind = CounterMetricFamily if definition.kind == "counter" else GaugeMetricFamily
        family = kind(name, definition.help, labels=definition.labels)
        for sample in found[name]:
            family.add_metric([mask(sample.labels[key]) for key in definition.labels], sample.value)
        yield family


def render(settings: Settings) -> str:
    """The metrics in Prometheus' text format."""
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Home(settings))
    return generate_latest(registry).decode()


def write_metrics(settings: Settings) -> Path | None:
    """Write the file, whole or not at all. What stands in the way is logged: a run does not fail for its metrics."""
    path = settings.metrics_path
    temporary = path.with_suffix(f".{os.getpid()}")
    try:
        text = render(settings)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        os.chmod(temporary, 0o644)  # node_exporter is another user
        os.replace(temporary, path)
    except Exception as error:
        logger.warning("metrics are not written: %s", error, extra={"event": "metrics_failed"})
        temporary.unlink(missing_ok=True)
        return None
    return path


def serve(settings: Settings, port: int) -> None:
    """Answer scrapes at http://127.0.0.1:port/metrics until stopped. Raises OSError where the port is taken."""
    from prometheus_client import CollectorRegistry, start_http_server

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Home(settings))
    _, thread = start_http_server(port, addr="127.0.0.1", registry=registry)
    thread.join()


class _Home:
    """The home as prometheus_client wants it: read anew for each scrape."""

    def __init__(self, settings: Settings) -> None:
        self.collect = partial(collect, settings)

    def describe(self) -> list[Any]:
        return []


def _samples(settings: Settings) -> Iterator[Sample]:
    from orchestration.alerts import open_by_severity

    parts: list[tuple[str, Callable[[], Iterable[Sample]]]] = [
        (collector.__name__, partial(collector, settings)) for collector in home.COLLECTORS
    ]
    parts.append(("alerts", partial(open_by_severity, settings)))
    for name, part in parts:
        yield from _attempt(name, part)
    try:
        with look(settings) as view:
            if view is not None:
                for collector in tables.COLLECTORS:
                    yield from _attempt(
                        collector.__name__, partial(collector, view.connection, settings)
                    )
        yield Sample("volcast_collector_success", 1, {"collector": "warehouse"})
    except Exception as error:
        logger.warning("metrics of the warehouse: %s", error, extra={"event": "metrics_failed"})
        yield Sample("volcast_collector_success", 0, {"collector": "warehouse"})
    yield Sample("volcast_metrics_timestamp_seconds", utc_now().timestamp())


def _attempt(name: str, part: Callable[[], Iterable[Sample]]) -> list[Sample]:
    """The samples of one part, all or none."""
    try:
        found = list(part())
    except Exception as error:
        logger.warning("metrics of %s: %s", name, error, extra={"event": "metrics_failed"})
        return [Sample("volcast_collector_success", 0, {"collector": name})]
    return [*found, Sample("volcast_collector_success", 1, {"collector": name})]
