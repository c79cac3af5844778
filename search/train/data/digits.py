"""Handwritten digits, shipped with scikit-learn (Alpaydin and Kaynak, UCI 1998)."""

import numpy as np

from search.train.data.arrays import Examples


def load(name: str) -> Examples:
    """Return 1,797 pictures (N, 1, 8, 8), uint8 in 0 to 16, of 10 classes."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return Examples(
        name=name,
        inputs=bunch.images.astype(np.uint8)[:, None],
        targets=bunch.target.astype(np.int64),
        task="classification",
        classes=tuple(map(str, range(10))),
    )
