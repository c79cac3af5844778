"""Objectives of our own."""

from __future__ import annotations

import random
from typing import Any

from search import Trial


def descend(cfg: Any, trial: Trial) -> float:
    """Return the height at which gradient descent with momentum ends in Rosenbrock's valley."""
    generator = random.Random(trial.seed)  # the same whenever this trial is run again
    x, y = generator.uniform(-1.5, -0.5), generator.uniform(0.5, 1.5)
    velocity_x = velocity_y = height = 0.0
    for epoch in range(1, cfg.epochs + 1):
        for _ in range(cfg.steps):
            slope_x, slope_y = 2.0 * (x - 1.0) - 40.0 * x * (y - x * x), 20.0 * (y - x * x)
            velocity_x = cfg.momentum * velocity_x - cfg.lr * slope_x
            velocity_y = cfg.momentum * velocity_y - cfg.lr * slope_y
            x, y = x + velocity_x, y + velocity_y
        height = (1.0 - x) ** 2 + 10.0 * (y - x * x) ** 2
        trial.report(epoch, height=height)  # the pruner may stop it here
    return height
