"""Matrix multiplications of AIConfigurator: y[m, n] = x[m, k] W[n, k]^T on A100, H100 and L40S.

How it was measured: SGLang's collector. bfloat16 is torch's F.linear; fp8, fp8_block and nvfp4 include the quantisation
of x, a second kernel. A CUDA graph of up to six copies of x and W, mean of six replays.

Traps: fp8_block rows of Blackwell were measured again, at 0.62 of the time (`gemm_by_engine`), and are left out. Small
weights stay in L2, for all copies together are smaller than it. Bursts of 36 calls throttle less than a sustained run.
`latency_trtllm_s` is a second collector's time of the same shape: the noise of the data.
"""

from __future__ import annotations

from collections.abc import Iterator

from simgpu.hardware.inherit import DEFAULT
from simgpu.lab.validation.adapters.gemm import LIBRARIES, matmul
from simgpu.lab.validation.batches import Adapter, Machine, Part, Unpredicted
from simgpu.lab.validation.source import Reason, Source
from simgpu.lab.validation.tables import Columns, Rows, Table
from simgpu.timing.gemm import GemmWork

COPIES = 6.0
"""Copies of the operands that the collector uses in turn in one CUDA graph."""

SUPERSEDED = ("blackwell", "blackwell-ultra")
"""Architectures whose fp8_block rows their authors measured again."""

COLUMNS = Columns(
    positive=("m", "n", "k", "latency_s"),
    words=("gpu", "dtype"),
    optional=("suspicious", "latency_trtllm_s", "kernel_source"),
)


def linear(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    """y[m, n] = x[m, k] W[n, k]^T as inference servers run it; narrow types with the quantisation of x."""
    for (dtype,), at in table.split(rows, "dtype"):
        if dtype == "fp8_block" and machine.architecture in SUPERSEDED:
            yield Unpredicted("gemm", at, "measured again by the same authors, see gemm_by_engine", left_out=True)
            continue
        work = GemmWork(*(table.number(name, at) for name in "mnk"))
        library = LIBRARIES.get(dtype, DEFAULT)
        yield matmul(machine, at, dtype, work, library=library, rotation=COPIES)


SOURCE = Source(
    "https://github.com/ai-dynamo/aiconfigurator at 095f58a51c4c, Apache-2.0: "
    "systems/data/<system>/gemm/sglang/{0.5.10,0.5.14}/gemm_perf.parquet",
    [Adapter("kernels", COLUMNS, linear)],
    reasons=(
        Reason(
            "cuBLAS takes a kernel without split-k for a tiny output over a long k, as its neighbours in m show",
            "gemm",
            where=lambda n: n["n"] <= 256 and n["k"] >= 1024,
        ),
    ),
)
