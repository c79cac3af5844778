"""Ray itself: one of our own on this machine, or one that runs already.

Ray reads its authentication settings when it is imported, so that happens after they are made.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import secrets
import socket
import sys
from collections.abc import Iterator
from typing import Any

from search.errors import UsageError

_NOTICE_DEATHS = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "5",
}
"""For a Ray of our own: a part of it that dies is noticed in seconds. By default it takes Ray 15 to 60."""
_CONNECT_SECONDS = 10.0


class RayCluster:
    """Started or attached to, until it is closed; there can be one in a process at a time."""

    def __init__(self, address: str | None, cpus: int | None, gpus: int | None) -> None:
        """Start Ray with so many CPUs and GPUs (None: all of this machine), or attach to the one at `address`.

        Raises UsageError where the address does not answer.
        """
        self.ray = _start_ray(address, cpus, gpus)

    def close(self) -> None:
        """End it, or leave the one that was there before."""
        self.ray.shutdown()


def _start_ray(address: str | None, cpus: int | None, gpus: int | None) -> Any:
    """Start or attach; return the ray module."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        if "ray" not in sys.modules:  # who imported it has it read what stood there then, once for the process
            # A token of our own for this Ray alone: nothing is written to the home folder, nobody else gets in.
            os.environ["RAY_AUTH_MODE"] = "token"
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(16))
        os.environ.pop("RAY_ADDRESS", None)
        for key, value in _NOTICE_DEATHS.items():
            os.environ.setdefault(key, value)
        settings |= {"num_cpus": cpus or len(os.sched_getaffinity(0)), "include_dashboard": False}
        settings |= {"num_gpus": gpus} if gpus is not None else {}
    else:
        _require_reachable(address)
    import ray

    if ray.is_initialized():
        raise UsageError("cluster: Ray runs in this process already, and there can be one; ray.shutdown() first")
    try:
        with _groups_of_their_own(ray):
            ray.init(address=address or "local", **settings)
    except SystemExit as ended:  # what Ray makes of a SIGTERM meanwhile
        raise KeyboardInterrupt from ended
    except (ConnectionError, ray.exceptions.RayError, ValueError) as error:
        where = f"cluster.address={address}" if address else "cluster=local"
        raise UsageError(f"{where}: Ray does not start there ({' '.join(str(error).split())[:200]})") from error

    return ray


@contextlib.contextmanager
def _groups_of_their_own(ray: Any) -> Iterator[None]:
    """Start Ray's processes out of reach of a signal to this program's group.

    `timeout` and batch systems send SIGTERM to the whole group; Ray would be gone before anything could be paused.
    """
    services = ray._private.services
    original = services.ConsolePopen
    services.ConsolePopen = functools.partial(original, process_group=0)
    try:
        yield
    finally:
        services.ConsolePopen = original


def _require_reachable(address: str) -> None:
    """Raise UsageError where nobody listens: Ray would go on knocking for minutes."""
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise UsageError(f"cluster.address={address}: nobody answers there ({error}); HOST:PORT, or auto") from error
