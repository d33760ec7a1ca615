"""The daily report: one self-contained HTML page from the published tables.

In: a connection to the published snapshot and an as_of. Out: the page as text, with plotly.js inside. Never writes a table, never asks
the network, and never shows a number that does not come from SQL.
"""

from __future__ import annotations

from orchestration.report.build import build_report

__all__ = ["build_report"]
