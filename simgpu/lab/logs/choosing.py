"""Which factors of a machine its logs can carry: those that runs which were left out speak for.

Priors keep factors that logs say little of near where they were, so all are fitted at first. Then each job is predicted
by a fit to the others, and a factor without which that comes nearer, by more than chance makes of one run, is dropped.
Of what is left at least something has to bring jobs that are left out nearer than no fit at all does, beyond the doubt
of one in ten: by 1.28 standard errors of that gain. Else all factors are dropped: what one half of a machine's runs is
off by would say nothing of the other, or worse.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

CHANCE = 1.0
"""Squares, in units of the spread of runs, by which one run is off by chance.

Fewer factors than that allows narrow intervals too much: what a dropped factor does is laid at the door of others.
"""
DOUBT = 1.28
"""Standard errors by which jobs that are left out have to come nearer, on average: as the ends of 80 % intervals."""
JUDGES = 3
"""Jobs from which on they can tell that no fit at all is best.

Of two each is judged by one other alone: nothing would be kept in 17 of 45 pairs of stages of one server (vLLM 0.15.1,
ten stages), in all of which the fit brings the tokens of the other eight nearer.
"""
MEAN = 1.2533
"""Standard deviation of a normal distribution over its mean absolute deviation: sqrt(pi / 2)."""
FREEDOM = 6.0
"""Degrees of freedom behind the spread of runs of one machine (`simgpu/timing/components.csv`, whole runs)."""


@dataclass(frozen=True)
class Linear:
    """Measurements (logarithms, less what is predicted without a fit) as a linear model of factors.

    `within` are standard deviations of the measurements, `priors` those of the factors; `runs` says of which job each
    measurement is. `repeats` is how many of one column its job has (1 where it is left out): they repeat one another,
    and what a prediction is off by, so that together they count as one. `within` has that in it.
    """

    slopes: np.ndarray
    away: np.ndarray
    within: np.ndarray
    priors: np.ndarray
    runs: np.ndarray
    repeats: np.ndarray | float = 1.0

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
        """What each measurement is off by after a fit to the other jobs."""
        found = self.away.copy()
        for run in np.unique(self.runs):
            mine = self.runs == run
            found[mine] -= self.slopes[mine] @ self.solved(kept, self.away, ~mine)
        return found

    def as_spread(self, kept: np.ndarray) -> Linear:
        """The same with the spread of runs that these show.

        Its variance is the mean of that of other machines, with their degrees of freedom, and of what these are off by,
        less what factors take: of three runs that agree it is some three quarters of the former.
        """
        found, count = self, float(np.sum(np.ones(len(self.away)) / self.repeats))
        for _ in range(3):
            off = (self.away - self.slopes @ found.solved(kept, self.away)) / self.within
            told = float(np.trace(np.eye(int(kept.sum())) - found.posterior(kept) @ np.diag(self.priors[kept] ** -2.0)))
            more = (FREEDOM + float(off @ off)) / (FREEDOM + max(count - told, 0.0))
            found = replace(self, within=self.within * more**0.5)
        return found

    def scatter(self, kept: np.ndarray, rows: np.ndarray) -> float:
        """What `rows` of jobs that are left out are off by (sd of the log), drawn towards the spread of other machines.

        0 of fewer than `JUDGES` jobs. Absolute values, not squares: one run far off is no measure of the others.
        """
        count = len(np.unique(self.runs[rows]))
        if count < JUDGES:
            return 0.0
        off = MEAN * np.abs(self.left_out(kept)[rows]).mean()
        usual = (self.within**2 / self.repeats)[rows].mean()
        return float(((FREEDOM * usual + count * off**2) / (FREEDOM + count)) ** 0.5)


def linear_of(
    slopes: np.ndarray, away: np.ndarray, within: np.ndarray, priors: np.ndarray, runs: np.ndarray, columns: np.ndarray
) -> Linear:
    """The model of measurements of some columns, of which those of one column and job count once, however many ran."""
    repeats = ((runs[:, None] == runs[None, :]) & (columns[:, None] == columns[None, :])).sum(axis=1)
    return Linear(slopes, away, within * np.sqrt(repeats), priors, runs, repeats)


def chosen(linear: Linear, felt: np.ndarray) -> np.ndarray:
    """The factors that are kept, of those that jobs feel. From one job alone all are: nothing else can judge."""
    kept = felt.copy()
    count = len(np.unique(linear.runs))
    if count == 1:
        return kept
    score = _score(linear, kept)
    while kept.any():
        fewer = {i: _score(linear, _less(kept, int(i))) for i in np.flatnonzero(kept).tolist()}
        worst = min(fewer, key=lambda i: fewer[i])
        if fewer[worst] >= score - CHANCE and (count < JUDGES or nearer(linear, kept)):
            break
        kept, score = _less(kept, worst), fewer[worst]
    return kept


def nearer(linear: Linear, kept: np.ndarray) -> bool:
    """Whether a fit to the other jobs brings those that are left out nearer than none, beyond doubt."""
    gains = np.abs(linear.away / linear.within) - np.abs(linear.left_out(kept) / linear.within)
    by_job = np.array([gains[linear.runs == run].mean() for run in np.unique(linear.runs)])
    error = by_job.std(ddof=1) / len(by_job) ** 0.5
    return bool(by_job.mean() > DOUBT * error)


def _score(linear: Linear, kept: np.ndarray) -> float:
    """What runs that were left out are off by, squares in units of the spread of runs."""
    return float(np.sum((linear.left_out(kept) / linear.within) ** 2))


def _less(kept: np.ndarray, i: int) -> np.ndarray:
    """A set of factors less one."""
    fewer = kept.copy()
    fewer[i] = False
    return fewer
