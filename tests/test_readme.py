"""The README keeps its word: settings, links, commands and SQL."""

from __future__ import annotations

import re
import runpy

import pytest

from orchestration.settings import PROJECT_ROOT

README = (PROJECT_ROOT / "README.md").read_text()


def test_the_table_of_settings_is_the_program_s():
    printed = runpy.run_path(str(PROJECT_ROOT / "docs" / "settings.py"))
    assert (PROJECT_ROOT / "docs" / "settings.md").read_text() == (
        f"{printed['HEAD']}\n{printed['table']()}\n"
    ), "run `python docs/settings.py > docs/settings.md`"
    short = [line for line in README.splitlines() if line.startswith("| `VOLCAST_")]
    assert len(short) == 10
    assert set(short) <= set(printed["table"]().splitlines())


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)\)", README))))
def test_every_link_leads_somewhere(target):
    assert target.startswith("http") or (PROJECT_ROOT / target).exists()


def test_every_command_exists():
    from typer.main import get_command

    from orchestration.cli import app

    known = set(get_command(app).commands) | {"test"}
    named = set(re.findall(r"\./volcast ([a-z]+(?:-[a-z]+)*)", README))
    assert named
    assert named <= known


def test_the_sql_names_tables_and_columns_that_exist(tmp_path):
    import duckdb

    from orchestration.settings import Settings
    from orchestration.warehouse import Warehouse

    (query,) = re.findall(r'\./volcast sql "(.*?)"', README, flags=re.DOTALL)
    with Warehouse(Settings(home=tmp_path)).write() as connection:
        assert connection.execute(query).fetchall() == []
        with pytest.raises(duckdb.Error):
            connection.execute(query.replace("volatility", "nonsense"))
