"""A suite and a frame -> a verdict.

In: a suite, a frame and what to judge it by. Out: a ``Verdict``. Conditions and figures are computed here, every
judgement is left to Great Expectations. Never raises on a value in the frame, and never hides a check that broke: it
comes back as a critical failure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from quality.frames import Mask, typed
from quality.great_expectations_runner import (
    Outcome,
    ask_great_expectations,
    needs_decision_time,
)
from quality.reference import FrameReference, Reference
from quality.sequences import listing
from quality.suite import Evidence, Expectation, Suite
from quality.verdict import CRITICAL, NOT_CHECKED, Result, Verdict


@dataclass
class _Plan:
    """Expectations that can be asked, and the computed columns and figures that they ask about."""

    rows: list[Expectation] = field(default_factory=list)
    figures: list[Expectation] = field(default_factory=list)
    conditions: dict[str, Mask] = field(default_factory=dict)
    measurements: dict[str, tuple[float, str]] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


def run_suite(
    suite: Suite,
    frame: pd.DataFrame,
    reference: pd.DataFrame | Reference | None,
    now: datetime | None,
    assets: Iterable[str] | None,
    rows_only: bool = False,
) -> Verdict:
    """Judge ``frame`` by ``suite``. Raises ValueError only for a decision time without a time zone."""
    if now is not None and now.tzinfo is None:
        raise ValueError(f"now={now!r}: expected a datetime with a time zone, such as UTC")
    if rows_only:
        suite = replace(suite, expectations=tuple(e for e in suite.expectations if _refuses(e)))
    found = typed(frame, suite.columns)
    absent = [c for c in suite.required if c not in found.frame.columns]
    for column in suite.optional - set(found.frame.columns):
        found.frame[column] = _empty_column(len(frame), suite.columns[column])
    evidence = Evidence(
        found.frame,
        found.unreadable,
        FrameReference(reference, suite.columns)
        if isinstance(reference, pd.DataFrame)
        else reference,
        tuple(assets) if assets is not None else None,
        pd.Timestamp(now).tz_convert("UTC") if now is not None else None,
    )
    shape = _shape_expectations(suite)
    if len(frame) == 0:
        plan = _Plan(rows=[e for e in shape if not absent or e.name == "frame_has_rows"])
    else:
        plan = _plan(suite, evidence)
        plan.rows += shape
    if found.duplicate_columns:
        plan.outcomes["columns_are_there"] = Outcome(False)
    _ask(plan, evidence)
    problems = [f"missing: {', '.join(absent)}"] if absent else []
    if found.duplicate_columns:
        problems.append(f"more than once: {', '.join(found.duplicate_columns)}")
    asked = [*shape, *(suite.expectations if len(frame) else ())]
    results = [_result(suite, e, plan, found.frame, problems) for e in asked]
    return Verdict.of(suite.name, [r for r in results if r is not None])


def _refuses(expectation: Expectation) -> bool:
    """Whether it says of single rows that they may not be used."""
    return expectation.severity == CRITICAL and expectation.measure is None


def _empty_column(rows: int, kind: str) -> Any:
    if kind == "time":
        return pd.Series(pd.NaT, index=range(rows), dtype="datetime64[us, UTC]")
    return pd.Series(
        None if kind == "text" else np.nan,
        index=range(rows),
        dtype=object if kind == "text" else np.float64,
    )


def _shape_expectations(suite: Suite) -> list[Expectation]:
    return [
        Expectation(
            "frame_has_rows",
            "expect_table_row_count_to_be_between",
            None,
            suite.empty,
            suite.empty_message,
            {"min_value": 1},
        ),
        Expectation(
            "columns_are_there",
            "expect_table_columns_to_match_set",
            None,
            CRITICAL,
            f"every required column of {suite.name} must be there, once: mend the step that makes the frame",
            {"column_set": list(suite.required), "exact_match": False},
        ),
    ]


def _plan(suite: Suite, evidence: Evidence) -> _Plan:
    """Compute every condition and figure that the frame and the evidence allow."""
    plan = _Plan()
    for expectation in suite.expectations:
        absent = [c for c in expectation.needs if c not in evidence.frame.columns]
        if absent:
            plan.skipped[expectation.name] = f"column {', '.join(absent)} is missing"
        elif evidence.now is None and needs_decision_time(expectation):
            plan.skipped[expectation.name] = "no decision time given"
        else:
            _compute(plan, expectation, evidence)
    return plan


def _compute(plan: _Plan, expectation: Expectation, evidence: Evidence) -> None:
    name = expectation.name
    try:
        if expectation.condition is not None:
            truth = expectation.condition(evidence)
            if isinstance(truth, str):
                plan.skipped[name] = truth
                return
            plan.conditions[name] = truth
        elif expectation.measure is not None:
            figure = expectation.measure(evidence)
            if isinstance(figure, str) or np.isnan(figure.value):
                plan.skipped[name] = figure if isinstance(figure, str) else "no usable value"
                return
            plan.measurements[name] = (figure.value, figure.detail)
            plan.figures.append(expectation)
            return
    except Exception as error:  # a check that breaks on odd data is itself a failed check
        plan.outcomes[name] = Outcome(False, error=f"{type(error).__name__}: {error}")
        return
    plan.rows.append(expectation)


def _ask(plan: _Plan, evidence: Evidence) -> None:
    """Put the planned expectations to Great Expectations, rows and figures as two batches."""
    conditions = pd.DataFrame(plan.conditions, index=evidence.frame.index)
    batches = [(pd.concat([evidence.frame, conditions], axis=1), plan.rows)]
    if plan.figures:
        figures = {name: [value] for name, (value, _) in plan.measurements.items()}
        batches.append((pd.DataFrame(figures), plan.figures))
    for frame, expectations in batches:
        for name, outcome in ask_great_expectations(frame, expectations, evidence.now).items():
            plan.outcomes.setdefault(name, outcome)


def _result(
    suite: Suite,
    expectation: Expectation,
    plan: _Plan,
    frame: pd.DataFrame,
    shape_problems: list[str],
) -> Result | None:
    name, severity = expectation.name, expectation.severity
    if name in plan.skipped:
        return Result(
            suite.name,
            name,
            expectation.column,
            severity,
            True,
            NOT_CHECKED + plan.skipped[name],
            expectation.message,
        )
    if name not in plan.outcomes:
        return None
    outcome = plan.outcomes[name]
    if outcome.error:
        severity = CRITICAL
    rows = [] if outcome.success else _rows(expectation, outcome, frame, suite)
    return Result(
        suite.name,
        name,
        expectation.column,
        severity,
        outcome.success,
        _observed(expectation, outcome, plan, frame, rows, shape_problems),
        expectation.message,
        rows,
    )


def _rows(
    expectation: Expectation, outcome: Outcome, frame: pd.DataFrame, suite: Suite
) -> list[int]:
    rows = np.sort(np.asarray(outcome.rows, dtype=np.int64))
    if expectation.type == "expect_compound_columns_to_be_unique" and len(rows):
        # Equal copies: all but the first are superfluous. Copies that differ: none can be trusted.
        keys = list(expectation.kwargs["column_list"])
        values = [c for c in frame.columns if c in keys or frame[c].notna().any()]
        copies = frame.loc[rows, values]
        repeated = copies.duplicated(keep="first").to_numpy()
        differs = ~copies.duplicated(keep=False).to_numpy()
        torn = pd.Series(differs).groupby(_codes(copies, keys)).transform("any").to_numpy()
        rows = rows[repeated | torn]
    return [int(i) for i in rows]


def _codes(frame: pd.DataFrame, keys: list[str]) -> Any:
    return frame.groupby(keys, sort=False, dropna=False).ngroup().to_numpy()


def _observed(
    expectation: Expectation,
    outcome: Outcome,
    plan: _Plan,
    frame: pd.DataFrame,
    rows: list[int],
    shape_problems: list[str],
) -> str:
    if outcome.error:
        return f"the check itself failed: {outcome.error[:300]}"
    if expectation.name == "frame_has_rows":
        return f"{len(frame)} rows"
    if expectation.name == "columns_are_there":
        return "; ".join(shape_problems) or "all there"
    if expectation.name in plan.measurements:
        value, detail = plan.measurements[expectation.name]
        return f"{value:.4g}{expectation.unit}" + (f" ({detail})" if detail else "")
    examples = [_example(frame, row, expectation) for row in rows[:3]]
    return f"{len(rows)} of {len(frame)} rows" + (f": {listing(examples, 3)}" if rows else "")


_IDENTITY = (
    "venue",
    "provider",
    "publisher",
    "symbol",
    "asset",
    "metric",
    "interval",
    "resolution",
    "ts",
    "as_of",
    "day",
)


def _example(frame: pd.DataFrame, row: int, expectation: Expectation) -> str:
    """A failing row in words: what names it, and the value that is wrong."""
    words = [_short(frame[c].iloc[row]) for c in _IDENTITY if c in frame.columns]
    column = expectation.column
    if column is not None and column in frame.columns and column not in _IDENTITY:
        words.append(f"{column}={_short(frame[column].iloc[row])}")
    return f"row {row} " + " ".join(words)


def _short(value: Any) -> str:
    if isinstance(value, pd.Timestamp):
        # strftime knows the years of Python's dates only
        return value.strftime("%Y-%m-%dT%H:%MZ") if 1 <= value.year <= 9999 else str(value.year)
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
