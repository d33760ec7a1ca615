"""Verdicts as plain rows and as an HTML fragment that needs nothing from outside.

In: verdicts. Out: dictionaries for tables and JSON, or HTML with every value escaped, no script, no link and no image
(Great Expectations' own pages load theirs from the web). Never hides a failure: failed expectations come first, and what
was not checked is said.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from quality.verdict import CRITICAL, Result, Verdict

_STATE = {
    "failed": ("✕", "failed"),
    "warned": ("!", "warning"),
    "held": ("✓", "held"),
    "unasked": ("–", "not checked"),
}


def state(result: Result) -> str:
    """failed (stops training), warned, held or unasked."""
    if not result.success:
        return "failed" if result.severity == CRITICAL else "warned"
    return "held" if result.checked else "unasked"


def to_rows(verdicts: Iterable[Verdict]) -> list[dict[str, str | bool | int | None]]:
    """One dictionary an expectation, failures first within each suite; ``failing_rows`` is their number."""
    order = list(_STATE)
    return [
        {
            "suite": result.suite,
            "expectation": result.expectation,
            "column": result.column,
            "severity": result.severity,
            "state": state(result),
            "success": result.success,
            "observed": result.observed,
            "message": result.message,
            "failing_rows": len(result.failing_rows),
        }
        for verdict in verdicts
        for result in sorted(verdict.results, key=lambda r: order.index(state(r)))
    ]


def to_html(verdicts: Iterable[Verdict]) -> str:
    """A section a suite: open with its failures where there are any, closed where all is well."""
    listed = list(verdicts)
    if not listed:
        return '<p class="gate-none">nothing was checked yet</p>'
    ordered = sorted(listed, key=lambda v: (v.passed, not v.failures, v.suite))
    return "\n".join(_suite(verdict) for verdict in ordered)


def _suite(verdict: Verdict) -> str:
    rows = to_rows([verdict])
    counts = {name: sum(row["state"] == name for row in rows) for name in _STATE}
    said = ", ".join(f"{n} {_STATE[name][1]}" for name, n in counts.items() if n)
    word = "passed" if verdict.passed else "FAILED"
    body = "\n".join(_row(row) for row in rows)
    return (
        f'<details class="gate"{" open" if verdict.failures else ""}>'
        f"<summary><strong>{escape(verdict.suite)}</strong> {word} ({said})</summary>\n"
        '<table><thead><tr><th scope="col">verdict</th><th scope="col">expectation</th>'
        '<th scope="col">column</th><th scope="col">seen</th><th scope="col">what to do</th></tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></details>"
    )


def _row(row: dict[str, str | bool | int | None]) -> str:
    mark, word = _STATE[str(row["state"])]
    cells = (row["expectation"], row["column"] or "", row["observed"], row["message"])
    said = "".join(f"<td>{escape(str(cell))}</td>" for cell in cells)
    return f'<tr class="gate-{row["state"]}"><td><span aria-hidden="true">{mark}</span> {word}</td>{said}</tr>'
