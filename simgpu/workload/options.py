"""How a job is run, whatever the job is: number formats, collectives, clocks, the training stack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol, TypedDict, get_args

from simgpu.arguments import FLAG, TEXT, check, instance
from simgpu.errors import ArgumentError, InputError, nearest, shown
from simgpu.model.operators import ACCUMULATE
from simgpu.timing.collectives import ALGORITHMS, PROTOCOLS
from simgpu.workload.fields import Accumulate
from simgpu.workload.frameworks import Framework

_KINDS = {
    "framework": TEXT | instance("a framework of a Catalogue", "simgpu.workload.frameworks.Framework"),
    "folded": FLAG,
    "require_fit": FLAG,
}
"""Kinds of the options that are not text."""

CLOCKS = ("sustained", "burst")

_KNOWN: Mapping[str, Sequence[str]] = {
    "accumulate": get_args(Accumulate), "algorithm": ALGORITHMS, "protocol": PROTOCOLS, "clocks": CLOCKS,
}  # fmt: skip
"""Values that options of text may have; which dtypes there are depends on the GPU."""

SERVED = ("inference", "mixed", "serving", "traffic")
"""Kinds of jobs that an inference engine runs."""


class Job(Protocol):
    """A job, as far as its options go."""

    @property
    def kind(self) -> str:
        """The kind of the job, such as 'training'."""


class Settings(TypedDict, total=False):
    """The options of `RunOptions` as keyword arguments."""

    dtype: str
    accumulate: str | None
    algorithm: str
    protocol: str
    clocks: str | None
    framework: str | Framework
    folded: bool
    require_fit: bool


@dataclass(frozen=True)
class RunOptions:
    """Options of a simulation. Raises `InputError` (key only) for values that are not known.

    dtype, accumulate
        Number format of weights and activations, and what products are summed in (default: fp32, int32 for int8).
    algorithm
        How collectives run: 'auto' (what NCCL would choose), 'ring', 'tree', 'nvls', 'collnet', or 'direct'.
    protocol
        Protocol of collectives: 'auto', 'll', 'll128', 'simple'; or 'ideal', which takes links at their plain rates and
        latencies, as back-of-the-envelope sums have it.
    clocks
        'sustained' (a long run, throttled by its power limit) or 'burst' (a few milliseconds, as benchmarks time).
        Default: burst for inference, whose steps leave the power limit alone most of the time, else sustained.
    framework
        For training: how a stack runs the same operators, by name (`simgpu list frameworks`) or from
        `Catalogue.framework`.
    folded
        For training: one rank stands for all equal ones. False simulates each rank, for the same times.
    require_fit
        For training and inference: a plan that does not fit the memory of the GPU is an error.
    """

    dtype: str = "bf16"
    accumulate: str | None = None
    algorithm: str = "auto"
    protocol: str = "auto"
    clocks: str | None = None
    framework: str | Framework = "megatron"
    folded: bool = True
    require_fit: bool = False

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if value is not None or one.default is not None:
                object.__setattr__(self, one.name, check(_KINDS.get(one.name, TEXT), one.name, value))
        for key, known in _KNOWN.items():
            value = getattr(self, key)
            if value is not None and value not in known:
                raise InputError(f"{shown(value)} is not known{nearest(value, known)}", key=key)

    @classmethod
    def of(cls, options: RunOptions | Mapping[str, Any] | None, settings: Mapping[str, Any]) -> RunOptions:
        """Options from options or a mapping of their keys, with single ones replaced by `settings`.

        Raises `InputError` for unknown keys of `options`, `ArgumentError` (a `TypeError` too) for unknown `settings`.
        """
        named = {one.name for one in fields(cls)}
        start = (
            {key: getattr(options, key) for key in named} if isinstance(options, RunOptions) else dict(options or {})
        )
        for name in start:
            if name not in named:
                raise InputError(f"unknown key{nearest(str(name), named)}", key=f"options.{name}")
        for name in settings:
            if name not in named:
                raise ArgumentError(f"simulate() got an unexpected keyword argument '{name}'{nearest(name, named)}")
        return cls(**{**start, **settings})

    @property
    def sums(self) -> str:
        """The type in which matrix products are summed."""
        return self.accumulate or ACCUMULATE.get(self.dtype, "fp32")

    def sustained(self, job: Job) -> bool:
        """Whether a job runs at the clocks of a long run, throttled by the power limit."""
        return (self.clocks or clocks_of(job.kind)) == "sustained"


PLAIN = RunOptions()
"""The default options."""


def clocks_of(kind: str | None) -> str:
    """Default clocks of a kind of job: 'burst' for inference, whose steps rarely reach the power limit."""
    return "burst" if kind in SERVED else "sustained"
