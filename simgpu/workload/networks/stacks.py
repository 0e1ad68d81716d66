"""Stacks that run networks of stages: what a kernel costs the host, what is joined, how tensors lie in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simgpu.documents import read_yaml
from simgpu.errors import InputError, nearest
from simgpu.memo import remembered
from simgpu.workload.sourced import figure, number

FILE = Path(__file__).with_name("stacks.yaml")

NOTHING, POINTWISE, EPILOGUES = "nothing", "pointwise", "epilogues"
"""What a stack joins: nothing; runs of pointwise kernels; these and the epilogues of products and convolutions."""


@dataclass(frozen=True)
class Stack:
    """A stack of software.

    launch
        Host time of a kernel of eager code, s; 0 with CUDA graphs.
    backward_launch
        Host time of a kernel of the backward pass and of the optimizer, s.
    channels_last
        True if tensors lie as tensor cores take them; else convolutions convert them before and after.
    fuses
        nothing, pointwise or epilogues.
    tf32_convolutions
        True if convolutions in fp32 run in TF32 where the GPU has it; products stay in fp32.
    autocast
        True if weights are kept in fp32 and cast for each product and convolution of 16 bits.
    stream_slowdown
        Factor on the times of kernels that stream.
    attention
        The library of attention kernels.
    head_dims
        Widths of heads that its kernels are written for: others are filled up to the next.
    ends
        P10 and P90 of measured over predicted times of whole runs.
    """

    name: str
    title: str
    launch: float
    backward_launch: float
    channels_last: bool
    fuses: str
    tf32_convolutions: bool
    autocast: bool
    stream_slowdown: float
    attention: str
    head_dims: tuple[int, ...]
    ends: tuple[float, float]
    sources: Mapping[str, str]

    def head(self, dim: int) -> int:
        """The width of heads that a kernel for heads of `dim` works on."""
        return next((one for one in self.head_dims if one >= dim), dim)


@remembered(1)
def stacks() -> Mapping[str, Stack]:
    """All stacks by name."""
    document = read_yaml(FILE)
    found: dict[str, Stack] = {}
    given_by: dict[str, dict[str, Any]] = {}
    for name, own in document.data["stacks"].items():
        data = given_by[name] = {**given_by.get(own.get("base"), {}), **own}
        values: dict[str, Any] = {}
        sources = {}
        for key, given in data.items():
            if key in ("title", "base"):
                continue
            value, unit, source = figure(document, given, ("stacks", name, key))
            values[key] = number(value, unit, "s") if key in ("launch", "backward_launch") else value
            sources[key] = source
        low, high = values.pop("ends")
        values["head_dims"] = tuple(values["head_dims"])
        found[name] = Stack(name, data["title"], ends=(float(low), float(high)), sources=sources, **values)
    return found


def stack(name: str, key: str = "workload.stack") -> Stack:
    """A stack by name. Raises `InputError` at `key`."""
    known = stacks()
    if name not in known:
        raise InputError(f"unknown stack '{name}'{nearest(name, known)}", key=key)
    return known[name]
