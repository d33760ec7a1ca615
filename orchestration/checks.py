"""Gates as blocking asset checks: the suites of quality/ on every raw table and on the features.

In: the rows that became known for the days of a run. Out: a check result in the UI and verdicts in ``quality.validations``. A check that fails
stops everything downstream in its own run; the stored verdict stops training and forecasting in any other.
"""

import dagster as dg

from orchestration.assets.common import WAREHOUSE_POOL, key_of, source_metadata
from orchestration.gates import SUITES, run_gate
from orchestration.markdown import in_markdown
from orchestration.partitions import day_range
from orchestration.platform import Platform


def _gate(suite: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=key_of(suite),
        name="gate",
        description=f"Great Expectations suite of {suite}; blocks training and forecasts when a critical expectation fails.",
        blocking=True,
        pool=WAREHOUSE_POOL,
    )
    def gate(
        context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> dg.AssetCheckResult:
        first, last = day_range(context)
        outcome = run_gate(platform.warehouse, suite, first, last, context.run.run_id)
        failures = [item for item in outcome.verdict.results if not item.success]
        critical = [item for item in failures if item.severity == "critical"]
        for item in failures:
            log = context.log.error if item.severity == "critical" else context.log.warning
            log(
                f"{suite}: {item.expectation} on {item.column or 'the table'}: {item.observed}. {item.message}"
            )
        lines = "\n".join(
            f"| {' | '.join(map(in_markdown, (item.severity, item.expectation, item.column or '', item.observed, item.message)))} |"
            for item in failures
        )
        table = f"| severity | expectation | column | observed | what to do |\n|---|---|---|---|---|\n{lines}"
        return dg.AssetCheckResult(
            passed=outcome.open,
            severity=dg.AssetCheckSeverity.ERROR
            if critical and not outcome.overridden
            else dg.AssetCheckSeverity.WARN,
            description=outcome.overridden and f"overridden by {outcome.overridden}",
            metadata={
                **source_metadata(platform),
                "expectations": len(outcome.verdict.results),
                "failed_critical": len(critical),
                "failed_warnings": len(failures) - len(critical),
                **({"failures": dg.MetadataValue.md(table)} if failures else {}),
            },
        )

    return gate


GATES = [_gate(suite) for suite in SUITES]
