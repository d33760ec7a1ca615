"""What a run must not do where it has nothing to do: heavy imports, parsing dbt's project again, drawing a page twice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from orchestration import dbt, made_from
from orchestration.assets.publish import _cards_of, _ends_with, _keep_cards
from orchestration.dbt_child import read_project
from orchestration.settings import Settings

HEAVY = ("torch", "great_expectations", "dbt", "dagster_dbt", "plotly", "scipy.stats", "sklearn", "ray", "kubernetes", "s3fs", "psycopg2")  # fmt: skip


def test_definitions_and_the_steps_of_an_idle_day_import_nothing_heavy(tmp_path: Path) -> None:
    dbt.ensure_manifest(Settings.from_env({"VOLCAST_HOME": str(tmp_path)}))
    program = (
        "import sys, orchestration.definitions, orchestration.runs\n"
        "import orchestration.events, orchestration.rare_days, orchestration.regimes, orchestration.tails\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env={"VOLCAST_HOME": str(tmp_path), "PATH": ""}, capture_output=True, text=True, check=True
    )  # fmt: skip
    assert done.stdout.strip() == "[]"


def test_a_parsed_project_is_another_file_when_the_project_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.from_env({"VOLCAST_HOME": str(tmp_path)})
    before = dbt.parsed_file(settings)
    assert dbt.parsed_file(settings) == before
    monkeypatch.setattr(dbt, "project_fingerprint", lambda: "another")
    assert dbt.parsed_file(settings) != before


@pytest.mark.parametrize("damage", ["missing", "half", "directory"])
def test_a_parsed_project_that_cannot_be_read_is_parsed_again(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "parsed-1.msgpack"
    if damage == "half":
        path.write_bytes(b"\x85\xa5nodes")
    elif damage == "directory":
        path.mkdir()
    assert read_project(path) is None


def evidence(revision: int, *more: object) -> str:
    with duckdb.connect(":memory:") as connection:
        connection.execute("CREATE SCHEMA meta")
        connection.execute("CREATE TABLE meta.state AS SELECT 'revision' AS key, $1 AS value", [f"{revision}"])  # fmt: skip
        return made_from.evidence(connection, *more)


def test_a_page_is_made_again_for_other_data_another_day_or_another_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = evidence(1, "2024-06-30")
    assert evidence(1, "2024-06-30") == first
    assert evidence(2, "2024-06-30") != first
    assert evidence(1, "2024-07-01") != first
    monkeypatch.setattr(made_from, "program", lambda: "another")
    assert evidence(1, "2024-06-30") != first


def test_a_report_that_was_cut_or_made_from_other_data_is_not_taken_for_whole(
    tmp_path: Path,
) -> None:
    page, line = tmp_path / "day.html", "<!-- made from abc -->"
    assert not _ends_with(page, line)
    page.write_text(f"<html></html>\n{line}\n")
    assert _ends_with(page, line)
    assert not _ends_with(page, "<!-- made from abd -->")
    page.write_text("<html>")
    assert not _ends_with(page, line)


def test_cards_that_were_changed_or_removed_are_made_again(tmp_path: Path) -> None:
    card = tmp_path / "ewma" / "v1.html"
    card.parent.mkdir()
    card.write_text("a card")
    assert _cards_of(tmp_path, "abc") is None
    _keep_cards(tmp_path, "abc", [card])
    assert _cards_of(tmp_path, "abc") == [card]
    assert _cards_of(tmp_path, "other") is None
    card.write_text("edited")
    assert _cards_of(tmp_path, "abc") is None
    card.unlink()
    assert _cards_of(tmp_path, "abc") is None
