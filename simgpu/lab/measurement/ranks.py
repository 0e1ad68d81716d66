"""Processes that run collectives together, one for each GPU, and time them as nccl-tests does.

Sizes are those of nccl-tests: the buffer of a rank for all-reduce and all-to-all, the gathered output of a rank for
all-gather, its input for reduce-scatter.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import closing, suppress
from importlib import import_module
from typing import Any

from simgpu.lab.measurement.backend import MeasurementError

WARM_UP = 5
SAMPLE_S = 0.02
MOST = 100
"""Executions in a sample, at most."""
PATIENCE_S = 120.0
"""After this long without an answer the ranks are taken for stuck."""


class Ranks:
    """`count` processes that wait for collectives to run. `transport` is nccl, or gloo on processors (tests)."""

    def __init__(self, count: int, transport: str = "nccl") -> None:
        self.count = count
        context = import_module("torch.multiprocessing").get_context("spawn")
        address = f"tcp://127.0.0.1:{_free_port()}"
        self._pipes, self._processes = [], []
        for rank in range(count):
            here, there = context.Pipe()
            process = context.Process(target=_rank, args=(rank, count, transport, address, there), daemon=True)
            process.start()
            there.close()
            self._pipes.append(here)
            self._processes.append(process)

    def run(self, collective: str, size: int) -> float:
        """Seconds of one execution of `size` bytes, of the slowest rank. Raises `MeasurementError`."""
        try:
            for pipe in self._pipes:
                pipe.send((collective, size))
            answers = [self._answer(pipe) for pipe in self._pipes]
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self.close()
            raise MeasurementError("a rank ended; NCCL_DEBUG=WARN may say why") from None
        wrong = next((answer for answer in answers if isinstance(answer, str)), None)
        if wrong is not None:
            raise MeasurementError(wrong)
        return float(max(answers))

    def _answer(self, pipe: Any) -> Any:
        if not pipe.poll(PATIENCE_S):
            self.close()
            raise MeasurementError(f"no answer from a rank in {PATIENCE_S:g} s")
        return pipe.recv()

    def close(self) -> None:
        """End the processes."""
        for pipe in self._pipes:
            with suppress(OSError):
                pipe.send(None)
                pipe.close()
        for process in self._processes:
            process.join(5)
            if process.is_alive():
                process.terminate()
                process.join(5)
        self._pipes, self._processes = [], []


def _free_port() -> int:
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


# ---- in each process -----------------------------------------------------------------------------------


def _rank(rank: int, count: int, transport: str, address: str, pipe: Any) -> None:
    """Join the others, then run the calls that come through the pipe until none does."""
    torch, distributed = import_module("torch"), import_module("torch.distributed")
    device = "cpu"
    if transport == "nccl":
        torch.cuda.set_device(rank)
        device = f"cuda:{rank}"
    with suppress(KeyboardInterrupt):
        distributed.init_process_group(transport, init_method=address, rank=rank, world_size=count)
        while (call := _next(pipe)) is not None:
            try:
                pipe.send(_timed(torch, distributed, device, count, *call))
            except RuntimeError as error:
                pipe.send(str(error).strip().splitlines()[0])
        distributed.destroy_process_group()


def _next(pipe: Any) -> Any:
    try:
        return pipe.recv()
    except EOFError:
        return None


def _timed(torch: Any, distributed: Any, device: str, count: int, collective: str, size: int) -> float:
    """Mean seconds of an execution on this rank."""
    call = call_of(torch, distributed, device, count, collective, size)
    for _ in range(WARM_UP):
        call()
    _wait(torch, device)
    once = _mean(torch, distributed, device, call, 3)
    times = torch.tensor([max(3, min(MOST, round(SAMPLE_S / once)))], device=device)
    distributed.all_reduce(times, op=distributed.ReduceOp.MIN)  # all ranks run it as often
    return _mean(torch, distributed, device, call, int(times.item()))


def call_of(torch: Any, distributed: Any, device: str, count: int, collective: str, size: int) -> Callable[[], Any]:
    """The collective over buffers of `size` bytes of float16."""
    elements = max(size // 2 // count, 1) * count
    whole = torch.ones(elements, dtype=torch.float16, device=device)
    part = torch.ones(elements // count, dtype=torch.float16, device=device)
    if collective == "all_reduce":
        return lambda: distributed.all_reduce(whole)
    if collective == "all_gather":
        return lambda: distributed.all_gather_into_tensor(whole, part)
    if collective == "reduce_scatter":
        return lambda: distributed.reduce_scatter_tensor(part, whole)
    if collective == "alltoall":
        other = torch.empty_like(whole)
        return lambda: distributed.all_to_all_single(other, whole)
    raise RuntimeError(f"unknown collective '{collective}'")


def _mean(torch: Any, distributed: Any, device: str, call: Callable[[], Any], times: int) -> float:
    distributed.barrier()
    if device == "cpu":
        begin = time.perf_counter()
        for _ in range(times):
            call()
        return (time.perf_counter() - begin) / times
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(times):
        call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) * 1e-3 / times


def _wait(torch: Any, device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()
