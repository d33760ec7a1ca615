"""Model cards: every number equals SQL, every value is text only, limits follow from facts, files change only when the text does."""

from __future__ import annotations

import re
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from ml.models import MODELS
from orchestration.model_cards import card_text, write_cards
from orchestration.model_cards.assumptions import COMMON, assumptions, description
from orchestration.model_cards.files import in_markdown
from orchestration.tables import OUTPUT_TABLES
from tests.orchestration.report.published_tables import (  # fmt: skip
    AS_OF,
    DECIDED,
    HORIZONS,
    published,
)
from tests.orchestration.report.published_tables import MODELS as SHOWN

HOSTILE = "<script>alert(1)</script> | [x](http://evil.example) `rm`"
VERSION = "2024-06-23-atte0001"


@pytest.fixture
def tables() -> duckdb.DuckDBPyConnection:
    connection = published()
    for table in (
        "models.spurious_checks",
        "forecasts.attention_audits",
        "evaluation.traffic_lights",
    ):
        connection.execute(f"DELETE FROM {table}")
    add(connection, "models.spurious_checks", [
        {"as_of": AS_OF, "model": "attention", "model_version": VERSION, "modality": "onchain", "asset": "ALL", "check_name": "lead_lag", "segment": "exchange_netflow_ratio", "horizon": 0, "statistic": 11.6, "p_value": 1e-9, "threshold": 0.01, "observations": 855, "verdict": "clear", "reason": "leads", "lead_days": 2.0},
        {"as_of": AS_OF, "model": "attention", "model_version": VERSION, "modality": "sentiment", "asset": "ALL", "check_name": "lead_lag", "segment": "fear_greed", "horizon": 0, "statistic": 1.0, "p_value": 1.0, "threshold": 0.01, "observations": 855, "verdict": "flagged", "reason": HOSTILE},
    ])  # fmt: skip
    add(connection, "quality.overrides", [
        {"suite": "raw.ohlcv", "expectation": "*", "as_of": AS_OF - timedelta(days=40), "overridden_by": HOSTILE, "reason": "outage of the venue", "created_at": DECIDED},
    ])  # fmt: skip
    add(connection, "evaluation.scores", [
        {"source": "simulated", "asset": asset, "as_of": AS_OF - timedelta(days=back), "horizon": 1, "model": "attention", "model_version": VERSION, "qlike": 0.1 * back, "log_error": 0.5, "covered_80": back % 5 > 0, "covered_98": True, "pit": (back % 10) / 10, "var_95_breach": back == 3, "var_975_breach": False, "var_99_breach": False}
        for asset in ("BTC", "ETH") for back in range(1, 21)
    ])  # fmt: skip
    return connection


def add(connection: duckdb.DuckDBPyConnection, table: str, rows: list[dict]) -> None:
    frame = pd.DataFrame(rows)
    connection.register("incoming", frame)
    connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM incoming")
    connection.unregister("incoming")


def cells(text: str, title: str) -> list[list[str]]:
    """Rows of the Markdown table under a heading."""
    part = text.split(f"### {title}\n", 1)[1].split("\n#", 1)[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def section(text: str, title: str) -> str:
    return re.split(r"\n## ", text.split(f". {title}\n", 1)[1])[0]


def test_the_card_has_every_part_that_a_reviewer_asks_for(tables) -> None:
    text = card_text(tables, "attention")
    titles = re.findall(r"^## \d+\. (.*)$", text, re.M)
    assert titles == [
        "Purpose and scope", "Known limits", "Model and assumptions", "Data", "Conceptual soundness",
        "Outcome analysis: losses against baselines", "Outcome analysis: calibration", "Outcome analysis: VaR and ES",
        "Explanation audit", "Spurious correlation", "Ongoing monitoring: drift", "Decisions", "Approvals and overrides", "Hashes",
    ]  # fmt: skip
    assert "SIMULATED MARKET" in text
    for value in ("d" * 64, "a1b2c3d4e5f6" * 5, "c0ffee123456", "raw.ohlcv", "outage of the venue"):
        assert value in text


def test_numbers_are_those_of_sql(tables) -> None:
    text = card_text(tables, "attention", VERSION)
    ((count, days, qlike, inside),) = tables.execute(
        "SELECT count(*), count(DISTINCT as_of), avg(qlike), avg(covered_80::INT) FROM evaluation.scores WHERE model = 'attention' AND model_version = ?",
        [VERSION],
    ).fetchall()
    found = cells(section(text, "Outcome analysis: losses against baselines"), "This version")[0]
    ((benchmark,),) = tables.execute(
        "SELECT avg(b.qlike) FROM evaluation.scores s JOIN evaluation.scores b USING (asset, as_of, horizon) "
        "WHERE s.model = 'attention' AND b.model = 'harx_cal'"
    ).fetchall()
    assert found[:6] == ["1", str(count), str(days), f"{qlike:.4f}", f"{benchmark:.4f}", f"{qlike / benchmark:.3f}"]  # fmt: skip
    assert cells(section(text, "Outcome analysis: calibration"), "This version")[0][2] == f"{100 * inside:.1f} %"  # fmt: skip
    board = cells(text, "The model, all its versions, on the forecasts that every model made")
    expected = tables.execute("SELECT qlike, qlike_ratio_harx_cal FROM evaluation.leaderboard WHERE model = 'attention' ORDER BY horizon").fetchall()  # fmt: skip
    assert [(row[4], row[5]) for row in board] == [(f"{q:.4f}", f"{r:.3f}") for q, r in expected]
    audits = cells(text, "Verdicts by forecast")
    assert [row[1] for row in audits] == ["valid", "weak", "invalid"]
    assert {row[2] for row in audits} == {
        "3"
    }  # a forecast counts once, whatever the number of its groups
    assert cells(text, "Leads found")[0][2] == "2"
    assert cells(text, "Breaches, this version")[0][2] == "5.0 %"


def test_limits_are_written_from_facts(tables) -> None:
    limits = section(card_text(tables, "attention", VERSION), "Known limits")
    assert "1 day: 20 days with a known outcome" in limits
    assert "22 days: 0 days with a known outcome" in limits
    assert "1 gate overrides fall on days" in limits
    assert "1 flags of the spurious-correlation report stand, on sentiment" in limits
    assert "weight 0" not in limits
    tables.execute("UPDATE forecasts.explanations SET ablation_effect = 0 WHERE horizon = 22")
    tables.execute("UPDATE forecasts.volatility SET status = 'fallback: too young' WHERE model = 'attention' AND asset = 'ADA'")  # fmt: skip
    limits = section(card_text(tables, "attention", VERSION), "Known limits")
    assert "22 days: the attention residual has weight 0" in limits
    assert "(ADA) are by fallback: fallback: too young" in limits
    assert "weight 0" not in section(card_text(tables, "garch_t"), "Known limits")


class Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src")]


def test_hostile_values_are_text_and_the_page_loads_nothing(tables, tmp_path: Path) -> None:
    write_cards(tables, tmp_path)
    page = (tmp_path / "attention" / f"{VERSION}.html").read_text()
    elements = Elements()
    elements.feed(page)
    assert not {"script", "img", "link", "iframe"} & set(elements.seen)
    assert all(address.startswith("#") for address in elements.addresses)
    assert "&lt;script&gt;alert(1)" in page
    text = (tmp_path / "attention" / f"{VERSION}.md").read_text()
    assert "<script" not in text
    assert r"\| \[x\](http:\//evil.example) \`rm\`" in text
    width = {line.count(" |") for line in text.splitlines() if "alert" in line and "lead lag" in line}  # fmt: skip
    assert width == {5}  # five columns: the bar of the value is escaped


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("exchange_netflow_ratio", "exchange_netflow_ratio"),
        ("_x_ *y*", r"\_x\_ \*y\*"),
        ("# title", r"\# title"),
        ("- item", r"\- item"),
        ("2024-06-09", "2024-06-09"),
        ("a\n\n# b", "a # b"),
        ("<b>&amp;", "&lt;b&gt;&amp;amp;"),
        ("see www.evil.example", r"see www\.evil.example"),
    ],
)
def test_markdown_escapes(value: str, shown: str) -> None:
    assert in_markdown(value) == shown


def test_every_version_with_forecasts_has_a_card_and_a_second_run_writes_nothing(
    tables, tmp_path: Path
) -> None:
    serving, written = write_cards(tables, tmp_path)
    assert sorted(path.parent.name for path in serving) == sorted(SHOWN)
    assert written == 2 * len(SHOWN)
    assert write_cards(tables, tmp_path) == (serving, 0)
    tables.execute("UPDATE models.registry SET status_reason = 'another' WHERE model = 'garch_t'")
    assert write_cards(tables, tmp_path)[1] == 2
    assert not list(tmp_path.rglob(".*"))


def test_a_version_that_is_settled_keeps_its_card(tables, tmp_path: Path) -> None:
    write_cards(tables, tmp_path)
    late = AS_OF + timedelta(days=40)
    tables.execute(
        "INSERT INTO forecasts.volatility BY NAME SELECT * REPLACE (DATE '2024-08-09' AS as_of) FROM forecasts.volatility WHERE model = 'harx_cal' AND as_of = ?",
        [AS_OF],
    )
    assert late.isoformat() == "2024-08-09"
    serving, written = write_cards(tables, tmp_path)
    assert [path.parent.name for path in serving] == ["harx_cal"]
    assert written == 2


def test_a_name_that_would_leave_the_folder_is_refused(tables, tmp_path: Path) -> None:
    for table in ("forecasts.volatility", "models.registry"):
        tables.execute(f"UPDATE {table} SET model_version = '../../x' WHERE model = 'garch_t'")
    with pytest.raises(ValueError, match=r"'\.\./\.\./x': expected letters"):
        write_cards(tables, tmp_path)


def test_unknown_models_and_versions_are_named(tables) -> None:
    with pytest.raises(LookupError, match="'nonsense' has no forecasts: expected one of attention"):
        card_text(tables, "nonsense")
    with pytest.raises(
        LookupError, match="'v0' of attention has no forecasts: expected one of 2024"
    ):
        card_text(tables, "attention", "v0")


def test_tables_that_are_not_there_yet_leave_a_card(tables) -> None:
    for table in ("models.spurious_checks", "models.drift", "evaluation.tests", "models.decisions"):
        tables.execute(f"DROP TABLE {table}")
    text = card_text(tables, "attention")
    assert "Not judged: the report is made on Sundays" in text
    assert "No Sunday has been judged" in text


def test_audits_and_traffic_lights_are_shown_where_they_are(tables) -> None:
    if "forecasts.attention_audits" not in OUTPUT_TABLES:
        tables.execute("CREATE TABLE forecasts.attention_audits (asset VARCHAR, as_of DATE, horizon INTEGER, model VARCHAR, model_version VARCHAR, verdict VARCHAR)")  # fmt: skip
    for horizon in HORIZONS:
        tables.execute(
            "INSERT INTO forecasts.attention_audits (asset, as_of, horizon, model, model_version, verdict) VALUES ('BTC', ?, ?, 'attention', ?, 'weak')",
            [AS_OF, horizon, VERSION],
        )
    found = cells(card_text(tables, "attention"), "Audits at both levels (forecasts.attention_audits)")  # fmt: skip
    assert [row[:3] for row in found] == [[str(h), "weak", "1"] for h in HORIZONS]


def test_lights_are_those_of_the_newest_day_with_coins_and_null_figures_hinder_nothing(
    tables,
) -> None:
    tables.execute("DELETE FROM evaluation.traffic_lights")
    tables.execute("UPDATE forecasts.risk SET mixture_es_975 = NULL, mixture_var_975 = NULL, uncertainty_audit = NULL, binding = NULL")  # fmt: skip
    add(tables, "evaluation.traffic_lights", [
        {"as_of": AS_OF - timedelta(days=back), "model": "attention", "method": "fhs", "side": "long", "level": 0.95, "horizon": 1, "asset": asset, "light": light}
        for back, asset, light in ((2, "BTC", "green"), (2, "ALL", "green"), (1, "ALL", "red"), (1, "portfolio:desk", "red"))
    ])  # fmt: skip
    title = "Traffic lights of the model (Basel zones)"
    assert cells(card_text(tables, "attention"), title) == [["1", "green", "2"]]
    tables.execute("DELETE FROM evaluation.traffic_lights WHERE as_of < ?", [AS_OF - timedelta(days=1)])  # fmt: skip
    assert cells(card_text(tables, "attention"), title) == [["1", "red", "2"]]


@pytest.mark.parametrize("model", MODELS)
def test_every_model_of_the_registry_is_described(model: str) -> None:
    assert len(description(model)) > 15
    own = assumptions(model)[: -len(COMMON)]
    assert own
    assert all("Not described" not in text for text in own)
