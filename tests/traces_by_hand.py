"""Traces for tests, in the form that PyTorch's profiler writes, and some events of published ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

H100 = {"id": 0, "name": "NVIDIA H100 80GB HBM3", "totalGlobalMem": 85_045_280_768, "computeMajor": 9, "numSms": 132}


class Trace:
    """Events of one thread and one GPU; each operator is followed by its kernels."""

    def __init__(self, *devices: Mapping[str, Any]) -> None:
        self.devices = list(devices)
        self.events: list[dict[str, Any]] = []
        self.now, self.number = 1000.0, 0

    def operator(
        self, name: str, dims: Sequence[Any], types: Sequence[Any], *kernels: tuple[str, float],
        values: Sequence[str] = (), around: Sequence[tuple[str, Sequence[Any], Sequence[Any]]] = (),
    ) -> None:  # fmt: skip
        """An operator with the kernels (name, microseconds) that it launches, `around` it the operators it is in."""
        start, end = self.now, self.now + 20.0
        for depth, (outer, shape, kinds) in enumerate(around):
            self._cpu(outer, start + depth * 0.1, end - depth * 0.1, shape, kinds, ())
        self._cpu(name, start + 1, end - 1, dims, types, values)
        for i, (kernel, us) in enumerate(kernels):
            self.number += 1
            args = {"correlation": self.number, "External id": self.number + 1000}
            launch = {"cat": "cuda_runtime", "name": "cudaLaunchKernel", "pid": 1, "tid": 1, "args": args}
            self._add(launch, start + 2 + i, 1.0)
            cat = "gpu_memcpy" if kernel.startswith("Memcpy") else "kernel"
            run = {"cat": cat, "name": kernel, "pid": 0, "tid": 7}
            self._add({**run, "args": {**args, "device": 0, "stream": 7}}, end + 100 * i, us)
        self.now = end + 1000

    def kernel(self, name: str, us: float, **args: Any) -> None:
        """A kernel that no operator is known of."""
        run = {"cat": "kernel", "name": name, "pid": 0, "tid": 7, "args": {"device": 0, "stream": 7, **args}}
        self._add(run, self.now, us)
        self.now += us

    def _cpu(
        self, name: str, start: float, end: float, dims: Sequence[Any], types: Sequence[Any], values: Sequence[str]
    ) -> None:
        args = {"External id": len(self.events), "Input Dims": dims, "Input type": types}
        args |= {"Concrete Inputs": list(values)} if values else {}
        self._add({"cat": "cpu_op", "name": name, "pid": 1, "tid": 1, "args": args}, start, end - start)

    def _add(self, event: dict[str, Any], ts: float, us: float) -> None:
        self.events.append({"ph": "X", **event, "ts": ts, "dur": us})

    def data(self) -> dict[str, Any]:
        """The trace as the profiler writes it."""
        return {"schemaVersion": 1, "deviceProperties": self.devices, "traceEvents": self.events}

    def write(self, file: Path) -> Path:
        """Write it."""
        file.write_text(json.dumps(self.data()))
        return file


BF16 = "c10::BFloat16"


def step() -> Trace:
    """A few operators of a layer, with times near those of an H100."""
    trace = Trace(H100)
    linear = ("aten::linear", [[4096, 4096], [16384, 4096], []], [BF16, BF16, ""])
    for us in (860.0, 880.0, 870.0):
        trace.operator(
            "aten::mm", [[4096, 4096], [4096, 16384]], [BF16, BF16], ("nvjet_hsh_128x256", us), around=[linear]
        )
    shape = [2, 32, 4096, 128]
    whole = ("aten::scaled_dot_product_attention", [shape, shape, shape], [BF16] * 3)
    flash = ("aten::_scaled_dot_product_flash_attention", [shape, shape, shape], [BF16] * 3)
    inner = [2, 4096, 32, 128]
    trace.operator(
        "aten::_flash_attention_forward", [inner, inner, inner], [BF16] * 3, ("flash_fwd_kernel", 900.0),
        around=[whole, flash],
    )  # fmt: skip
    trace.operator(
        "aten::add_", [[8192, 4096], [8192, 4096], []], [BF16, BF16, "Scalar"], ("vectorized_elementwise", 80.0)
    )
    trace.operator("aten::copy_", [[8192, 4096], [8192, 4096], []], ["float", BF16, "Scalar"], ("copy", 90.0))
    trace.operator("aten::magic", [[8, 8]], [BF16], ("magic_kernel", 5.0))
    trace.operator("aten::copy_", [[64], [64], []], ["long int", "long int", "Scalar"], ("Memcpy HtoD", 3.0))
    trace.kernel("lonely", 7.0)
    args = {"Collective name": "allreduce", "In msg nelems": 1 << 24, "Out msg nelems": 1 << 24, "Group size": 8,
            "dtype": "BFloat16"}  # fmt: skip
    trace.kernel("ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)", 200.0, **args)
    return trace
