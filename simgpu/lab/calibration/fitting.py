"""A robust fit with priors: mean |log(predicted / measured)| against straying from where the constants were.

    minimise  sum_i |r_i| / SCALE + sum_p ((x_p - x0_p) / spread_p)^2 / 2,    r = log(predicted / measured)

over x, logarithms of constants, by Gauss-Newton steps on reweighted squares (|r| = r^2 / |r|) that are damped until
they go down (Levenberg, 1944). Models have steps where the fastest tile changes, so derivatives are differences over
a few percent.
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
ROUNDED, ROUNDED_FEW = 0.02, 0.1
"""|r| is rounded off (its square) below this. With a few rows one of them must not decide alone: models are not exact,
so each is believed as far as the usual error and the prior say."""


def supported(rows: int) -> int:
    """How many constants so many rows can carry: one each up to three rows, then one for every three."""
    return rows if rows <= 3 else max(3, rows // 3)


def choose(slopes: Array, spreads: Array, most: int) -> list[int]:
    """Positions of the constants, in order of importance, that the rows say something about.

    `slopes[i, p]` is d r_i / d x_p. What a constant does that those taken before it could do as well does not count: a
    constant is taken if the rest of its slopes narrows it (normal errors of `SCALE`) to less than `NARROWED` of its
    prior width.
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
    """d residuals / d x of the constants `which` (all), shape (rows, constants); `at` are the residuals at `start`."""
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
    steps: int = 15,
) -> Array:
    """The point that minimises the objective, moving only the constants `chosen`; |r| is rounded off at `rounded`."""
    if not chosen:
        return start
    x, damping = start.copy(), 1e-2
    here = residuals(x)
    value = objective(here, x, start, spreads, rounded)
    for _ in range(steps):
        slopes = derivatives(residuals, x, here, chosen)
        weights = 1 / (SCALE * np.maximum(np.abs(here), rounded))
        prior = 1 / spreads[chosen] ** 2
        curvature = (slopes * weights[:, None]).T @ slopes + np.diag(prior)
        gradient = slopes.T @ (weights * here) + prior * (x - start)[chosen]
        before = value
        while damping < 1e4:
            change = np.linalg.solve(curvature + damping * np.diag(np.diag(curvature)), -gradient)
            tried = x.copy()
            tried[chosen] += np.clip(change, -0.7, 0.7)
            there = residuals(tried)
            found = objective(there, tried, start, spreads, rounded)
            if found < value:
                x, here, value, damping = tried, there, found, max(damping / 5, 1e-4)
                break
            damping *= 5
        if before - value < 1e-4 * max(before, 1e-9):
            break
    return x


def objective(residuals: Array, x: Array, start: Array, spreads: Array, rounded: float = ROUNDED) -> float:
    """What `fit` minimises."""
    size = np.abs(residuals)
    smooth = np.where(size < rounded, size**2 / (2 * rounded) + rounded / 2, size)
    return float(smooth.sum() / SCALE + (((x - start) / spreads) ** 2).sum() / 2)
