"""The interface of measuring to a machine. PyTorch's is in `torch_backend`; tests have one of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from simgpu.errors import SimgpuError


@dataclass(frozen=True)
class Device:
    """The GPUs of a machine, all of one kind, as it reports them. Sizes in bytes."""

    name: str  # as the driver says it: 'NVIDIA L40S'
    sm_count: int
    memory_bytes: int
    l2_bytes: int
    count: int = 1
    tool: str = ""  # what measures, with versions


@dataclass(frozen=True)
class Operation:
    """One row to measure: its kind, and the columns that define what is timed."""

    what: str
    columns: Mapping[str, str | int]

    @property
    def key(self) -> tuple[tuple[str, str], ...]:
        """The text that identifies this operation among others."""
        return (("what", self.what), *sorted((name, str(value)) for name, value in self.columns.items()))

    def number(self, name: str, missing: int = 1) -> int:
        """The whole number in a column, else `missing`."""
        return int(self.columns.get(name, missing))

    def word(self, name: str) -> str:
        """The text of a column."""
        return str(self.columns.get(name, ""))

    def __str__(self) -> str:
        shape = [f"{name}={value}" for name, value in self.columns.items() if name not in _SILENT]
        return " ".join([self.what, *shape])


_SILENT = ("framework", "kernel_source", "regime", "v_head_dim", "window_size", "kv_cache_dtype")


class MeasurementError(SimgpuError):
    """This operation cannot be measured here: out of memory, no such kernel. Others can."""


class Backend(Protocol):
    """A machine that can be measured."""

    def device(self) -> Device:
        """The GPUs of this machine."""

    def run(self, operation: Operation) -> float:
        """Seconds of one execution, after warm-up; each call is a sample of its own. Raises `MeasurementError`."""

    def close(self) -> None:
        """Give back what the last operations held."""
