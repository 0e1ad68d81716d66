"""Streams of video that a network looks at: what a user asks of them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from simgpu.workload.fields import Strict


class Encode(Strict):
    """Streams that are encoded again, as by a transcoder or a camera wall."""

    codec: Literal["h264", "hevc", "av1"] = "h264"
    preset: Literal["p1", "p3", "p5", "p7"] = "p3"
    """Of NVENC, p1 the quickest, p7 of the best quality; those that NVIDIA prints rates of."""
    tuning: Literal["low_latency", "high_quality"] = "high_quality"
    """low_latency: constant bit rate; high_quality: variable bit rate."""


class Video(Strict):
    """Frames of 1920 x 1080 pixels, 8 bits, that come from decoders of the GPU and may go to its encoders."""

    decode: Literal["h264", "hevc", "hevc_10bit", "vp9", "vp9_10bit", "av1"] | None = "h264"
    """What the streams are coded in; null: frames lie in memory."""
    encode: Encode | None = None
    """What they are coded in again; default: only what was detected leaves the GPU."""
    fps: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] = 30.0
    """Frames a second of a stream."""
    every: Annotated[int, Field(strict=True, gt=0, le=10_000)] = 1
    """The network looks at every n-th frame; all are decoded and encoded."""
