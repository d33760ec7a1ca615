"""The command-line program ``volcast``.

In: arguments and ``VOLCAST_*`` variables. Out: runs, tables on the terminal, exit status 0 or 1 (2 for wrong arguments). Heavy imports happen inside
the commands, so that ``--help`` is quick.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table

app = typer.Typer(
    name="volcast",
    help="Batch forecasts of crypto volatility: ingest, gates, features, training, forecasts, report.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
quarantine = typer.Typer(help="Rows that a gate refused.", no_args_is_help=True)
app.add_typer(quarantine, name="quarantine")
sources = typer.Typer(help="The live providers.", no_args_is_help=True)
app.add_typer(sources, name="sources")
console = Console()
errors = Console(stderr=True)
T = TypeVar("T")


def _day(value: str) -> date:
    try:
        return datetime.strptime(value, "%Y-%m-%d").date()
    except ValueError:
        raise typer.BadParameter(f"{value!r}: expected a day such as 2024-06-30") from None


DAY: dict[str, Any] = {"parser": _day, "metavar": "YYYY-MM-DD"}


@app.command()
def demo() -> None:
    """Run the whole line on the simulated market and show the forecasts."""
    os.environ["VOLCAST_SOURCE"] = "simulated"
    settings = _settings()
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
    settings = _settings()
    _run(settings, "daily", as_of, as_of)
    _show_forecasts(settings, as_of)


@app.command()
def backfill(
    first: Annotated[date, typer.Option("--from", help="First as_of.", **DAY)],
    last: Annotated[date, typer.Option("--to", help="Last as_of.", **DAY)],
) -> None:
    """Run the whole line for a range of days in one run; the rows equal those of daily runs."""
    settings = _settings()
    _run(settings, "daily", first, last)
    _show_forecasts(settings, last)


@app.command()
def nowcast(
    bars: Annotated[
        Path | None,
        typer.Option(
            help="CSV or Parquet of bars since the last as_of: asset, ts, high, low, close, volume. Default: ask the source."
        ),
    ] = None,
    at: Annotated[
        datetime | None,
        typer.Option(
            help="UTC instant that no bar may end after; default: now for source=live, else 12 hours after the last as_of.",
            formats=["%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"],
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Model by name; default: the champion.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV with every quantile.")] = False,
) -> None:
    """Update the newest forecasts with the bars of the running day; nothing is stored."""
    settings = _settings()

    def make() -> Any:
        from orchestration.nowcast import bars_of_file, bars_of_source, open_nowcaster
        from orchestration.platform import Platform
        from orchestration.warehouse import read_published

        with read_published(settings) as connection:
            opened = open_nowcaster(connection, settings, model)
        until = at.replace(tzinfo=UTC) if at else None
        if bars is not None:
            found = bars_of_file(bars)
        else:
            source = Platform(settings).source
            start = datetime.combine(opened.nowcaster.as_of + timedelta(days=1), time(), tzinfo=UTC)
            until = until or source.now() or start + timedelta(hours=12)
            found = bars_of_source(source, opened.nowcaster, until)
        made = opened.nowcaster.update(found, until)
        return made, opened.beside_daily(made)

    made, rows = _guard(make)
    if as_csv:
        return _print_table(list(rows.columns), rows.to_numpy().tolist(), as_csv=True)
    table = Table(
        title=f"{rows['model'].iloc[0]} as of {made.at:%Y-%m-%d %H:%M} UTC, from the forecast of {made.as_of} (annualised)",
        title_justify="left",
    )
    for name in ("coin", "days", "volatility", "10 %", "90 %", "last night", "change"):
        table.add_column(name, justify="left" if name == "coin" else "right")
    for row in rows[rows["variance"].notna()].itertuples():
        change = row.volatility / row.daily_volatility - 1
        cells = [
            f"{value:.1%}" for value in (row.volatility, row.q10, row.q90, row.daily_volatility)
        ]
        table.add_row(row.asset, str(row.horizon), *cells, f"{change:+.0%}")
    console.print(table)
    for asset, status in zip(made.assets, made.status, strict=True):
        if status != "ok":
            errors.print(f"[yellow]{_escape(asset)}[/]: {_escape(status)}", soft_wrap=True)
    for note in made.notes:
        errors.print(f"left aside: {_escape(note)}", soft_wrap=True)


@app.command()
def study(
    as_of: Annotated[
        date,
        typer.Option("--as-of", help="The study reads nothing later than this UTC day.", **DAY),
    ],
) -> None:
    """Search hyper-parameters of the attention model within a budget; the winner is proposed, not adopted."""
    settings = _settings()
    _run(settings, "study", as_of, as_of)
    console.print(
        'proposal:  ./volcast sql "SELECT parameters, reason FROM models.studies WHERE proposed"'
    )


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
    settings = _settings()
    _ingest(settings, table)


@app.command()
def capture() -> None:
    """Take what only exists now, order books and newest headlines, into the raw tables."""
    settings = _settings()

    def take() -> dict[str, Any]:
        from orchestration.ingest import capture
        from orchestration.platform import Platform

        platform = Platform(settings)
        return capture(platform.warehouse, platform.source)

    for name, found in _guard(take).items():
        console.print(f"raw.{name}: {found.count.inserted} new rows")
        _show_stale([found])


@app.command()
def revisions(
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Show what providers revised and by how much, and which metrics' history moves."""
    settings = _settings()

    def read() -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        from orchestration.revisions import revision_table
        from orchestration.warehouse import Warehouse

        with Warehouse(settings).read() as connection:
            return revision_table(connection)

    names, rows = _guard(read)
    if as_csv:
        return _print_table(names, rows, as_csv=True)
    revised = [row for row in rows if row[names.index("revisions")]]
    _print_table(
        names,
        [
            [
                "moves"
                if v is True
                else ""
                if v is False
                else f"{v:%Y-%m-%d %H:%M}"
                if isinstance(v, datetime)
                else v
                for v in row
            ]
            for row in revised
        ],
        as_csv=False,
    )
    console.print(
        f"{len(rows) - len(revised)} of {len(rows)} series were never revised; --csv has them all"
    )


@sources.command("check")
def sources_check() -> None:
    """Ask each live provider for one row, and show who answers."""
    settings = _settings()
    table = Table("provider", "status", "seconds", "what came", title_justify="left")
    failed = 0

    def ask() -> None:
        nonlocal failed
        from orchestration.sources.live import LiveConfig
        from orchestration.sources.live.check import probe_all

        with console.status("asking"):
            for found in sorted(probe_all(LiveConfig.of(settings)), key=lambda p: p.provider):
                colour = {"ok": "green", "slow": "yellow"}.get(found.status, "red")
                failed += colour == "red"
                table.add_row(
                    found.provider,
                    f"[{colour}]{found.status}[/]",
                    f"{found.seconds:.1f}",
                    _escape(found.detail),
                )

    _guard(ask)
    console.print(table)
    if failed:
        raise typer.Exit(1)


@app.command()
def train(
    as_of: Annotated[
        date,
        typer.Option("--as-of", help="Last day of information; its gates must be open.", **DAY),
    ],
    force: Annotated[bool, typer.Option(help="Train again even if the versions exist.")] = False,
) -> None:
    """Train the model versions that the day after needs."""
    settings = _settings()
    config = {"ops": {"models__registry": {"config": {"for_next_day": True, "force": force}}}}
    _run(settings, "retrain", as_of, as_of, run_config=config)
    _query(
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
    settings = _settings()

    def judge() -> Any:
        from orchestration.evaluate import Plan, evaluate

        names = tuple(filter(None, map(str.strip, models.split(",")))) or settings.models
        plan = Plan(names, first, last, refit_weeks, settings.train_window_days, expanding, workers)
        return evaluate(settings, plan, console)

    found = _guard(judge)
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
def portfolio(
    weights: Annotated[
        Path,
        typer.Argument(
            help="File of weights: .csv (asset,weight) or .json, fractions of the capital.",
            metavar="FILE",
        ),
    ],
    as_of: Annotated[
        date | None, typer.Option("--as-of", help="Day; the newest one by default.", **DAY)
    ] = None,
    model: Annotated[str, typer.Option(help="Model; the champion of the day by default.")] = "",
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, every column.")] = False,
) -> None:
    """Show VaR and ES of a portfolio and each coin's part, from the published copy; stores nothing."""
    settings = _settings()

    def figures() -> Any:
        from orchestration.portfolio_view import show_portfolio
        from orchestration.warehouse import read_published

        with read_published(settings) as connection:
            return show_portfolio(connection, weights, as_of or _newest_day(connection), model)

    found = _guard(figures)
    if as_csv:
        return _print_table(found.names, found.rows, as_csv=True)
    table = Table(title=_escape(found.title), title_justify="left")
    for name in found.short_names:
        table.add_column(name, justify="left" if name == "coin" else "right")
    for row in found.short_rows:
        table.add_row(*row)
    console.print(table)
    for note in found.notes:
        console.print(_escape(note), soft_wrap=True)


@app.command()
def models() -> None:
    """List the models that VOLCAST_MODELS and `evaluate --models` may name."""
    from ml.models import MODELS, model_class

    table = Table("model", "what it is", "needs torch")
    for name, entry in MODELS.items():
        about = (model_class(name).__doc__ or "").strip().splitlines()[0]
        table.add_row(name, _escape(about), "yes" if entry.uses_torch else "")
    console.print(table)


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="SQL on the published copy, which opens read-only.")],
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Query the published tables."""
    _query(_settings(), query, as_csv=as_csv)


@app.command()
def report(
    as_of: Annotated[
        date | None, typer.Option("--as-of", help="Day; the newest one by default.", **DAY)
    ] = None,
) -> None:
    """Write the HTML report of a day from the published tables and print where it lies."""
    settings = _settings()

    def build() -> Path:
        from orchestration.report import build_report
        from orchestration.runs import report_path
        from orchestration.warehouse import read_published

        with read_published(settings) as connection:
            day = as_of or _newest_day(connection)
            page = build_report(connection, day)
        path = report_path(settings, day)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
        return path

    with console.status("writing the report"):
        path = _guard(build)
    console.print(f"report: {path}", soft_wrap=True)


@app.command()
def card(
    model: Annotated[str, typer.Argument(help="Model, such as attention.")],
    version: Annotated[
        str | None, typer.Option(help="Version; the one that serves the newest day by default.")
    ] = None,
) -> None:
    """Print the model card of a version as Markdown, from the published tables."""
    settings = _settings()

    def text() -> str:
        from orchestration.model_cards import card_text
        from orchestration.warehouse import read_published

        with read_published(settings) as connection:
            return card_text(connection, model, version)

    typer.echo(_guard(text), nl=False)


@app.command()
def dev(
    port: Annotated[int, typer.Option(help="Port of the UI, on loopback.")] = 3000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Start the Dagster UI and its daemon."""
    settings = _settings()
    from orchestration.runs import prepare_home
    from orchestration.settings import PROJECT_ROOT

    _guard(lambda: _check_port(host, port))
    prepare_home(settings)
    console.print(
        f"Dagster UI at http://{host}:{port} (Ctrl-C stops it); instance under {settings.dagster_home}",
        soft_wrap=True,
    )
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(PROJECT_ROOT), os.environ.get("PYTHONPATH", "")])
    )
    command = [
        sys.executable,
        "-m",
        "dagster",
        "dev",
        "-w",
        str(PROJECT_ROOT / "workspace.yaml"),
        "-h",
        host,
        "-p",
        str(port),
    ]
    os.execv(sys.executable, command)  # noqa: S606 - replaces this process, no shell wanted


@app.command()
def status() -> None:
    """What this home holds: data, forecasts, models, gates, and whether a run is writing."""
    settings = _settings()
    from orchestration.status import status_tables

    for table in _guard(lambda: status_tables(settings)):
        console.print(table)


@app.command()
def override(
    suite: Annotated[str, typer.Option(help="Suite, such as raw.ohlcv.")],
    as_of: Annotated[date, typer.Option("--as-of", help="Day to let pass.", **DAY)],
    by: Annotated[str, typer.Option(help="Your name; it is kept.")],
    reason: Annotated[str, typer.Option(help="Why; it is kept.")],
    expectation: Annotated[str, typer.Option(help="One expectation only.")] = "*",
) -> None:
    """Let a failed gate pass for one day, by name and with a reason."""
    settings = _settings()

    def lift() -> int:
        from orchestration.gates import add_override
        from orchestration.warehouse import Warehouse

        return add_override(Warehouse(settings), suite, as_of, by, reason, expectation)

    console.print(
        f"{_guard(lift)} failed expectations of {suite} on {as_of} overridden by {by}: {reason}"
    )


@quarantine.command("list")
def quarantine_list() -> None:
    """Show refused rows that have not been released."""
    _query(
        _settings(),
        "SELECT row_id[:16] AS row_id, table_name, reason, row_json FROM quarantine.rows WHERE released_at IS NULL ORDER BY quarantined_at",
        live=True,
    )


@quarantine.command("release")
def quarantine_release(
    row_id: Annotated[str, typer.Argument(help="Row id, or its first 16 characters.")],
    by: Annotated[str, typer.Option(help="Your name; it is kept.")],
) -> None:
    """Let one refused row into its raw table; it counts as known from now on."""
    settings = _settings()

    def release() -> int:
        from orchestration.raw_rows import release_rows
        from orchestration.warehouse import Warehouse, WarehouseError

        warehouse = Warehouse(settings)
        with warehouse.read() as connection:
            found = connection.execute(
                "SELECT row_id FROM quarantine.rows WHERE starts_with(row_id, ?)", [row_id]
            ).fetchall()
        if len(found) != 1:
            raise WarehouseError(
                f"quarantine row {row_id!r}: {len(found)} rows match, expected one"
            )
        return release_rows(warehouse, [str(found[0][0])], by)

    console.print(f"{_guard(release)} row released by {by}")


# -- shared ----------------------------------------------------------------------------------------------------------


def _guard(action: Callable[[], T]) -> T:
    """Run ``action``; an expected error becomes one message and exit status 1."""
    try:
        return action()
    except KeyboardInterrupt:
        errors.print("stopped; run the same command again to go on where it was")
        raise typer.Exit(130) from None
    except (ValueError, RuntimeError, LookupError, OSError) as error:
        if os.environ.get("VOLCAST_DEBUG"):
            raise
        errors.print(f"[bold red]error[/]: {_escape(str(error))}", soft_wrap=True)
        raise typer.Exit(1) from None


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _settings() -> Any:
    from orchestration.settings import Settings

    return _guard(Settings.from_env)


def _run(
    settings: Any, job: str, first: date, last: date, run_config: dict[str, Any] | None = None
) -> None:
    from orchestration.runs import run_days, run_job

    if settings.source == "live" and job == "daily":
        _ingest(settings)  # the run finds little left to read; here there are bars to watch

    if job == "daily":
        _guard(lambda: run_days(settings, first, last, console))
    else:
        _guard(lambda: run_job(settings, job, first, last, console, run_config=run_config))


def _ingest(settings: Any, tables: Sequence[str] | None = None) -> None:
    """Fill the raw tables with a bar for each; what could not be read is named, and is no failure unless it is prices."""

    def fill() -> list[Any]:
        from orchestration.ingest import fill_tables
        from orchestration.platform import Platform
        from orchestration.progress import IngestProgress

        platform = Platform(settings)
        with IngestProgress(console, platform.source) as progress:
            return fill_tables(platform.warehouse, platform.source, tables, progress)

    _show_stale(_guard(fill))


def _show_stale(results: Sequence[Any]) -> None:
    """A line for each provider and fault; a provider that is down has many streams."""
    found: dict[tuple[str, str], list[Any]] = {}
    for stale in (stale for result in results for stale in result.stale):
        found.setdefault((stale.stream.split("/")[0], stale.status), []).append(stale)
    for (provider, status), streams in found.items():
        more = f" (and {len(streams) - 1} more streams)" if len(streams) > 1 else ""
        errors.print(
            f"[yellow]stale[/] {_escape(provider)}: {status}: {_escape(streams[0].detail)}{more}",
            soft_wrap=True,
        )


def _check_port(host: str, port: int) -> None:
    import socket

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise OSError(
                f"port {port} on {host} cannot be used ({error.strerror}): choose another with --port"
            ) from None


def _newest_day(connection: Any) -> date:
    row = connection.execute("SELECT max(as_of) FROM forecasts.volatility").fetchone()
    if row is None or row[0] is None:
        raise LookupError(
            "no forecast published yet: run `./volcast demo` or `./volcast run --as-of DATE` first"
        )
    return row[0]


def _query(settings: Any, query: str, *, as_csv: bool = False, live: bool = False) -> None:
    def fetch() -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        import duckdb

        from orchestration.warehouse import Warehouse, read_published

        opened = Warehouse(settings).read() if live else read_published(settings)
        with opened as connection:
            try:
                found = connection.execute(query)
                if found.description is None:
                    return [], []
                return [item[0] for item in found.description], found.fetchall()
            except duckdb.Error as error:
                raise ValueError(str(error)) from None

    _print_table(*_guard(fetch), as_csv=as_csv)


def _print_table(names: Sequence[str], rows: Sequence[Sequence[Any]], *, as_csv: bool) -> None:
    if as_csv:
        import csv

        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(rows)
        return
    table = Table(header_style="bold")
    for name in names:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    console.print(table)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else _escape(str(value))


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

    source, champion, found = _guard(rows)
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

    found = _guard(problem)
    if found:
        errors.print(f"[yellow]portfolio[/] without figures: {_escape(found)}", soft_wrap=True)


def main() -> None:
    """Entry point of the ``volcast`` program."""
    app()


if __name__ == "__main__":
    main()
