"""Live tests touch 127.0.0.1 and nothing else."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from orchestration.sources.live.config import LiveConfig, Providers
from tests.live.server import ProviderServer

NOW = datetime(2024, 7, 1, 0, 45, tzinfo=UTC)
"""The moment at which live tests read: 15 minutes after the decision time of 2024-06-30."""


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any other address is an error that names it."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else address
        if self.family in (socket.AF_INET, socket.AF_INET6) and host not in ("127.0.0.1", "::1"):
            raise AssertionError(f"a test tried to reach {host}")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded)
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def serve() -> Iterator[Callable[..., ProviderServer]]:
    """serve(provider=handler, ...) -> a running server; it stops with the test."""
    running: list[ProviderServer] = []

    def start(**handlers: object) -> ProviderServer:
        server = ProviderServer(handlers, clock=lambda: NOW)  # type: ignore[arg-type]
        server.__enter__()
        running.append(server)
        return server

    yield start
    for server in running:
        server.__exit__()


def providers_at(server: ProviderServer, **config: object) -> Providers:
    """Providers that ask ``server``, at ``NOW``, without waiting between attempts."""
    made = LiveConfig(base_urls={"*": server.url}, **config)  # type: ignore[arg-type]
    return Providers(made, clock=lambda: NOW, sleep=lambda seconds: None)
