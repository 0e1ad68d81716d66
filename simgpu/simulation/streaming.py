"""Streams of video through decoders, a network and encoders: the row of a network whose images are frames.

The engines and the multiprocessors work at the same time, on different frames, so that the slowest of them sets the
pace and the others wait for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster
from simgpu.model.networks.pipeline import Pipeline
from simgpu.simulation.feeding import stretched
from simgpu.workload.networks.job import Network
from simgpu.workload.video.engines import engines, slowest

DETECTOR = "network"
"""What limits where the multiprocessors are the slowest part."""


def with_video(row: Mapping[str, Any], job: Network, pipeline: Pipeline, cluster: Cluster) -> dict[str, Any]:
    """The row of a network that looks at frames of streams. Raises `InputError` (key only)."""
    assert job.video is not None
    if job.mode != "inference" or pipeline.fields.unit != "image":
        what = job.mode if job.mode != "inference" else f"a network of {pipeline.fields.unit}"
        problem = f"streams are looked at by inference on images, not by {what}; leave it out"
        raise InputError(problem, key="workload.video")
    video, gpus, step = job.video, row["gpus"], row["step_s"]
    found = engines(video, cluster, gpus)
    frames = job.batch * video.every / gpus  # of all streams of a GPU while its network looks at its part of a batch
    least = slowest(found)
    whole = max(step, frames / least.rate)
    low = frames / min((one.rate for one in found), default=least.rate)
    high = frames / min((one.low for one in found), default=least.rate)
    made = stretched(row, whole, max(row["step_s_p10"], low), max(row["step_s_p90"], high))
    each = {f"{name}_streams": one.rate * gpus / video.fps for one in found if (name := NAMES.get(one.name))}
    return {
        **made, "video_wait_s": whole - step, "streams": frames * gpus / whole / video.fps,
        "detect_streams": frames * gpus / step / video.fps, **each,
        "video_limit": least.name if whole > step else DETECTOR,
    }  # fmt: skip


NAMES = {"NVDEC": "decode", "NVENC": "encode"}
"""Columns of the streams that an engine keeps up with."""
