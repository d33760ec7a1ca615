"""One provider's HTTP: rate limit, time-outs, retries, circuit breaker, size limit and a look at the clock.

In: requests of our own connectors, of ccxt and of Coin Metrics' client, all of which take a ``requests.Session``: one policy for all.
Out: responses with their whole body, or a ``ProviderError``. Never retries a 4xx (but 408, 425, 429 and Binance's 418), never reads more
than ``Policy.max_body_bytes``, and never lets a query string into a message, because a key may be in it.

A ``base_url`` sends every request of a provider elsewhere with its path kept: to a mirror, a proxy or a test server.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import requests
import tenacity
import urllib3

from orchestration.sources.live.errors import (
    NotListed,
    ProviderError,
    ProviderRefused,
    ProviderUnavailable,
    ShapeChanged,
)

USER_AGENT = "volcast (batch volatility forecasts)"
TRANSIENT_STATUS = frozenset({408, 418, 425, 429})  # 418: Binance's answer to who ignores its 429
_NETWORK = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
)
Clock = Callable[[], datetime]
Sleep = Callable[[float], None]


def utc_now() -> datetime:
    """The local clock, UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Policy:
    """How a provider is asked. Seconds, unless the name says otherwise."""

    connect_timeout: float = 5.0
    read_timeout: float = 20.0  # between two bytes
    deadline: float = 300.0  # for one whole answer
    attempts: int = 4
    first_wait: float = 0.5  # before the second attempt; doubles, with jitter
    longest_wait: float = 60.0  # a provider that asks for more is left alone until the next run
    requests: int = 10  # at most so many ...
    per: float = 1.0  # ... in so many seconds
    breaker_after: int = 2  # calls in a row that failed after every attempt
    breaker_for: float = 300.0  # how long nothing is asked then
    max_body_bytes: int = 64 * 2**20
    redirects: int = 0
    json: bool = (
        True  # an answer that is not JSON counts as a fault of the moment, and is asked for again
    )


@dataclass
class Breaker:
    """Opens after ``after`` failed calls in a row; one trial call when ``seconds`` have passed."""

    after: int
    seconds: float
    clock: Clock
    failures: int = 0
    opened_at: datetime | None = None
    last: str = ""

    def blocked(self) -> str | None:
        """Why nothing may be asked now, or None."""
        if self.opened_at is None:
            return None
        again = self.opened_at + timedelta(seconds=self.seconds)
        if self.clock() >= again:
            return None
        return f"not asked until {again:%H:%M:%S} UTC, {self.failures} calls in a row failed; the last: {self.last}"

    def success(self) -> None:
        self.failures, self.opened_at = 0, None

    def failure(self, detail: str) -> None:
        self.failures += 1
        self.last = detail
        if self.failures >= self.after:
            self.opened_at = self.clock()


class RateLimit:
    """At most ``requests`` calls in any ``per`` seconds; waits for its turn."""

    def __init__(self, requests: int, per: float, sleep: Sleep) -> None:
        self._requests, self._per, self._sleep = requests, per, sleep
        self._recent: deque[float] = deque()
        self._lock = threading.Lock()

    def wait(self) -> None:
        with self._lock:
            now = time.monotonic()
            while self._recent and now - self._recent[0] >= self._per:
                self._recent.popleft()
            if len(self._recent) >= self._requests:
                self._sleep(self._per - (now - self._recent.popleft()))
            self._recent.append(time.monotonic())


class _Transient(Exception):
    """A fault of the moment; ``wait`` is what the provider asked for, in seconds."""

    def __init__(
        self,
        detail: str,
        wait: float | None = None,
        error: type[ProviderError] = ProviderUnavailable,
    ) -> None:
        super().__init__(detail)
        self.detail, self.wait, self.error = detail, wait, error


@dataclass
class Seen:
    """What was noticed about a provider while it was read."""

    unknown_fields: dict[str, str] = field(default_factory=dict)
    """endpoint.field -> an example of its value: kept, so that a new field is not lost on anyone."""
    clock_difference: timedelta = timedelta(0)
    """The provider's clock less ours."""


class Transport(requests.Session):
    """A ``requests.Session`` for one provider; see the module.

    ``clock`` and ``sleep`` are replaced in tests. Raises ``ProviderUnavailable`` when every attempt failed, ``ShapeChanged`` when the answer
    never was JSON. A 4xx comes back as a response, for ccxt to make sense of; ``get_json`` and ``get_bytes`` raise ``ProviderRefused``.
    """

    def __init__(
        self,
        provider: str,
        policy: Policy | None = None,
        *,
        base_url: str | None = None,
        clock: Clock = utc_now,
        sleep: Sleep = time.sleep,
    ) -> None:
        super().__init__()
        self.provider = provider
        self.policy = policy or Policy()
        self.base_url = base_url.rstrip("/") if base_url else None
        self.clock = clock
        self.seen = Seen()
        self.headers["User-Agent"] = USER_AGENT
        self.max_redirects = max(1, self.policy.redirects)
        self.breaker = Breaker(self.policy.breaker_after, self.policy.breaker_for, clock)
        self._sleep = sleep
        self._limit = RateLimit(self.policy.requests, self.policy.per, sleep)

    def now(self) -> datetime:
        """The earlier of our clock and the provider's: what has not ended by both has not ended."""
        return self.clock() + min(self.seen.clock_difference, timedelta(0))

    def get_json(self, url: str, params: dict[str, Any] | None = None) -> Any:
        """The decoded answer. Raises ``ProviderRefused`` for a 4xx."""
        return self._checked(url, params).json()

    def get_bytes(self, url: str, params: dict[str, Any] | None = None) -> bytes:
        """The body. Raises ``NotListed`` for 404, which says that there is no such file, and ``ProviderRefused`` for another 4xx."""
        try:
            return bytes(self._checked(url, params).content)
        except ProviderRefused as error:
            if error.http_status == 404:
                raise NotListed(self.provider, error.endpoint, error.detail) from error
            raise

    def _checked(self, url: str, params: dict[str, Any] | None) -> requests.Response:
        response = self.get(url, params=params)
        status = response.status_code
        if status >= 300:
            detail = f"{status} {_excerpt(response.content)}"
            raise ProviderRefused(self.provider, endpoint_of(url), detail, http_status=status)
        return response

    def request(
        self, method: str | bytes, url: str | bytes, *args: Any, **kwargs: Any
    ) -> requests.Response:
        """See ``requests.Session.request``; with the policy of this provider."""
        address = url.decode() if isinstance(url, bytes) else url
        endpoint = endpoint_of(address)
        blocked = self.breaker.blocked()
        if blocked:
            raise ProviderUnavailable(self.provider, endpoint, blocked)
        attempts = self.policy.attempts if self.breaker.opened_at is None else 1
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_Transient),
            stop=self._stop(attempts),
            wait=self._wait,
            sleep=self._sleep,
            reraise=True,
        )
        try:
            response = retrying(self._attempt, method, self._address(address), *args, **kwargs)
        except _Transient as fault:
            self.breaker.failure(fault.detail)
            raise fault.error(self.provider, endpoint, fault.detail) from fault
        self.breaker.success()
        return response

    def _attempt(self, method: Any, url: str, *args: Any, **kwargs: Any) -> requests.Response:
        self._limit.wait()
        kwargs.update(
            timeout=(self.policy.connect_timeout, self.policy.read_timeout),
            stream=True,
            allow_redirects=self.policy.redirects > 0,
        )
        try:
            response = super().request(method, url, *args, **kwargs)
            self._read(response)
        except requests.exceptions.SSLError as error:
            raise ProviderRefused(
                self.provider, endpoint_of(url), f"TLS: {_cause(error)}"
            ) from error
        except _NETWORK as error:
            raise _Transient(f"{type(error).__name__}: {_cause(error)}") from error
        self._look_at_clock(response)
        status = response.status_code
        if status in TRANSIENT_STATUS or status >= 500:
            raise _Transient(
                f"{status} {_excerpt(response.content)}", _retry_after(response, self.clock())
            )
        if self.policy.json and status < 300:
            self._must_be_json(response)
        return response

    def _read(self, response: requests.Response) -> None:
        """Read the body, as long as it stays within the limits."""
        started, parts, size = time.monotonic(), [], 0
        try:
            while part := _some(response):
                parts.append(part)
                size += len(part)
                if size > self.policy.max_body_bytes:
                    raise ShapeChanged(
                        self.provider,
                        endpoint_of(response.url),
                        f"more than {self.policy.max_body_bytes:,} bytes",
                    )
                if time.monotonic() - started > self.policy.deadline:
                    raise _Transient(f"not finished after {self.policy.deadline:g} s")
        finally:
            response.close()
        response._content = b"".join(parts)

    def _must_be_json(self, response: requests.Response) -> None:
        try:
            json.loads(response.content)
        except (ValueError, RecursionError) as error:
            raise _Transient(
                f"not JSON: {_excerpt(response.content)}", error=ShapeChanged
            ) from error

    def _look_at_clock(self, response: requests.Response) -> None:
        stamp = _http_date(response.headers.get("Date"))
        if stamp is not None:
            difference = stamp - self.clock()
            # a Date header has whole seconds and the answer took time to come
            self.seen.clock_difference = (
                difference if abs(difference) > timedelta(seconds=90) else timedelta(0)
            )

    def _address(self, url: str) -> str:
        if self.base_url is None:
            return url
        parts = urlsplit(url)
        return self.base_url + urlunsplit(("", "", parts.path, parts.query, ""))

    def _stop(self, attempts: int) -> Callable[[tenacity.RetryCallState], bool]:
        def stop(state: tenacity.RetryCallState) -> bool:
            fault = state.outcome.exception() if state.outcome else None
            wanted = fault.wait if isinstance(fault, _Transient) else None
            return state.attempt_number >= attempts or (wanted or 0) > self.policy.longest_wait

        return stop

    def _wait(self, state: tenacity.RetryCallState) -> float:
        fault = state.outcome.exception() if state.outcome else None
        jitter = tenacity.wait_random_exponential(self.policy.first_wait, self.policy.longest_wait)(
            state
        )
        wanted = fault.wait if isinstance(fault, _Transient) else None
        return jitter if wanted is None else wanted + min(jitter, 1.0)


def _some(response: requests.Response) -> bytes:
    """What has come of the body, at most 256 KiB unpacked; empty at its end.

    ``iter_content`` would wait until a whole part is there, for ever where a byte comes now and then, and look at no deadline meanwhile.
    """
    try:
        return bytes(response.raw.read1(256 * 1024, decode_content=True))
    except urllib3.exceptions.ProtocolError as error:
        raise requests.exceptions.ChunkedEncodingError(error) from error
    except urllib3.exceptions.DecodeError as error:
        raise requests.exceptions.ContentDecodingError(error) from error
    except urllib3.exceptions.SSLError as error:
        raise requests.exceptions.SSLError(error) from error
    except urllib3.exceptions.HTTPError as error:
        raise requests.ConnectionError(error) from error


def endpoint_of(url: str) -> str:
    """Host and path of a URL: what may be shown."""
    parts = urlsplit(url)
    return f"{parts.hostname or ''}{parts.path}"


def _retry_after(response: requests.Response, now: datetime) -> float | None:
    value = (response.headers.get("Retry-After") or "").strip()
    if value.isdigit():
        return float(value)
    stamp = _http_date(value)
    return max(0.0, (stamp - now).total_seconds()) if stamp else None


def _http_date(value: str | None) -> datetime | None:
    try:
        stamp = parsedate_to_datetime(value or "")
    except (TypeError, ValueError):
        return None
    return stamp.astimezone(UTC) if stamp.tzinfo else stamp.replace(tzinfo=UTC)


def _excerpt(body: bytes, length: int = 120) -> str:
    text = " ".join(body[: 4 * length].decode("utf-8", "replace").split())
    return repr(text[:length]) if text else "(empty)"


def _cause(error: BaseException) -> str:
    """The innermost reason, without the URL that requests puts into its messages."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return type(error).__name__ if "://" in str(error) or "url" in str(error) else str(error)[:160]
