"""The small tables that scikit-learn ships: three classifications and a regression."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from search.train.data.arrays import Examples
from search.train.data.table import TableEncoder


def iris(name: str) -> Examples:
    """Return 150 flowers with 4 measures each, of 3 species (Fisher 1936)."""
    from sklearn.datasets import load_iris

    return _examples(name, load_iris)


def wine(name: str) -> Examples:
    """Return 178 wines with 13 measures each, of 3 growers (Aeberhard and Forina, UCI 1992)."""
    from sklearn.datasets import load_wine

    return _examples(name, load_wine)


def breast_cancer(name: str) -> Examples:
    """Return 569 tumours with 30 measures each, malignant or benign (Wolberg et al., UCI 1995)."""
    from sklearn.datasets import load_breast_cancer

    return _examples(name, load_breast_cancer)


def diabetes(name: str) -> Examples:
    """Return 442 patients with 10 measures each and how far the disease was a year later (Efron et al. 2004).

    The measures are those that were taken: scikit-learn's own are standardised with all patients, the later test
    split among them.
    """
    from sklearn.datasets import load_diabetes

    return _examples(name, load_diabetes, scaled=False)


def _examples(name: str, load: Callable[..., Any], **arguments: Any) -> Examples:
    """Return the rows float32 (N, features), with the columns under their names."""
    bunch = load(as_frame=True, **arguments)
    classes = tuple(map(str, bunch.get("target_names", ())))
    encoder = TableEncoder.fit(bunch.data)
    return Examples(
        name=name,
        inputs=encoder.encode(bunch.data),
        targets=bunch.target.to_numpy(dtype=np.int64 if classes else np.float32),
        task="classification" if classes else "regression",
        classes=classes,
        columns={str(column): bunch.data[column].to_numpy() for column in bunch.data},
        table=encoder.to_plain(),
    )
