"""A robust fit with priors: mean |log(predicted / measured)| against straying from where the constants were.

    minimise  sum_i |r_i| / SCALE + sum_p ((x_p - x0_p) / spread_p)^2 / 2,    r = log(predicted / measured)

over x, logarithms of constants, by `scipy.optimize.least_squares` (trust region) on reweighted squares: |r| is
r^2 / |r|. Models have steps where the fastest tile changes, so derivatives are differences over a few percent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from simgpu.lab.validation.tables import Array

Residuals = Callable[[Array], Array]
"""log(predicted / measured) of all rows at a point."""

SCALE = 0.1
"""|log(predicted / measured)| that is worth one unit of the objective: a usual error of a good model."""
NARROWED = 0.8
"""A constant is fitted if rows narrow it to this part of its prior width, given those before it."""
_STEP = 0.03
ROUNDED, ROUNDED_SMALL_SAMPLE = 0.02, 0.1
"""|r| is rounded off (its square) below this. With a few rows one of them must not decide alone: models are not exact,
so each is believed as far as the usual error and the prior say."""


def supported(rows: int) -> int:
    """The number of constants that so many rows can determine: one each up to three rows, then one for every three."""
    return rows if rows <= 3 else max(3, rows // 3)


def choose(slopes: Array, spreads: Array, most: int) -> list[int]:
    """Positions of the constants, in order of importance, that the rows say something about.

    `slopes[i, p]` is d r_i / d x_p. An effect that constants taken before could have as well does not count: a constant
    is taken if the rest of its slopes narrows it (normal errors of `SCALE`) to less than `NARROWED` of its prior width.
    """
    taken: list[int] = []
    for p in range(slopes.shape[1]):
        if len(taken) == most:
            break
        own, before = slopes[:, p], slopes[:, taken]
        if taken:
            own = own - before @ np.linalg.lstsq(before, own, rcond=None)[0]
        if (1 + (spreads[p] / SCALE) ** 2 * float(own @ own)) ** -0.5 < NARROWED:
            taken.append(p)
    return taken


def derivatives(residuals: Residuals, start: Array, at: Array, which: Sequence[int] | None = None) -> Array:
    """Derivatives of the residuals by x, for the constants `which` (all), shape (rows, constants).

    `at` are the residuals at `start`.
    """
    columns = []
    for p in range(len(start)) if which is None else which:
        moved = start.copy()
        moved[p] += _STEP
        up = residuals(moved)
        if np.allclose(up, at, atol=1e-12):  # at its upper limit, or without effect
            moved[p] -= 2 * _STEP
            columns.append((at - residuals(moved)) / _STEP)
        else:
            columns.append((up - at) / _STEP)
    return np.stack(columns, axis=1) if columns else np.zeros((len(at), 0))


def fit(
    residuals: Residuals,
    start: Array,
    spreads: Array,
    chosen: Sequence[int],
    rounded: float = ROUNDED,
    steps: int = 20,
) -> Array:
    """The point that minimises the objective, moving only the constants `chosen`; |r| is rounded off at `rounded`.

    `steps` bounds the points that are tried.
    """
    if not chosen:
        return start
    from scipy.optimize import least_squares  # type: ignore[import-untyped]

    moved = list(chosen)
    rows = len(residuals(start))

    def point(values: Array) -> Array:
        x = start.copy()
        x[moved] = values
        return x

    def both(values: Array) -> Array:
        """Residuals of the rows, then those of the priors."""
        return np.concatenate([residuals(point(values)), (values - start[moved]) / spreads[moved]])

    def slopes(values: Array) -> Array:
        here = residuals(point(values))
        return np.vstack([derivatives(residuals, point(values), here, moved), np.diag(1 / spreads[moved])])

    def loss(squares: Array) -> Array:
        """Twice the objective and its slope by r^2; no curvature, so that the squares are reweighted."""
        losses = np.stack([squares, np.ones_like(squares), np.zeros_like(squares)])
        size = np.sqrt(squares[:rows])
        losses[0, :rows] = 2 / SCALE * np.where(size < rounded, size**2 / (2 * rounded), size - rounded / 2)
        losses[1, :rows] = 1 / (SCALE * np.maximum(size, rounded))
        return losses

    best = least_squares(both, start[moved], slopes, loss=loss, x_scale=spreads[moved], max_nfev=steps, ftol=1e-4)
    return point(best.x)


def objective(residuals: Array, x: Array, start: Array, spreads: Array, rounded: float = ROUNDED) -> float:
    """The objective that `fit` minimises."""
    size = np.abs(residuals)
    smooth = np.where(size < rounded, size**2 / (2 * rounded) + rounded / 2, size)
    return float(smooth.sum() / SCALE + (((x - start) / spreads) ** 2).sum() / 2)
