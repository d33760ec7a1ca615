"""The one place that talks to Great Expectations.

In: a pandas frame and expectations. Out: one ``Outcome`` an expectation, with the failing rows. Great Expectations is
imported inside the call, because its import takes seconds and most commands never validate; its context is ephemeral:
no files kept, no network, no telemetry, no progress bars. Never decides what a failure means.
"""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from quality.suite import LAST_DAY, NOW, Expectation

_LOCK = threading.Lock()  # Great Expectations keeps its current project in a global


@dataclass(frozen=True)
class Outcome:
    """What Great Expectations said about one expectation."""

    success: bool
    rows: Sequence[int] = ()
    error: str = ""


def needs_decision_time(expectation: Expectation) -> bool:
    """Whether an argument stands for the decision time, or for the day before it."""
    words = {value for value in expectation.kwargs.values() if isinstance(value, str)}
    return bool({NOW, LAST_DAY} & words)


def ask_great_expectations(
    frame: pd.DataFrame, expectations: list[Expectation], now: pd.Timestamp | None
) -> dict[str, Outcome]:
    """Ask every expectation of ``frame``; answers by name. ``now`` stands for the decision time in their arguments."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # its own and pandas' deprecations, in code that is not ours
        import great_expectations as gx
        from great_expectations.data_context.types.base import ProgressBarsConfig
        from great_expectations.expectations.metadata_types import FailureSeverity
        from great_expectations.expectations.registry import get_expectation_impl

        # It logs a traceback for every expectation that breaks; that comes back as a result.
        logging.getLogger("great_expectations").setLevel(logging.CRITICAL)
        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = ProgressBarsConfig(globally=False)
        batch = (
            context.data_sources.add_pandas("frames")
            .add_dataframe_asset("frame")
            .add_batch_definition_whole_dataframe("whole")
            .get_batch({"dataframe": frame})
        )
        asked = [
            get_expectation_impl(e.type)(
                **_arguments(e.kwargs, now),
                severity=FailureSeverity(e.severity),
                meta={"name": e.name},
            )
            for e in expectations
        ]
        answer = batch.validate(
            gx.ExpectationSuite(name="suite", expectations=asked),
            result_format={
                "result_format": "COMPLETE",
                "include_unexpected_rows": False,
                "exclude_unexpected_values": True,
            },
        )
    outcomes: dict[str, Outcome] = {}
    for result in answer.results:  # in an order of its own
        config = result.expectation_config
        outcomes[str(config.meta["name"]) if config and config.meta else ""] = _outcome(result)
    return outcomes


def _arguments(kwargs: Mapping[str, Any], now: pd.Timestamp | None) -> dict[str, Any]:
    """Put the decision time in where the suite says so."""
    if now is None:
        return dict(kwargs)
    last_day = now.floor("D") - pd.Timedelta(days=1)
    stands_for = {
        NOW: now.to_pydatetime(warn=False),
        LAST_DAY: last_day.to_pydatetime(warn=False),
    }
    return {k: stands_for.get(v, v) if isinstance(v, str) else v for k, v in kwargs.items()}


def _outcome(answer: Any) -> Outcome:
    error = _exception(answer.exception_info or {})
    rows = answer.result.get("unexpected_index_list") or ()
    return Outcome(bool(answer.success) and not error, rows, error)


def _exception(info: Mapping[str, Any]) -> str:
    """Great Expectations reports one exception, or one per metric."""
    for part in (info, *(v for v in info.values() if isinstance(v, Mapping))):
        if part.get("raised_exception"):
            return str(part.get("exception_message") or "the check broke")
    return ""
