"""What a check of the data finds."""

import torch

from search.checks.bench import Bench
from search.checks.check import Check, Found
from search.train.data.arrays import Dataset
from tests.kits.zoo import INSPECT_SETTINGS, config


def found(check: Check, dataset: Dataset, *, seed: int = 0, examples: int = 10_000) -> Found:
    """Return what the check finds in the data, with its evidence."""
    settings = {**INSPECT_SETTINGS, "examples": examples}
    bench = Bench(dataset=dataset, config=config(), settings=settings, device=torch.device("cpu"), seed=seed)
    return check.look(bench)
