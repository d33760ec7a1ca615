"""The metrics say what the tables say, in Prometheus' format; rules, dashboard and docs name no metric that does not exist."""

from __future__ import annotations

import json
import os
import re
import runpy
import threading
import urllib.request
from datetime import timedelta

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from orchestration import metrics, observing
from orchestration.alerts.causes import open_causes
from orchestration.lock_notes import lock_waits
from orchestration.metrics import METRICS
from orchestration.observing import look
from orchestration.runs import RunFailed, run_job
from orchestration.settings import PROJECT_ROOT, Settings, SettingsError
from orchestration.warehouse import Warehouse, WarehouseError
from tests.orchestration.small_home import (
    NOW,
    YESTERDAY,
    small_home,
    store_run,
    store_stream,
    store_verdict,
)

RULES = PROJECT_ROOT / "deploy" / "prometheus" / "volcast.rules.yml"
DASHBOARD = PROJECT_ROOT / "deploy" / "grafana" / "volcast.json"


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory):
    made = small_home(tmp_path_factory.mktemp("metrics") / "home")
    with made.write() as connection:
        store_stream(
            connection, "okx/order_books", "raw.order_books", "okx", "unavailable", "timed out"
        )
        store_stream(connection, "okx/funding/XYZ", "raw.funding_rates", "okx", "not listed")
        store_verdict(connection, "features.daily", YESTERDAY, failed=2)
        store_verdict(connection, "raw.headlines", YESTERDAY, failed=1, by="ada")
        connection.execute(
            "INSERT INTO forecasts.refusals (asset, as_of, horizon, model, model_version) VALUES ('SOL', ?, 1, 'ewma', 'v1')",
            [YESTERDAY],
        )
        connection.execute(
            "INSERT INTO quarantine.rows (row_id, table_name) VALUES ('a', 'raw.ohlcv'), ('b', 'raw.ohlcv')"
        )
        connection.execute("UPDATE quarantine.rows SET released_at = now() WHERE row_id = 'a'")
        for verdict in ("drift", "steady"):
            connection.execute(
                "INSERT INTO models.drift (as_of, model, kind, measure, subject, verdict) VALUES (?, 'ewma', 'errors', ?, 'x', ?)",
                [YESTERDAY, verdict, verdict],
            )
    store_run(made.settings, status="SUCCESS", start=NOW - timedelta(days=1), seconds=60)
    store_run(made.settings, status="FAILURE", start=NOW, seconds=12.5)
    store_run(made.settings, job="capture", status="STARTED", start=NOW - timedelta(hours=7))
    return made


@pytest.fixture(scope="module")
def values(warehouse):
    """(name, labels) -> value, as Prometheus reads it; the shape is checked on the way as promtool does."""
    text = metrics.render(warehouse.settings)
    found: dict[tuple[str, frozenset], float] = {}
    families = list(text_string_to_metric_families(text))
    for family in families:
        assert family.documentation, family.name
        name = family.name + ("_total" if family.type == "counter" else "")
        assert re.fullmatch(r"volcast_[a-z0-9_]+", name)
        assert METRICS[name].kind == family.type
        assert family.type == "counter" or not name.endswith("_total"), name
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, f"{key} twice"
            assert set(sample.labels) == set(METRICS[name].labels)
            found[key] = sample.value
    assert len({family.name for family in families}) == len(families)

    def value(name: str, **labels: str) -> float:
        return found[(name, frozenset(labels.items()))]

    value.all = found
    return value


def test_freshness_and_what_is_stale(values):
    newest = (NOW - timedelta(hours=1)).timestamp()
    assert values("volcast_raw_newest_event_timestamp_seconds", table="raw.ohlcv") == newest
    assert values("volcast_raw_newest_known_timestamp_seconds", table="raw.ohlcv") == newest + 300
    assert values("volcast_raw_rows", table="raw.ohlcv") == 48
    assert values("volcast_forecast_newest_as_of_timestamp_seconds") == 1773187200  # 2026-03-11
    assert values("volcast_forecast_due_timestamp_seconds") == 1773361800  # 2026-03-13 00:30
    assert (
        values("volcast_streams_stale", provider="okx") == 1
    )  # the coin that okx does not list is none
    assert values("volcast_streams_stale", provider="binance") == 0
    assert values("volcast_streams", provider="okx", status="not listed") == 1


def test_gates_refusals_and_refused_rows(values):
    assert values("volcast_gate_open", suite="features.daily") == 0
    assert values("volcast_gate_failures", suite="features.daily", severity="critical") == 2
    assert values("volcast_gate_open", suite="raw.headlines") == 1  # by permission
    assert values("volcast_forecasts", model="ewma", horizon="5") == 2
    assert values("volcast_forecasts_refused", model="ewma", horizon="1") == 1
    assert values("volcast_quarantined_rows_total", table="raw.ohlcv") == 2
    assert values("volcast_quarantined_rows_held", table="raw.ohlcv") == 1


def test_live_scores_against_the_benchmark_and_drift(values):
    labels = {"model": "ewma", "horizon": "1", "window": "30d"}
    assert values("volcast_live_qlike", **labels) == pytest.approx(0.3)
    assert values("volcast_live_qlike_ratio", **labels) == pytest.approx(1.5)
    assert values("volcast_live_scored_forecasts", **labels) == 60
    assert values("volcast_live_scored_forecasts", **{**labels, "window": "90d"}) == 180
    assert values(
        "volcast_interval_coverage_ratio", model="ewma", horizon="1", level="0.80"
    ) == pytest.approx(0.8)
    assert values("volcast_drift_measures", model="ewma", kind="errors") == 1
    assert values("volcast_champion_info", model="harx_cal") == 1


def test_runs_sizes_and_alerts(values, warehouse):
    assert values("volcast_run_success", job="daily") == 0
    assert values("volcast_run_duration_seconds", job="daily") == 12.5
    assert (
        values("volcast_run_last_success_timestamp_seconds", job="daily")
        == (NOW - timedelta(days=1)).timestamp() + 60
    )
    assert (
        values("volcast_run_oldest_start_timestamp_seconds", job="capture")
        == (NOW - timedelta(hours=7)).timestamp()
    )
    assert values("volcast_runs", job="daily", status="failure") == 1
    assert (
        values("volcast_size_bytes", part="warehouse")
        == warehouse.settings.warehouse_path.stat().st_size
    )
    assert values("volcast_disk_free_bytes") > 0
    assert values("volcast_collector_success", collector="warehouse") == 1
    assert {
        value for (name, _), value in values.all.items() if name == "volcast_collector_success"
    } == {1}


def test_a_backup_is_noted(tmp_path):
    from orchestration.backup import backup

    settings = small_home(tmp_path / "home").settings
    assert "volcast_last_backup" not in metrics.render(settings)
    backup(settings, tmp_path / "backup")
    assert "volcast_last_backup_timestamp_seconds" in metrics.render(settings)


def test_labels_stay_few(values):
    assert {label for definition in METRICS.values() for label in definition.labels}.isdisjoint(
        {"coin", "asset", "run", "day", "stream"}
    )
    assert len(values.all) < 200


def test_the_file_is_written_whole_and_readable_by_the_exporter(warehouse):
    path = metrics.write_metrics(warehouse.settings)
    assert path == warehouse.settings.home / "metrics" / "volcast.prom"
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(path.parent.glob("volcast.*")) == [path]
    assert "volcast_gate_open" in path.read_text()


def test_a_run_that_fails_writes_them_too_and_fails_as_before(tmp_path, monkeypatch):
    from rich.console import Console

    settings = Settings(home=tmp_path / "home")

    def fails(*_: object) -> str:
        raise RunFailed("raw.ohlcv: nobody answers")

    monkeypatch.setattr("orchestration.runs._execute", fails)
    with pytest.raises(RunFailed, match="nobody answers"):
        run_job(settings, "daily", YESTERDAY, YESTERDAY, Console(quiet=True))
    text = (settings.home / "metrics" / "volcast.prom").read_text()
    assert "volcast_disk_free_bytes" in text


def test_a_warehouse_that_does_not_open_is_a_metric_and_not_an_error(tmp_path):
    settings = Settings(home=tmp_path / "home")
    settings.home.mkdir()
    settings.warehouse_path.write_bytes(b"not a database" * 1000)
    text = metrics.render(settings)
    assert 'volcast_collector_success{collector="warehouse"} 0.0' in text
    assert 'volcast_alerts_open{severity="critical"} 1.0' in text
    assert "volcast_disk_free_bytes" in text


def test_while_a_run_writes_the_published_copy_answers_and_waits_are_counted(tmp_path):
    warehouse = small_home(tmp_path / "home", lock_timeout_seconds=0.3)
    warehouse.publish()
    entered, leave = threading.Event(), threading.Event()

    def write() -> None:
        with warehouse.write() as connection:
            connection.execute("DELETE FROM forecasts.volatility")
            entered.set()
            leave.wait(10)

    writer = threading.Thread(target=write)
    writer.start()
    entered.wait(10)
    with look(warehouse.settings) as view:
        assert view.writer.startswith("process ")
        assert view.connection.execute("SELECT count(*) FROM forecasts.volatility").fetchone() == (
            8,
        )
    assert "volcast_forecasts{" in metrics.render(warehouse.settings)
    with (
        pytest.raises(
            WarehouseError,
            match=r"still locked after 0\.3 s by process \d+ \(.*, since .* UTC\): wait for it",
        ),
        warehouse.read(),
    ):
        pass
    threading.Timer(0.3, leave.set).start()
    patient = Warehouse(warehouse.settings.model_copy(update={"lock_timeout_seconds": 30}))
    with patient.read():
        pass
    writer.join()
    waits, seconds = lock_waits(warehouse.settings)
    assert waits == 1
    assert 0.1 <= seconds < 10


def test_who_takes_the_lock_between_the_question_and_the_look_is_not_a_broken_home(
    tmp_path, monkeypatch
):
    warehouse = small_home(tmp_path / "home")
    warehouse.publish()
    monkeypatch.setattr("orchestration.observing.PATIENCE_SECONDS", 0.1)
    answers = iter([None])  # at the first question nobody writes
    real = observing.who_writes
    monkeypatch.setattr(observing, "who_writes", lambda settings: next(answers, real(settings)))
    with warehouse.lock():
        with look(warehouse.settings) as view:
            assert view.writer.startswith("process ")
        answers = iter([None])
        assert [cause.key for cause in open_causes(warehouse.settings, NOW)] == []


def test_the_endpoint_listens_on_loopback_and_gives_the_same(warehouse):
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = threading.Thread(target=metrics.serve, args=(warehouse.settings, port), daemon=True)
    server.start()
    for _ in range(50):
        try:
            text = (
                urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10)
                .read()
                .decode()
            )
            break
        except OSError:
            threading.Event().wait(0.1)
    names = {family.name for family in text_string_to_metric_families(text)}
    assert names == {
        family.name for family in text_string_to_metric_families(metrics.render(warehouse.settings))
    }
    with pytest.raises(OSError, match="in use"):
        metrics.serve(warehouse.settings, port)


def named(expression: str) -> set[str]:
    return set(re.findall(r"\bvolcast_[a-z0-9_]+", expression))


@pytest.mark.parametrize(
    ("source", "days_old", "current"),
    [("live", 30, 1), ("archive", 7, 1), ("archive", 8, 0), ("simulated", 8, 0)],
)
def test_a_home_of_the_past_pages_nobody_for_its_age(
    tmp_path, monkeypatch, source, days_old, current
):
    newest = YESTERDAY - timedelta(days=days_old)
    settings = small_home(tmp_path / "home", newest=newest).settings
    settings = settings.model_copy(update={"source": source})
    monkeypatch.setattr("orchestration.metrics.tables.utc_now", lambda: NOW)
    with look(settings) as view:
        found = {s.name: s.value for s in metrics.tables.forecasts(view.connection, settings)}
    assert found["volcast_home_current"] == current
    late = "late" in {cause.key for cause in open_causes(settings, NOW)}
    assert late == bool(current)


def test_rules_on_age_ask_whether_the_home_is_kept_current():
    rules = {
        rule["alert"]: rule["expr"]
        for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
    }
    for name in ("VolcastForecastsMissing", "VolcastPricesStale"):
        assert re.search(r"and (ignoring\(table\) )?volcast_home_current == 1$", rules[name]), name


def test_the_file_may_stand_where_node_exporter_can_read_it(tmp_path, monkeypatch):
    monkeypatch.setenv("VOLCAST_METRICS_FILE", str(tmp_path / "collected" / "volcast.prom"))
    settings = Settings.from_env(dict(os.environ) | {"VOLCAST_HOME": str(tmp_path / "home")})
    settings.make_home()
    path = metrics.write_metrics(settings)
    assert path == tmp_path / "collected" / "volcast.prom"
    assert path.stat().st_mode & 0o777 == 0o644
    assert [file.name for file in path.parent.iterdir()] == ["volcast.prom"]
    assert not (settings.home / "metrics" / "volcast.prom").exists()
    with pytest.raises(SettingsError, match=r"VOLCAST_METRICS_FILE: .* ends in \.prom"):
        Settings.from_env({"VOLCAST_METRICS_FILE": "/tmp/metrics.txt"})


def test_every_rule_names_metrics_that_exist_and_a_section_of_the_runbook():
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    runbook = (PROJECT_ROOT / "docs" / "runbook.md").read_text()
    assert len(group["rules"]) >= 12
    for rule in group["rules"]:
        assert named(rule["expr"]), rule
        assert named(rule["expr"]) <= set(METRICS), rule
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        anchor = rule["annotations"]["runbook"].removeprefix("docs/runbook.md#")
        assert f'<a id="{anchor}"></a>' in runbook, anchor
        assert rule["expr"].count("(") == rule["expr"].count(")")
        for label in re.findall(r"\$labels\.(\w+)", json.dumps(rule)):
            assert any(label in METRICS[name].labels for name in named(rule["expr"])), (rule, label)


def test_every_expression_of_the_dashboard_names_metrics_that_exist():
    board = json.loads(DASHBOARD.read_text())
    made = runpy.run_path(str(DASHBOARD.with_name("make_dashboard.py")))["dashboard"]()
    assert board == made
    for panel in board["panels"]:
        for target in panel["targets"]:
            assert named(target["expr"]), panel["title"]
            assert named(target["expr"]) <= set(METRICS), panel["title"]
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                assert all(label in METRICS[name].labels for name in named(target["expr"]))


def test_the_docs_list_every_metric_and_its_help():
    text = (PROJECT_ROOT / "docs" / "monitoring.md").read_text()
    for name, definition in METRICS.items():
        labels = ", ".join(definition.labels)
        assert f"| `{name}` | {labels} | {definition.help} |" in text, name
