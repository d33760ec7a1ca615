"""A server on 127.0.0.1 that stands in for every provider, and misbehaves on demand.

``/<provider>/<path>`` is answered by the handler registered for the provider, which speaks its documented format. Before that, the next
fault of the plan may happen instead. Everything asked is kept in ``requests``.
"""

from __future__ import annotations

import json
import random
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Request:
    """What was asked: ``path`` without the provider, ``query`` as last value by name."""

    provider: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: bytes = b""
    method: str = "GET"

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """An answer; a ``body`` that is no bytes is sent as JSON."""

    body: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    def encoded(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


Handler = Callable[[Request], Reply]

# Faults: each is a name in the plan; what it does is in _Handler.
TOO_MANY = "429"  # with Retry-After: 1
BROKEN = "500"
UNAVAILABLE = "503 with an HTML page"
TRUNCATED = "half of the JSON, with a Content-Length that fits"
HTML = "200 with an HTML page"
RESET = "half of the answer, then the connection is cut"
DROPPED = "no answer, the connection is closed"
NOTHING = "200 with an empty body"
FAULTS = (TOO_MANY, BROKEN, UNAVAILABLE, TRUNCATED, HTML, RESET, DROPPED, NOTHING)
_HTML_PAGE = b"<!DOCTYPE html><html><body><h1>Sorry, be right back</h1></body></html>"


class ProviderServer:
    """Use as a context manager; ``url`` is for ``LiveConfig.base_urls`` as ``{"*": server.url}``.

    ``plan(faults)`` queues faults, None meaning a good answer; when the queue is empty every answer is good. ``clock`` is what the Date
    header says.
    """

    def __init__(
        self, handlers: Mapping[str, Handler], clock: Callable[[], datetime] | None = None
    ) -> None:
        self.handlers = dict(handlers)
        self.clock = clock or (lambda: datetime.now(UTC))
        self.clock_skew = timedelta(0)
        self.requests: list[Request] = []
        self.always: dict[str, str] = {}
        """provider -> the fault of every answer of it."""
        self._plan: deque[str | None] = deque()
        self._lock = threading.Lock()
        self._http = _Server(("127.0.0.1", 0), _handler_of(self))
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def plan(self, faults: Iterable[str | None]) -> None:
        with self._lock:
            self._plan.extend(faults)

    def calm(self) -> None:
        """Forget the faults that are still planned."""
        with self._lock:
            self._plan.clear()

    def next_fault(self) -> str | None:
        with self._lock:
            return self._plan.popleft() if self._plan else None

    def asked(self, provider: str, path: str = "") -> list[Request]:
        return [r for r in self.requests if r.provider == provider and r.path.startswith(path)]

    def __enter__(self) -> ProviderServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(timeout=5)


def storm(seed: int, length: int, share: float = 0.5) -> list[str | None]:
    """A plan in which each answer is a fault with that probability."""
    chance = random.Random(seed)
    return [chance.choice(FAULTS) if chance.random() < share else None for _ in range(length)]


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up, as one that is killed does, is no news."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def _handler_of(server: ProviderServer) -> type[BaseHTTPRequestHandler]:
    class _Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else each answer waits 40 ms for the ACK of its header

        def do_GET(self) -> None:
            self._serve()

        def do_POST(self) -> None:
            self._serve()

        def _serve(self) -> None:
            parts = urlsplit(self.path)
            _, provider, *rest = parts.path.split("/", 2)
            length = int(self.headers.get("Content-Length") or 0)
            request = Request(
                provider,
                "/" + (rest[0] if rest else ""),
                dict(parse_qsl(parts.query, keep_blank_values=True)),
                dict(self.headers),
                self.rfile.read(length),
                self.command,
            )
            server.requests.append(request)
            fault = server.always.get(provider) or server.next_fault()
            if fault == DROPPED:
                self.close_connection = True
                return
            if fault == TOO_MANY:
                return self._send(Reply({"msg": "slow down"}, 429, {"Retry-After": "1"}))
            if fault == BROKEN:
                return self._send(Reply({"msg": "internal"}, 500))
            if fault == UNAVAILABLE:
                return self._send(Reply(_HTML_PAGE, 503, {"Content-Type": "text/html"}))
            if fault == HTML:
                return self._send(Reply(_HTML_PAGE, 200, {"Content-Type": "text/html"}))
            if fault == NOTHING:
                return self._send(Reply(b""))
            handler = server.handlers.get(provider)
            reply = (
                handler(request) if handler else Reply({"error": f"no provider {provider}"}, 404)
            )
            if fault == TRUNCATED:
                body = reply.encoded()
                return self._send(Reply(body[: len(body) // 2], reply.status, reply.headers))
            self._send(reply, cut=fault == RESET)

        def _send(self, reply: Reply, cut: bool = False) -> None:
            body = reply.encoded()
            self.send_response_only(reply.status)
            self.send_header(
                "Date", format_datetime(server.clock() + server.clock_skew, usegmt=False)
            )
            self.send_header("Content-Length", str(len(body)))
            headers = {"Content-Type": "application/json", **reply.headers}
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if cut:
                self.wfile.write(body[: max(1, len(body) // 2)])
                self.wfile.flush()
                self.close_connection = True
                self.connection.close()
                return
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    return _Handler
