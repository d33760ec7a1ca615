"""Commands for who watches it: metrics and alerts."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestration.cli.app import app, console, errors, escape, guard, read_settings


@app.command()
def metrics(
    serve: Annotated[
        int | None,
        typer.Option(
            help="Answer scrapes on this port of loopback until stopped.", min=1, max=65535
        ),
    ] = None,
) -> None:
    """Print the metrics for Prometheus; every run also writes them to metrics/volcast.prom of the home, or VOLCAST_METRICS_FILE."""
    settings = read_settings()
    from orchestration import metrics as made

    if serve is None:
        typer.echo(guard(lambda: made.render(settings)), nl=False)
        return
    errors.print(f"metrics at http://127.0.0.1:{serve}/metrics (Ctrl-C stops it)")
    guard(lambda: made.serve(settings, serve))


@app.command()
def alert(
    test: Annotated[
        bool, typer.Option("--test", help="Send one message through every configured channel.")
    ] = False,
) -> None:
    """Show what is wrong, and tell the configured channels what they have not been told; for cron where no daemon runs."""
    settings = read_settings()
    from orchestration import alerts
    from orchestration.warehouse import Warehouse

    if not test and not settings.home.is_dir():
        errors.print(
            f"[bold red]error[/]: home {escape(str(settings.home))}: no such folder, so nothing is watched; is VOLCAST_HOME set here?",
            soft_wrap=True,
        )
        raise typer.Exit(1)
    outcome = guard(lambda: alerts.send_test(settings) if test else alerts.watch(settings))
    for cause in outcome.causes:
        colour = {"critical": "red", "warning": "yellow"}.get(cause.severity, "cyan")
        console.print(f"[{colour}]{cause.severity}[/] {escape(cause.title)}", soft_wrap=True)
        console.print(f"  to do: {escape(cause.todo)}", soft_wrap=True)
        console.print(f"  {settings.alert_runbook}#{cause.section}", soft_wrap=True)
    opens = all(cause.key != "home" for cause in outcome.causes)
    is_empty = not test and opens and not guard(Warehouse(settings).exists)
    if is_empty:
        errors.print(
            f"[bold red]error[/]: home {escape(str(settings.home))} has no warehouse: nothing is watched before a first run",
            soft_wrap=True,
        )
    elif not outcome.causes and not test:
        console.print("nothing is wrong")
    for channel, subject in outcome.sent:
        console.print(f"sent by {channel}: {escape(subject)}", soft_wrap=True)
    if not outcome.channels:
        console.print(
            "no channel is configured: VOLCAST_ALERT_EMAIL, VOLCAST_ALERT_SLACK_URL or VOLCAST_ALERT_WEBHOOK_URL (docs/monitoring.md)",
            soft_wrap=True,
        )
    for channel, why in outcome.failures:
        errors.print(f"[bold red]error[/]: {channel}: {escape(why)}", soft_wrap=True)
    if outcome.failures or is_empty or (test and not outcome.channels):
        raise typer.Exit(1)
