"""Verdicts are shown whole, failures first, and nothing in them can act as markup."""

from __future__ import annotations

from quality import CRITICAL, WARNING, Result, Verdict
from quality.render import to_html, to_rows

SCRIPT = "<script>alert('x')</script>"


def verdict() -> Verdict:
    return Verdict.of(
        "raw.headlines",
        [
            Result("raw.headlines", "held", "ts", CRITICAL, True, "0 of 9 rows", "fine"),
            Result(
                "raw.headlines", "unasked", None, WARNING, True, "not checked: no reference", "x"
            ),
            Result("raw.headlines", "warned", "title", WARNING, False, SCRIPT, "look", [3]),
            Result("raw.headlines", "failed", "title", CRITICAL, False, "1 of 9", SCRIPT, [3, 4]),
        ],
    )


def test_failures_come_first_and_rows_are_counted() -> None:
    rows = to_rows([verdict()])
    assert [row["state"] for row in rows] == ["failed", "warned", "held", "unasked"]
    assert [row["failing_rows"] for row in rows] == [2, 1, 0, 0]


def test_html_escapes_what_it_shows_and_loads_nothing() -> None:
    html = to_html([verdict()])
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "src=" not in html
    assert "href=" not in html
    assert "<details" in html
    assert "FAILED (1 failed, 1 warning, 1 held, 1 not checked)" in html


def test_html_puts_the_failed_suite_first_and_says_when_there_is_none() -> None:
    sound = Verdict.of("raw.aaa", [verdict().results[0]])
    html = to_html([sound, verdict()])
    assert html.index("raw.headlines") < html.index("raw.aaa")
    assert "nothing was checked yet" in to_html([])


def test_a_verdict_names_the_rows_to_quarantine_and_whether_that_is_enough() -> None:
    assert verdict().rows_to_quarantine() == {3: ["failed"], 4: ["failed"]}
    assert verdict().only_rows_failed
    gone = Result("s", "no_coin_is_gone", None, CRITICAL, False, "1 coins", "fetch it")
    assert not Verdict.of("s", [gone]).only_rows_failed
