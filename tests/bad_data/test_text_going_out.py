"""Text from outside stays text where people look at it: in CSV, and in a query with parameters."""

from __future__ import annotations

import csv
import io

import pytest

from orchestration.cli.app import print_table

FORMULAS = ["=1+1", '=HYPERLINK("http://x")', "+cmd|' /C calc'!A0", "-2+3+cmd|x", "@SUM(1)", "\t=1", "\r=1", "\n=1", " =1", "＝1+1"]  # fmt: skip


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_is_text_in_csv(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["title", "n"], [[text, -0.5]], as_csv=True)
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out, newline="")))
    assert rows == [["title", "n"], [f"'{text}", "-0.5"]]


@pytest.mark.parametrize(
    "text", ["BTC/USDT", "-0.5", "+1e3", "-inf", "2024-06-30", "a=b", "", "café"]
)
def test_other_text_is_as_it_was(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["title"], [[text], [None], [1.5]], as_csv=True)
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out, newline="")))
    assert [cell for row in rows[1:] for cell in row] == ([text] if text else [""]) + ["", "1.5"]
