"""The report shows what SQL says, escapes what it shows, loads nothing, and stands with tables missing."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import duckdb
import pytest

from orchestration.report import build_report
from orchestration.report.build import _script_json
from orchestration.report.formats import percent, points, signed
from orchestration.tables import OUTPUT_TABLES
from tests.orchestration.report.published_tables import AS_OF, ASSETS, HORIZONS, empty, published

SECTIONS = (
    "summary",
    "charts",
    "changes",
    "risk",
    "regimes",
    "attention",
    "explanations",
    "leaderboard",
    "calibration",
    "gates",
    "freshness",
    "learning",
    "models",
)
ATTACK = "<script>alert('volcast')</script><img src=x onerror=alert(1)>"


class _Page(HTMLParser):
    """Cells of every table row by section, and every attribute that could load something."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: dict[str, list[list[str]]] = {}
        self.loads: list[str] = []
        self.ids: list[str] = []
        self._section, self._cells, self._open = "", [], 0
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name in {"src", "href", "srcset", "action", "poster", "data"}:
                self.loads.append(value or "")
            if name == "id":
                self.ids.append(value or "")
        if tag == "section":
            self._section = str(dict(attributes)["id"])
            self.rows[self._section] = []
        elif tag == "tr":
            self._cells = []
        elif tag in {"td", "th"}:
            self._open += 1
            self._cells.append("")
        elif tag == "br" and self._open:
            self._cells[-1] += " | "

    def handle_endtag(self, tag: str) -> None:
        if tag in {"td", "th"}:
            self._open -= 1
        elif tag == "tr" and self._section:
            self.rows[self._section].append([" ".join(cell.split()) for cell in self._cells])

    def handle_data(self, text: str) -> None:
        if self._open:
            self._cells[-1] += text


@pytest.fixture(scope="module")
def connection() -> duckdb.DuckDBPyConnection:
    return published()


@pytest.fixture(scope="module")
def html(connection: duckdb.DuckDBPyConnection) -> str:
    return build_report(connection, AS_OF)


@pytest.fixture(scope="module")
def page(html: str) -> _Page:
    return _Page(html)


def without_scripts(html: str) -> str:
    return re.sub(r"<script>.*?</script>", "", html, flags=re.DOTALL)


def section(html: str, name: str) -> str:
    start = html.index(f'<section id="{name}"')
    return html[start : html.index("</section>", start)]


def test_every_section_is_filled(html: str) -> None:
    for name in SECTIONS:
        assert "nothing yet" not in section(html, name), name


def test_a_simulated_market_says_so_loudly_and_a_real_one_does_not(html: str) -> None:
    assert 'role="alert"><strong>SIMULATED MARKET' in html
    assert "(simulated market)" in html[: html.index("</title>")]
    real = build_report(published(source="archive"), AS_OF)
    assert "SIMULATED" not in without_scripts(real)
    assert "<dd>archive</dd>" in real


def test_the_page_loads_nothing_from_anywhere(html: str, page: _Page) -> None:
    assert page.loads
    for target in page.loads:
        assert target.startswith("#") or target == "data:,", target
    plain = without_scripts(html)
    assert "http://" not in plain
    assert "https://" not in plain
    assert "@import" not in plain
    assert "url(" not in plain
    assert "default-src 'none'" in plain


def test_the_page_is_small_and_has_plotly_once(html: str) -> None:
    assert len(html.encode()) < 6 * 2**20
    assert html.count("* plotly.js v") == 1


def test_ids_are_unique_and_links_lead_somewhere(page: _Page) -> None:
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.loads if link.startswith("#")} <= set(page.ids)


def test_the_summary_shows_the_numbers_of_sql(
    connection: duckdb.DuckDBPyConnection, page: _Page
) -> None:
    shown = [row for row in page.rows["summary"] if len(row) == 10 and row[0] in ASSETS]
    expected = connection.execute(
        """
        SELECT t.asset, t.volatility, t.volatility - y.volatility, t.q10, t.q90, t.q01, t.q99, f.implied_volatility,
            r.var_975, r.es_975, r.uncertainty, r.advised_leverage
        FROM forecasts.volatility t
        JOIN forecasts.volatility y ON y.asset = t.asset AND y.horizon = t.horizon AND y.model = t.model AND y.as_of = t.as_of - 1
        JOIN features.daily f ON f.asset = t.asset AND f.as_of = t.as_of
        JOIN forecasts.risk r ON r.asset = t.asset AND r.horizon = t.horizon AND r.as_of = t.as_of
        WHERE t.as_of = $1 AND t.model = 'harx_cal'
        ORDER BY t.horizon, array_position(['BTC', 'ETH', 'ADA'], t.asset)
        """,
        [AS_OF],
    ).fetchall()
    assert len(shown) == len(expected) == len(ASSETS) * len(HORIZONS)
    for cells, row in zip(shown, expected, strict=True):
        asset, volatility, change, q10, q90, q01, q99, implied, var, es, uncertainty, leverage = row
        assert cells[0] == asset
        assert cells[1] == percent(volatility)
        assert cells[2].endswith(points(change))
        assert cells[4] == (
            f"{percent(q10, 0)} to {percent(q90, 0)} | {percent(q01, 0)} to {percent(q99, 0)}"
        )
        if implied is None:
            assert cells[5] == "–"
        else:
            assert cells[5] == f"{percent(implied)} | {points(implied - volatility)}"
        assert cells[6] == f"{percent(var)} | {percent(es)}"
        assert cells[7] == f"{uncertainty:.2f}"
        assert cells[8] == f"{leverage:.2f}×"


def test_the_variance_risk_premium_is_the_difference_of_squares(
    connection: duckdb.DuckDBPyConnection, page: _Page
) -> None:
    expected = connection.execute(
        """
        SELECT 0.55 ** 2 - volatility ** 2 FROM forecasts.volatility
        WHERE as_of = $1 AND model = 'harx_cal' AND asset = 'BTC' AND horizon = 22
        """,
        [AS_OF],
    ).fetchone()
    shown = [row for row in page.rows["summary"] if row[:2] == ["BTC", "22 d"]]
    assert expected
    assert [row[2] for row in shown] == [signed(expected[0], 4)]


def test_coverage_and_breaches_are_those_of_sql(
    connection: duckdb.DuckDBPyConnection, page: _Page
) -> None:
    rows = connection.execute(
        """
        SELECT horizon, avg(covered_80::INT), avg(covered_98::INT), avg(var_975_breach::INT) FROM evaluation.scores
        GROUP BY horizon ORDER BY horizon
        """
    ).fetchall()
    shown = {row[0]: row for row in page.rows["calibration"] if len(row) == 9}
    for horizon, covered_80, covered_98, breaches in rows:
        cells = shown[f"{horizon} d"]
        assert (cells[2], cells[4], cells[7]) == (
            percent(covered_80),
            percent(covered_98),
            percent(breaches),
        )


def test_attention_is_shown_by_group_and_sums_to_one(
    connection: duckdb.DuckDBPyConnection, html: str
) -> None:
    charts = json.loads(
        re.search(r'id="chart-data">(.*?)</script>', html, re.DOTALL)[1]  # type: ignore[index]
    )
    maps = [chart for name, chart in charts.items() if name.startswith("attention-")]
    assert len(maps) == len(ASSETS)
    for chart in maps:
        shares = chart["data"][0]["z"]
        assert len(shares) == 8
        assert [sum(row) for row in shares] == pytest.approx([1.0] * 8)
    expected = connection.execute(
        """
        SELECT sum(weight) FROM forecasts.attention_weights
        WHERE asset = 'BTC' AND layer = 0 AND head = 0 AND scale = 'hourly'
        """
    ).fetchone()
    first = maps[0]["data"][0]
    assert expected
    assert first["z"][0][first["x"].index("price, hourly")] == pytest.approx(expected[0])
    assert {"price, weekly", "other coins"} <= set(first["x"])


def test_the_audit_verdict_stands_beside_the_map(html: str) -> None:
    for name in ("attention", "explanations"):
        shown = section(html, name)
        assert "✓ valid" in shown
        assert "! weak" in shown
        assert "invalid: not an explanation" in shown


def test_a_map_without_an_audit_is_not_called_an_explanation(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    bare = published()
    bare.execute("DELETE FROM forecasts.explanations")
    assert "not audited yet: not an explanation" in section(build_report(bare, AS_OF), "attention")


def test_failed_gates_come_first_and_overrides_are_named() -> None:
    connection = published()
    connection.execute(
        """
        INSERT INTO quality.validations BY NAME
        SELECT * REPLACE ('over' AS validation_id, 'aaa_first_by_name' AS expectation, 'ops@desk' AS overridden_by,
            'venue outage, known' AS override_reason)
        FROM quality.validations WHERE expectation = 'rate_in_range'
        """
    )
    html = build_report(connection, AS_OF)
    rows = [row for row in _Page(html).rows["gates"] if len(row) == 5 and row[0] != "verdict"]
    assert [row[0].split()[1] for row in rows[:3]] == ["failed", "overridden", "warning"]
    assert "by ops@desk: venue outage, known" in rows[1][0]
    assert 'href="#gates">✕ 1 failed' in html


def test_only_the_newest_verdict_of_a_suite_counts() -> None:
    connection = published()
    connection.execute(
        """
        INSERT INTO quality.validations BY NAME
        SELECT * REPLACE ('again' || validation_id AS validation_id, TRUE AS success,
            checked_at + INTERVAL 1 HOUR AS checked_at)
        FROM quality.validations
        """
    )
    html = build_report(connection, AS_OF)
    assert "✓ all hold" in html
    assert "✕ 1 failed" not in html


def test_what_changed_lists_the_largest_moves_and_market_wide_ones_once(
    connection: duckdb.DuckDBPyConnection, page: _Page
) -> None:
    expected = connection.execute(
        """
        SELECT t.asset, t.horizon FROM forecasts.volatility t
        JOIN forecasts.volatility y ON (y.asset, y.horizon, y.model, y.as_of) = (t.asset, t.horizon, t.model, t.as_of - 1)
        WHERE t.as_of = $1 AND t.model = 'harx_cal' ORDER BY abs(ln(t.volatility / y.volatility)) DESC LIMIT 1
        """,
        [AS_OF],
    ).fetchone()
    assert expected
    moves = [row for row in page.rows["changes"] if len(row) == 5]
    assert moves[1][:2] == [expected[0], f"{expected[1]} d"]
    features = [row for row in page.rows["changes"] if len(row) == 4]
    assert features[1][:2] == ["market", "fear greed"]
    assert sum(row[1] == "fear greed" for row in features) == 1


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("quality.validations", "message"),
        ("quality.validations", "observed"),
        ("quality.validations", "suite"),
        ("forecasts.risk", "reason"),
        ("forecasts.volatility", "status"),
        ("forecasts.volatility", "asset"),
        ("forecasts.refusals", "reason"),
        ("forecasts.attention_weights", "modality"),
        ("forecasts.explanations", "verdict_reason"),
        ("forecasts.explanations", "verdict"),
        ("forecasts.explanations", "feature_group"),
        ("evaluation.leaderboard", "model"),
        ("evaluation.tests", "verdict"),
        ("models.registry", "status_reason"),
        ("forecasts.risk", "binding"),
        ("forecasts.portfolio_risk", "portfolio"),
        ("forecasts.portfolio_components", "asset"),
        ("forecasts.regimes", "status"),
        ("forecasts.regimes", "asset"),
        ("forecasts.jumps", "status"),
        ("forecasts.events", "event"),
        ("evaluation.event_effects", "verdict"),
        ("evaluation.traffic_lights", "verdict"),
        ("evaluation.leverage_backtest", "strategy"),
        ("forecasts.attention_audits", "verdict"),
        ("models.explanation_checks", "reason"),
        ("models.spurious_checks", "reason"),
        ("models.spurious_checks", "modality"),
        ("features.daily", "source"),
    ],
)
def test_markup_in_data_is_shown_as_text(table: str, column: str) -> None:
    connection = published()
    connection.execute(f"UPDATE {table} SET {column} = {column} || $1", [ATTACK])
    html = build_report(connection, AS_OF)
    assert "<script>alert" not in html
    assert "<img" not in without_scripts(html)
    assert "alert(&#39;volcast&#39;)" in html


def test_json_cannot_leave_its_script_element() -> None:
    text = str(_script_json({"a": "</script><!--\u2028&"}))
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"a": "</script><!--\u2028&"}


def test_risk_rows_of_an_older_version_are_shown_with_what_they_have() -> None:
    """A home from before the second method, the parts of the uncertainty and the path of the leverage: their columns are null."""
    connection = published()
    old = {"var_95", "var_975", "var_99", "es_95", "es_975", "es_99", "uncertainty", "advised_leverage", "reason"}  # fmt: skip
    columns = {row[0] for row in connection.execute("DESCRIBE forecasts.risk").fetchall()}
    keys = {"source", *OUTPUT_TABLES["forecasts.risk"].key}
    new = sorted(name for name in columns - keys - old if not name.startswith("short_"))
    assert {"mixture_var_99", "uncertainty_audit", "binding", "previous_as_of"} <= set(new)
    connection.execute(f"UPDATE forecasts.risk SET {', '.join(f'{name} = NULL' for name in new)}")
    rows = _Page(build_report(connection, AS_OF)).rows["risk"]
    for asset, var, advised in connection.execute(
        "SELECT asset, var_99, advised_leverage FROM forecasts.risk WHERE model = 'harx_cal' AND as_of = ?",
        [AS_OF],
    ).fetchall():
        (found,) = [
            row
            for row in rows
            if row[0] == asset and len(row) == 12 and row[3] == f"{percent(var)} | –"
        ]
        assert found[8] == "– | –"
        assert found[9] == f"{advised:.2f}× | –"
        assert found[10] == "–"
    parts = [row for row in rows if row[0] in ASSETS and row[2:7] == ["–"] * 5]
    assert len(parts) == len(ASSETS) * len(HORIZONS)


def test_quarantined_rows_are_counted_by_reason() -> None:
    connection = published()
    connection.execute(
        """
        INSERT INTO quarantine.rows BY NAME
        SELECT 'r' || i AS row_id, 'raw.ohlcv' AS table_name, 'b' AS batch_id, 'no_fat_finger' AS reason
        FROM range(3) t(i)
        """
    )
    rows = _Page(build_report(connection, AS_OF)).rows["gates"]
    assert ["raw.ohlcv", "3", "no_fat_finger"] in rows


def test_empty_tables_say_nothing_yet() -> None:
    html = build_report(empty(), AS_OF)
    for name in SECTIONS:
        assert "nothing yet" in section(html, name), name


def test_tables_that_are_missing_say_nothing_yet_by_name() -> None:
    html = build_report(duckdb.connect(), AS_OF)
    for name in SECTIONS:
        assert "nothing yet" in section(html, name), name
    assert "forecasts.volatility is not there yet" in html


@pytest.mark.parametrize(
    "table",
    [
        "features.daily",
        "features.realized",
        "forecasts.risk",
        "forecasts.explanations",
        "forecasts.attention_weights",
        "evaluation.leaderboard",
        "evaluation.scores",
        "evaluation.tests",
        "models.registry",
        "models.decisions",
        "models.drift",
        "quality.validations",
        "quarantine.rows",
        "forecasts.refusals",
        "forecasts.regimes",
        "forecasts.jumps",
        "forecasts.tails",
        "forecasts.events",
        "evaluation.event_effects",
        "evaluation.traffic_lights",
        "evaluation.leverage_backtest",
        "forecasts.portfolio_risk",
        "forecasts.portfolio_components",
        "forecasts.attention_audits",
        "models.explanation_checks",
        "models.spurious_checks",
    ],
)
def test_one_missing_table_leaves_the_forecasts_standing(table: str) -> None:
    connection = published()
    connection.execute(f"DROP TABLE {table}")
    rows = _Page(build_report(connection, AS_OF)).rows["summary"]
    assert sum(row[0] in ASSETS and len(row) == 10 for row in rows) == len(ASSETS) * len(HORIZONS)


def test_the_champion_of_the_registry_is_shown_and_harx_cal_without_one() -> None:
    connection = published()
    connection.execute("UPDATE models.registry SET status = 'candidate'")
    html = build_report(connection, AS_OF)
    assert "<dt>model shown</dt><dd>harx_cal</dd>" in html
    connection.execute("UPDATE models.registry SET status = 'champion' WHERE model = 'attention'")
    html = build_report(connection, AS_OF)
    assert "<dt>champion</dt><dd>attention</dd>" in html
    connection.execute("DELETE FROM forecasts.volatility WHERE model IN ('attention', 'harx_cal')")
    html = build_report(connection, AS_OF)
    assert "<dt>model shown</dt><dd>garch_t</dd>" in html


def test_the_champion_of_the_day_is_shown_not_that_of_a_later_one() -> None:
    connection = published()
    setting = {"pin": None, "start": "garch_t", "models": ["garch_t", "attention"]}
    connection.execute("INSERT INTO meta.state VALUES ('champion', $1)", [json.dumps(setting)])
    assert "<dt>champion</dt><dd>garch_t</dd>" in build_report(connection, AS_OF)
    promote = "INSERT INTO models.decisions (as_of, kind, model, horizon, reason) VALUES ($1, 'promote', 'attention', 0, 'better')"
    connection.execute(promote, [AS_OF])
    assert "<dt>champion</dt><dd>garch_t</dd>" in build_report(connection, AS_OF)
    connection.execute("UPDATE models.decisions SET as_of = as_of - 1 WHERE kind = 'promote'")
    assert "<dt>champion</dt><dd>attention</dd>" in build_report(connection, AS_OF)


def test_decisions_are_shown_with_their_reasons_and_drift_by_how_near_it_is(html: str) -> None:
    rows = _Page(html).rows["learning"]
    assert ["2024-06-30", "retrain", "attention", "page_hinkley of log qlike 21 above 12"] in rows
    assert any(row[1:3] == ["refuse", "garch_t"] and "1.1800" in row[3] for row in rows)
    drift = [row for row in rows if row[-1] == "13 against 300"]
    assert [row[2] for row in drift] == ["page hinkley", "log bias"]


def test_the_risk_section_shows_the_numbers_of_sql(
    connection: duckdb.DuckDBPyConnection, page: _Page
) -> None:
    for asset, horizon, own, mixture, advised in connection.execute(
        "SELECT asset, horizon, var_99, mixture_var_99, advised_leverage FROM forecasts.risk WHERE model = 'harx_cal' AND as_of = ?",
        [AS_OF],
    ).fetchall():
        found = [
            row
            for row in page.rows["risk"]
            if row[0] == asset
            and len(row) == 12
            and row[3] == f"{percent(own)} | {percent(mixture)}"
        ]
        assert len(found) == 1, (asset, horizon)
        assert found[0][9].startswith(f"{advised:.2f}×")


def test_lights_stand_with_their_counts_and_are_told_without_colour(html: str, page: _Page) -> None:
    rows = [
        row for row in page.rows["risk"] if row[0].startswith(("simulation", "own distribution"))
    ]
    assert len(rows) == 2 * 2 * len(HORIZONS)
    for row in rows:
        words = [cell.split(" | ")[0] for cell in row[2:5]]
        assert words == ["● green", "▲ yellow", "■ red"]
        assert all("7 of 200" in cell for cell in row[2:5])
    young = published()
    young.execute(
        "UPDATE evaluation.traffic_lights SET light = NULL, verdict = 'not judged: 20 periods'"
    )
    assert "● green" not in section(build_report(young, AS_OF), "risk")
    assert "– not judged" in section(build_report(young, AS_OF), "risk")


def test_regimes_rare_days_and_events_are_those_of_sql(
    connection: duckdb.DuckDBPyConnection, page: _Page
) -> None:
    rows = page.rows["regimes"]
    assert ["market", "", "30 %", "normal", "12 d"] in rows
    for asset, horizon, jump, base in connection.execute(
        "SELECT asset, horizon, jump_probability, jump_base_rate FROM forecasts.jumps"
    ).fetchall():
        (found,) = [
            row
            for row in rows
            if row[0].split(" ")[0] == asset and row[1] == f"{horizon} d" and len(row) == 8
        ]
        assert found[2] == f"{percent(jump)} | {percent(base)}"
    assert any(row[0] == "BTC" and "funding squeeze ! on" in row[1] for row in rows)
    assert sum("! on" in cell for row in rows for cell in row) == 2


def test_what_was_flagged_and_what_leads_stand_under_the_explanations(page: _Page) -> None:
    rows = page.rows["explanations"]
    assert any(row[:4] == ["onchain", "mvrv", "ALL", "2.0 d"] for row in rows)
    flagged = [row for row in rows if "attention without effect" in " ".join(row)]
    assert len(flagged) == 1
    assert flagged[0][0] == "sentiment"
    checks = [row[0] for row in rows if row[1:2] == ["attention 2024-06-23-atte0001"]]
    assert sorted(checks) == ["– not judged", "✓ pass", "✕ fail"]


def test_a_day_without_a_day_before_has_no_change(connection: duckdb.DuckDBPyConnection) -> None:
    page = _Page(build_report(connection, AS_OF - timedelta(days=1)))
    row = next(row for row in page.rows["summary"] if row[0] == "BTC")
    assert row[2] == "–"


def test_nothing_of_a_later_day_is_shown(connection: duckdb.DuckDBPyConnection) -> None:
    earlier = build_report(connection, AS_OF - timedelta(days=1))
    later = published()
    later.execute("DELETE FROM features.realized WHERE known_on > $1", [AS_OF - timedelta(days=1)])
    later.execute("DELETE FROM features.daily WHERE as_of = $1", [AS_OF])
    later.execute("DELETE FROM forecasts.volatility WHERE as_of = $1", [AS_OF])
    assert build_report(later, AS_OF - timedelta(days=1)) == earlier


def test_the_same_tables_give_the_same_page(
    connection: duckdb.DuckDBPyConnection, html: str
) -> None:
    assert build_report(connection, AS_OF) == html


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_draws_the_charts_under_the_content_policy(
    width: int, html: str, tmp_path: Path
) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium on this machine")
    path = tmp_path / "report.html"
    path.write_text(html, encoding="utf-8")
    done = subprocess.run(
        [
            chromium,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--no-first-run",
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--window-size={width},{9000 if width > 640 else 16000}",
            "--virtual-time-budget=15000",
            "--dump-dom",
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    shown = without_scripts(done.stdout)
    # Three fans, one coin's map and lags, three coverage charts, regimes; the other coins wait to be chosen.
    assert shown.count('data-drawn="yes"') == 9
    assert shown.count("js-plotly-plot") == 9
