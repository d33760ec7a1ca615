"""Ray's job server, asked so that every question ends.

In: a client of Ray's jobs. Out: its answers, later where the server is away for a while. Never: a wait without an end, or a job submitted twice.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

Answer = TypeVar("Answer")
ANSWER_SECONDS = 60.0
UNREACHABLE_SECONDS = 180


class BoundedClient:
    """A client each of whose questions ends: Ray's own waits for ever for a server that took the question and does not answer."""

    def __init__(self, client: JobSubmissionClient) -> None:
        self._client = client

    def get_job_status(self, job_id: str) -> Any:
        """The status of a job, from a server that may be away for a while."""
        ask = partial(_within, ANSWER_SECONDS, self._client.get_job_status, job_id)
        return patiently(ask, UNREACHABLE_SECONDS)

    def submit_job(self, **options: Any) -> str:
        """Submit a job to a server that may be away or not ready yet; one that had the job already took it the last time."""

        def ask() -> str:
            try:
                return str(_within(ANSWER_SECONDS, self._client.submit_job, **options))
            except RuntimeError as error:
                if "already exists" in str(error):
                    return str(options["submission_id"])
                raise

        return patiently(ask, UNREACHABLE_SECONDS)

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


def patiently(ask: Callable[[], Answer], seconds: float) -> Answer:
    """The answer of a server that may be away for so long; then its last error."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except Exception as error:
            if time.monotonic() > deadline or not is_away(error):
                raise
            time.sleep(2)


def is_away(error: Exception) -> bool:
    """Whether an error is of a server that does not answer, or says that it cannot yet."""
    return isinstance(error, OSError) or "status code 5" in str(error)


def is_unknown(error: Exception) -> bool:
    return "status code 404" in str(error) or "does not exist" in str(error)
