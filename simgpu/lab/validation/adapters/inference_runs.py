"""What a row of a table of whole inference runs says: a model, a precision, a plan, a runtime, a load, and a time.

Nothing here is fitted. What a table spells out differently from simgpu, its own module translates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from simgpu.lab.validation.adapters.reader import Reader
from simgpu.model.config import TransformerConfig
from simgpu.plan.parallelism import Plan
from simgpu.workload.runtime_files import runtime
from simgpu.workload.runtimes import SPLIT

DECODE, PREFILL, TTFT, TPOT, E2E = "decode", "prefill", "ttft", "tpot", "e2e"
OPERATIONS = (DECODE, PREFILL, TTFT, TPOT, E2E)
"""What is measured of whole runs."""


@dataclass(frozen=True)
class Engine:
    """A deployment of a row: names of the catalogue and of runtimes."""

    config: TransformerConfig
    plan: Plan
    precision: str
    runtime: str
    dtype: str
    kv_dtype: str = ""
    per_node: int = 8
    link: str = ""
    network: str = ""
    chunk: int = 0  # new tokens of a step at most; 0: as the runtime has it
    sequences: int = 0  # requests at a time at most; 0: as the runtime has it
    generates: bool = False  # of PyTorch: runs of generate(), not bare forwards
    experts: str = ""  # the library of experts that a run chose; empty: as the runtime has it

    @property
    def caveat(self) -> str:
        """Runs whose errors are a class of their own."""
        return SPLIT if runtime(self.runtime).style == "ggml" and self.plan.pp > 1 else ""


@dataclass(frozen=True)
class MeasuredRun:
    """A quantity of a row: `op`, what was measured (s), the load: `batch` sequences of `prompt` and `output` tokens.

    `served` is a load test at a fixed concurrency, or, if there is a `rate`, of so many requests/s; `apart` one whose
    prefill runs on other GPUs; else one batch. `cached` tokens of each prompt are in the cache.
    """

    op: str
    engine: Engine
    measured: float
    batch: int
    prompt: int
    output: int
    served: bool = False
    rate: float = 0.0
    cached: int = 0
    apart: Engine | None = None
    instances: tuple[int, int] = (1, 1)  # engines of prefill and of decode, where they are apart
    dtype: str = ""  # as the table spells it
    caveat: str = ""
    drawn: bool = False  # lengths are drawn, and the ones here are means
    waves: float = 0.0  # requests of each client, where that is known
    front: float = 0.0  # seconds of a request in the load generator and before the engine, beside the runtime's


Translate = Callable[[Reader], "Iterable[MeasuredRun | str]"]
"""What a row says: quantities to predict, or in words why there is no prediction."""
