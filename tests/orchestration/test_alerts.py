"""Who is told what, how often, and what happens when a channel fails. Against real servers on loopback: SMTP with and without TLS, HTTP that answers, fails, stalls and cuts."""

from __future__ import annotations

import errno
import hashlib
import hmac
import json
import logging
import os
import socket
import sqlite3
import ssl
import subprocess
import threading
import time
from contextlib import closing
from datetime import timedelta
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult

from orchestration import alerts
from orchestration.alerts import channels as channels_module
from orchestration.alerts import ledger
from orchestration.alerts.causes import Cause, open_causes
from orchestration.alerts.channels import Email, Slack, Webhook, configured, signature
from orchestration.alerts.messages import FIRED, MOST_LINES, message_of
from orchestration.settings import Settings
from tests.orchestration.small_home import (
    NOW,
    YESTERDAY,
    small_home,
    store_run,
    store_stream,
    store_verdict,
)

CAUSE = Cause(
    "gate:raw.ohlcv",
    "critical",
    "gate raw.ohlcv closed for 2026-03-11",
    "mend the data",
    "gate-closed",
    "2026-03-11",
    NOW,
    ("bars_are_fresh: newest 15:25",),
)

REASON = "raw.ohlcv: nobody answers"
"""What Dagster's event log says of the failed runs; test_logs reads a real one."""


class Receiver(BaseHTTPRequestHandler):
    """Answers with the next of ``answers`` (200 when they are used up); "cut" hangs up in the middle, "stall" never answers."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer = self.server.answers.pop(0) if self.server.answers else 200
        self.server.seen.append((answer, dict(self.headers), body))
        if answer == "stall":
            self.server.released.wait(10)
            return
        if answer == "cut":
            self.wfile.write(b"HTTP/1.1 2")
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.send_response(answer)
        if answer == 302:
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def http():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    server.daemon_threads = True
    server.answers, server.seen, server.released = [], [], threading.Event()
    server.url = f"http://127.0.0.1:{server.server_port}/T000/B000/{'x' * 24}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def now(monkeypatch):
    """The present of alerts; ``now.at`` moves it."""

    class Clock:
        at = NOW

    monkeypatch.setattr(alerts, "utc_now", lambda: Clock.at)
    monkeypatch.setattr("orchestration.observing.utc_now", lambda: Clock.at)
    return Clock


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(channels_module, "TIMEOUT_SECONDS", 0.4)
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda seconds: None)
    monkeypatch.setattr("orchestration.runs.reasons_of", lambda settings, run_id: REASON)


def message(cause=CAUSE, **settings):
    return message_of(FIRED, cause, Settings(**settings), NOW)


# -- what is wrong ---------------------------------------------------------------------------------------------


def test_a_home_that_is_well_has_no_cause(tmp_path):
    warehouse = small_home(tmp_path / "home")
    store_run(warehouse.settings)
    assert open_causes(warehouse.settings, NOW) == []


def keys(settings, now=NOW):
    return {cause.key: cause for cause in open_causes(settings, now)}


def test_a_failed_run_is_a_cause_until_a_later_run_of_its_days_succeeds(tmp_path):
    settings = small_home(tmp_path / "home").settings
    store_run(settings, status="FAILURE", start=NOW - timedelta(hours=2))
    store_run(
        settings,
        status="SUCCESS",
        day=YESTERDAY - timedelta(days=1),
        start=NOW - timedelta(hours=1),
    )
    assert keys(settings)["run:daily:2026-03-11"].title == "daily 2026-03-11 failed"
    store_run(settings, status="SUCCESS", start=NOW)
    assert keys(settings) == {}


def test_late_counts_from_the_decision_time_and_only_where_a_home_is_kept_current(tmp_path):
    warehouse = small_home(tmp_path / "home", newest=YESTERDAY - timedelta(days=1))
    due = warehouse.settings.decision_time(YESTERDAY)
    assert "late" not in keys(warehouse.settings, due + timedelta(minutes=89))
    late = keys(warehouse.settings, due + timedelta(minutes=91))["late"]
    assert (late.title, late.since, late.severity) == (
        "no forecasts for 2026-03-11; the newest are of 2026-03-10",
        due,
        "critical",
    )
    past = warehouse.settings.model_copy(update={"source": "archive"})
    assert "late" in keys(past)
    assert "late" not in keys(past, NOW + timedelta(days=9))


def test_stale_streams_closed_gates_and_the_clock(tmp_path):
    warehouse = small_home(tmp_path / "home")
    with warehouse.write() as connection:
        day_ago = NOW - timedelta(hours=25)
        store_stream(
            connection,
            "bybit/open_interest/BTC",
            "raw.open_interest",
            "bybit",
            "unavailable",
            "timed out",
            day_ago,
        )
        store_stream(
            connection,
            "okx/funding/BTC",
            "raw.funding_rates",
            "okx",
            "unavailable",
            "503",
            NOW - timedelta(hours=23),
        )
        store_verdict(connection, "raw.ohlcv", YESTERDAY, failed=2, at=NOW + timedelta(seconds=1))
        connection.execute(
            "UPDATE raw.streams SET attempted_at = ? WHERE stream LIKE 'binance%'",
            [NOW + timedelta(hours=3)],
        )
    found = keys(warehouse.settings)
    assert list(found) == ["clock", "gate:raw.ohlcv", "stale:raw.open_interest:bybit"]
    assert found["stale:raw.open_interest:bybit"].lines == ("1 streams, unavailable: timed out",)
    assert found["gate:raw.ohlcv"].lines == ("expectation_0: newest 2026-03-10 15:25", "and 1 more")
    with warehouse.write() as connection:
        connection.execute("UPDATE quality.validations SET overridden_by = 'ada' WHERE NOT success")
    assert "gate:raw.ohlcv" not in keys(warehouse.settings)


# -- once for each cause and day -------------------------------------------------------------------------------


def test_told_once_a_day_again_after_recovery_and_resolved(tmp_path, now, http):
    warehouse = small_home(tmp_path / "home")
    settings, channel = warehouse.settings, Webhook(http.url)

    def round_of(minutes: int) -> list[str]:
        now.at = NOW + timedelta(minutes=minutes)
        return [subject for _, subject in alerts.watch(settings, [channel]).sent]

    assert round_of(0) == []
    failed = store_run(settings, status="FAILURE", start=NOW)
    assert round_of(1) == ["[volcast] critical: daily 2026-03-11 failed"]
    assert round_of(2) == []
    assert round_of(600) == []
    assert round_of(905) == ["[volcast] critical: daily 2026-03-11 failed"]  # 2026-03-13 00:05
    store_run(settings, status="SUCCESS", start=NOW + timedelta(minutes=906))
    assert round_of(907) == ["[volcast] resolved: daily 2026-03-11 failed"]
    assert round_of(908) == []
    store_run(settings, status="FAILURE", start=NOW + timedelta(minutes=909))
    assert round_of(910) == ["[volcast] critical: daily 2026-03-11 failed"]
    sent = [json.loads(body) for _, _, body in http.seen]
    assert [item["event"] for item in sent] == ["alert", "alert", "resolved", "alert"]
    assert sent[0]["run"] == failed
    assert REASON in sent[0]["lines"]


def subjects(settings, channel) -> list[str]:
    return [
        subject.removeprefix("[volcast] ") for _, subject in alerts.watch(settings, [channel]).sent
    ]


def test_a_run_that_heals_a_cause_makes_it_neither_come_nor_go_while_it_writes(tmp_path, now, http):
    warehouse = small_home(tmp_path / "home", newest=YESTERDAY - timedelta(days=1))
    settings, channel = warehouse.settings, Webhook(http.url)
    warehouse.publish()
    late = "no forecasts for 2026-03-11; the newest are of 2026-03-10"
    assert subjects(settings, channel) == [f"critical: {late}"]
    with warehouse.lock():  # the copy is of before, and says nothing new
        assert subjects(settings, channel) == []
    with warehouse.write() as connection:
        connection.execute(
            "INSERT INTO forecasts.volatility (asset, as_of, horizon, model, model_version, volatility) VALUES ('BTC', ?, 1, 'ewma', 'v1', 0.5)",
            [YESTERDAY],
        )
        store_verdict(connection, "raw.ohlcv", YESTERDAY, failed=1)
    gate = "critical: gate raw.ohlcv closed for 2026-03-11"
    assert subjects(settings, channel) == [gate, f"resolved: {late}"]
    for _ in range(3):  # between its steps, and in them
        with warehouse.lock():
            assert subjects(settings, channel) == []
        assert subjects(settings, channel) == []
    with warehouse.lock():  # it does not hide what no table says
        store_run(settings, status="FAILURE")
        assert subjects(settings, channel) == ["critical: daily 2026-03-11 failed"]


def test_who_holds_the_lock_for_too_long_does_not_hide_what_the_copy_says(tmp_path, now, http):
    warehouse = small_home(tmp_path / "home", newest=YESTERDAY - timedelta(days=1))
    settings, channel = warehouse.settings, Webhook(http.url)
    warehouse.publish()
    with warehouse.lock():
        assert subjects(settings, channel) == []
        taken = time.time() - settings.lock_timeout_seconds - 1
        os.utime(settings.warehouse_path.with_suffix(".lock"), (taken, taken))
        assert len(subjects(settings, channel)) == 1


def test_a_home_that_does_not_open_ends_nothing_that_its_tables_said(tmp_path, now, http):
    warehouse = small_home(tmp_path / "home", newest=YESTERDAY - timedelta(days=1))
    settings, channel = warehouse.settings, Webhook(http.url)
    assert len(subjects(settings, channel)) == 1
    kept = settings.warehouse_path.read_bytes()
    settings.warehouse_path.write_bytes(kept[:4096] + b"\0" * 4096 + kept[8192:20_000])
    broken = f"the warehouse of {settings.home} cannot be opened"
    assert subjects(settings, channel) == [f"critical: {broken}"]
    settings.warehouse_path.write_bytes(kept)
    assert subjects(settings, channel) == [f"resolved: {broken}"]


def test_a_cause_that_comes_and_goes_is_told_three_times_a_day(tmp_path, now, http):
    settings, channel = small_home(tmp_path / "home").settings, Webhook(http.url)
    told = []
    for minute in range(0, 20, 2):
        now.at = NOW + timedelta(minutes=minute)
        store_run(settings, status="FAILURE", start=now.at)
        told += subjects(settings, channel)
        store_run(settings, start=now.at + timedelta(minutes=1))
        told += subjects(settings, channel)
    title = "daily 2026-03-11 failed"
    assert told == [f"critical: {title}", f"resolved: {title}"] * 2 + [f"critical: {title}"]
    now.at = NOW + timedelta(hours=15, minutes=5)  # the next UTC day
    assert subjects(settings, channel) == [f"resolved: {title}"]
    assert subjects(settings, channel) == []


@pytest.mark.parametrize("in_place", [True, False])
def test_a_full_disk_neither_stops_an_alert_nor_repeats_it(
    tmp_path, now, http, monkeypatch, in_place
):
    settings, channel = small_home(tmp_path / "home").settings, Webhook(http.url)
    alerts.watch(settings, [channel])
    path = settings.home / "alerts" / "state.json"
    size = path.stat().st_size if path.exists() else None
    store_run(settings, status="FAILURE")

    def no_room(self: Path, content: bytes) -> int:
        open(self, "wb").close()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", no_room)
    if in_place:
        assert len(subjects(settings, channel)) == 1
        assert path.stat().st_size == size  # no block more
        ledger._REMEMBERED.clear()  # as in the next process
    else:
        path.unlink(missing_ok=True)
        assert len(subjects(settings, channel)) == 1
    assert subjects(settings, channel) == []
    assert [file.name for file in path.parent.iterdir() if file.name.startswith("state.1")] == []
    monkeypatch.undo()
    ledger_now = ledger.read_ledger(settings)
    assert [told.heard["webhook"].times for told in ledger_now.told.values()] == [1]


def test_more_causes_than_fit_into_a_round_are_told_in_the_next(tmp_path, now, http):
    settings, channel = small_home(tmp_path / "home").settings, Webhook(http.url)
    for days in range(25):
        store_run(settings, status="FAILURE", day=YESTERDAY - timedelta(days=days))
    rounds = [subjects(settings, channel) for _ in range(3)]
    assert [len(told) for told in rounds] == [alerts.MOST_MESSAGES, 5, 0]
    assert len({title for told in rounds for title in told}) == 25


def test_a_channel_that_fails_stops_no_other_is_logged_and_hears_it_later(
    tmp_path, now, http, caplog
):
    settings = small_home(tmp_path / "home").settings
    store_run(settings, status="FAILURE")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{unused.getsockname()[1]}/"
    slack, webhook = Slack(dead), Webhook(http.url)
    with caplog.at_level(logging.ERROR, "orchestration.alerts"):
        outcome = alerts.watch(settings, [slack, webhook])
    assert [name for name, _ in outcome.sent] == ["webhook"]
    assert [name for name, _ in outcome.failures] == ["slack"]
    assert "alert not delivered by slack" in caplog.text
    assert alerts.watch(settings, [slack, webhook]).failures == []  # it rests for a minute
    now.at += timedelta(minutes=2)
    outcome = alerts.watch(settings, [Slack(http.url), webhook])
    assert [name for name, _ in outcome.sent] == ["slack"]


def test_two_processes_at_once_tell_it_once(tmp_path, now, http):
    settings = small_home(tmp_path / "home").settings
    store_run(settings, status="FAILURE")
    http.answers[:] = ["stall"]
    first = threading.Thread(target=alerts.watch, args=(settings, [Webhook(http.url)]))
    first.start()
    while not http.seen:
        threading.Event().wait(0.01)
    assert alerts.watch(settings, [Webhook(http.url)]).sent == []
    http.released.set()
    first.join()


def test_a_damaged_ledger_tells_twice_rather_than_never(tmp_path, now, http):
    settings = small_home(tmp_path / "home").settings
    store_run(settings, status="FAILURE")
    alerts.watch(settings, [Webhook(http.url)])
    path = settings.home / "alerts" / "state.json"
    path.write_text(path.read_text()[:50])
    assert len(alerts.watch(settings, [Webhook(http.url)]).sent) == 1


def test_a_run_that_cannot_even_start_is_told_until_one_does(tmp_path, now, http):
    settings = small_home(tmp_path / "home").settings
    alerts.start_failed(settings, "daily", "2026-03-11", OSError(28, "No space left on device"))
    alerts.watch(settings, [Webhook(http.url)])
    assert "No space left on device" in http.seen[0][2].decode()
    alerts.started(settings, "daily")
    assert alerts.watch(settings, [Webhook(http.url)]).sent == [
        ("webhook", "[volcast] resolved: daily 2026-03-11 could not start")
    ]


def test_a_run_of_the_daemon_takes_back_that_one_could_not_start(tmp_path, now, http):
    settings, channel = small_home(tmp_path / "home").settings, Webhook(http.url)
    store_run(settings, start=NOW - timedelta(minutes=1))
    alerts.start_failed(settings, "daily", "2026-03-11", OSError(28, "No space left on device"))
    assert subjects(settings, channel) == ["critical: daily 2026-03-11 could not start"]
    store_run(settings, job="capture", start=NOW + timedelta(minutes=1))
    assert subjects(settings, channel) == []
    store_run(settings, start=NOW + timedelta(minutes=2))
    assert subjects(settings, channel) == ["resolved: daily 2026-03-11 could not start"]
    assert ledger.read_ledger(settings).raised == {}


def test_a_failed_range_names_its_command_and_several_runs_make_it_good(tmp_path):
    settings = small_home(tmp_path / "home").settings
    first = YESTERDAY - timedelta(days=2)
    store_run(settings, status="FAILURE", day=first, last=YESTERDAY)
    (cause,) = open_causes(settings, NOW)
    assert "`volcast backfill --from 2026-03-09 --to 2026-03-11`" in cause.todo
    for day in (YESTERDAY, first):  # in any order
        store_run(settings, day=day, start=NOW + timedelta(minutes=1))
    assert len(open_causes(settings, NOW)) == 1  # 2026-03-10 is missing
    store_run(settings, day=first, last=first + timedelta(days=1), start=NOW + timedelta(minutes=2))
    assert open_causes(settings, NOW) == []


def test_captures_do_not_push_a_failed_run_out_of_sight(tmp_path):
    settings = small_home(tmp_path / "home").settings
    store_run(settings, status="FAILURE", start=NOW - timedelta(days=3))
    with (
        closing(sqlite3.connect(settings.dagster_home / "history" / "runs.db")) as history,
        history,
    ):
        history.execute(
            "INSERT INTO runs (run_id, pipeline_name, status, create_timestamp) SELECT 'c' || value, 'capture', 'SUCCESS', '2026-03-10 00:00:00' "
            "FROM (WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n LIMIT 288) SELECT value FROM n)"
        )
    assert [cause.title for cause in open_causes(settings, NOW)] == ["daily 2026-03-11 failed"]


# -- what it says ----------------------------------------------------------------------------------------------


def test_the_text_says_what_when_why_and_what_to_do_in_few_lines(monkeypatch):
    monkeypatch.setenv("VOLCAST_ALERT_WEBHOOK_SECRET", "battery staple")
    hostile = Cause(
        "run:daily", "critical", "daily failed\nBcc: all@example.org", "run it again", "run-failed", "2026-03-11", NOW,
        ("headline: <!channel> <b>x</b>\n\x1b[31m& battery staple " + "y" * 1000, *(f"line {n}" for n in range(50))),
    )  # fmt: skip
    found = message(hostile, alert_runbook="https://wiki.example.org/volcast")
    lines = found.text.splitlines()
    assert len(lines) == MOST_LINES
    assert "\n" not in found.subject
    assert lines[1:3] == ["day: 2026-03-11", "since: 2026-03-12 09:00 UTC"]
    assert lines[-3:-1] == [
        "to do: run it again",
        "runbook: https://wiki.example.org/volcast#run-failed",
    ]
    assert "more lines in the log" in lines[-4]
    assert "battery staple" not in found.text
    assert "\x1b" not in found.text
    assert max(map(len, lines)) <= 300


def test_slack_gets_no_markup_of_ours_or_of_a_headline(http):
    Slack(http.url).send(message(Cause("k", "info", "a <!channel> & <https://evil|b>", "x", "y")))
    text = json.loads(http.seen[0][2])["text"]
    assert "&lt;!channel&gt; &amp; &lt;https://evil|b&gt;" in text
    assert "<" not in text


# -- channels --------------------------------------------------------------------------------------------------


def test_a_webhook_is_signed_over_its_time_and_body(http):
    Webhook(http.url, "battery staple").send(message())
    _, headers, body = http.seen[0]
    moment = headers["X-Volcast-Timestamp"]
    assert moment == str(int(NOW.timestamp()))
    expected = hmac.new(
        b"battery staple", moment.encode() + b"." + body, hashlib.sha256
    ).hexdigest()
    assert (
        headers["X-Volcast-Signature"]
        == f"sha256={expected}"
        == signature("battery staple", moment, body)
    )
    sent = json.loads(body)
    assert (sent["severity"], sent["day"], sent["runbook"]) == (
        "critical",
        "2026-03-11",
        "docs/runbook.md#gate-closed",
    )
    Webhook(http.url).send(message())
    assert "X-Volcast-Signature" not in http.seen[1][1]


@pytest.mark.parametrize(
    ("answers", "tries", "arrives"),
    [
        ([500, 200], 2, True),
        (["cut", "stall", 200], 3, True),
        ([429, 503, 500, 200], 3, False),
        ([404, 200], 1, False),
        ([302, 200], 1, False),
    ],
)
def test_the_network_is_tried_again_and_a_refusal_is_not(
    tmp_path, now, http, answers, tries, arrives
):
    settings = small_home(tmp_path / "home").settings
    store_run(settings, status="FAILURE")
    http.answers[:] = answers
    outcome = alerts.watch(settings, [Webhook(http.url)])
    assert len(http.seen) == tries
    assert bool(outcome.sent) == arrives
    assert bool(outcome.failures) != arrives


def test_no_error_of_a_channel_shows_its_address(tmp_path, now, http, monkeypatch, capsys):
    monkeypatch.setenv("VOLCAST_ALERT_SLACK_URL", http.url)
    settings = small_home(tmp_path / "home").settings
    store_run(settings, status="FAILURE")
    http.answers[:] = [403]
    outcome = alerts.watch(settings)
    assert outcome.failures == [("slack", "127.0.0.1 answered 403 Forbidden")]
    http.shutdown()
    http.server_close()
    now.at += timedelta(minutes=5)
    ((_, why),) = alerts.watch(settings).failures
    assert "x" * 24 not in why
    assert "x" * 24 not in capsys.readouterr().err


class Inbox:
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self.mails: list = []

    async def handle_DATA(self, server, session, envelope) -> str:
        self.mails.append((session.ssl is not None, session.auth_data, envelope))
        return "250 OK"


def check_password(server, session, envelope, mechanism, data) -> AuthResult:
    return AuthResult(success=data.password == b"correct horse", auth_data=data.login)


@pytest.fixture
def certificate(tmp_path, monkeypatch):
    """A certificate for localhost, which this process trusts."""
    key, chain = tmp_path / "key.pem", tmp_path / "chain.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(chain)],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(chain))
    return context


def serve_mail(inbox, **options):
    class Server(Controller):
        def factory(self):
            return SMTP(self.handler, hostname="mail", **options)

    server = Server(inbox, hostname="127.0.0.1", port=0)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        server.port = probe.getsockname()[1]
    server.start()
    return server


def mail_settings(port: int, scheme: str = "smtp", user: str = "") -> Settings:
    return Settings(
        alert_email=("desk@example.org", "ada@example.org"),
        alert_smtp=f"{scheme}://{user}localhost:{port}",
    )


def test_mail_over_starttls_with_a_password_from_the_secrets(certificate, monkeypatch):
    monkeypatch.setattr(channels_module, "_is_here", lambda host: False)  # as any other host
    monkeypatch.setenv("VOLCAST_ALERT_SMTP_PASSWORD", "correct horse")
    inbox = Inbox()
    server = serve_mail(
        inbox,
        tls_context=certificate,
        require_starttls=True,
        auth_required=True,
        authenticator=check_password,
    )
    try:
        Email(mail_settings(server.port, user="bot@")).send(message())
    finally:
        server.stop()
    ((encrypted, user, envelope),) = inbox.mails
    assert (encrypted, user) == (True, b"bot")
    assert envelope.rcpt_tos == ["desk@example.org", "ada@example.org"]
    mail = message_from_bytes(envelope.content, policy=policy.default)
    assert mail["Subject"] == "[volcast] critical: gate raw.ohlcv closed for 2026-03-11"
    assert "bars_are_fresh: newest 15:25" in mail.get_content()


def test_no_password_over_a_line_that_is_not_encrypted_and_no_certificate_that_is_not_known(
    certificate, monkeypatch
):
    monkeypatch.setattr(channels_module, "_is_here", lambda host: False)
    monkeypatch.setenv("VOLCAST_ALERT_SMTP_PASSWORD", "correct horse")
    inbox = Inbox()
    plain = serve_mail(inbox)
    try:
        with pytest.raises(channels_module.ChannelError, match="STARTTLS") as refused:
            Email(mail_settings(plain.port, user="bot@")).send(message())
    finally:
        plain.stop()
    assert not refused.value.passing
    monkeypatch.delenv("SSL_CERT_FILE")
    unknown = serve_mail(inbox, tls_context=certificate)
    try:
        with pytest.raises(channels_module.ChannelError, match="certificate") as refused:
            Email(mail_settings(unknown.port)).send(message())
    finally:
        unknown.stop()
    assert not refused.value.passing
    assert inbox.mails == []


def test_plain_mail_to_this_machine_and_a_mail_server_that_is_away():
    inbox = Inbox()
    server = serve_mail(inbox)
    Email(mail_settings(server.port)).send(message())
    server.stop()
    assert len(inbox.mails) == 1
    with pytest.raises(channels_module.ChannelError) as away:
        Email(mail_settings(server.port)).send(message())
    assert away.value.passing


# -- configuration ---------------------------------------------------------------------------------------------


def test_nothing_is_configured_by_default_and_a_run_sends_nothing(tmp_path):
    settings = small_home(tmp_path / "home").settings
    assert configured(settings) == []
    assert alerts.watch(settings).sent == []


@pytest.mark.parametrize(
    ("settings", "environment", "complaint"),
    [
        ({"alert_email": ("desk",)}, {}, "expected an address such as"),
        (
            {"alert_email": ("a@b.org",), "alert_smtp": "mail.b.org:25"},
            {},
            "expected smtp://user@host:587",
        ),
        (
            {"alert_email": ("a@b.org",), "alert_smtp": "smtp://u:secret12@b.org"},
            {},
            "keep it in VOLCAST_ALERT_SMTP_PASSWORD",
        ),
        (
            {},
            {"VOLCAST_ALERT_SLACK_URL": "http://hooks.slack.com/services/T0/B0/abcdef"},
            "VOLCAST_ALERT_SLACK_URL: expected https://",
        ),
        (
            {},
            {"VOLCAST_ALERT_WEBHOOK_URL": "ftp://example.org"},
            "VOLCAST_ALERT_WEBHOOK_URL: expected https://",
        ),
    ],
)
def test_a_channel_that_is_named_wrongly_says_how(monkeypatch, settings, environment, complaint):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=complaint) as found:
        configured(Settings(**settings))
    assert "abcdef" not in str(found.value)
    assert "secret12" not in str(found.value)


def test_the_command_sends_one_through_each_and_fails_where_one_fails(tmp_path, http, monkeypatch):
    from typer.testing import CliRunner

    from orchestration.cli import app

    monkeypatch.setenv("VOLCAST_HOME", str(tmp_path / "home"))
    nothing = CliRunner().invoke(app, ["alert", "--test"])
    assert nothing.exit_code == 1
    assert "no channel is configured" in nothing.output
    monkeypatch.setenv("VOLCAST_ALERT_SLACK_URL", http.url)
    monkeypatch.setenv("VOLCAST_ALERT_WEBHOOK_URL", http.url + "/hook")
    done = CliRunner().invoke(app, ["alert", "--test"])
    assert done.exit_code == 0, done.output
    assert [json.loads(body).get("event") for _, _, body in http.seen] == [None, "test"]
    assert "sent by slack: [volcast] test: a test of the alerts" in done.output
    http.answers[:] = [404]
    refused = CliRunner().invoke(app, ["alert", "--test"])
    assert refused.exit_code == 1
    assert "slack: 127.0.0.1 answered 404 Not Found" in refused.output
    assert "sent by webhook" in refused.output


def test_the_command_watches_a_home_that_is_there_or_fails(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from orchestration.cli import app

    home = tmp_path / "home"
    monkeypatch.setenv("VOLCAST_HOME", str(home))
    nowhere = CliRunner().invoke(app, ["alert"])
    assert nowhere.exit_code == 1
    assert "no such folder, so nothing is watched" in nowhere.output
    assert "nothing is wrong" not in nowhere.output
    assert not home.exists()
    home.mkdir()
    empty = CliRunner().invoke(app, ["alert"])
    assert empty.exit_code == 1
    assert "nothing is watched before a first run" in empty.output
    monkeypatch.setattr("orchestration.alerts.utc_now", lambda: NOW)
    small_home(home)
    watched = CliRunner().invoke(app, ["alert"])
    assert watched.exit_code == 0, watched.output


def test_the_sensor_is_on_where_a_channel_is_configured_and_survives_one_that_fails(
    tmp_path, now, http, monkeypatch
):
    import dagster as dg

    from orchestration.monitors import alerts_sensor, alerts_wanted
    from orchestration.platform import Platform

    assert alerts_wanted() == dg.DefaultSensorStatus.STOPPED
    monkeypatch.setenv("VOLCAST_ALERT_WEBHOOK_URL", http.url)
    assert alerts_wanted() == dg.DefaultSensorStatus.RUNNING
    settings = small_home(tmp_path / "home").settings
    store_run(settings, status="FAILURE")
    http.answers[:] = [404]
    with dg.build_sensor_context(resources={"platform": Platform(settings)}) as context:
        skipped = alerts_sensor(context)
        assert "1 open, 0 messages sent; webhook: 127.0.0.1 answered 404" in skipped.skip_message
        now.at += timedelta(minutes=2)
        assert "1 open, 1 messages sent" in alerts_sensor(context).skip_message


def test_a_run_from_cron_tells_that_it_failed(tmp_path, now, http, monkeypatch):
    from rich.console import Console

    from orchestration.runs import RunFailed, run_job

    monkeypatch.setenv("VOLCAST_ALERT_WEBHOOK_URL", http.url)
    settings = small_home(tmp_path / "home").settings

    def fails(*_: object) -> str:
        store_run(settings, status="FAILURE")
        raise RunFailed("raw.ohlcv: nobody answers")

    monkeypatch.setattr("orchestration.runs._execute", fails)
    with pytest.raises(RunFailed):
        run_job(settings, "daily", YESTERDAY, YESTERDAY, Console(quiet=True))
    assert [json.loads(body)["title"] for _, _, body in http.seen] == ["daily 2026-03-11 failed"]
