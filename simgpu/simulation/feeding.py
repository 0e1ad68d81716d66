"""A step that waits for its samples: the row of a job with a data pipeline beside it.

Batches are made while the GPUs compute the batch before, so that in a steady state a step takes as long as the longer
of both; without workers or without batches ahead it takes the sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any

from simgpu.columns import FOLLOWS
from simgpu.hardware.cluster import Cluster
from simgpu.model.networks.pipeline import Pipeline
from simgpu.model.operators import BYTES
from simgpu.workload.data.pipeline import STEP, Feed, feed
from simgpu.workload.model_jobs import Training
from simgpu.workload.networks.job import Network
from simgpu.workload.networks.passes import asked

CHANNELS = 3
"""Of an image."""

TOKEN = 8
"""Bytes of a token on its way to the GPU (torch.int64)."""

SPECTRUM = 80 * 3000
"""Values of a log-mel spectrogram of 30 s (Whisper)."""

PER_STEP = ("efficiency", "speedup", "bubble_fraction")
"""Columns that are something over the step beside those that say so (`columns.csv`, follows)."""


def network_feed(job: Network, pipeline: Pipeline, cluster: Cluster, gpus: int) -> Feed:
    """The data pipeline of a network of stages. Raises `InputError` (key only)."""
    assert job.data is not None
    what, unit = asked(job, pipeline), pipeline.fields.unit
    values = {
        "image": CHANNELS * what.height * what.width * BYTES["fp32"],
        "video": CHANNELS * what.height * what.width * what.frames,
        "audio": SPECTRUM * BYTES["fp32"] * what.windows,
        "text": TOKEN * what.tokens,
    }
    return feed(job.data, unit, cluster, gpus, what.tokens, values[unit])


def training_feed(job: Training, cluster: Cluster, gpus: int) -> Feed:
    """The data pipeline of a language model's step. Raises `InputError` (key only)."""
    assert job.data is not None
    tokens = max(round(job.real_tokens / job.samples), 1)
    return feed(job.data, "text", cluster, gpus, tokens, TOKEN * tokens)


def with_data(row: Mapping[str, Any], pipeline: Feed, batch: float) -> dict[str, Any]:
    """The row of a step that waits for its `batch` samples where they come slower than it takes them."""
    step = row["step_s"]
    whole, wait = pipeline.step(step, batch), pipeline.wait(step, batch)
    made = stretched(row, whole, *pipeline.ends(row["step_s_p10"], row["step_s_p90"], batch))
    names = ("data_samples_per_s_p10", "data_samples_per_s", "data_samples_per_s_p90")
    rate = {} if pipeline.rate == inf else dict(zip(names, pipeline.rates_range(), strict=True))
    slower = pipeline.seconds(batch) > step
    return {
        **made, "data_s": pipeline.seconds(batch), "data_wait_s": wait, **rate,
        "data_limit": pipeline.slowest if slower else STEP, "data_buys": pipeline.buys(step, batch),
    }  # fmt: skip


def stretched(row: Mapping[str, Any], whole: float, low: float, high: float) -> dict[str, Any]:
    """The row of a step that takes `whole` s, from `low` to `high`, because GPUs wait for something beside them."""
    ratio = whole / row["step_s"]
    made = {name: value for name, value in row.items() if not name.startswith("step_s")}
    made |= {"step_s": whole, "step_s_p10": min(low, whole), "step_s_p90": max(high, whole)}
    for name, (of_time, power) in FOLLOWS.items():
        if of_time == "step_s" and row.get(name) is not None:
            made[name] = row[name] * ratio**power
    for name in (f"{one}{end}" for one in PER_STEP for end in ("", "_p10", "_p90")):
        if row.get(name) is not None:
            made[name] = row[name] / ratio
    made["idle_s"] = row["idle_s"] + whole - row["step_s"]
    return made


def watts_with_waits(row: Mapping[str, Any], watts: float, waiting: float) -> float:
    """Mean W of a GPU that draws `watts` while it computes, and `waiting` while it waits for samples or frames."""
    waits = row.get("data_wait_s", 0.0) + row.get("video_wait_s", 0.0)
    share = waits / row["step_s"] if row.get("step_s") else 0.0
    return (1.0 - share) * watts + share * waiting
