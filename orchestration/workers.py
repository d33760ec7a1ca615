"""Where training runs: starts ``ml.worker``, or a study, as a child process through Dagster Pipes.

In: a Dagster context and a worker spec. Out: one result per fit, read from the results file that the worker writes. The worker needs no
Dagster instance and no warehouse: it reads a snapshot folder and writes artefacts.
"""

from __future__ import annotations

import json
import os
import re
import signal
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

WORKER_MODULE = "ml.worker"


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
    results, crash = run_module(context, WORKER_MODULE, spec, spec_path, "fit")
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
) -> tuple[list[dict[str, Any]], str | None]:
    """Run ``python -m module spec_path`` in a child process: its custom messages of that name, and why it ended badly, if it did."""
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
    try:
        with tempfile.TemporaryDirectory() as folder:
            reader = WholeLineReader(str(Path(folder) / "messages"))
            invocation = dg.PipesSubprocessClient(message_reader=reader).run(
                context=context.op_execution_context,
                command=[sys.executable, "-m", module, str(spec_path)],
                env=environment,
            )
    except (
        Exception
    ) as error:  # the Pipes client raises a bare exception type of its own on a non-zero exit
        return [], _how_it_ended(str(error))
    return [found[message] for found in invocation.get_custom_messages() if message in found], None


def _how_it_ended(error: str) -> str:
    """The Pipes client's message, with a signal by its name and what it most often means."""
    code = re.search(r"failed with code -(\d+)", error)
    if code is None:
        return error
    name = signal.Signals(int(code[1])).name
    if name != "SIGKILL":
        return f"the worker was ended by {name}"
    return (
        "the worker was ended by SIGKILL, most often because memory ran out (`dmesg` says so): free memory or train fewer models "
        "at once, and run the day again; finished fits are kept"
    )


def _results_on_disk(spec: dict[str, Any]) -> list[dict[str, Any]]:
    from ml.worker import WorkerSpec

    path = Path(WorkerSpec(**spec).results_uri())
    return list(json.loads(path.read_text())) if path.exists() else []
