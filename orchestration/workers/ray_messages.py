"""Messages of a Ray job, read from its log: whole lines, although Ray sends a line that is being written in pieces.

In: the log of a job. Out: messages for Dagster, the rest on standard output. Never: half of a message, or one read twice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from dagster._core.pipes.utils import extract_message_or_forward_to_stdout
from dagster_ray.core.pipes import PipesRayJobMessageReader

LAST_WORDS_SECONDS = 10.0
"""How long the end of the log may take to arrive after the job has ended."""


class WholeLineJobReader(PipesRayJobMessageReader):
    """Dagster-ray's reader takes what a chunk of the log holds for lines; a message with learning curves comes in several. And it ends with its
    connection; this one connects again."""

    def __init__(self, heard: Callable[[], None], client_options: dict[str, Any]) -> None:
        super().__init__(client_options)
        self._heard = heard
        self._lines = 0

    def handle_job_logs(self, handler: Any) -> None:
        """Follow the job's log until it ends, or the job has ended and nothing more comes."""
        try:
            while self._job_id is None or self._client is None:
                if self.session_closed.wait(0.1):
                    return  # it was never launched
            self.thread_ready.set()
            while True:
                try:
                    asyncio.run(self._follow(handler))
                    return
                except (
                    Exception
                ) as error:  # results are in a file: what could be lost are lines of the log
                    handler._context.log.debug(f"the log of Ray job {self._job_id}: {error}")
                    if self.session_closed.wait(2.0):
                        return
        finally:
            self.completed.set()

    async def _follow(self, handler: Any) -> None:
        begun, number, closed_at = "", 0, None
        chunks = self.client.tail_job_logs(self.job_id)
        following = asyncio.ensure_future(anext(chunks, None))
        while True:
            done, _ = await asyncio.wait({following}, timeout=0.5)
            if self.session_closed.is_set():
                closed_at = closed_at or time.monotonic()
                if not done and time.monotonic() - closed_at > LAST_WORDS_SECONDS:
                    following.cancel()
                    return
            if not done:
                continue
            chunk = following.result()
            if chunk is None:
                return
            self._heard()
            *whole, begun = (begun + chunk).split("\n")
            for line in whole:
                number += 1
                if number > self._lines:  # those before were read by an earlier connection
                    self._lines = number
                    if line:
                        extract_message_or_forward_to_stdout(handler, line)
            following = asyncio.ensure_future(anext(chunks, None))
