"""What has been sent about which cause: ``alerts/state.json`` of the home, changed by one process at a time.

In: what is open now. Out: what is still to be told to which channel. A file that is damaged counts as empty: then an alert comes twice rather than never.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from orchestration.settings import Settings

FIRST_PAUSE = timedelta(minutes=1)
LONGEST_PAUSE = timedelta(minutes=30)


@dataclass
class Told:
    """A cause and, by channel, the UTC day on which it was last told. ``resolved_at``: it has gone, and some channel is still to hear it."""

    cause: dict[str, Any]
    first_seen: str
    days: dict[str, str] = field(default_factory=dict)
    resolved_at: str | None = None


@dataclass
class Ledger:
    """``raised``: causes that no table shows, such as a run that could not even start, until something takes them back."""

    told: dict[str, Told] = field(default_factory=dict)
    raised: dict[str, dict[str, Any]] = field(default_factory=dict)
    pauses: dict[str, tuple[int, str]] = field(default_factory=dict)

    def may_try(self, channel: str, now: datetime) -> bool:
        """Whether a channel that failed has rested long enough."""
        _, until = self.pauses.get(channel, (0, ""))
        return not until or now >= datetime.fromisoformat(until)

    def failed(self, channel: str, now: datetime) -> None:
        times, _ = self.pauses.get(channel, (0, ""))
        pause = min(FIRST_PAUSE * 2 ** min(times, 10), LONGEST_PAUSE)
        self.pauses[channel] = (times + 1, (now + pause).isoformat())

    def worked(self, channel: str) -> None:
        self.pauses.pop(channel, None)


def read_ledger(settings: Settings) -> Ledger:
    """The ledger as it stands, for who only looks."""
    return _parsed(_read(settings.home / "alerts" / "state.json"))


@contextmanager
def opened(settings: Settings, *, wait: bool) -> Iterator[Ledger | None]:
    """The ledger, kept when the block ends well; None where another process has it and ``wait`` is false."""
    folder = settings.home / "alerts"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield None
            return
        path = folder / "state.json"
        before = _read(path)
        ledger = _parsed(before)
        yield ledger
        after = json.dumps(asdict(ledger), indent=1, sort_keys=True)
        if after != before:
            temporary = path.with_suffix(f".{os.getpid()}")
            temporary.write_text(after)
            os.replace(temporary, path)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _parsed(text: str) -> Ledger:
    try:
        held = json.loads(text)
        told = {key: Told(**value) for key, value in held["told"].items()}
        pauses = {name: (int(times), str(until)) for name, (times, until) in held["pauses"].items()}
        for _, until in pauses.values():
            datetime.fromisoformat(until)
        return Ledger(told, dict(held["raised"]), pauses)
    except (ValueError, KeyError, TypeError, AttributeError):
        return Ledger()
