"""Asks every provider of the settings for one row.

In: a ``LiveConfig``. Out: a ``Probe`` for each connector. Never stores anything, and never asks twice: what a run would survive by
retries is shown here as it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from orchestration.sources.live.config import LiveConfig, Providers
from orchestration.sources.live.connectors import connectors
from orchestration.sources.live.errors import ProviderError
from orchestration.sources.live.stream import Connector
from orchestration.sources.live.transport import Clock, utc_now

SLOW_SECONDS = 5.0


@dataclass(frozen=True)
class Probe:
    """One provider's answer: ``status`` is ok, slow, unavailable, refused, changed shape or not listed."""

    provider: str
    status: str
    seconds: float
    detail: str


def probe_all(config: LiveConfig, *, clock: Clock = utc_now) -> Iterator[Probe]:
    """A probe for each connector, in the order in which they answer; all are asked at once."""
    import ccxt  # noqa: F401 - it takes seconds, which no provider should be blamed for

    made = connectors(Providers(config, clock=clock, attempts=1))
    with ThreadPoolExecutor(max_workers=8) as pool:
        for done in as_completed([pool.submit(probe, connector) for connector in made]):
            yield done.result()


def probe(connector: Connector, timer: Callable[[], float] = time.monotonic) -> Probe:
    """Ask one connector for one row."""
    started = timer()
    try:
        detail, status = connector.probe(), "ok"
    except ProviderError as error:
        detail, status = f"{error.endpoint}: {error.detail}".removeprefix(": "), error.status
    seconds = timer() - started
    if status == "ok" and seconds > SLOW_SECONDS:
        status = "slow"
    return Probe(connector.provider, status, seconds, detail)
