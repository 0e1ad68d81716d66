"""The place where the work of a command runs: on the cores of this machine, or on a Dask cluster."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from simgpu.errors import InputError, shown
from simgpu.study.pools.pool import Pool, Setup


@dataclass(frozen=True)
class Where:
    """The place where work runs. Raises `InputError` for two at once.

    It is `jobs` processes of this machine (None: one for each core), a Dask cluster at the address `scheduler`, or a
    new one of `dask_workers` processes.
    """

    jobs: int | None = None
    scheduler: str | None = None
    dask_workers: int | None = None

    def __post_init__(self) -> None:
        given = {"--jobs": self.jobs, "--scheduler": self.scheduler, "--dask-workers": self.dask_workers}
        both = [name for name, value in given.items() if value is not None]
        if len(both) > 1:
            raise InputError(f"{' and '.join(both)} exclude each other: they say where scenarios run", key=both[0])
        if self.scheduler is not None and not re.fullmatch(r"[a-z+]+://\S+:\d+", self.scheduler):
            problem = f"{shown(self.scheduler)} is not the address of a scheduler, such as tcp://host:8786"
            raise InputError(problem, key="--scheduler")
        for name, number in (("--jobs", self.jobs), ("--dask-workers", self.dask_workers)):
            if number is not None and (not isinstance(number, int) or isinstance(number, bool) or number < 1):
                raise InputError(f"{shown(number)} is not a whole number above zero", key=name)

    @property
    def on_dask(self) -> bool:
        """True if a Dask cluster runs it."""
        return self.scheduler is not None or self.dask_workers is not None

    @property
    def processes(self) -> int:
        """Processes of this machine to use."""
        return self.jobs or cores()

    def pool(self, setup: Setup, most: int | None = None) -> Pool:
        """The workers, no more than `most` where they are processes of this machine."""
        if self.on_dask:
            from simgpu.study.pools.dask_pool import DaskPool

            return DaskPool(setup, self.scheduler, self.dask_workers or 0)
        from simgpu.study.pools.processes import ProcessPool

        return ProcessPool(setup, min(self.processes, most or self.processes))


HERE = Where()
"""All cores of this machine."""


def cores() -> int:
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1
