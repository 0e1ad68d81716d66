"""Which factors of a machine its logs can carry: those with which runs that are left out are not predicted worse.

Priors keep factors that logs say little of near where they were, so all are fitted at first. Then each run is predicted
by a fit to the others, and a factor without which that comes nearer, by more than chance makes of one run, is dropped.
Where three runs or more are predicted that much farther off with what is left than with nothing, nothing is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CHANCE = 1.0
"""Squares, in units of the spread of runs, by which one run is off by chance.

Fewer factors than that allows narrow intervals too much: what a dropped factor does is laid at the door of others.
"""
JUDGES = 3
"""Runs from which on they can tell that no fit at all is best.

Of two each is judged by one other alone: nothing would be kept in 17 of 45 pairs of stages of one server (vLLM 0.15.1,
ten stages), in all of which the fit brings the tokens of the other eight nearer.
"""


@dataclass(frozen=True)
class Linear:
    """Measurements (logarithms, less what is predicted without a fit) as a linear model of factors.

    `within` are standard deviations of the measurements, `priors` those of the factors; `runs` says of which run each
    measurement is.
    """

    slopes: np.ndarray
    away: np.ndarray
    within: np.ndarray
    priors: np.ndarray
    runs: np.ndarray

    def posterior(self, kept: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
        """Covariance of the posterior of the factors that are kept, after some measurements (default: all)."""
        slopes = (self.slopes / self.within[:, None])[slice(None) if rows is None else rows][:, kept]
        return np.asarray(np.linalg.inv(slopes.T @ slopes + np.diag(self.priors[kept] ** -2.0)))

    def solved(self, kept: np.ndarray, away: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
        """The mode of all factors, 0 for those that are not kept."""
        chosen_rows = np.ones(len(away), bool) if rows is None else rows
        mode = np.zeros(len(kept))
        if kept.any() and chosen_rows.any():
            slopes, within = self.slopes[chosen_rows][:, kept], self.within[chosen_rows]
            mode[kept] = self.posterior(kept, chosen_rows) @ slopes.T @ (away[chosen_rows] / within**2)
        return mode

    def left_out(self, kept: np.ndarray) -> np.ndarray:
        """What each measurement is off by after a fit to the other runs."""
        found = self.away.copy()
        for run in np.unique(self.runs):
            mine = self.runs == run
            found[mine] -= self.slopes[mine] @ self.solved(kept, self.away, ~mine)
        return found


def chosen(linear: Linear, felt: np.ndarray) -> np.ndarray:
    """The factors that are kept, of those that the runs feel. From one run alone all are: nothing else can judge."""
    kept = felt.copy()
    count = len(np.unique(linear.runs))
    if count == 1:
        return kept
    score = _score(linear, kept)
    while kept.any():
        fewer = {i: _score(linear, _less(kept, int(i))) for i in np.flatnonzero(kept).tolist()}
        worst = min(fewer, key=lambda i: fewer[i])
        if fewer[worst] >= score - CHANCE:
            break
        kept, score = _less(kept, worst), fewer[worst]
    nothing = np.zeros(len(felt), bool)
    return nothing if count >= JUDGES and score > _score(linear, nothing) + CHANCE else kept


def _score(linear: Linear, kept: np.ndarray) -> float:
    """What runs that were left out are off by, squares in units of the spread of runs."""
    return float(np.sum((linear.left_out(kept) / linear.within) ** 2))


def _less(kept: np.ndarray, i: int) -> np.ndarray:
    """A set of factors less one."""
    fewer = kept.copy()
    fewer[i] = False
    return fewer
