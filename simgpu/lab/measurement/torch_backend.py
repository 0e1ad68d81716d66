"""Timing on a CUDA GPU with PyTorch: CUDA graphs of cold operands, replayed between two events.

This could be tried on no GPU: the parts that need none are tested (the operations on the processor, ranks over gloo),
and the logic around it with a backend of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

from simgpu.errors import InputError
from simgpu.lab.calibration.kinds import COPY, READ_ROWS, SUSTAINED
from simgpu.lab.measurement.backend import Device, MeasurementError, Operation
from simgpu.lab.measurement.ranks import Ranks

Call = Callable[[], Any]

CALLS = 24
"""Executions in a graph, at least; with more copies of the operands, one for each."""
SAMPLE_S = 4e-3
"""A sample replays the graph for about this long: short enough for a burst, long enough for the clock of events."""
PAUSE_S = 0.03
"""Rest before each burst, so that one does not throttle the next."""
SUSTAIN_S = 3.0
"""Seconds that a sustained run goes on before it is timed."""
INSTALL = "pip install 'simgpu[measure]'"
WARM_UP = 3


def torch_with_gpu() -> Any:
    """The module `torch`, on a machine with a GPU that it can use. Raises `InputError` with what to do."""
    try:
        torch = import_module("torch")
    except ImportError:
        raise InputError(f"measuring needs PyTorch, which is not installed: {INSTALL}") from None
    except OSError as error:  # a library of CUDA that does not load
        raise InputError(f"PyTorch does not load ({error}); try: {INSTALL}") from None
    if not torch.cuda.is_available():
        built = "is built for CUDA but finds no GPU" if torch.version.cuda or torch.version.hip else "has no CUDA in it"
        raise InputError(
            f"measuring needs a GPU; PyTorch {torch.__version__} {built}. On a machine with one: {INSTALL}"
        )
    return torch


class TorchBackend:
    """The GPUs of this machine; one operation is kept ready, so that its samples cost no preparation."""

    def __init__(self) -> None:
        self.torch = torch_with_gpu()
        self._ready: tuple[Operation, Call, int] | None = None  # replay, executions in it
        self._replays = 1
        self._ranks: Ranks | None = None

    def device(self) -> Device:
        """The GPUs of this machine."""
        torch = self.torch
        properties = torch.cuda.get_device_properties(0)
        tool = f"torch {torch.__version__}, CUDA {torch.version.cuda or torch.version.hip}"
        return Device(
            name=str(properties.name),
            sm_count=int(properties.multi_processor_count),
            memory_bytes=int(properties.total_memory),
            l2_bytes=int(getattr(properties, "L2_cache_size", 0) or 50 * 2**20),
            count=int(torch.cuda.device_count()),
            tool=tool,
        )

    def run(self, operation: Operation) -> float:
        """Seconds of one execution, after warm-up, as one sample. Raises `MeasurementError`."""
        if operation.what == "nccl":
            return self._collective(operation)
        if self._ready is None or self._ready[0] != operation:
            self._prepare(operation)
        assert self._ready is not None
        _, replay, executions = self._ready
        if operation.word("regime") != SUSTAINED:
            time.sleep(PAUSE_S)
        return self._timed(replay, self._replays) / executions

    def close(self) -> None:
        """Give back the memory of the last operations."""
        self._ready = None
        if self._ranks is not None:
            self._ranks.close()
            self._ranks = None

    # ---- one GPU ---------------------------------------------------------------------------------------

    def _prepare(self, operation: Operation) -> None:
        """Operands, a graph of executions over all copies, and how often it fits a sample."""
        torch = self.torch
        self._ready = None
        torch.cuda.empty_cache()
        try:
            with torch.inference_mode():
                calls = calls_of(torch, operation, "cuda")
                calls = calls * -(-CALLS // len(calls))
                replay = self._graph(calls)
        except torch.cuda.OutOfMemoryError:
            raise MeasurementError("out of GPU memory") from None
        except RuntimeError as error:  # no kernel for this shape, type or GPU
            raise MeasurementError(str(error).strip().splitlines()[0]) from None
        once = self._timed(replay, 1)
        if operation.word("regime") == SUSTAINED:
            until = time.monotonic() + SUSTAIN_S
            while time.monotonic() < until:
                self._timed(replay, max(1, int(0.1 / once)))
        self._replays = max(1, round(SAMPLE_S / once))
        self._ready = (operation, replay, len(calls))

    def _graph(self, calls: list[Call]) -> Call:
        """A CUDA graph of the calls, warmed up."""
        torch = self.torch
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for call in calls[:WARM_UP]:
                call()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for call in calls:
                call()
        for _ in range(WARM_UP):
            graph.replay()
        torch.cuda.synchronize()
        replay: Call = graph.replay
        return replay

    def _timed(self, replay: Call, times: int) -> float:
        """Seconds of one replay, as the mean over some of them, by the GPU's clock."""
        torch = self.torch
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(times):
            replay()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) * 1e-3 / times

    # ---- several GPUs ----------------------------------------------------------------------------------

    def _collective(self, operation: Operation) -> float:
        count = operation.number("num_gpus")
        if self._ranks is not None and self._ranks.count != count:
            self._ranks.close()
            self._ranks = None
        if self._ranks is None:
            self._ready = None
            self.torch.cuda.empty_cache()
            self._ranks = Ranks(count)
        return self._ranks.run(operation.word("collective"), operation.number("message_bytes"))


# ---- what an operation calls -----------------------------------------------------------------------------


def calls_of(torch: Any, operation: Operation, device: str) -> list[Call]:
    """The calls to execute in turn: one for each copy of the operands."""
    if operation.what in ("stream", "l2"):
        return [_stream(torch, operation, device)]
    if operation.what == "gemm":
        return [_product(torch, operation, device) for _ in range(operation.number("rotation"))]
    if operation.what == "attention":
        return [_attention(torch, operation, device)]
    raise MeasurementError(f"'{operation.what}' is nothing that this can measure")


def _stream(torch: Any, operation: Operation, device: str) -> Call:
    size = operation.number("bytes")
    if operation.word("op") == COPY:
        source = torch.zeros(size, dtype=torch.uint8, device=device).random_(0, 255)
        target = torch.empty_like(source)
        return lambda: target.copy_(source)
    rows = torch.randn(int(READ_ROWS), size // 4 // int(READ_ROWS), dtype=torch.float32, device=device)
    sums = torch.empty(int(READ_ROWS), dtype=torch.float32, device=device)
    return lambda: torch.sum(rows, dim=1, out=sums)


def _product(torch: Any, operation: Operation, device: str) -> Call:
    """A product x[m, k] W[n, k]^T of normal random numbers: the data decides on the power that it takes."""
    dtype = operation.word("dtype")
    torch.backends.cuda.matmul.allow_tf32 = dtype == "tfloat32"
    kind = torch.float32 if dtype in ("tfloat32", "float32") else getattr(torch, dtype)
    m, n, k = (operation.number(name) for name in "mnk")
    x = torch.randn(m, k, dtype=torch.float32, device=device).to(kind)
    w = torch.randn(n, k, dtype=torch.float32, device=device).to(kind)
    y = torch.empty(m, n, dtype=kind, device=device)
    return lambda: torch.mm(x, w.t(), out=y)


def _attention(torch: Any, operation: Operation, device: str) -> Call:
    """Causal attention of new queries at the end of the keys; with one query, all keys are seen."""
    kind = getattr(torch, operation.word("attn_dtype"))
    batch, heads, kv = (operation.number(name) for name in ("batch_size", "num_heads", "num_kv_heads"))
    queries, dim = operation.number("q_len"), operation.number("head_dim")
    keys = queries + operation.number("past_kv_len", 0)
    if 1 < queries < keys:
        raise MeasurementError("PyTorch aligns the causal mask of a chunk with its first key")
    q = torch.randn(batch, heads, queries, dim, device=device, dtype=kind)
    k, v = (torch.randn(batch, kv, keys, dim, device=device, dtype=kind) for _ in range(2))
    attend = torch.nn.functional.scaled_dot_product_attention
    backends = import_module("torch.nn.attention")

    def call() -> Any:
        with backends.sdpa_kernel([backends.SDPBackend.FLASH_ATTENTION]):
            return attend(q, k, v, is_causal=queries > 1, enable_gqa=heads != kv)

    return call
