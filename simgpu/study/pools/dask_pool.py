"""Workers of a Dask cluster: of this machine (`--dask-workers N`), or of many, reached at a scheduler's address.

Dask gives tasks of a worker that died to another one; what comes back twice is written once, under its key. Only the
process of the command writes the store.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from typing import Any

from simgpu.errors import InputError
from simgpu.study.pools.pool import Answer, Setup
from simgpu.study.pools.versions import versions

CONNECT_SECONDS = 20
CLOSE_SECONDS = 5


class DaskPool:
    """Workers of a cluster, which may come and go."""

    patience = 2
    """Times that a task may be given up by Dask (after it killed several workers) before it counts as failed."""

    def __init__(self, setup: Setup, scheduler: str | None = None, workers: int = 0) -> None:
        distributed = _distributed()
        self.setup = setup
        self._cluster = None
        self._pending: dict[Any, Sequence[Any]] = {}
        self._capacity = 1
        for name in ("distributed", "distributed.client"):  # their news about lost workers are ours to tell
            logging.getLogger(name).setLevel(logging.CRITICAL)
        if scheduler is not None:
            _greet(scheduler)
        try:
            if scheduler is None:
                self._cluster = distributed.LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    processes=True,
                    dashboard_address=None,
                    silence_logs=logging.CRITICAL,
                )
            self._client = distributed.Client(self._cluster or scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError, TimeoutError) as error:
            if self._cluster is not None:
                self._cluster.close()
            raise _unreachable(scheduler, error) from None
        self._check_versions()

    @property
    def capacity(self) -> int:
        """Two groups of tasks for each thread, so that none waits; at least one, for workers to come."""
        return self._capacity

    @property
    def busy(self) -> int:
        """The number of groups of tasks that are under way."""
        return len(self._pending)

    def submit(self, tasks: Sequence[Any]) -> None:
        """Hand tasks to the cluster."""
        with _still_there():
            future = self._client.submit(_run, self.setup, list(tasks), versions(), pure=False)
        self._pending[future] = tasks

    def answers(self, seconds: float) -> list[Answer]:
        """Answers that are finished, after waiting for at most `seconds`."""
        distributed = _distributed()
        with _still_there():
            self._capacity = max(2 * sum(self._client.nthreads().values()), 1)
            if not self._pending:
                return []
            try:
                with self._client.as_current():
                    done = distributed.wait(list(self._pending), timeout=seconds, return_when="FIRST_COMPLETED").done
            except TimeoutError:
                done = {future for future in self._pending if future.done()}
            return [self._answer(future) for future in done]

    def _answer(self, future: Any) -> Answer:
        from distributed.scheduler import KilledWorker

        tasks = self._pending.pop(future)
        try:
            answers: Sequence[Any] = future.result()
            return tasks, answers, ""
        except KilledWorker:
            return tasks, None, "died with several workers of the cluster"
        finally:
            future.release()

    def _check_versions(self) -> None:
        """Raise `InputError`, before anything runs, for workers with another version of simgpu."""
        try:
            with _still_there():
                theirs = self._client.run(versions)
        except ImportError as error:
            self.close()
            raise InputError(f"workers cannot import simgpu ({error}); install it there", key="--scheduler") from None
        for address, there in theirs.items():
            if there != versions():
                self.close()
                mine, other = (f"{version} (code {code})" for version, code in (versions(), there))
                raise InputError(f"the worker at {address} has simgpu {other}, here is {mine}", key="--scheduler")

    def close(self) -> None:
        """Take back pending work, and leave the cluster; one that was made here ends."""
        with suppress(OSError, CancelledError, RuntimeError):  # of a scheduler that has gone there is nothing to take
            self._client.cancel(list(self._pending))
        self._pending.clear()
        with suppress(OSError, CancelledError, RuntimeError):
            self._client.close(timeout=CLOSE_SECONDS)
        if self._cluster is not None:
            self._cluster.close()


@contextmanager
def _still_there() -> Iterator[None]:
    """A context in which a lost scheduler is one line, whatever Dask was doing."""
    try:
        yield
    except (OSError, CancelledError, RuntimeError):  # of Dask: connections, futures, its closed loop
        gone = "the scheduler of the cluster has gone; what is finished is kept, the same command goes on from there"
        raise InputError(gone, key="--scheduler") from None


def _greet(address: str) -> None:
    """Ask for the name of the scheduler at an address: a client that meets none there cannot even be closed.

    Raises `InputError`.
    """
    import asyncio

    distributed = _distributed()

    async def ask() -> Any:
        arguments = distributed.Security().get_connection_args("client")
        async with distributed.rpc(address, connection_args=arguments) as server:
            return await server.identity()

    async def ask_in_time() -> Any:
        return await asyncio.wait_for(ask(), CONNECT_SECONDS)

    try:
        name = asyncio.run(ask_in_time())
    except TimeoutError:
        raise _unreachable(address, f"no answer for {CONNECT_SECONDS:g} s") from None
    except (Exception, MemoryError) as error:  # whatever a stranger's bytes make of the reader
        raise _unreachable(address, error) from None
    if not isinstance(name, dict) or name.get("type") != "Scheduler":
        raise _unreachable(address, "it is not a Dask scheduler")


def _unreachable(scheduler: str | None, reason: object) -> InputError:
    first = str(reason).split("\n")[0][:200] or type(reason).__name__
    return InputError(f"{scheduler!r} cannot be reached ({first})", key="--scheduler")


def _run(setup: Setup, tasks: Sequence[Any], wanted: tuple[str, str]) -> Sequence[Any]:
    """Run tasks on a worker, which may have come after the others were asked for their version."""
    if versions() != wanted:
        raise InputError(
            f"a worker has simgpu {versions()}, this command {wanted}; install the same", key="--scheduler"
        )
    return setup.run(tasks)


def _distributed() -> Any:
    try:
        import distributed
    except ImportError:
        raise InputError("needs Dask: pip install 'simgpu[dask]'", key="--scheduler, --dask-workers") from None
    return distributed
