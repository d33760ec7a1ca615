"""An alert as people and programs read it.

In: a cause and what became of it. Out: a subject, lines of text, or a JSON object. Never: a secret, a line break that a provider's or a headline's text brought along, or more than
``MOST_LINES`` lines.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from orchestration.alerts.causes import Cause
from orchestration.secrets import mask
from orchestration.settings import Settings

MOST_LINES = 20
MOST_CHARACTERS = 300
FIRED, RESOLVED, TEST = "alert", "resolved", "test"


@dataclass(frozen=True)
class Message:
    """``event`` is alert, resolved or test; ``reasons`` are further lines, such as the error of each failed step."""

    event: str
    cause: Cause
    runbook: str
    home: str
    sent_at: datetime
    reasons: tuple[str, ...] = ()

    @property
    def subject(self) -> str:
        """One line: how bad, and what."""
        word = self.cause.severity if self.event == FIRED else self.event
        return plain(f"[volcast] {word}: {self.cause.title}")

    @property
    def text(self) -> str:
        """At most ``MOST_LINES`` lines: what, for which day, since when, why, what to do, where to read on."""
        cause = self.cause
        head = [self.subject]
        if cause.day:
            head.append(f"day: {cause.day}")
        if cause.since:
            head.append(f"since: {cause.since:%Y-%m-%d %H:%M} UTC")
        tail = [f"home: {self.home} on {socket.gethostname()}"]
        if self.event == RESOLVED:
            return "\n".join(plain(line) for line in [*head, *tail])
        tail = [f"to do: {cause.todo}", f"runbook: {self.runbook}#{cause.section}", *tail]
        body = [
            line
            for text in (*cause.lines, *self.reasons)
            for line in text.splitlines()
            if line.strip()
        ]
        room = MOST_LINES - len(head) - len(tail)
        if len(body) > room:
            body = [*body[: room - 1], f"... {len(body) - room + 1} more lines in the log"]
        return "\n".join(plain(line) for line in [*head, *body, *tail])

    @property
    def payload(self) -> dict[str, Any]:
        """The message for a program."""
        cause = self.cause.as_dict()
        cause.pop("run_id")
        texts = {
            name: plain(value) if isinstance(value, str) else value for name, value in cause.items()
        }
        return {
            "version": 1,
            "event": self.event,
            **texts,
            "lines": self.text.splitlines()[1:],
            "runbook": f"{self.runbook}#{self.cause.section}",
            "home": self.home,
            "host": socket.gethostname(),
            "run": self.cause.run_id or None,
            "sent_at": self.sent_at.isoformat(timespec="seconds"),
        }


def plain(line: str) -> str:
    """One line without secrets, control characters or anything that runs on."""
    line = mask(line)
    line = "".join(character if character.isprintable() else " " for character in line).strip()
    return line if len(line) <= MOST_CHARACTERS else line[: MOST_CHARACTERS - 3] + "..."


def message_of(
    event: str, cause: Cause, settings: Settings, now: datetime, reasons: tuple[str, ...] = ()
) -> Message:
    return Message(event, cause, settings.alert_runbook, str(settings.home), now, reasons)
