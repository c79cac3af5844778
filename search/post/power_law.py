"""How error falls with the number of training examples: a power law above a floor, with an interval from the seeds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import fdtrc, stdtrit

Array = np.ndarray[Any, Any]

_EXPONENTS = np.geomspace(0.05, 3.0, 600)
"""Those that are tried; what has been measured lies in 0.07 to 1 (Hestness et al. 2017)."""
_RESAMPLES = 1000
_TAIL = 0.975
"""Quantile of Student's t that bounds a two-sided 95 % interval."""
_UNLIKELY = 0.01
"""Below it, that the points lie on the curve is no longer believed."""
_FINEST = 0.02
"""Errors below this share of the largest weigh as if they were that large: a coarse metric may reach 0."""
_ROUNDING = 1e-9
"""A relative spread below it is none."""
_GRID = 0.02
"""Relative; a law is hit to about half a percent, since few exponents are tried."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PowerLaw:
    """Error at n examples, `floor + fall * (n / most) ** -exponent`, `most` being the largest size measured.

    `resampled` holds the same three, (R, 3), for each resampling of the seeds; `seeds` is their number. `follows` is
    whether the points lie on the curve as far as the spread over seeds can tell (F test for lack of fit at 1 %), None
    where nothing can; without any spread, points far off do not.
    """

    most: int
    floor: float
    fall: float
    exponent: float
    seeds: int
    resampled: Array
    follows: bool | None

    @property
    def _own(self) -> Array:
        return np.array([[self.floor, self.fall, self.exponent]])

    def at(self, sizes: Array) -> Array:
        """Return the error at each of the sizes (M,)."""
        (errors,) = _at(self._own, sizes / self.most)
        return np.asarray(errors)

    def interval(self, sizes: Array) -> Array | None:
        """Return the 95 % interval (2, M) of the error at each of the sizes, None from a single seed.

        Seeds are resampled as whole curves, since sizes of one seed share examples. Few seeds resampled vary too
        little, hence the factor on the variance and Student's t (simulated power laws with noise, 3 sizes by 2 seeds
        to 6 by 5: 86 to 99 % covered, where percentiles of the resampled cover 67 to 93 %).
        """
        return self._around(self.at(sizes), _at(self.resampled, sizes / self.most))

    def gain(self, factor: float) -> tuple[float, tuple[float, float] | None]:
        """Return by what share `factor` times the data would lower the error at `most`, with its 95 % interval."""
        both = np.array([1.0, factor])
        own, others = (
            1 - errors[:, 1] / np.maximum(errors[:, 0], np.finfo(float).tiny)
            for errors in (_at(self._own, both), _at(self.resampled, both))
        )
        around = self._around(own, others[:, None])
        return float(own[0]), None if around is None else (float(around[0, 0]), float(around[1, 0]))

    def _around(self, points: Array, resampled: Array) -> Array | None:
        if self.seeds < 2:
            return None
        deviation = resampled.std(axis=0) * np.sqrt(self.seeds / (self.seeds - 1))
        half = stdtrit(self.seeds - 1, _TAIL) * deviation
        return np.stack([points - half, points + half])


def fit(sizes: Array, errors: Array) -> PowerLaw | None:
    """Fit errors (S, K), of S seeds at each of K sizes, at least three; None where no error is above 0.

    Least squares of relative deviations: for each of many exponents the best floor and fall, neither below 0, are
    linear regression, and the best exponent is taken (Cortes et al. 1993; Hestness et al. 2017). Seeds with an error
    that is not finite are left out.
    """
    errors = errors[np.isfinite(errors).all(axis=1)]
    if not len(errors) or not (means := errors.mean(axis=0)).max() > 0:
        return None
    weights = np.maximum(means, _FINEST * means.max()) ** -2.0
    shares = sizes / sizes.max()
    (own,) = _fitted(shares, means[None], weights)
    generator = np.random.default_rng(0)  # the same interval whenever it is shown
    drawn = np.sort(generator.integers(0, len(errors), size=(_RESAMPLES, len(errors))), axis=1)
    different, which = np.unique(drawn, axis=0, return_inverse=True)  # few, of few seeds
    return PowerLaw(
        most=int(sizes.max()),
        floor=float(own[0]),
        fall=float(own[1]),
        exponent=float(own[2]),
        seeds=len(errors),
        resampled=_fitted(shares, errors[different].mean(axis=1), weights)[which],
        follows=_follows(errors, _at(own[None], shares)[0], weights, parameters=3 if own[1] else 1),
    )


def _at(laws: Array, shares: Array) -> Array:
    """Return the errors (R, M) of laws (R, 3) at shares (M,) of the largest size."""
    floor, fall, exponent = laws.T[:, :, None]
    return np.asarray(floor + fall * shares**-exponent)


def _fitted(shares: Array, means: Array, weights: Array) -> Array:
    """Return the laws (R, 3) that fit means (R, K) at shares (K,) of the largest size best."""
    weights = weights / weights.sum()
    powers = shares[:, None] ** -_EXPONENTS  # (K, G)
    centres = weights @ powers
    middle = means @ weights
    slope = np.maximum((means * weights) @ (powers - centres), 0) / (weights @ (powers - centres) ** 2)
    floor = middle[:, None] - slope * centres
    without = (means * weights) @ powers / (weights @ powers**2)  # what fits best with no floor
    slope, floor = np.where(floor < 0, without, slope), np.maximum(floor, 0)
    misfit = sum(
        weight * (mean[:, None] - floor - slope * power) ** 2
        for weight, mean, power in zip(weights, means.T, powers, strict=True)
    )
    rows, best = np.arange(len(means)), np.argmin(misfit, axis=1)
    return np.stack([floor[rows, best], slope[rows, best], _EXPONENTS[best]], axis=1)


def _follows(errors: Array, fitted: Array, weights: Array, parameters: int) -> bool | None:
    """Hold how far the means are from a curve of so many parameters against the spread over seeds."""
    seeds, sizes = errors.shape
    if seeds < 2 or sizes <= parameters:  # it goes through all points
        return None
    means = errors.mean(axis=0)
    off = seeds * (weights * (means - fitted) ** 2).sum() / (sizes - parameters)
    spread = (weights * (errors - means) ** 2).sum() / (sizes * (seeds - 1))
    if spread < _ROUNDING**2:  # a coarse metric, say
        return None if weights @ (means - fitted) ** 2 < len(means) * _GRID**2 else False
    return bool(fdtrc(sizes - parameters, sizes * (seeds - 1), off / spread) >= _UNLIKELY)
