"""Workers as child processes of this machine, through Dagster Pipes: the default.

In: a Dagster context and a shard. Out: its messages, and why the process ended badly, if it did. The worker needs no Dagster instance and no
warehouse: it reads a snapshot folder and writes artefacts. Never: a secret in its environment but what reads and writes the artefacts in an
object store, where they lie in one.
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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg

from ml.snapshot import write_atomically
from orchestration.secrets import without_secrets
from orchestration.settings import PROJECT_ROOT, Settings
from orchestration.workers.messages import WholeLineReader
from orchestration.workers.shard import Devices, Ended, Shard

logger = logging.getLogger(__name__)

MEMORY = ", most often because memory ran out (`dmesg` says so): free memory, and run the day again"
ABANDONED = ".part"
"""How files that are being made end; once no run is alive, cleaning removes them."""
STORE_CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


class Processes:
    """Runs shards as child processes, on this machine's GPUs where a shard needs one."""

    def __init__(self, context: Any, settings: Settings) -> None:
        self._context, self._settings = context, settings
        self._scratch = settings.home / "artifacts" / "specs"
        names = () if settings.device == "cpu" else gpus()
        self._devices = Devices(names, settings.fits_per_gpu)

    def run(self, shard: Shard, attempt: int, cancelled: threading.Event) -> Ended:
        with self._gpu(shard, cancelled) as gpu:
            if cancelled.is_set():
                return Ended("not started: the run was stopped")
            write_spec(shard)
            return _run(
                self._context,
                shard,
                self._scratch,
                {} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu},
                self._settings,
                self._settings.worker_stall_minutes,
                cancelled,
            )

    @contextmanager
    def _gpu(self, shard: Shard, cancelled: threading.Event) -> Iterator[str | None]:
        gpu = self._devices.take(cancelled) if shard.needs_gpu else None
        try:
            yield gpu
        finally:
            self._devices.give_back(gpu)


@cache
def gpus() -> tuple[str, ...]:
    """GPUs of this machine as CUDA_VISIBLE_DEVICES names them; of that variable, where it is set."""
    stated = os.environ.get("CUDA_VISIBLE_DEVICES")
    if stated is not None:
        return tuple(name.strip() for name in stated.split(",") if name.strip() not in ("", "-1"))
    try:
        return tuple(
            str(place) for place, _ in enumerate(sorted(os.listdir("/proc/driver/nvidia/gpus")))
        )
    except OSError:
        return ()


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
    shard = Shard(module, spec, str(spec_path), message)
    write_spec(shard)
    ended = _run(context, shard, spec_path.parent, {}, None, stall_minutes, threading.Event())
    return ([], ended.problem) if ended.problem is not None else (list(ended.messages), None)


def write_spec(shard: Shard) -> None:
    """Write a shard's spec where its worker reads it."""
    write_atomically(shard.address, json.dumps(shard.spec, indent=1, sort_keys=True).encode())


def _run(
    context: Any,
    shard: Shard,
    scratch: Path,
    more: Mapping[str, str],
    settings: Settings | None,
    stall_minutes: float,
    cancelled: threading.Event,
) -> Ended:
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch, suffix=ABANDONED) as folder:
        messages = Path(folder) / "messages"
        with dg.open_pipes_session(
            context=context.op_execution_context,
            context_injector=dg.PipesFileContextInjector(str(Path(folder) / "context")),
            message_reader=WholeLineReader(str(messages)),
        ) as session:
            process = subprocess.Popen(
                [sys.executable, "-m", shard.module, shard.address],
                env={**_environment(settings), **more, **session.get_bootstrap_env_vars()},
                close_fds=False,  # it holds what says that this home is written to, see cleaning
            )
            problem, lost = _wait(process, messages, stall_minutes * 60, cancelled)
    found = [item[shard.message] for item in session.get_custom_messages() if shard.message in item]
    return Ended(problem, lost, tuple(found), f"process {process.pid}")


def _environment(settings: Settings | None) -> dict[str, str]:
    """What a worker is given of this process's environment."""
    kept = without_secrets(os.environ)
    if settings is not None and settings.artifacts_are_remote:
        kept |= {name: os.environ[name] for name in STORE_CREDENTIALS if name in os.environ}
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(
            filter(None, [str(PROJECT_ROOT), os.environ.get("PYTHONPATH", "")])
        ),
        "PYTHONUNBUFFERED": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
    }


def _wait(
    process: subprocess.Popen[bytes],
    messages: Path,
    stall_seconds: float,
    cancelled: threading.Event,
) -> tuple[str | None, bool]:
    """Wait for the end of ``process``: why it was a bad one, None where it was not, and whether the process was lost.

    Takes the process along when this one is stopped.
    """
    seen, since = _activity(process.pid, messages), time.monotonic()
    try:
        while True:
            try:
                status = process.wait(timeout=min(0.5, stall_seconds / 4))
            except subprocess.TimeoutExpired:
                if cancelled.is_set():
                    return f"the run was stopped, and the worker (process {process.pid}) with it", False  # fmt: skip
                now = _activity(process.pid, messages)
                if now != seen or now is None:
                    seen, since = now, time.monotonic()
                elif time.monotonic() - since > stall_seconds:
                    return (
                        f"the worker (process {process.pid}) neither computed nor reported for {stall_seconds / 60:g} minutes "
                        "and was killed; if it only waits for slow storage, raise VOLCAST_WORKER_STALL_MINUTES"
                    ), True
                continue
            if status < 0:
                return (
                    f"the worker was ended by signal {-status} ({signal.Signals(-status).name})"
                    + (MEMORY if -status == signal.SIGKILL else "")
                ), True
            return (f"the worker ended with code {status}" if status else None), False
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
