"""Ray for as long as the program runs: the searches of a multirun share one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from search.apps.interrupts import raise_on_signals
from search.config.schema import Cluster

if TYPE_CHECKING:
    from search.sweep.ray_cluster import RayCluster

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_Kind = tuple[str | None, int | None, int | None, str | None]


class Clusters:
    """Holds the one that is running, until one of another kind is wanted or the program ends."""

    def __init__(self) -> None:
        self._running: tuple[_Kind, RayCluster] | None = None
        self._visible: str | None = None
        """What stood in the environment before it was said which GPUs are visible."""

    def get(self, cluster: Cluster, visible: str | None) -> RayCluster:
        """Return Ray as `cluster` describes it; `visible` GPUs alone, where it is said which.

        Raises UsageError where it cannot be had.
        """
        address = cluster.address if cluster.kind == "existing" else None
        kind: _Kind = (address, cluster.cpus, cluster.gpus, visible)
        if self._running is not None and self._running[0] == kind:
            return self._running[1]
        self.close()
        from search.sweep.ray_cluster import RayCluster

        self._visible = os.environ.get(_VISIBLE)
        if visible is not None:
            os.environ[_VISIBLE] = visible
        started = RayCluster(address, cluster.cpus, cluster.gpus)
        raise_on_signals()  # Ray took the handlers
        self._running = (kind, started)
        return started

    def close(self) -> None:
        """End it, or leave the one that was there before."""
        if self._running is None:
            return
        self._running[1].close()
        self._running = None
        os.environ.pop(_VISIBLE, None)  # the next search may want others
        if self._visible is not None:
            os.environ[_VISIBLE] = self._visible
