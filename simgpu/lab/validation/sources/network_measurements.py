"""ResNet-50, BERT and Whisper: published rates of training and inference.

How it was measured: rows of NVIDIA's DeepLearningExamples are throughputs of their own scripts (synthetic or DALI
input), that of Whisper is a file of 13 minutes through openai/whisper.

Traps: batch sizes of training are not in the table: 256 images a GPU, 128 in fp32 on the V100 of 16 GB, as the scripts
have them. The text of the audio is not published: 150 spoken words a minute, 1.3 tokens each, and a quarter more for
timestamps are assumed.
"""

from __future__ import annotations

from simgpu.lab.validation.adapters.networks import MeasuredNetwork, adapter
from simgpu.lab.validation.adapters.reader import Reader
from simgpu.lab.validation.source import Reason, Source
from simgpu.lab.validation.tables import Columns
from simgpu.plan.parallelism import Plan

COLUMNS = Columns(
    positive=("gpus", "value"), words=("gpu", "network", "mode", "unit"), optional=("note", "precision"),
    sparse=("batch",),
)  # fmt: skip

IMAGES, IMAGES_FP32 = 256, 128
"""Images of a GPU in a step of training (PyTorch/Classification/ConvNets/resnet50v1.5, training scripts)."""
SQUAD_TOKENS = 384
AUDIO_S = 780.0
SPOKEN_TOKENS = round(30 / 60 * 150 * 1.3 * 1.25)
"""Tokens of a window of 30 s."""


def run(row: Reader) -> MeasuredNetwork | str:
    """A rate as the seconds of a batch."""
    network, mode, gpus = row.word("network"), row.word("mode"), row.count("gpus")
    given = row.word("precision")
    dtype = {"mixed": "fp16", "fp32": "fp32", "tf32": "tf32", "fp16": "fp16"}.get(given)
    if dtype is None:
        return "precision not stated"
    if network.startswith("resnet50"):
        return _resnet(row, mode, gpus, dtype)
    if network.startswith("bert-large") and row.word("unit") == "sequences/s":
        batch = row.count("batch")
        job = (("batch", batch), ("tokens", SQUAD_TOKENS), ("stack", "pytorch"))
        return MeasuredNetwork("bge-large", job, dtype, batch / row.number("value"))
    if network.startswith("whisper large-v2") and row.has("value"):
        audio = (("seconds", AUDIO_S), ("output", SPOKEN_TOKENS), ("beams", 5))
        caveat = "number of tokens assumed"
        return MeasuredNetwork("whisper-large-v2", audio, dtype, AUDIO_S / row.number("value"), caveat=caveat)
    return "no network of the catalogue"


def _resnet(row: Reader, mode: str, gpus: int, dtype: str) -> MeasuredNetwork:
    stack = ("stack", "pytorch-channels-last")
    if mode == "training":
        narrow = dtype == "fp32"
        batch = gpus * (IMAGES_FP32 if narrow else IMAGES)
        job: tuple[tuple[str, object], ...] = (("mode", "training"), ("batch", batch), stack)
        return MeasuredNetwork("resnet50", job, dtype, batch / row.number("value"), Plan(dp=gpus))
    batch = row.count("batch")
    return MeasuredNetwork("resnet50", (("batch", batch), stack), dtype, batch / row.number("value"))


SOURCE = Source(
    "https://github.com/NVIDIA/DeepLearningExamples, BSD-3-Clause and Apache-2.0 (facts only), README of ConvNets and "
    "BERT; https://github.com/SYSTRAN/faster-whisper at 00cc7e1b, MIT: README",
    [adapter(COLUMNS, run, "value")],
    reasons=(
        Reason(
            "small batches wait for processors of 2016 and for input: the host time is that of newer ones",
            gpu="v100-sxm-16gb",
            where=lambda n: n["slow"] < 0.9,
        ),
        Reason("attention of 2020, not fused", gpu="a100-sxm-80gb", where=lambda n: n["slow"] < 0.7),
        Reason(
            "openai/whisper copies the caches of all beams after each token and searches in Python between tokens",
            gpu="v100s-pcie-32gb",
            where=lambda n: n["slow"] < 0.7,
        ),
    ),
)
