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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from orchestration.secrets import mask, secret
from orchestration.settings import Settings
from orchestration.workers.processes import write_spec
from orchestration.workers.shard import Ended, Shard, WorkerFailed

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

Answer = TypeVar("Answer")
TOKEN = "RAY_AUTH_TOKEN"  # noqa: S105 -- the name of a variable
HEARTBEAT_SECONDS = 20
STOP_SECONDS = 60
ANSWER_SECONDS = 60.0
UNREACHABLE_SECONDS = 180
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
            self._client: Any = _Bounded(
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
            while not ended.wait(min(0.5, stall / 4)):
                if cancelled.is_set():
                    watch.cancelled = True
                elif heard.seconds_ago() > stall and self._is_running(submission):
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
            if _unknown(error):
                return None
            raise

    def _outcome(
        self, submission: str, error: Exception | None, watch: _Watch
    ) -> tuple[str | None, bool, str]:
        """Why a job ended badly, whether it was lost, and which worker it was."""
        try:
            info = _patiently(
                lambda: self._info(submission), 5 if watch.cancelled else UNREACHABLE_SECONDS
            )
        except Exception as gone:
            return mask(f"Ray at {self._settings.ray_address} does not answer: {gone}"), True, submission  # fmt: skip
        if watch.cancelled:
            return f"the run was stopped, and Ray job {submission} with it", False, submission
        if info is None:
            lost = error is None or _away(error) or _unknown(error)  # else it was refused
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


class _Bounded:
    """A client each of whose questions ends: Ray's own waits for ever for a server that took the question and does not answer."""

    def __init__(self, client: JobSubmissionClient) -> None:
        self._client = client

    def get_job_status(self, job_id: str) -> Any:
        """The status of a job, from a server that may be away for a while."""
        ask = partial(_within, ANSWER_SECONDS, self._client.get_job_status, job_id)
        return _patiently(ask, UNREACHABLE_SECONDS)

    def submit_job(self, **options: Any) -> str:
        """Submit a job to a server that may be away or not ready yet; one that had the job already took it the last time."""

        def ask() -> str:
            try:
                return str(_within(ANSWER_SECONDS, self._client.submit_job, **options))
            except RuntimeError as error:
                if "already exists" in str(error):
                    return str(options["submission_id"])
                raise

        return _patiently(ask, UNREACHABLE_SECONDS)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        return partial(_within, ANSWER_SECONDS, found) if callable(found) else found


def _within(seconds: float, ask: Callable[..., Answer], *given: Any, **options: Any) -> Answer:
    """What ``ask`` answers; TimeoutError where it does not in time."""
    answers: list[Answer] = []
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            answers.append(ask(*given, **options))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not answers:
        raise TimeoutError(f"no answer for {seconds:g} s")
    return answers[0]


def _patiently(ask: Callable[[], Answer], seconds: float) -> Answer:
    """The answer of a server that may be away for so long; then its last error."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except Exception as error:
            if time.monotonic() > deadline or not _away(error):
                raise
            time.sleep(2)


def _away(error: Exception) -> bool:
    """Whether an error is of a server that does not answer, or says that it cannot yet."""
    return isinstance(error, OSError) or "status code 5" in str(error)


def _unknown(error: Exception) -> bool:
    return "status code 404" in str(error) or "does not exist" in str(error)
