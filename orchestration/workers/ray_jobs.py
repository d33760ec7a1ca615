"""Workers as Ray jobs, through dagster-ray's Pipes client: a shard is submitted, watched, and stopped for certain when the run is.

In: a Dagster context, settings with the address of Ray's job server, and a shard. Out: how its job ended, and whether the job was lost: its node, its
process or the server is gone. Never: a secret in a job's environment or metadata, which Ray shows to everybody who may read its dashboard; an
address of artefacts that only this machine has is not noticed before the results are missing.
"""

from __future__ import annotations

import shlex
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from orchestration.secrets import mask, secret
from orchestration.settings import Settings
from orchestration.workers.processes import write_spec
from orchestration.workers.ray_client import (
    UNREACHABLE_SECONDS,
    BoundedClient,
    is_away,
    is_unknown,
    patiently,
)
from orchestration.workers.shard import Ended, Shard, WorkerFailed

if TYPE_CHECKING:
    from ray.job_submission import JobDetails

TOKEN = "RAY_AUTH_TOKEN"  # noqa: S105 -- the name of a variable
HEARTBEAT_SECONDS = 20
STOP_SECONDS = 60
POLL_SECONDS = 1.0
SIGNALS = 128
"""A shell's exit code is this much more than the signal that ended its command."""


class RayJobs:
    """Runs shards as jobs of one Ray cluster."""

    def __init__(self, context: Any, settings: Settings) -> None:
        if not settings.ray_address:
            raise WorkerFailed(
                "VOLCAST_WORKERS=ray: expected VOLCAST_RAY_ADDRESS=http://<head node>:8265"
            )
        try:
            import dagster_ray  # noqa: F401
            from ray.job_submission import JobSubmissionClient
        except ImportError as error:
            raise WorkerFailed(
                "VOLCAST_WORKERS=ray needs the extra `ray`: uv pip install -c requirements.lock -e .[ray]"
            ) from error
        self._context, self._settings = context, settings
        token = secret(TOKEN)
        self._headers = {"Authorization": f"Bearer {token}"} if token else None
        try:
            self._client: Any = BoundedClient(
                JobSubmissionClient(settings.ray_address, headers=self._headers)
            )
        except Exception as error:
            raise WorkerFailed(mask(f"Ray at {settings.ray_address}: {error}")) from None

    def run(self, shard: Shard, attempt: int, cancelled: threading.Event) -> Ended:
        if cancelled.is_set():
            return Ended("not started: the run was stopped")
        write_spec(shard)
        submission = f"volcast-{shard.name.replace('/', '-of-')}-{uuid.uuid4().hex[:12]}"
        heard = _Heard()
        with self._stopped_at_the_end(submission, cancelled, heard) as watch:
            messages, error = self._submit(shard, submission, heard)
        found = tuple(item[shard.message] for item in messages if shard.message in item)
        problem, lost, worker = self._outcome(submission, error, watch)
        return Ended(problem, lost, found, worker)

    def _submit(
        self, shard: Shard, submission: str, heard: _Heard
    ) -> tuple[list[dict[str, Any]], Exception | None]:
        """Submit the job and wait for its end: its messages, and what went wrong on the way, if anything did."""
        from dagster_ray import PipesRayJobClient

        from orchestration.workers.ray_messages import WholeLineJobReader

        reader = WholeLineJobReader(heard.now, {"headers": self._headers})
        client = PipesRayJobClient(
            address=self._settings.ray_address,
            headers=self._headers,
            message_reader=reader,
            poll_interval=POLL_SECONDS,
        )
        client.client = self._client
        try:
            done = client.run(
                context=self._context.op_execution_context,
                submit_job_params=self._job(shard, submission),
            )
        except Exception as error:  # the job's status says what it was
            return [], error
        return list(done.get_custom_messages()), None

    def _job(self, shard: Shard, submission: str) -> Any:
        """The job of a shard. With any resource Ray starts it on a node that has it, else on the head."""
        settings = self._settings
        job: dict[str, Any] = {
            "submission_id": submission,
            "entrypoint": shlex.join(["exec", "python", "-m", shard.module, shard.address]),
            "runtime_env": {
                "env_vars": {
                    "OMP_WAIT_POLICY": "PASSIVE",
                    "VOLCAST_WORKER_HEARTBEAT": str(HEARTBEAT_SECONDS),
                }
            },
            "entrypoint_num_cpus": settings.worker_cpus,
            "entrypoint_memory": settings.worker_memory_bytes,
        }
        if settings.ray_resources:
            job["entrypoint_resources"] = dict(settings.ray_resources)
        if shard.needs_gpu and settings.device == "cuda":
            job["entrypoint_num_gpus"] = 1 / settings.fits_per_gpu
        return job

    @contextmanager
    def _stopped_at_the_end(
        self, submission: str, cancelled: threading.Event, heard: _Heard
    ) -> Iterator[_Watch]:
        """Beside the job: stops it when the run is stopped or the job says nothing for too long, and in any case when this block ends."""
        watch = _Watch()
        ended = threading.Event()
        stall = self._settings.worker_stall_minutes * 60

        def look() -> None:
            begun, warned, since = False, False, time.monotonic()
            while not ended.wait(min(0.5, stall / 4) if begun else 1.0):
                if cancelled.is_set():
                    watch.cancelled = True
                elif not begun:  # a job that waits for its node says nothing
                    begun = self._is_running(submission)
                    heard.now()
                    if not begun and not warned and time.monotonic() - since > stall:
                        warned = True
                        self._context.log.warning(f"Ray job {submission} still waits for a node that has what it asks for: `ray status`")  # fmt: skip
                elif heard.seconds_ago() > stall:
                    watch.stalled = True
                if watch.cancelled or watch.stalled:
                    self.stop(submission)
                    return

        thread = threading.Thread(target=look, name=f"watch {submission}", daemon=True)
        thread.start()
        try:
            yield watch
        finally:
            ended.set()
            thread.join()
            self.stop(submission)  # what broke this off may not have broken the job

    def stop(self, submission: str) -> None:
        """Stop a job and wait until it has stopped; a job that is over is left as it is. Says so in the run's log where it cannot be known."""
        deadline = time.monotonic() + STOP_SECONDS
        last: Exception | None = None
        while time.monotonic() < deadline:
            try:
                info = self._info(submission)
                if info is None or info.status.is_terminal():
                    return
                self._client.stop_job(submission)
            except Exception as error:
                last = error
            time.sleep(0.5)
        self._context.log.error(
            mask(
                f"Ray job {submission} may still run: it did not stop within {STOP_SECONDS} s"
                f"{f' ({last})' if last else ''}; stop it with `ray job stop {submission} --address {self._settings.ray_address}`"
            )
        )

    def _is_running(self, submission: str) -> bool:
        try:
            info = self._info(submission)
        except Exception:
            return False
        return info is not None and str(info.status) == "RUNNING"

    def _info(self, submission: str) -> JobDetails | None:
        """What Ray knows of a job; None where it does not know it. Raises where Ray cannot be asked."""
        try:
            found: JobDetails = self._client.get_job_info(submission)
            return found
        except RuntimeError as error:
            if is_unknown(error):
                return None
            raise

    def _outcome(
        self, submission: str, error: Exception | None, watch: _Watch
    ) -> tuple[str | None, bool, str]:
        """Why a job ended badly, whether it was lost, and which worker it was."""
        try:
            info = patiently(
                lambda: self._info(submission), 5 if watch.cancelled else UNREACHABLE_SECONDS
            )
        except Exception as gone:
            return mask(f"Ray at {self._settings.ray_address} does not answer: {gone}"), True, submission  # fmt: skip
        if watch.cancelled:
            return f"the run was stopped, and Ray job {submission} with it", False, submission
        if info is None:
            lost = error is None or is_away(error) or is_unknown(error)  # else it was refused
            return mask(f"Ray has no job {submission}: {error}"), lost, submission
        node = (info.driver_node_id or "")[:12]
        worker = f"Ray job {submission}" + (f" on node {node}" if node else "")
        if watch.stalled:
            minutes = self._settings.worker_stall_minutes
            return (
                f"Ray job {submission} neither computed nor reported for {minutes:g} minutes and was stopped; if it only waits for slow "
                "storage, raise VOLCAST_WORKER_STALL_MINUTES"
            ), True, worker  # fmt: skip
        if str(info.status) == "SUCCEEDED":
            return None, False, worker
        code = info.driver_exit_code
        if code is not None and 0 <= code <= SIGNALS:
            return f"the worker ended with code {code}", False, worker
        reason = mask(" ".join((info.message or "").split())[:500])
        return f"Ray job {submission} was lost ({info.status}): {reason}", True, worker


class _Heard:
    """When a job was last heard of."""

    def __init__(self) -> None:
        self._at = time.monotonic()

    def now(self) -> None:
        self._at = time.monotonic()

    def seconds_ago(self) -> float:
        return time.monotonic() - self._at


class _Watch:
    """Why a job was stopped, if it was."""

    cancelled = False
    stalled = False
