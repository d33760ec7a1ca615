"""Where alerts go: e-mail, a Slack incoming webhook, any webhook.

In: a message. Out: nothing, or ``ChannelError`` that says why it did not arrive. Passwords and addresses that are secrets come from ``orchestration.secrets``. Never sends one
over an unencrypted line, except to this machine itself; never follows a redirect with it.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import smtplib
import ssl
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Protocol
from urllib.parse import SplitResult, unquote, urlsplit

from orchestration.alerts.messages import Message
from orchestration.secrets import mask, secret
from orchestration.settings import Settings

TIMEOUT_SECONDS = 5.0
SMTP_PASSWORD = "VOLCAST_ALERT_SMTP_PASSWORD"  # noqa: S105 - the name of a variable
SLACK_URL = "VOLCAST_ALERT_SLACK_URL"
WEBHOOK_URL = "VOLCAST_ALERT_WEBHOOK_URL"
WEBHOOK_SECRET = "VOLCAST_ALERT_WEBHOOK_SECRET"  # noqa: S105 - the name of a variable


class ChannelError(RuntimeError):
    """A message did not arrive. ``passing``: the network was at fault, or the other side said to try again."""

    def __init__(self, message: str, *, passing: bool) -> None:
        super().__init__(mask(message))
        self.passing = passing


class Channel(Protocol):
    """Somewhere that a message can be sent to."""

    @property
    def name(self) -> str: ...

    def send(self, message: Message) -> None:
        """Deliver it once. Raises ``ChannelError``."""


def configured(settings: Settings) -> list[Channel]:
    """The channels that settings and secrets name; none by default. Raises ValueError for one that is named wrongly."""
    channels: list[Channel] = []
    if settings.alert_email:
        channels.append(Email(settings))
    slack, webhook = secret(SLACK_URL), secret(WEBHOOK_URL)
    if slack:
        channels.append(Slack(_checked_url(SLACK_URL, slack)))
    if webhook:
        channels.append(Webhook(_checked_url(WEBHOOK_URL, webhook), secret(WEBHOOK_SECRET)))
    return channels


def any_configured(settings: Settings) -> bool:
    """Whether any channel is named, be it wrongly. A secrets file that cannot be used counts: its error belongs into the sensor's log, not into the definitions."""
    try:
        return bool(settings.alert_email or secret(SLACK_URL) or secret(WEBHOOK_URL))
    except ValueError:
        return True


class Email:
    """One mail to every address of VOLCAST_ALERT_EMAIL."""

    name = "email"

    def __init__(self, settings: Settings) -> None:
        self._to, self._from = (
            settings.alert_email,
            settings.alert_sender or settings.alert_email[0],
        )
        for address in (*self._to, self._from):
            if (
                "@" not in address
                or not address.isprintable()
                or any(c in address for c in " ,;<>")
            ):
                raise ValueError(
                    f"VOLCAST_ALERT_EMAIL: {address!r}: expected an address such as desk@example.org"
                )
        server = urlsplit(settings.alert_smtp)
        if server.scheme not in ("smtp", "smtps") or not server.hostname:
            raise ValueError(
                f"VOLCAST_ALERT_SMTP={settings.alert_smtp!r}: expected smtp://user@host:587 or smtps://user@host:465"
            )
        if server.password:
            raise ValueError(f"VOLCAST_ALERT_SMTP holds a password: keep it in {SMTP_PASSWORD}")
        self._server = server

    def send(self, message: Message) -> None:
        mail = EmailMessage()
        mail["Subject"], mail["From"], mail["To"] = message.subject, self._from, ", ".join(self._to)
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(message.text)
        server = self._server
        try:
            with self._connect() as connection:
                if server.scheme == "smtp" and not _is_here(server.hostname or ""):
                    connection.starttls(context=ssl.create_default_context())
                password = secret(SMTP_PASSWORD)
                if server.username and password:
                    connection.login(unquote(server.username), password)
                connection.send_message(mail)
        except (smtplib.SMTPAuthenticationError, smtplib.SMTPNotSupportedError) as error:
            raise ChannelError(f"{server.hostname}: {error}", passing=False) from None
        except smtplib.SMTPRecipientsRefused as error:
            codes = [code for code, _ in error.recipients.values()]
            raise ChannelError(
                f"{server.hostname}: {error}", passing=all(code < 500 for code in codes)
            ) from None
        except smtplib.SMTPResponseException as error:
            raise ChannelError(
                f"{server.hostname}: {error}", passing=error.smtp_code < 500
            ) from None
        except ssl.SSLCertVerificationError as error:
            raise ChannelError(f"{server.hostname}: {error}", passing=False) from None
        except (OSError, smtplib.SMTPException) as error:
            raise ChannelError(f"{server.hostname}: {error}", passing=True) from None

    def _connect(self) -> smtplib.SMTP:
        host = self._server.hostname or ""
        if self._server.scheme == "smtps":
            context = ssl.create_default_context()
            return smtplib.SMTP_SSL(
                host, self._server.port or 465, timeout=TIMEOUT_SECONDS, context=context
            )
        connection = smtplib.SMTP(host, self._server.port or 587, timeout=TIMEOUT_SECONDS)
        connection.ehlo_or_helo_if_needed()
        return connection


@dataclass(frozen=True)
class Slack:
    """An incoming webhook of Slack: its address is the secret."""

    url: str
    name: str = "slack"

    def send(self, message: Message) -> None:
        text = message.text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        _post(self.url, json.dumps({"text": text, "unfurl_links": False}).encode(), {})


@dataclass(frozen=True)
class Webhook:
    """A JSON object to any address, signed where there is a secret.

    ``X-Volcast-Signature: sha256=HMAC-SHA256(secret, timestamp + "." + body)`` in hex, and ``X-Volcast-Timestamp`` in seconds, which a receiver holds against its clock.
    """

    url: str
    key: str | None = None
    name: str = "webhook"

    def send(self, message: Message) -> None:
        body = json.dumps(message.payload, sort_keys=True).encode()
        headers = {}
        if self.key:
            moment = str(int(message.sent_at.timestamp()))
            headers = {
                "X-Volcast-Timestamp": moment,
                "X-Volcast-Signature": signature(self.key, moment, body),
            }
        _post(self.url, body, headers)


def signature(key: str, timestamp: str, body: bytes) -> str:
    """What ``X-Volcast-Signature`` holds."""
    return (
        "sha256="
        + hmac.new(key.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    )


def _post(url: str, body: bytes, headers: dict[str, str]) -> None:
    import requests

    host = urlsplit(url).hostname
    headers = {"Content-Type": "application/json", "User-Agent": "volcast", **headers}
    try:
        with requests.post(
            url,
            data=body,
            headers=headers,
            timeout=TIMEOUT_SECONDS,
            allow_redirects=False,
            stream=True,
        ) as answer:
            status, reason = answer.status_code, answer.reason
    except requests.exceptions.SSLError as error:
        raise ChannelError(f"{host}: {_without_path(error, url)}", passing=False) from None
    except requests.exceptions.RequestException as error:
        why = f"{type(error).__name__}: {_without_path(error, url)}"
        raise ChannelError(f"{host}: {why}", passing=True) from None
    if not 200 <= status < 300:
        raise ChannelError(
            f"{host} answered {status} {reason}", passing=status >= 500 or status in (408, 425, 429)
        )


def _without_path(error: Exception, url: str) -> str:
    """The error without what the address holds after its host, which is the secret."""
    parts = urlsplit(url)
    text = str(error)
    for secret_part in (f"{parts.path}?{parts.query}", parts.path, parts.query):
        if len(secret_part) > 1:
            text = text.replace(secret_part, "/***")
    return text


def _checked_url(name: str, url: str) -> str:
    try:
        parts: SplitResult = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        raise ValueError(f"{name}: not an address") from None
    if not host or not (parts.scheme == "https" or (parts.scheme == "http" and _is_here(host))):
        raise ValueError(f"{name}: expected https://... (http only to this machine itself)")
    return url


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
