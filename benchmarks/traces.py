"""Reading a large trace of PyTorch's profiler beside `json.load` of the same file: seconds of CPU, and memory.

`python benchmarks/traces.py 200` makes a trace of 200 MB with six frames of Python around each operator, as
`with_stack` records them.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FRAMES = 6
SHAPES = {
    "aten::mm": ([[4096, 4096], [4096, 16384]], ["c10::BFloat16", "c10::BFloat16"]),
    "aten::mul": ([[4096, 16384], []], ["c10::BFloat16", "double"]),
}
HEAD = {"schemaVersion": 1, "deviceProperties": [{"id": 0, "name": "NVIDIA H100 80GB HBM3", "numSms": 132}]}


def operator(number: int, name: str) -> Iterator[dict[str, Any]]:
    """Events of an operator: frames around it, itself, its launch, its kernel, the arrow between these."""
    at, host, gpu = 1e9 + 45.0 * number, {"pid": 100, "tid": 100}, {"pid": 0, "tid": 7}
    for i in range(FRAMES):
        args: dict[str, Any] = {"Python parent id": number, "Python id": number + 1, "Ev Idx": number}
        called = {"ph": "X", "cat": "python_function", "name": "torch/nn/modules/module.py(1553): _call_impl"}
        yield {**called, **host, "ts": at + 0.1 * i, "dur": 30.0 - 0.2 * i, "args": args}
    dims, types = SHAPES[name]
    args = {"External id": number, "Record function id": 0, "Concrete Inputs": ["", ""], "Input type": types,
            "Input Strides": [[4096, 1], [1, 4096]], "Input Dims": dims, "Ev Idx": number}  # fmt: skip
    yield {"ph": "X", "cat": "cpu_op", "name": name, **host, "ts": at + 1, "dur": 20.5, "args": args}
    args = {"External id": number, "cbid": 211, "correlation": number}
    yield {"ph": "X", "cat": "cuda_runtime", "name": "cudaLaunchKernel", **host, "ts": at + 3, "dur": 4.5, "args": args}
    arrow = {"id": number, "cat": "ac2g", "name": "ac2g"}
    yield {"ph": "s", **arrow, **host, "ts": at + 3}
    args = {"External id": number, "queued": 0, "device": 0, "context": 1, "stream": 7, "correlation": number,
            "registers per thread": 168, "shared memory": 213248, "blocks per SM": 1.0, "warps per SM": 12.0,
            "grid": [132, 1, 1], "block": [384, 1, 1], "est. achieved occupancy %": 19}  # fmt: skip
    yield {"ph": "X", "cat": "kernel", "name": "nvjet_hsh_128x256", **gpu, "ts": at + 30, "dur": 12.5, "args": args}
    yield {"ph": "f", **arrow, **gpu, "ts": at + 30, "bp": "e"}


def write(file: Path, size: float) -> None:
    """A trace of so many bytes."""
    with file.open("w") as out:
        out.write(json.dumps(HEAD)[:-1] + ', "traceEvents": [\n')
        number, written, names = 1, 0, list(SHAPES)
        while written < size:
            text = ",\n".join(json.dumps(one) for one in operator(number, names[number % len(names)]))
            out.write((",\n" if number > 1 else "") + text)
            number, written = number + 1, written + len(text)
        out.write("\n]}\n")


def measured(code: str, file: Path) -> tuple[float, float]:
    """Seconds of the processor and peak memory, GB, of some code in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--run", code, str(file)], check=True, capture_output=True, text=True
    )
    seconds, memory = done.stdout.split()[-2:]
    return float(seconds), float(memory)


def run(code: str, file: Path) -> None:
    """One of the ways, in this process."""
    if code == "json":
        start = time.process_time()
        with file.open() as stream:
            json.load(stream)
    else:
        from simgpu.lab.traces.command import read
        from simgpu.trace_events import uncollected

        start = time.process_time()
        with uncollected():
            read(file)
    print(time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)


def main(megabytes: float) -> None:
    """Print both ways and their ratios."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "trace.json")
        write(file, megabytes * 1e6)
        whole, ours = measured("json", file), measured("simgpu", file)
        print(f"{megabytes:g} MB          s of CPU   GB")
        for name, (seconds, memory) in (("json.load", whole), ("simgpu, records", ours)):
            print(f"{name:16} {seconds:8.1f} {memory:6.2f}")
        print(f"{'ratio':16} {ours[0] / whole[0]:8.2f} {ours[1] / whole[1]:6.2f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        run(sys.argv[2], Path(sys.argv[3]))
    else:
        main(float(sys.argv[1]) if len(sys.argv) > 1 else 200.0)
