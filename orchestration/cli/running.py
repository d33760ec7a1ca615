"""Commands that run the line or a part of it: demo, run, backfill, ingest, capture, train, evaluate, study."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Annotated, Any

import typer
from rich.table import Table

from orchestration.cli.app import (
    DAY,
    app,
    console,
    errors,
    escape,
    guard,
    query_table,
    read_settings,
)


@app.command()
def demo() -> None:
    """Run the whole line on the simulated market and show the forecasts."""
    os.environ["VOLCAST_SOURCE"] = "simulated"
    settings = read_settings()
    last = settings.demo_as_of
    _run(settings, "daily", last - timedelta(days=settings.demo_days - 1), last)
    _show_forecasts(settings, last)


@app.command()
def run(
    as_of: Annotated[
        date,
        typer.Option(
            "--as-of", help="UTC day D: the forecast uses what was known by D+1 00:30 UTC.", **DAY
        ),
    ],
) -> None:
    """Run the whole line for one day; history that is missing is ingested and built on the way."""
    settings = read_settings()
    _run(settings, "daily", as_of, as_of)
    _show_forecasts(settings, as_of)


@app.command()
def backfill(
    first: Annotated[date, typer.Option("--from", help="First as_of.", **DAY)],
    last: Annotated[date, typer.Option("--to", help="Last as_of.", **DAY)],
) -> None:
    """Run the whole line for a range of days in one run; the rows equal those of daily runs."""
    settings = read_settings()
    _run(settings, "daily", first, last)
    _show_forecasts(settings, last)


@app.command()
def ingest(
    table: Annotated[
        list[str] | None,
        typer.Option(
            "--table", help="Raw table, such as ohlcv; repeat for several. All by default."
        ),
    ] = None,
) -> None:
    """Read the source into the raw tables, up to now, and nothing else; a killed ingest goes on where it was."""
    settings = read_settings()
    _ingest(settings, table)


@app.command()
def capture() -> None:
    """Take what only exists now, order books and newest headlines, into the raw tables."""
    settings = read_settings()

    def take() -> dict[str, Any]:
        from orchestration.ingest import capture
        from orchestration.platform import Platform

        platform = Platform(settings)
        return capture(platform.warehouse, platform.source)

    for name, found in guard(take).items():
        console.print(f"raw.{name}: {found.count.inserted} new rows")
        _show_stale([found])


@app.command()
def train(
    as_of: Annotated[
        date,
        typer.Option("--as-of", help="Last day of information; its gates must be open.", **DAY),
    ],
    force: Annotated[bool, typer.Option(help="Train again even if the versions exist.")] = False,
) -> None:
    """Train the model versions that the day after needs."""
    settings = read_settings()
    config = {"ops": {"models__registry": {"config": {"for_next_day": True, "force": force}}}}
    _run(settings, "retrain", as_of, as_of, run_config=config)
    query_table(
        settings,
        "SELECT model, model_version, trained_as_of, status, device FROM models.registry WHERE status <> 'retired' ORDER BY 1, 2",
        live=True,
    )


@app.command()
def evaluate(
    first: Annotated[date, typer.Option("--from", help="First forecast day.", **DAY)],
    last: Annotated[date, typer.Option("--to", help="Last forecast day.", **DAY)],
    models: Annotated[
        str, typer.Option(help="Models, comma separated; those of VOLCAST_MODELS by default.")
    ] = "",
    refit_weeks: Annotated[int, typer.Option(help="Weeks between fits.", min=1)] = 4,
    expanding: Annotated[
        bool, typer.Option(help="Let the window grow instead of rolling.")
    ] = False,
    workers: Annotated[int, typer.Option(help="Processes that fit side by side.", min=1)] = 1,
) -> None:
    """Walk the models forward over the past: fit, forecast, judge; writes evaluation.walk_forward*. Killed, it goes on where it was."""
    settings = read_settings()

    def judge() -> Any:
        from orchestration.evaluate import Plan, evaluate

        names = tuple(filter(None, map(str.strip, models.split(",")))) or settings.models
        plan = Plan(names, first, last, refit_weeks, settings.train_window_days, expanding, workers)
        return evaluate(settings, plan, console)

    found = guard(judge)
    table = Table(
        "days", "model", "forecasts", "QLIKE", "/ HARX-cal", "DM p", "90 % MCS", "80 % cover"
    )
    for row in found.board.to_dict("records"):
        table.add_row(
            str(row["horizon"]), row["model"], str(row["forecasts"]), f"{row['qlike']:.4f}",
            *(f"{row[name]:.3f}" if row[name] == row[name] else "" for name in ("qlike_ratio_harx_cal", "dm_p_value")),
            {True: "yes", False: "no"}.get(row["in_mcs_90"], ""), f"{row['coverage_80']:.1%}",
        )  # fmt: skip
    console.print(table)
    console.print(
        f"evaluation {found.evaluation_id}: evaluation.walk_forward_leaderboard, _scores and _tests"
    )


@app.command()
def study(
    as_of: Annotated[
        date,
        typer.Option("--as-of", help="The study reads nothing later than this UTC day.", **DAY),
    ],
) -> None:
    """Search hyper-parameters of the attention model within a budget; the winner is proposed, not adopted."""
    settings = read_settings()
    _run(settings, "study", as_of, as_of)
    console.print(
        'proposal:  ./volcast sql "SELECT parameters, reason FROM models.studies WHERE proposed"'
    )


def _run(
    settings: Any, job: str, first: date, last: date, run_config: dict[str, Any] | None = None
) -> None:
    from orchestration.runs import run_days, run_job

    if settings.source == "live" and job == "daily":
        _ingest(settings)  # the run finds little left to read; here there are bars to watch

    if job == "daily":
        guard(lambda: run_days(settings, first, last, console))
    else:
        guard(lambda: run_job(settings, job, first, last, console, run_config=run_config))


def _ingest(settings: Any, tables: Sequence[str] | None = None) -> None:
    """Fill the raw tables with a bar for each; what could not be read is named, and is no failure unless it is prices."""

    def fill() -> list[Any]:
        from orchestration.ingest import fill_tables
        from orchestration.platform import Platform
        from orchestration.progress import IngestProgress

        platform = Platform(settings)
        with IngestProgress(console, platform.source) as progress:
            return fill_tables(platform.warehouse, platform.source, tables, progress)

    _show_stale(guard(fill))


def _show_stale(results: Sequence[Any]) -> None:
    """A line for each provider and fault; a provider that is down has many streams."""
    found: dict[tuple[str, str], list[Any]] = {}
    for stale in (stale for result in results for stale in result.stale):
        found.setdefault((stale.stream.split("/")[0], stale.status), []).append(stale)
    for (provider, status), streams in found.items():
        more = f" (and {len(streams) - 1} more streams)" if len(streams) > 1 else ""
        errors.print(
            f"[yellow]stale[/] {escape(provider)}: {status}: {escape(streams[0].detail)}{more}",
            soft_wrap=True,
        )


def _show_forecasts(settings: Any, as_of: date) -> None:
    def rows() -> tuple[str, str, list[tuple[Any, ...]]]:
        from orchestration.champion import champion_on
        from orchestration.warehouse import read_published

        with read_published(settings) as connection:
            champion = champion_on(connection, as_of).model
            found = connection.execute(
                """
                SELECT f.asset, f.horizon, f.volatility, f.q10, f.q90, r.var_975, r.uncertainty, r.advised_leverage, f.source
                FROM forecasts.volatility f LEFT JOIN forecasts.risk r USING (asset, as_of, horizon, model, model_version)
                WHERE f.as_of = ? AND f.model = ?
                QUALIFY row_number() OVER (PARTITION BY f.asset, f.horizon ORDER BY f.created_at DESC) = 1
                ORDER BY f.asset, f.horizon
                """,
                [as_of, champion],
            ).fetchall()
        return (found[0][-1] if found else settings.source), champion, found

    source, champion, found = guard(rows)
    title = f"{'SIMULATED MARKET: ' if source == 'simulated' else ''}volatility forecasts of {champion}, as of {as_of} (annualised)"
    table = Table(title=title, title_justify="left")
    names = ("coin", "days", "volatility", "10 %", "90 %", "VaR 97.5 %", "uncertainty", "leverage")
    for name in names:
        table.add_column(name, justify="left" if name == "coin" else "right")
    for asset, horizon, volatility, low, high, var, uncertainty, leverage, _ in found:
        table.add_row(
            asset,
            str(horizon),
            f"{volatility:.1%}",
            f"{low:.1%}",
            f"{high:.1%}",
            "" if var is None else f"{var:.1%}",
            "" if uncertainty is None else f"{uncertainty:.2f}",
            "" if leverage is None else f"{leverage:.2f}",
        )
    console.print(table)
    if settings.portfolio is not None:
        _show_portfolio_problem(settings, as_of)
    from orchestration.runs import report_path

    console.print(f"report:    {report_path(settings, as_of)}", soft_wrap=True)
    console.print(f"snapshot:  {settings.published_path}", soft_wrap=True)
    console.print("next:      ./volcast dev (the UI)   ./volcast status   ./volcast sql ...")


def _show_portfolio_problem(settings: Any, as_of: date) -> None:
    """A line on the error stream where the portfolio of VOLCAST_PORTFOLIO has no figures."""

    def problem() -> str:
        from orchestration.champion import champion_on
        from orchestration.portfolio import problem_of
        from orchestration.warehouse import read_published

        with read_published(settings) as connection:
            model = champion_on(connection, as_of).model
            return problem_of(connection, settings.portfolio, as_of, model)

    found = guard(problem)
    if found:
        errors.print(f"[yellow]portfolio[/] without figures: {escape(found)}", soft_wrap=True)
