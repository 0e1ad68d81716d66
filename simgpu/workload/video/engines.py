"""Frames a second of the video engines of a GPU: what NVIDIA prints of its generation, times engines, times clock.

NVIDIA's notes: rates are of one engine, aggregate ones are multiplied by the engines (where as many streams run), and
they scale almost in proportion to the video clock. Engines run beside the multiprocessors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from simgpu.documents import read_yaml
from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster
from simgpu.hardware.spec import VideoEngines
from simgpu.memo import remembered
from simgpu.workload.video.fields import Video

FILE = Path(__file__).with_name("rates.yaml")

TUNINGS = ("low_latency", "high_quality")

SLOWER = 0.93
"""P10 of a rate over NVIDIA's, which are of GPUs that do nothing else: a T4 decodes up to 38 full-HD streams (NVIDIA,
as providers of that GPU quote it), its two engines by the note 40.6 of 30 frames/s H.264."""

UNKNOWN_CLOCK = 0.69
"""P10 over the rate at the note's clock where the GPU's own video clock is not known: the lowest of those that are, an
A100 at 1290 MHz where the note's Turing engine runs at 1860."""


@dataclass(frozen=True)
class Engine:
    """Frames a second of all engines of a kind on a GPU, and its P10."""

    name: str
    rate: float
    low: float


@remembered(1)
def rates() -> Mapping[str, Any]:
    """The file of rates, read once."""
    found: Mapping[str, Any] = read_yaml(FILE).data
    return found


def engines(job: Video, cluster: Cluster, gpus: int) -> list[Engine]:
    """The engines that the streams need, of each GPU. Raises `InputError` (key only)."""
    if job.decode is None and job.encode is None:
        return []
    gpu = cluster.gpu
    if gpu.video is None:
        problem = f"the video engines of '{gpu.name}' are not known; its file needs `video`, or decode: null"
        raise InputError(problem, key="workload.video.decode" if job.decode else "workload.video.encode")
    found = []
    if job.decode is not None:
        found.append(_engine("NVDEC", gpu.video, job.decode, "decode", gpu.name))
    if job.encode is not None:
        found.append(_engine("NVENC", gpu.video, job.encode.codec, "encode", gpu.name, job.encode))
        if gpu.video.sessions is not None:
            streams = gpu.video.sessions.si / min(gpus, cluster.gpus_per_node)
            found.append(Engine("encode sessions", streams * job.fps, streams * job.fps))
    return found


def _engine(name: str, of: VideoEngines, codec: str, kind: str, gpu: str, how: Any = None) -> Engine:
    count = (of.nvdec if kind == "decode" else of.nvenc).si
    table, clocks = rates()[kind]["fps"][of.generation], rates()[kind]["clocks"]
    key = f"workload.video.{kind}" + (".codec" if how is not None else "")
    if count == 0:
        raise InputError(f"'{gpu}' has no {name}", key=f"workload.video.{kind}")
    if codec not in table:
        raise InputError(f"the {name} of '{gpu}' ({of.generation}) has no rate for {codec}; expected one of "
                         f"{', '.join(table)}", key=key)  # fmt: skip
    one = table[codec] if how is None else table[codec][how.preset][TUNINGS.index(how.tuning)]
    known = of.clock is not None and of.generation in clocks
    clock = of.clock.si / (clocks[of.generation] * 1e6) if of.clock is not None and known else 1.0
    rate = count * one * clock
    return Engine(name, rate, rate * (SLOWER if known else UNKNOWN_CLOCK))


def slowest(found: list[Engine]) -> Engine:
    """The engine with the fewest frames a second."""
    return min(found, key=lambda one: one.rate, default=Engine("none", inf, inf))
