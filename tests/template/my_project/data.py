"""Data of our own."""

from __future__ import annotations

from typing import Any

import numpy as np


def rings(num: int, noise: float, seed: int = 0) -> tuple[np.ndarray[Any, Any], list[str]]:
    """Return points (num, 2) on three rings, and on which one each lies."""
    names = ["inner", "middle", "outer"]
    generator = np.random.default_rng(seed)
    ring = generator.integers(len(names), size=num)
    angle = generator.uniform(0.0, 2.0 * np.pi, size=num)
    radius = 1.0 + ring + generator.normal(scale=noise, size=num)
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return points.astype(np.float32), [names[i] for i in ring]
