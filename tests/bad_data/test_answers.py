"""Whatever a provider answers becomes rows that the gate judges, or a stale stream with its reason; time and memory stay bounded."""

from __future__ import annotations

import dataclasses
import re
import resource
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from orchestration.ingest import ingest_window
from orchestration.settings import Settings
from orchestration.sources.live.config import LiveConfig, Providers
from orchestration.sources.live.fear_greed import FearGreed
from orchestration.sources.live.prices import Prices
from orchestration.sources.live.rss import Rss
from orchestration.sources.live.stream import LiveStream
from orchestration.sources.live.transport import Transport
from orchestration.sources.protocol import Stream
from orchestration.warehouse import Warehouse
from tests.bad_data.answer_faults import BARS, FAULTS, FG, RSS, Said
from tests.bad_data.corpus import AnswerFault, Quarantined, Refused, Stored
from tests.live.providers.binance_spot import BinanceSpot
from tests.live.server import Request

NOW = datetime(2024, 7, 1, 0, 45, tzinfo=UTC)
FEED = "https://news.example.com/feed.xml"


class Speaker:
    """A server on 127.0.0.1 that says what it was told, to any question but Binance's list of markets."""

    def __init__(self) -> None:
        self.said = Said()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


def _handler(speaker: Speaker) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            said = speaker.said
            if self.path.startswith("/binance/api/v3/exchangeInfo"):
                markets = BinanceSpot({("BTC", "1h"): []}, lambda: NOW)
                said = Said(markets(Request("", "/api/v3/exchangeInfo", {}, {})).encoded())
            self.send_response_only(said.status)
            for name, value in said.headers.items():
                self.send_header(name, value)
            if said.parts is None:
                self.send_header("Content-Length", str(len(said.content)))
                self.end_headers()
                self.wfile.write(said.content)
                return
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for part in said.parts():
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))

        def handle(self) -> None:
            try:
                super().handle()
            except OSError:
                return  # the reader hung up

        def log_message(self, *_: object) -> None:
            return

    return Handler


@pytest.fixture(scope="module")
def speaker() -> Iterator[Speaker]:
    made = Speaker()
    yield made
    made.close()


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    return Warehouse(Settings(home=tmp_path_factory.mktemp("answers")))


@dataclasses.dataclass(frozen=True)
class OneStream:
    """A source of a single stream."""

    stream: Stream
    name: str = "live"
    assets: tuple[str, ...] = ("BTC",)

    def streams(self, table: str) -> Sequence[Stream]:
        return [self.stream]

    def now(self) -> datetime:
        return NOW

    def first_day(self) -> date:
        return date(2024, 6, 1)

    def last_day(self) -> None:
        return None

    def describe(self) -> dict[str, Any]:
        return {}


def stream_of(provider: str, url: str, name: str) -> LiveStream:
    """The provider's own stream, under a name of the fault's own: its cursor is nobody else's."""
    config = LiveConfig(
        assets=("BTC",),
        start=date(2024, 6, 20),
        bars=("1h",),
        bulk_files=False,
        price_venues=("binance",),
        base_urls={"*": url},
    )
    providers = Providers(config, clock=lambda: NOW, sleep=lambda _: None, attempts=1)
    made = {
        FG: lambda: FearGreed(providers).streams(),
        RSS: lambda: Rss("desk", FEED, providers).streams(),
        BARS: lambda: Prices(providers, files=False).streams(),
    }[provider]()
    assert isinstance(made[0], LiveStream)
    return dataclasses.replace(made[0], name=name)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_an_answer_ends_where_it_should(
    fault: AnswerFault, speaker: Speaker, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    speaker.said = fault.body()
    made = stream_of(fault.provider, speaker.url, fault.name)
    if "drips" in fault.name:
        quick = dataclasses.replace(Transport("x").policy, deadline=0.5, attempts=1)
        monkeypatch.setattr("orchestration.sources.live.fear_greed.Policy", lambda **_: quick)
        made = stream_of(fault.provider, speaker.url, fault.name)
    started, peak = time.monotonic(), _peak()
    last = NOW.date() - timedelta(days=1)
    result = ingest_window(warehouse, OneStream(made), made.table, last, last)
    assert time.monotonic() - started < 30
    assert _peak() - peak < 300 * 2**10, "kilobytes of memory"
    outcome = fault.outcome
    details = [stale.detail for stale in result.stale]
    if isinstance(outcome, Refused):
        assert len(details) == 1
        assert re.search(outcome.message, details[0]), details
        assert result.count.offered == 0
    elif isinstance(outcome, Stored):
        assert not details
        assert result.count.inserted == outcome.rows
    else:
        assert isinstance(outcome, Quarantined)
        assert not details
        assert (result.count.quarantined, result.count.inserted) == (outcome.rows, outcome.stored)
        with warehouse.read() as connection:
            newest = connection.execute(
                "SELECT reason FROM quarantine.rows ORDER BY quarantined_at DESC LIMIT 1"
            ).fetchone()
        assert newest is not None
        assert re.search(outcome.reason, newest[0])


def _peak() -> int:
    """Most memory of this process so far, kilobytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
