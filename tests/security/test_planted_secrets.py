"""Secrets that were planted are in nothing that a run wrote: a provider repeats them, steps fail with them, a worker dies with them."""

import base64
import html
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

import dagster as dg
import pytest

from orchestration.masking import mask_logs
from orchestration.runs import prepare_home
from orchestration.settings import PROJECT_ROOT, Settings
from orchestration.workers import run_module
from tests.end_to_end.homes import Home
from tests.live.server import ProviderServer, Reply, Request

BY_ENVIRONMENT = "k3y+of/the=environment"
BY_FILE = "k3y&of the-file!"
IN_URL = "p4ss-in-the-url"
PLANTED = (BY_ENVIRONMENT, BY_FILE, IN_URL)


def forms(secret: str) -> set[bytes]:
    """The secret as it may be written: plain, quoted in several ways, in base64 at any of its three offsets."""
    texts = {
        secret, secret.replace("+", " "), quote(secret), quote(secret, safe=""), quote_plus(secret), html.escape(secret), json.dumps(secret)[1:-1], secret.encode().hex(),
        base64.b64encode(secret.encode()).decode().rstrip("=")[:-1],
        base64.b64encode(b"_" + secret.encode()).decode()[2:].rstrip("=")[:-1],
        base64.b64encode(b"__" + secret.encode()).decode()[3:].rstrip("=")[:-1],
    }  # fmt: skip
    return {text.encode() for text in texts} | {secret.encode("utf-16-le")}


def leaks(folder: Path, *outputs: str) -> list[str]:
    """Where a planted secret lies: files under ``folder`` (their names included) and what was printed."""
    wanted = {form for secret in PLANTED for form in forms(secret)}
    places = [("printed", text.encode()) for text in outputs]
    for path in sorted(folder.rglob("*")):
        places.append((f"the name of {path}", str(path).encode()))
        if path.is_file() and not path.is_symlink():
            places.append((str(path), path.read_bytes()))
    return [f"{name}: {form!r}" for name, content in places for form in wanted if form in content]


def test_the_search_finds_a_leak(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(f"Basic {base64.b64encode(f'u:{IN_URL}'.encode()).decode()}")
    assert leaks(tmp_path)
    assert leaks(tmp_path / "none", f"?api_key={quote(BY_ENVIRONMENT, safe='')}")


@pytest.fixture
def secrets_file(tmp_path: Path) -> Path:
    path = tmp_path / "secrets.env"
    path.write_text(f"VOLCAST_SMTP_PASSWORD='{BY_FILE}'\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def masked_logs() -> Iterator[None]:
    factory = logging.getLogRecordFactory()
    mask_logs()
    yield
    logging.setLogRecordFactory(factory)


def test_steps_that_fail_with_a_secret_leave_none_in_dagster(
    tmp_path: Path,
    secrets_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    masked_logs: None,
) -> None:
    monkeypatch.setenv("VOLCAST_COINMETRICS_API_KEY", BY_ENVIRONMENT)
    monkeypatch.setenv("VOLCAST_SECRETS_FILE", str(secrets_file))
    monkeypatch.setenv("VOLCAST_HOME", str(tmp_path / "home"))
    settings = Settings.from_env()
    monkeypatch.setenv("DAGSTER_HOME", "")
    prepare_home(settings)
    spec = tmp_path / "home" / "artifacts" / "specs" / "spec.json"

    @dg.op
    def asks(context: dg.OpExecutionContext) -> None:
        context.log.info(f"GET https://api.example/v4?api_key={quote(BY_ENVIRONMENT)}")
        logging.getLogger("urllib3").warning("proxy %s", f"http://u:{quote(BY_FILE)}@proxy:1")
        try:
            raise OSError(f"401 for {BY_ENVIRONMENT!r}")
        except OSError:
            logging.getLogger("orchestration").exception("refused")
        context.log_event(
            dg.AssetObservation(
                "raw", metadata={"stale": dg.MetadataValue.md(f"- {BY_FILE}"), BY_FILE: 1}
            )
        )

    @dg.op
    def fails() -> None:
        try:
            raise ConnectionError(
                f"Authorization: Basic {base64.b64encode(f'desk:{BY_FILE}'.encode()).decode()}"
            )
        except ConnectionError as error:
            raise dg.Failure(f"no answer: {BY_ENVIRONMENT}", metadata={"why": BY_FILE}) from error

    @dg.op
    def dies(context: dg.OpExecutionContext) -> None:
        _, crash = run_module(
            context, "tests.security.dying_worker", {}, spec, "fit", stall_minutes=5
        )  # type: ignore[arg-type]
        raise dg.Failure(f"worker: {crash}")

    @dg.job
    def night() -> None:
        asks()
        fails()
        dies()

    with dg.DagsterInstance.get() as instance:
        run = night.execute_in_process(instance=instance, raise_on_error=False)
        assert not run.success
        said = [
            record.event_log_entry.user_message
            for record in instance.get_records_for_run(run.run_id).records
        ]
    assert any("GET https://api.example/v4?api_key=***" in line for line in said)
    found = json.loads((tmp_path / "home" / "environment.json").read_text())
    assert "VOLCAST_HOME" in found  # the worker has an environment,
    assert not found.get("VOLCAST_COINMETRICS_API_KEY")  # and no secret in it
    assert not found.get("VOLCAST_SECRETS_FILE")
    printed = capfd.readouterr()
    assert "401 for '***'" in caplog.text
    assert leaks(tmp_path / "home", printed.out, printed.err, caplog.text) == []


def _echo(request: Request) -> Reply:
    """A provider that refuses, and repeats all that it was sent."""
    sent = {"headers": dict(request.headers), "query": request.query, "path": request.path}
    return Reply(
        {"error": {"type": "unauthorized", "message": json.dumps(sent)}, "key": BY_FILE}, 401
    )


@pytest.mark.slow
def test_a_live_run_whose_providers_repeat_the_keys_writes_none(
    tmp_path: Path, secrets_file: Path
) -> None:
    names = ("binance", "bybit", "okx", "kraken", "binanceusdm", "deribit", "hyperliquid", "coinmetrics", "defillama", "gdelt",
             "alternative_me", "fear_greed", "binance_files", "headlines", "rss", "coindesk", "wire")  # fmt: skip
    with ProviderServer(dict.fromkeys(names, _echo)) as server:
        mirror = server.url.replace("http://", f"http://desk:{IN_URL}@")
        secrets_file.write_text(secrets_file.read_text() + f"VOLCAST_BASE_URLS=*={mirror}\n")
        home = Home(
            tmp_path / "home",
            {
                "VOLCAST_SOURCE": "live",
                "VOLCAST_ASSETS": "BTC",
                "VOLCAST_LIVE_START": "2024-06-01",
                "VOLCAST_HEADLINE_FEEDS": f"wire={mirror}/wire?token={quote(BY_ENVIRONMENT)}",
                "VOLCAST_COINMETRICS_API_KEY": BY_ENVIRONMENT,
                "VOLCAST_SECRETS_FILE": str(secrets_file),
                "VOLCAST_DEBUG": "1",  # a traceback shows most
            },
        )
        printed = []
        for command in (
            ["ingest", "--table", "onchain_metrics", "--table", "headlines"],
            ["run", "--as-of", "2024-06-30"],
        ):
            done = subprocess.run(
                [sys.executable, "-m", "orchestration.cli", *command],
                env={**home.variables, "NO_PROXY": "*"},
                cwd=PROJECT_ROOT,
                capture_output=True,
                text=True,
                check=False,
                timeout=400,
            )
            printed += [done.stdout, done.stderr]
        sent = [request for request in server.requests if request.provider == "coinmetrics"]
    assert any(request.query.get("api_key") == BY_ENVIRONMENT for request in sent), printed
    assert any("Authorization" in request.headers for request in server.requests)
    details = home.rows("SELECT provider, status, detail FROM raw.streams WHERE status <> 'ok'")
    assert len(details) > 5, printed
    assert any("***" in str(detail) for *_, detail in details), details
    assert re.search(r"refused|unavailable", "".join(printed))
    assert (home.path / "dagster" / "history").is_dir()
    assert leaks(home.path, *printed) == []


def test_dbt_is_given_no_secret(
    tmp_path: Path, secrets_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestration import dbt

    monkeypatch.setenv("VOLCAST_COINMETRICS_API_KEY", BY_ENVIRONMENT)
    monkeypatch.setenv("VOLCAST_SECRETS_FILE", str(secrets_file))
    monkeypatch.setenv("HTTPS_PROXY", f"http://desk:{IN_URL}@proxy.example:3128")
    written = tmp_path / "given.json"
    program = f"import json, os; json.dump(dict(os.environ), open({str(written)!r}, 'w'))"
    popen = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda _, **options: popen([sys.executable, "-c", program], **options)
    )
    with (tmp_path / "lock").open("w") as lock:
        dbt._run(Settings.from_env({"VOLCAST_HOME": str(tmp_path)}), ["parse"], lock.fileno())
    given = json.loads(written.read_text())
    assert given["PATH"] == os.environ["PATH"]
    assert not any(secret in value for secret in PLANTED for value in given.values())
    assert "VOLCAST_SECRETS_FILE" not in given


BROKEN = """
import os, sys, threading, warnings
from orchestration.cli import app, main
from orchestration.cli.app import guard, read_settings

@app.command("break")
def broken():
    read_settings()
    key = os.environ["VOLCAST_COINMETRICS_API_KEY"]
    warnings.warn("warned of " + key)
    thread = threading.Thread(target=lambda: {}["thread with " + key])
    thread.start()
    thread.join()

    def fail():
        try:
            raise OSError("first " + key)
        except OSError as error:
            raise (TypeError if "unexpected" in sys.argv else ValueError)("then " + key) from error

    guard(fail)

sys.argv[0] = "volcast"
main()
"""


@pytest.mark.parametrize("how", ["unexpected", "debug"])
def test_errors_that_nobody_expected_are_printed_and_noted_without_secrets(
    tmp_path: Path, how: str
) -> None:
    home = Home(
        tmp_path / "home", {"VOLCAST_COINMETRICS_API_KEY": BY_ENVIRONMENT, "VOLCAST_DEBUG": "1"}
    )
    if how == "unexpected":
        del home.variables["VOLCAST_DEBUG"]
    program = BROKEN.replace('"unexpected" in sys.argv', str(how == "unexpected"))
    done = subprocess.run(
        [sys.executable, "-c", program, "break"],
        env=home.variables, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    for said in ("warned of ***", "thread with ***", "first ***", "then ***", "Traceback"):
        assert said in done.stderr
    logged = (home.path / "logs" / "volcast.jsonl").read_text()
    assert '"event": "command_failed"' in logged
    assert leaks(home.path, done.stdout, done.stderr) == []
