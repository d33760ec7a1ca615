"""Where training runs: starts ``ml.worker``, or a study, as a child process through Dagster Pipes.

In: a Dagster context and a worker spec. Out: one result per fit, read from the results file that the worker writes. The worker needs no
Dagster instance and no warehouse: it reads a snapshot folder and writes artefacts.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import dagster as dg

from orchestration.secrets import without_secrets
from orchestration.settings import PROJECT_ROOT, Settings

logger = logging.getLogger(__name__)

WORKER_MODULE = "ml.worker"
MEMORY = ", most often because memory ran out (`dmesg` says so): free memory, and run the day again"
ABANDONED = ".part"
"""How files that are being made end; once no run is alive, cleaning removes them."""


class WholeLineReader(dg.PipesFileMessageReader):
    """Messages of a file that another process appends to, each once its line has ended.

    Dagster's own reader takes what is there: a long message that is written in two pieces, as one with learning curves is, breaks its thread, and with it every message after.
    """

    def _reader_thread(self, handler: Any, is_resource_complete: threading.Event) -> None:
        try:
            with Path(self._path).open(encoding="utf-8") as stream:
                for line in whole_lines(stream, is_resource_complete):
                    handler.handle_message(json.loads(line))
        except Exception:
            handler.report_pipes_framework_exception(type(self).__name__, sys.exc_info())
            raise


def whole_lines(stream: TextIO, ended: threading.Event) -> Iterator[str]:
    """Lines as they end; the last one, which a killed writer may have left unfinished, only if it ended."""
    line = ""
    while True:
        stop = ended.is_set()  # before reading: what was written until then is read
        part = stream.readline()
        line += part
        if line.endswith("\n"):
            yield line
            line = ""
        elif not part:
            if stop:
                return
            time.sleep(0.01)


class WorkerFailed(RuntimeError):
    """The worker stopped without a result for some fit; finished fits are kept and are not made again."""


def run_worker(
    context: dg.AssetExecutionContext, settings: Settings, spec: dict[str, Any], spec_path: Path
) -> list[dict[str, Any]]:
    """Run every fit of ``spec`` and return their results, failed ones included.

    Raises ``WorkerFailed`` when the worker died before it reported on every fit.
    """
    results, crash = run_module(
        context, WORKER_MODULE, spec, spec_path, "fit", stall_minutes=settings.worker_stall_minutes
    )
    if crash is not None:
        results = _results_on_disk(spec)
    done = {(item["model"], item["trained_as_of"]) for item in results}
    missing = [fit for fit in spec["fits"] if (fit["model"], fit["trained_as_of"]) not in done]
    if missing:
        names = ", ".join(f"{fit['model']} of {fit['trained_as_of']}" for fit in missing)
        raise WorkerFailed(f"no result for {names}" + (f": {crash}" if crash else ""))
    return results


def run_module(
    context: dg.AssetExecutionContext,
    module: str,
    spec: dict[str, Any],
    spec_path: Path,
    message: str,
    *,
    stall_minutes: float,
) -> tuple[list[dict[str, Any]], str | None]:
    """Run ``python -m module spec_path`` in a child process: its custom messages of that name, and why it ended badly, if it did.

    A child that neither computes nor reports for ``stall_minutes`` is killed: it is stopped, or waits for what will not come.
    """
    spec_path.parent.mkdir(parents=True, exist_ok=True)
    temporary = spec_path.with_suffix(f".{os.getpid()}")
    temporary.write_text(json.dumps(spec, indent=1, sort_keys=True))
    os.replace(temporary, spec_path)
    kept = without_secrets(os.environ)
    environment = {
        # the Pipes client passes everything on; what is overwritten is gone
        **{name: "" for name in os.environ if name not in kept},
        "PYTHONPATH": os.pathsep.join(
            filter(None, [str(PROJECT_ROOT), os.environ.get("PYTHONPATH", "")])
        ),
        "PYTHONUNBUFFERED": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    with tempfile.TemporaryDirectory(dir=spec_path.parent, suffix=ABANDONED) as folder:
        messages = Path(folder) / "messages"
        with dg.open_pipes_session(
            context=context.op_execution_context,
            context_injector=dg.PipesFileContextInjector(str(Path(folder) / "context")),
            message_reader=WholeLineReader(str(messages)),
        ) as session:
            process = subprocess.Popen(
                [sys.executable, "-m", module, str(spec_path)],
                env={**os.environ, **environment, **session.get_bootstrap_env_vars()},
                close_fds=False,  # it holds what says that this home is written to, see cleaning
            )
            crash = _wait(process, messages, stall_minutes * 60)
    found = [item[message] for item in session.get_custom_messages() if message in item]
    return ([], crash) if crash is not None else (found, None)


def _wait(process: subprocess.Popen[bytes], messages: Path, stall_seconds: float) -> str | None:
    """Wait for the end of ``process``; why it was a bad one, None where it was not. Takes the process along when this one is stopped."""
    seen, since = _activity(process.pid, messages), time.monotonic()
    try:
        while True:
            try:
                status = process.wait(timeout=min(1.0, stall_seconds / 4))
            except subprocess.TimeoutExpired:
                now = _activity(process.pid, messages)
                if now != seen or now is None:
                    seen, since = now, time.monotonic()
                elif time.monotonic() - since > stall_seconds:
                    return (
                        f"the worker (process {process.pid}) neither computed nor reported for {stall_seconds / 60:g} minutes "
                        "and was killed; if it only waits for slow storage, raise VOLCAST_WORKER_STALL_MINUTES"
                    )
                continue
            if status < 0:
                return (
                    f"the worker was ended by signal {-status} ({signal.Signals(-status).name})"
                    + (MEMORY if -status == signal.SIGKILL else "")
                )
            return f"the worker ended with code {status}" if status else None
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()


def _activity(pid: int, messages: Path) -> tuple[int, int] | None:
    """Clock ticks of processor time of a child and bytes that it has reported; None where /proc does not say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    ticks = sum(map(int, fields[11:15]))  # its own and its children's, user and system: proc(5)
    return ticks, messages.stat().st_size if messages.exists() else 0


def _results_on_disk(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """Results that a worker left before it died; none where they are not whole."""
    from ml.worker import FitResult, WorkerSpec

    path = Path(WorkerSpec(**spec).results_uri())
    try:
        found = json.loads(path.read_text())
        return [FitResult(**item).model_dump(mode="json") for item in found]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as error:
        logger.warning("%s cannot be read, its fits are made again: %s", path, error)
        return []
