"""Coin Metrics' own client over our transport, with the habits that do not fit a nightly job taken off.

In: a transport, and the key of the environment. Out: a client whose faults are ours. Three habits are taken off: it asks again on its own
when the rate limit is used up; it writes the whole URL, key included, into the log on an error; and it stops without a word at an empty
page, or goes round for ever when a page names itself as the next.
"""

from __future__ import annotations

import inspect
import json
import logging
import re
from typing import Any

import requests

from orchestration.sources.live.config import api_key
from orchestration.sources.live.errors import ProviderRefused, ShapeChanged
from orchestration.sources.live.rows import Answer, parse
from orchestration.sources.live.transport import Transport, endpoint_of

_KEY = re.compile(r"(api_key=)[^&\s\"']+")


class Forbidden(ProviderRefused):
    """403: at least one of the metrics asked for is not in this tier; the message names it."""


class _Envelope(Answer):
    data: list[Any]
    next_page_token: str | None = None
    next_page_url: str | None = None


class Session:
    """What the client takes for a ``requests.Session``: it asks through the transport and looks at every answer first."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.headers, self.proxies, self.verify = transport.headers, transport.proxies, True
        self.endpoint = ""
        self._tokens: list[str] = []
        self._more = False

    def get(self, url: str, **_: Any) -> requests.Response:
        """The answer, if it is one: ``data``, and a token that was not given before."""
        self.endpoint = endpoint_of(url)
        response = self._transport.get(url)
        for name in [name for name in response.headers if name.lower() == "x-ratelimit-remaining"]:
            del response.headers[name]
        try:
            payload = json.loads(response.content)
        except ValueError:
            payload = {"error": {"message": "no JSON"}}
        if response.status_code >= 300 or (isinstance(payload, dict) and "error" in payload):
            raise self._refusal(response.status_code, payload)
        answer: _Envelope = parse(_Envelope, payload, self._transport, self.endpoint)
        token = answer.next_page_token
        if token is not None and (not token or token in self._tokens):
            raise self._changed(f"field next_page_token: {token[:40]!r} leads nowhere new")
        self._tokens += [token] if token else []
        self._more = token is not None
        return response

    def must_have_ended(self) -> None:
        """Raises ``ShapeChanged`` if the last page named a further one: the client gives up at an empty page."""
        if self._more:
            raise self._changed("field data: empty, though next_page_token says that more follows")

    def _changed(self, detail: str) -> ShapeChanged:
        return ShapeChanged(self._transport.provider, self.endpoint, detail)

    def _refusal(self, status: int, payload: Any) -> ProviderRefused:
        error = payload.get("error") if isinstance(payload, dict) else None
        told = error if isinstance(error, dict) else {"message": error}
        message = _KEY.sub(r"\1...", str(told.get("message"))[:300])
        kind = Forbidden if status == 403 or told.get("type") == "forbidden" else ProviderRefused
        return kind(self._transport.provider, self.endpoint, f"{status} {message}")


def open_client(transport: Transport) -> tuple[Any, Session]:
    """A client and the session it asks through; cheap, so one for each read."""
    from coinmetrics.api_client import CoinMetricsClient

    logging.getLogger("urllib3.connectionpool").addFilter(_without_key)
    session = Session(transport)
    return CoinMetricsClient(api_key=api_key(transport.provider), session=session), session  # type: ignore[arg-type]


def as_json(client: Any) -> dict[str, str]:
    """The argument that keeps newer versions of the client from asking for a line of JSON for each row, which knows no pages."""
    asked = inspect.signature(client.get_asset_metrics).parameters
    return {"format": "json"} if "format" in asked else {}


def _without_key(record: logging.LogRecord) -> bool:
    """Takes the key out of the path that urllib3 logs at its debug level."""
    message = record.getMessage()
    if "api_key=" in message:
        record.msg, record.args = _KEY.sub(r"\1...", message), ()
    return True
