"""The words of a fan-out: a shard, how its worker ended, and where a shard can run.

In and out: plain values. Never: anything of Dagster, Ray or Kubernetes.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any, Protocol


class WorkerFailed(RuntimeError):
    """The worker stopped without a result for some fit; finished fits are kept and are not made again."""


@dataclass(frozen=True)
class Shard:
    """A part of a spec that one worker does: ``python -m module address``."""

    module: str
    spec: dict[str, Any]
    address: str
    """Where the spec is written, a path or any fsspec URI."""
    message: str
    """Name of the custom message that carries a result."""
    name: str = "1/1"
    needs_gpu: bool = False
    expected_seconds: float = 0.0
    results: str | None = None
    """Where the worker leaves the list of its results when it has ended."""


@dataclass(frozen=True)
class Ended:
    """How a worker ended."""

    problem: str | None = None
    """Why it ended badly; None where it did not, though a fit may have failed."""
    lost: bool = False
    """Whether another worker may do better: the process, node or pod is gone, and not by an error of its own."""
    messages: tuple[dict[str, Any], ...] = ()
    worker: str = ""
    """Which worker: a process, a Ray job and its node, a pod and its node."""
    attempts: int = 1
    seconds: float = 0.0


class Backend(Protocol):
    """Where shards run. ``run`` is called from several threads at once."""

    def run(self, shard: Shard, attempt: int, cancelled: threading.Event) -> Ended:
        """Run a shard to its end. Once ``cancelled`` is set it ends the worker, and returns when the worker is gone for certain."""
        ...


@dataclass
class Devices:
    """GPUs of this machine, each lent to so many shards at once."""

    names: tuple[str, ...]
    each: int = 1
    _taken: dict[str, int] = field(default_factory=dict)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def take(self, cancelled: threading.Event) -> str | None:
        """The least used GPU that has room, waiting for one; None where there are none, or ``cancelled`` was set."""
        with self._changed:
            while self.names and not cancelled.is_set():
                name = min(self.names, key=lambda one: self._taken.get(one, 0))
                if self._taken.get(name, 0) < self.each:
                    self._taken[name] = self._taken.get(name, 0) + 1
                    return name
                self._changed.wait(0.5)
        return None

    def give_back(self, name: str | None) -> None:
        if name is None:
            return
        with self._changed:
            self._taken[name] -= 1
            self._changed.notify_all()
