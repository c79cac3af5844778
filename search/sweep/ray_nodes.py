"""What the batch script of several nodes asks of Ray: where its head can stand, and whether all nodes are there.

    python -m search.sweep.ray_nodes place               prints IP, port and client's port
    python -m search.sweep.ray_nodes wait ADDRESS NODES  returns once that many nodes are alive

Imports Ray outside the executor, because it runs before there is a search.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import sys
import time
from collections.abc import Sequence

_SECONDS = 300.0
"""How long nodes may take to join."""


def main(arguments: Sequence[str]) -> int:
    """Run one of the two commands; return the exit code."""
    if list(arguments) == ["place"]:
        print(*place())
        return 0
    _, address, nodes = arguments
    if wait_for(address, int(nodes), _SECONDS):
        return 0
    print(f"submit: not all of {nodes} nodes joined {address} within {_SECONDS:.0f} s", file=sys.stderr)
    return 1


def place() -> tuple[str, int, int]:
    """Return this node's address, as Ray itself finds it, and two ports that are free."""
    from ray.util import get_node_ip_address

    with socket.socket() as first, socket.socket() as second:
        for each in (first, second):
            each.bind(("", 0))
        return get_node_ip_address(), first.getsockname()[1], second.getsockname()[1]


def wait_for(address: str, nodes: int, seconds: float) -> bool:
    """Wait until the cluster answers and has so many nodes alive; tell whether it has."""
    deadline = time.monotonic() + seconds
    while not _answers(address):  # Ray would complain, and go on knocking for a minute
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    import ray

    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    try:
        while sum(node["Alive"] for node in ray.nodes()) < nodes:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)
        return True
    finally:
        ray.shutdown()


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=5):
        return True
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
