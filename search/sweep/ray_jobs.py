"""Ray's job server: who runs there, submitting, following the output.

Imports Ray outside the executor, because a job is submitted from where no cluster is attached to: over HTTP.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Collection
from typing import Any

from search.cluster import STUDY, RayJob
from search.errors import UsageError

_ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
_POLL_SECONDS = 1.0


class Jobs:
    """The jobs of one cluster."""

    def __init__(self, address: str) -> None:
        """Connect to the job server, e.g. http://127.0.0.1:8265; raise UsageError where it does not answer."""
        for key in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
            os.environ.pop(key, None)  # Ray would take them before the address that it is given
        from ray.job_submission import JobSubmissionClient

        self.address = address
        try:
            self._client = JobSubmissionClient(address)
            self._jobs: list[Any] = self._client.list_jobs()
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise UsageError(f"--address={address}: no job server of Ray there ({_short(error)})") from error

    @property
    def ids(self) -> Collection[str]:
        """The submission ids that are used up."""
        return {job.submission_id for job in self._jobs if job.submission_id}

    def running(self, study: str) -> str | None:
        """Return the id of a job that searches in that folder now."""
        for job in self._jobs:
            if (job.metadata or {}).get(STUDY) == study and _status(job) not in _ENDED:
                return str(job.submission_id)
        return None

    def submit(self, job: RayJob) -> None:
        """Submit it; raise UsageError where Ray refuses, e.g. as somebody was faster with that id."""
        try:
            self._client.submit_job(
                entrypoint=job.entrypoint,
                submission_id=job.submission_id,
                metadata=job.metadata,
                runtime_env=job.runtime_env,
            )
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise UsageError(f"{job.submission_id}: Ray does not take the job ({_short(error)})") from error

    def follow(self, submission_id: str) -> tuple[str, int | None]:
        """Print what the job prints until it ends; return how it ended and its exit code, where it had one."""
        from aiohttp import ClientError

        try:
            asyncio.run(self._print_logs(submission_id))
        except (ClientError, RuntimeError, OSError) as error:
            print(f"submit: its output cannot be followed any longer ({_short(error)})")
        while _status(info := self._client.get_job_info(submission_id)) not in _ENDED:
            time.sleep(_POLL_SECONDS)
        return _status(info), info.driver_exit_code

    async def _print_logs(self, submission_id: str) -> None:
        async for text in self._client.tail_job_logs(submission_id):
            print(text, end="", flush=True)


def _status(job: Any) -> str:
    return str(getattr(job.status, "value", job.status))


def _short(error: Exception) -> str:
    """Return the line of an error that says most: the server's are tracebacks."""
    lines = [line.strip() for line in str(error).replace("\\n", "\n").splitlines() if line.strip()]
    said = [line for line in lines if "Error: " in line]
    return (said[-1].partition("Error: ")[2] if said else lines[0] if lines else type(error).__name__)[:300]
