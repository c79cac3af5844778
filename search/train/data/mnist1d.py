"""MNIST-1D (Greydanus and Kobak 2024), made by its authors' package."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np

from search.errors import UsageError
from search.train.data.arrays import Examples


def load(name: str, shuffled: bool = False) -> Examples:
    """Return 4,000 + 1,000 series (N, 1, 40), float32, of 10 classes, the latter as the test set.

    Made anew each time, in about a second, and in float32 the same bit for bit as the authors' file. `shuffled` puts
    the 40 positions into one random order, the same for all, which leaves nothing to be gained from neighbourhood.
    Raises UsageError where the package is not installed.
    """
    try:
        from mnist1d.data import get_dataset_args, make_dataset
    except ModuleNotFoundError as error:
        raise UsageError(f"data=mnist1d: needs the package {error.name}; pip install mnist1d") from error
    arguments = get_dataset_args()
    arguments.shuffle_seq = shuffled
    with _global_randomness_kept():  # the package seeds the global generators
        made = make_dataset(arguments)
    return Examples(
        name=name,
        inputs=np.concatenate([made["x"], made["x_test"]]).astype(np.float32)[:, None],
        targets=np.concatenate([made["y"], made["y_test"]]).astype(np.int64),
        task="classification",
        classes=tuple(map(str, range(10))),
        test=np.arange(len(made["y"]), len(made["y"]) + len(made["y_test"])),
    )


@contextlib.contextmanager
def _global_randomness_kept() -> Iterator[None]:
    """Give the global generators back as they were."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
