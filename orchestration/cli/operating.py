"""Commands for who keeps it running: the UI, overrides of gates, quarantine."""

from __future__ import annotations

import os
import sys
from datetime import date
from typing import Annotated

import typer

from orchestration.cli.app import (
    DAY,
    app,
    console,
    errors,
    escape,
    guard,
    quarantine,
    query_table,
    read_settings,
)


@app.command()
def dev(
    port: Annotated[int, typer.Option(help="Port of the UI.")] = 3000,
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than loopback are for a proxy only.")
    ] = "127.0.0.1",
    read_only: Annotated[
        bool,
        typer.Option(
            "--read-only", help="The UI alone, showing and starting nothing; no schedules run."
        ),
    ] = False,
) -> None:
    """Start the Dagster UI and its daemon."""
    settings = read_settings()
    from orchestration.runs import prepare_home
    from orchestration.settings import PROJECT_ROOT

    guard(lambda: _check_port(host, port))
    prepare_home(settings)
    if not _is_loopback(host):
        errors.print(
            f"[bold yellow]warning[/]: {escape(host)} is not loopback. Dagster has no authentication: whoever reaches port {port} "
            + (
                "sees every run, table and setting."
                if read_only
                else "can start runs and change schedules."
            )
            + " Put a proxy with a login in front (deploy/proxy) and close the port to everyone else.",
            soft_wrap=True,
        )
    console.print(
        f"Dagster UI at http://{host}:{port} (Ctrl-C stops it); instance under {settings.dagster_home}",
        soft_wrap=True,
    )
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(PROJECT_ROOT), os.environ.get("PYTHONPATH", "")])
    )
    program = ["dagster_webserver", "--read-only"] if read_only else ["dagster", "dev"]
    workspace = str(PROJECT_ROOT / "workspace.yaml")
    command = [sys.executable, "-m", *program, "-w", workspace, "-h", host, "-p", str(port)]
    os.execv(sys.executable, command)  # noqa: S606 - replaces this process, no shell wanted


@app.command()
def override(
    suite: Annotated[str, typer.Option(help="Suite, such as raw.ohlcv.")],
    as_of: Annotated[date, typer.Option("--as-of", help="Day to let pass.", **DAY)],
    by: Annotated[str, typer.Option(help="Your name; it is kept.")],
    reason: Annotated[str, typer.Option(help="Why; it is kept.")],
    expectation: Annotated[str, typer.Option(help="One expectation only.")] = "*",
) -> None:
    """Let a failed gate pass for one day, by name and with a reason."""
    settings = read_settings()

    def lift() -> int:
        from orchestration.gates import add_override
        from orchestration.warehouse import Warehouse

        return add_override(Warehouse(settings), suite, as_of, by, reason, expectation)

    console.print(
        f"{guard(lift)} failed expectations of {suite} on {as_of} overridden by {by}: {reason}"
    )


@quarantine.command("list")
def quarantine_list() -> None:
    """Show refused rows that have not been released."""
    query_table(
        read_settings(),
        "SELECT row_id[:16] AS row_id, table_name, reason, row_json FROM quarantine.rows WHERE released_at IS NULL ORDER BY quarantined_at",
        live=True,
    )


@quarantine.command("release")
def quarantine_release(
    row_id: Annotated[str, typer.Argument(help="Row id, or its first 16 characters.")],
    by: Annotated[str, typer.Option(help="Your name; it is kept.")],
) -> None:
    """Let one refused row into its raw table; it counts as known from now on."""
    settings = read_settings()

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

    console.print(f"{guard(release)} row released by {by}")


def _is_loopback(host: str) -> bool:
    """Whether every address that ``host`` stands for is this machine's own; an empty one stands for all addresses."""
    import ipaddress
    import socket

    try:
        found = socket.getaddrinfo(host or "0.0.0.0", None)  # noqa: S104 - nothing listens here
    except OSError:
        return False
    return all(
        ipaddress.ip_address(str(address[0]).split("%")[0]).is_loopback for *_, address in found
    )


def _check_port(host: str, port: int) -> None:
    import socket

    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise OSError(
                f"port {port} on {host} cannot be used ({error.strerror}): choose another with --port"
            ) from None
