"""Images and videos of diffusion models, by the ML.ENERGY initiative: seconds of a batch through a whole pipeline.

How it was measured: version 2 runs diffusers in fp16 on one GPU, version 3 xDiT in bf16 on one to eight, each batch
from prompts to pixels.

Traps: prompts are not in the table. `ulysses` and `ring` are ways of sharing the tokens of an image; both at once are
no plan of simgpu. Versions of PyTorch, and of the attention kernels that it found, are not stated.
"""

from __future__ import annotations

from simgpu.lab.validation.adapters.networks import MeasuredNetwork, adapter
from simgpu.lab.validation.adapters.reader import Reader
from simgpu.lab.validation.source import Source
from simgpu.lab.validation.tables import Columns
from simgpu.plan.parallelism import Plan

COLUMNS = Columns(
    positive=("num_gpus", "batch", "steps", "height", "width", "ulysses", "ring", "latency_s"),
    words=("gpu", "model_id", "weight_dtype", "note"),
    optional=("task",),
    sparse=("frames",),
)

OTHERS = {
    "sana": "linear attention and a deep autoencoder (SANA)",
    "kandinsky": "another U-Net with attention over pooled images (Kandinsky)",
    "i2vgen": "a U-Net over frames, from an image (I2VGen)",
    "stable-video": "a U-Net over frames, from an image (Stable Video Diffusion)",
    "text-to-video-ms": "a U-Net over frames (ModelScope)",
    "animatediff": "a U-Net with motion modules (AnimateDiff)",
    "ssd-1b": "a U-Net with single blocks left out (SSD-1B)",
    "turbo": "number of guided passes not stated (SDXL Turbo)",
}
"""Networks that have no builder, by a part of their name."""


def run(row: Reader) -> MeasuredNetwork | str:
    """A batch of images or videos."""
    model = row.word("model_id")
    for part, words in OTHERS.items():
        if part in model.lower():
            return words
    gpus, ulysses, ring = row.count("num_gpus"), row.count("ulysses"), row.count("ring")
    if ulysses > 1 and ring > 1:
        return "tokens shared by heads and in a ring at once"
    if ulysses * ring != gpus:
        return f"{gpus} GPUs, of which {ulysses * ring} share the tokens"
    plan = Plan(cp=gpus, context="all_to_all" if ulysses > 1 else "ring") if gpus > 1 else Plan()
    job = {
        "batch": row.count("batch"),
        "steps": row.count("steps"),
        "height": row.count("height"),
        "width": row.count("width"),
        "stack": "xdit" if "xDiT" in row.word("note") else "diffusers",
    }
    if row.has("frames"):
        job["frames"] = row.count("frames")
    return MeasuredNetwork(model, tuple(job.items()), row.dtype("weight_dtype"), row.number("latency_s"), plan)


SOURCE = Source(
    "https://github.com/ml-energy/leaderboard at 0cd52dab8 and https://github.com/ml-energy/leaderboard-v2"
    " at c3af7f31e, Apache-2.0: public/data/tasks and data/diffusion",
    [adapter(COLUMNS, run)],
)
