"""What the timing is to reach: classes of operators, errors aimed at, and the best known beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from simgpu.lab.validation.run import Scored

Errors = tuple[float, float, float]
"""Median, mean and P90 of |predicted / measured - 1|, percent."""


@dataclass(frozen=True)
class Goal:
    """A class of rows: `takes` says which batches, `where` which of their rows.

    `measured` are the errors aimed at by GPU ('' for all) where its own constants are used, `stranger` those of a GPU
    from its datasheet and family alone. `known` is the best that others published.
    """

    title: str
    takes: Callable[[Scored], bool]
    where: Callable[[Scored], np.ndarray]
    measured: Mapping[str, Errors]
    stranger: Errors
    known: str
    stranger_where: Callable[[Scored], np.ndarray] | None = None  # where less is asked of a stranger
    missed: str = ""  # why it is missed where it is, and what was tried


def _every(part: Scored) -> np.ndarray:
    return np.ones(len(part.measured), bool)


def _useful(part: Scored) -> np.ndarray:
    n, k = (part.table.number(name, part.batch.rows) for name in "nk")
    return np.minimum(n, k) >= 1024


def _long(part: Scored) -> np.ndarray:
    return part.measured >= 50e-6


def _large(part: Scored) -> np.ndarray:
    return part.table.number("message_bytes", part.batch.rows) >= 8e6


def _is(source: str, *dtypes: str) -> Callable[[Scored], bool]:
    return lambda part: part.source == source and (not dtypes or part.batch.dtype in dtypes)


def _link(*gpus: str) -> Callable[[Scored], bool]:
    """Tables of collectives in one node, of GPUs behind NVSwitch or of others."""
    tables = ("aic_nccl", "aic_custom_allreduce")
    return lambda part: part.source in tables[: 1 if "l40s" not in gpus else 2] and part.gpu in gpus


GOALS = (
    Goal(
        "GEMM bf16, n, k >= 1024",
        _is("aic_gemm", "bfloat16"),
        _useful,
        {"a100-sxm-80gb": (4, 5, 11), "h100-sxm": (4, 5, 11), "l40s": (7, 10, 22)},
        (10, 13, 27),
        "study 4/5.6/12, L40S 8.4/11.5/24",
        missed="Within two points of the noise of the data. A stranger is far off on Hopper alone, whose "
        "asynchronous matrix instructions take 189 clocks for a step where per-warp ones take 490; from the "
        "datasheet that cannot be told.",
    ),
    Goal(
        "GEMM bf16, all shapes",
        _is("aic_gemm", "bfloat16"),
        _every,
        {"a100-sxm-80gb": (5, 7, 16), "h100-sxm": (4, 6, 13), "l40s": (8, 11, 25)},
        (14, 18, 40),
        "AIC 3.9-6.3/7.3-9.4",
        missed="Nearly as close as a second measurement is (see the noise below). Tried without gain: tiles "
        "of 96 and 192, all eight constants of a GPU fitted freely (7.6, 6.4, 11.8 in the mean), a kernel "
        "of its own for one row, k padded to 32 or 64, bytes of the epilogue. What is left are cuBLAS' "
        "choices of kernels.",
    ),
    Goal(
        "GEMM fp8",
        _is("aic_gemm", "fp8", "fp8_block"),
        _every,
        {"": (6, 9, 20)},
        (15, 20, 45),
        "AIC 4.9-6.6/8.3-9.6; study 8.7/12",
        missed="On the L40S the CUTLASS kernels of sgl-kernel pick tiles by a table of m and n that physics does "
        "not give: m = 512 takes 1.5 times as long as m = 513. Tried: five sets of tiles, a start-up time "
        "of tiles, no split of k (which took a third off), a floor of rows.",
    ),
    Goal(
        "attention prefill, >= 50 us",
        _is("aic_context_attention"),
        _long,
        {"": (3, 6, 14)},
        (12, 16, 36),
        "AIC 3-6/5-7.5",
        missed="FlashAttention 3 with heads of 128 reaches 4.7 / 5.9 / 11 and FlashInfer 6.2 / 8.0 / 17; the rest "
        "are Triton kernels (heads of 64, 192 and 512, windows), which walk tiles outside the window and "
        "have no warp-group instructions. On H100 equal work scatters by 4 to 6 %, which no column of the "
        "table explains.",
    ),
    Goal(
        "attention decode",
        _is("aic_generation_attention"),
        _every,
        {"": (4, 6, 15)},
        (15, 20, 45),
        "AIC 3-8/7-16; study 3.5/6/14 on H100",
        missed="FlashInfer's plan of splits for groups below 4 and above 24, and Triton's for wide heads, step by "
        "up to a half at 5 to 15 us. FlashAttention's own plan is followed to the letter, which took the "
        "A100 from 6.8 to 5.6.",
    ),
    Goal(
        "NCCL over NVLink, 2, 4, 8 GPUs",
        _link("a100-sxm-80gb", "h100-sxm"),
        _every,
        {"": (3, 5, 12)},
        (8, 11, 25),
        "AIC 2-3/6-7; study 3-4/4-6",
        stranger_where=_large,
        missed="Over by tenths in the mean: all-to-all over 8 GPUs, where NCCL changes channels per peer between 4 "
        "and 16 MB, and the switch from LL128 to Simple, whose place moves between versions. A stranger of "
        "Hopper's kind misses NVLS, which nothing but Hopper has among what was measured.",
    ),
    Goal(
        "collectives over PCIe, healthy nodes",
        _link("l40s"),
        _every,
        {"": (6, 11, 30)},
        (20, 30, 60),
        "study 8/13/39",
    ),
    Goal(
        "grouped GEMM, MoE layer",
        _is("aic_moe"),
        _every,
        {"": (8, 12, 28)},
        (20, 28, 60),
        "none published",
        missed="The mean on H100 hangs on the one row in 25 that takes 3 to 12 times as long as its neighbours: "
        "the autotuner of TensorRT-LLM falls back to a slow kernel there. Routing by a power law is drawn "
        "at random in the collector, five draws a row; what one expert of few gets then varies by 20 %.",
    ),
)
"""AIC: AIConfigurator interpolating its own tables on shapes it has not seen. Study: a first model of about ten
constants for a GPU, fitted to the same tables. The three numbers are median / mean / P90 in percent."""


@dataclass(frozen=True)
class StepGoal:
    """A class of rows of whole steps, and the median, mean, P90 and largest error aimed at, percent (None: none)."""

    title: str
    origins: tuple[str, ...]  # how the name of the paper or page begins
    errors: tuple[float | None, float | None, float | None, float | None]
    known: str = ""
    gpu: str = ""
    part: str = ""
    dtypes: tuple[str, ...] = ()  # how the data type begins
    gpus: int = 0
    op: str = ""
    without: str = ""  # words at the beginning of a GPU's name that is not meant

    def takes(self, row: Mapping[str, Any]) -> bool:
        """Whether a row of `simgpu.lab.validation.steps.step_rows` is meant."""
        return (
            str(row["origin"]).startswith(self.origins)
            and row["part"] == self.part
            and str(row["gpu"]).startswith(self.gpu)
            and (not self.dtypes or str(row["dtype"]).startswith(self.dtypes))
            and self.gpus in (0, row["gpus"])
            and self.op in ("", row["op"])
            and not (self.without and str(row["gpu"]).startswith(self.without))
        )


_MPT = ("llmfoundry", "MosaicML")
_TITAN = ("torchtitan", "TorchTitan")
_KORTHIKANTI = ("korthikanti2022-table5", "Korthikanti et al. 2022, table 5")
_FIGURES = ("korthikanti2022-fig", "Korthikanti et al. 2022, figure")

TRAINING_GOALS = (
    StepGoal("MosaicML MPT, A100", _MPT, (2, 3.5, 8, None), "study 1.9 / 4.1 / 8.8", "a100"),
    StepGoal("MosaicML MPT, H100", _MPT, (2, 3.5, 8, None), "study 2.1 / 2.8 / 4.0", "h100"),
    StepGoal("Korthikanti 2022, table 5", _KORTHIKANTI, (None, 2, None, 5), "Calculon 3.65 mean, 8.87 largest"),
    StepGoal(
        "Megatron 2021, weak scaling",
        ("narayanan2021-table1", "Narayanan et al. 2021, table 1"),
        (None, 3, None, None),
        "study 2.4 / 2.0 / 3.4",
    ),
    StepGoal("Megatron H100, weak and strong scaling", ("megatron-readme",), (None, 6, None, None), "study 7.0 / 6.6"),
    StepGoal("TorchTitan bf16", _TITAN, (None, 5, None, None), "study 2.8 / 2.9", dtypes=("bf16", "bfloat16")),
    StepGoal("TorchTitan fp8", _TITAN, (None, 8, None, None), "study 4.3 / 6.3", dtypes=("fp8",)),
    StepGoal("NeuSight, 4 GPUs", ("neusight",), (None, 7, None, None), "NeuSight 7 to 8", gpus=4),
    StepGoal("weights, gradients, optimizer", _FIGURES, (None, None, None, 1), part="states"),
    StepGoal("activations, Korthikanti 2022, figure 1", _FIGURES, (None, None, None, 2), part="activations"),
    StepGoal("activations, Korthikanti 2022, figure 7", _FIGURES, (None, None, None, 2), part="relative"),
    StepGoal("peak memory, TorchTitan", _TITAN, (None, None, None, 8), part="peak"),
)
"""Study: a first model of whole steps on the same rows, constants shared within a source."""

_LLAMA_CPP, _SERVED = ("llamacpp",), ("aic_e2e",)

INFERENCE_GOALS = (
    StepGoal(
        "llama.cpp decode", _LLAMA_CPP, (2.5, 3.5, None, None), "study 2.6 / 3.3 / 6.8", op="decode", without="apple"
    ),
    StepGoal(
        "llama.cpp prefill", _LLAMA_CPP, (12, 14, None, None), "study 12 / 13 / 25", op="prefill", without="apple"
    ),
    StepGoal("served, TPOT", _SERVED, (5, 7, None, None), "AIConfigurator 19 / 24", op="tpot"),
    StepGoal("served, end to end", _SERVED, (4, 6, None, None), "study 4.6 / 7.2 / 16", op="e2e"),
    StepGoal(
        "NeuSight, one forward", ("neusight",), (None, 7, None, None), "NeuSight 9.7 mean, roofline 31", op="prefill"
    ),
)
"""Goals of whole inference runs; of llama.cpp on NVIDIA's GPUs, which the goals were set on."""
