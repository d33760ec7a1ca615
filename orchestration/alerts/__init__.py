"""Alerts: who is told what is wrong, once for each cause and day, and when it is over.

In: settings and secrets that name channels; none is configured by default. Out: messages, a ledger of them, lines of the log. The sensor `alerts` calls ``watch`` every minute, a run
of the command line at its end, and `volcast alert` whenever cron likes, so that it also works with no daemon. Never: lets a failing channel stop another, or a run.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from orchestration.alerts.causes import (
    MOST_RUNS,
    SEVERITIES,
    Cause,
    Survey,
    open_causes,
    still_raised,
    survey,
)
from orchestration.alerts.channels import Channel, ChannelError, configured
from orchestration.alerts.ledger import Heard, Ledger, Told, opened
from orchestration.alerts.messages import FIRED, RESOLVED, TEST, Message, message_of
from orchestration.metrics.samples import Sample
from orchestration.observing import utc_now
from orchestration.run_history import past_runs
from orchestration.settings import Settings

__all__ = [
    "Cause",
    "Outcome",
    "open_by_severity",
    "open_causes",
    "send_test",
    "start_failed",
    "started",
    "watch",
]

ATTEMPTS = 3
MOST_MESSAGES = 20
"""Causes told in one round; what is left comes in the next."""
MOST_A_DAY = 3
"""Alerts of a cause that comes and goes, by channel and UTC day; the last of them stands until the next day."""
FORGET = timedelta(days=2)
"""A resolution that a channel could not be told for so long is dropped."""
logger = logging.getLogger(__name__)


@dataclass
class Outcome:
    """What a round of ``watch`` found and did."""

    causes: list[Cause] = field(default_factory=list)
    channels: list[str] = field(default_factory=list)
    sent: list[tuple[str, str]] = field(default_factory=list)  # (channel, subject)
    failures: list[tuple[str, str]] = field(default_factory=list)  # (channel, why)


def watch(settings: Settings, channels: Sequence[Channel] | None = None) -> Outcome:
    """Tell every configured channel what it has not been told today, and what is over. Raises nothing of a channel's; ValueError for one that is named wrongly."""
    channels = configured(settings) if channels is None else channels
    now = utc_now()
    found = survey(settings, now)
    outcome = Outcome(found.causes, [channel.name for channel in channels])
    with opened(settings, wait=False) as ledger:
        if ledger is None:  # another process is at it
            return outcome
        ledger.raised = still_raised(ledger, past_runs(settings, most=MOST_RUNS))
        if channels:
            _note(ledger, found, now)
            _tell(ledger, settings, channels, outcome, now)
    return outcome


def _note(ledger: Ledger, found: Survey, now: datetime) -> None:
    """Bring the ledger up to what is open now."""
    moment, today = now.isoformat(timespec="seconds"), f"{now:%Y-%m-%d}"
    for cause in found.causes:
        if not found.may_begin(cause.key):
            continue
        held = ledger.told.setdefault(cause.key, Told(cause.as_dict(), moment))
        if held.resolved_at is not None:
            held.resolved_at, held.first_seen = None, moment
        held.cause = cause.as_dict()
    open_keys = {cause.key for cause in found.causes}
    for key, held in list(ledger.told.items()):
        if key in open_keys or not found.may_end(key):
            continue
        if held.resolved_at is None:
            held.resolved_at = moment
        if held.cause["severity"] == "info" or _is_forgotten(held, today, now):
            del ledger.told[key]


def _is_forgotten(held: Told, today: str, now: datetime) -> bool:
    """Nobody is still to hear that it is over, and it is not of today, when it could come back."""
    if held.resolved_at is None:
        return False
    if now - datetime.fromisoformat(held.resolved_at) > FORGET:
        return True
    return not any(heard.is_open or heard.day == today for heard in held.heard.values())


def _tell(
    ledger: Ledger, settings: Settings, channels: Sequence[Channel], outcome: Outcome, now: datetime
) -> None:
    today = f"{now:%Y-%m-%d}"
    ready = [channel for channel in channels if ledger.may_try(channel.name, now)]
    order = {severity: position for position, severity in enumerate(SEVERITIES)}
    waiting = sorted(
        ledger.told.items(), key=lambda item: (order[item[1].cause["severity"]], item[0])
    )
    told = 0
    for _, held in waiting:
        over = held.resolved_at is not None
        due = [c for c in ready if _is_due(held, c.name, today, over)]
        if not due:
            continue
        if told == MOST_MESSAGES:
            return
        told += 1
        cause = Cause.of_dict(held.cause)
        reasons = () if over else _reasons(settings, cause)
        message = message_of(RESOLVED if over else FIRED, cause, settings, now, reasons)
        for channel in due:
            if _deliver(channel, message, outcome):
                ledger.worked(channel.name)
                _note_heard(held, channel.name, today, over)
            else:
                ledger.failed(channel.name, now)
                ready.remove(channel)  # the rest waits: one that hangs must not hold up the round


def _is_due(held: Told, channel: str, today: str, over: bool) -> bool:
    heard = held.heard.get(channel)
    if heard is None:
        return not over
    often = heard.day == today and heard.times >= MOST_A_DAY
    if over:
        return heard.is_open and not often
    if held.cause["severity"] == "info":
        return False
    return heard.day != today or not heard.is_open


def _note_heard(held: Told, channel: str, today: str, over: bool) -> None:
    heard = held.heard.get(channel)
    if over:
        held.heard[channel].is_open = False
    else:
        times = heard.times if heard and heard.day == today else 0
        held.heard[channel] = Heard(today, times + 1)


def _deliver(channel: Channel, message: Message, outcome: Outcome) -> bool:
    from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential

    passing = retry_if_exception(lambda error: isinstance(error, ChannelError) and error.passing)
    retry = Retrying(
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_exponential(0.25, max=2),
        retry=passing,
        reraise=True,
    )
    try:
        retry(channel.send, message)
    except Exception as error:
        outcome.failures.append((channel.name, str(error)))
        logger.error(
            "alert not delivered by %s: %s (%s)",
            channel.name,
            error,
            message.subject,
            extra={"event": "alert_failed"},
        )
        return False
    outcome.sent.append((channel.name, message.subject))
    logger.info("sent by %s: %s", channel.name, message.subject, extra={"event": "alert_sent"})
    return True


def send_test(settings: Settings) -> Outcome:
    """One message through each configured channel, whatever was sent before."""
    channels = configured(settings)
    now = utc_now()
    cause = Cause(
        "test",
        "info",
        "a test of the alerts",
        "nothing",
        "alerts",
        lines=("If you can read this, alerts arrive here.",),
    )
    outcome = Outcome([], [channel.name for channel in channels])
    for channel in channels:
        _deliver(channel, message_of(TEST, cause, settings, now), outcome)
    return outcome


def start_failed(settings: Settings, job: str, days: str, error: BaseException) -> None:
    """Keep that ``job`` could not even start, which no run in Dagster's history says."""
    cause = Cause(
        f"start:{job}", "critical", f"{job} {days} could not start", "read the reason; mend it; run the same command again", "run-failed",
        day=days, since=utc_now(), lines=(f"{type(error).__name__}: {error}",),
    )  # fmt: skip
    with opened(settings, wait=True) as ledger:
        if ledger is not None:
            since = cause.since.isoformat() if cause.since else None  # to the microsecond
            ledger.raised[cause.key] = cause.as_dict() | {"since": since}


def started(settings: Settings, job: str) -> None:
    """Take back what ``start_failed`` said."""
    if (settings.home / "alerts" / "state.json").exists():
        with opened(settings, wait=True) as ledger:
            if ledger is not None:
                ledger.raised.pop(f"start:{job}", None)


def open_by_severity(settings: Settings) -> Iterator[Sample]:
    """For the metrics: how many causes hold now."""
    causes = open_causes(settings, utc_now())
    for severity in SEVERITIES:
        count = sum(cause.severity == severity for cause in causes)
        yield Sample("volcast_alerts_open", count, {"severity": severity})


def _reasons(settings: Settings, cause: Cause) -> tuple[str, ...]:
    """What failed in a run, from Dagster's event log."""
    if not cause.run_id:
        return ()
    try:
        from orchestration.runs import reasons_of

        return (reasons_of(settings, cause.run_id),)
    except Exception as error:  # the alert matters more than its detail
        return (f"run {cause.run_id}; its reasons cannot be read: {error}",)
