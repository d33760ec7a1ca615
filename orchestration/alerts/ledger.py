"""What has been sent about which cause: ``alerts/state.json`` of the home, changed by one process at a time.

In: what is open now. Out: what is still to be told to which channel. A file that is damaged counts as empty: then an alert comes twice rather than never. A full disk neither
stops an alert nor repeats it: the file is then written over in place, within blocks that it has already, and where that fails this process remembers.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from orchestration.settings import Settings

FIRST_PAUSE = timedelta(minutes=1)
LONGEST_PAUSE = timedelta(minutes=30)
SPARE_BYTES = 16 * 1024
"""The file's size is a multiple of it, so that what is told on a full disk fits in place."""
_REMEMBERED: dict[Path, tuple[str, int | None]] = {}
"""What this process could not write, and the state of the file at that time."""
logger = logging.getLogger(__name__)


@dataclass
class Heard:
    """What a channel was told of a cause: the UTC day of the last alert, how many alerts there were that day, and whether the last word was that it is open."""

    day: str
    times: int
    is_open: bool = True


@dataclass
class Told:
    """A cause and what each channel heard of it. ``resolved_at``: since when it has been gone."""

    cause: dict[str, Any]
    first_seen: str
    heard: dict[str, Heard] = field(default_factory=dict)
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
    return _parsed(_current(settings.home / "alerts" / "state.json")[0])


@contextmanager
def opened(settings: Settings, *, wait: bool) -> Iterator[Ledger | None]:
    """The ledger, kept when the block ends well; None where another process has it and ``wait`` is false. Raises nothing where it cannot be kept."""
    path = settings.home / "alerts" / "state.json"
    with ExitStack() as held:
        try:
            settings.make_home()
            path.parent.mkdir(exist_ok=True)
            lock = held.enter_context((path.parent / "lock").open("a"))
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield None
            return
        except OSError as error:  # no room for a lock, either: alert all the same
            logger.warning("alerts are told without a lock: %s", error)
        before, is_kept = _current(path)
        ledger = _parsed(before)
        yield ledger
        after = json.dumps(asdict(ledger), indent=1, sort_keys=True)
        if is_kept and after == before:
            return
        try:
            _write(path, after)
            _REMEMBERED.pop(path, None)
        except OSError as error:
            _REMEMBERED[path] = after, _stamp(path)
            logger.warning("what was told is not kept beyond this process: %s", error)


def _write(path: Path, text: str) -> None:
    """Replace the file whole; where there is no room for a second one, write over it in place. Raises OSError where that has no room either."""
    content = text.encode()
    content += b" " * (-len(content) % SPARE_BYTES)  # room for what is told on a full disk
    temporary = path.with_suffix(f".{os.getpid()}")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not path.exists():
            raise
        with path.open("r+b") as file:
            file.write(content)
            file.truncate()


def _current(path: Path) -> tuple[str, bool]:
    """The text of the file, or what this process could not write into it; and whether it is the file's."""
    remembered = _REMEMBERED.get(path)
    if remembered and remembered[1] == _stamp(path):  # nobody has written it since
        return remembered[0], False
    try:
        return path.read_text(errors="replace").rstrip(), True
    except OSError:
        return "", True


def _stamp(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def _parsed(text: str) -> Ledger:
    try:
        held = json.loads(text)
        told = {key: _told(value) for key, value in held["told"].items()}
        pauses = {name: (int(times), str(until)) for name, (times, until) in held["pauses"].items()}
        for _, until in pauses.values():
            datetime.fromisoformat(until)
        return Ledger(told, dict(held["raised"]), pauses)
    except (ValueError, KeyError, TypeError, AttributeError):
        return Ledger()


def _told(value: dict[str, Any]) -> Told:
    heard = {channel: Heard(**parts) for channel, parts in value["heard"].items()}
    return Told(**{**value, "heard": heard})
