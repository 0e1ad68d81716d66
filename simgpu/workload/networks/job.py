"""The job of a network of stages: what a user asks of it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from simgpu.errors import InputError
from simgpu.model.networks.pipeline import Pipeline
from simgpu.workload.data.fields import Data
from simgpu.workload.fields import Size, Strict
from simgpu.workload.video.fields import Video

Sides = Annotated[int, Field(strict=True, gt=0, le=65_536)]


class Network(Strict):
    """A batch through a network of stages, such as images from prompts; or one step of training it.

    What is not given is as the network's file says.
    """

    kind: Literal["network"] = "network"
    mode: Literal["inference", "training"] = "inference"
    batch: Size = 1
    """Images, videos, sequences or pieces of audio, all replicas together."""
    height: Sides | None = None
    """Of images and videos, pixels."""
    width: Sides | None = None
    frames: Annotated[int, Field(strict=True, gt=0, le=100_000)] | None = None
    """Of videos."""
    steps: Annotated[int, Field(strict=True, gt=0, le=10_000)] | None = None
    """Denoising steps."""
    guidance: Annotated[int, Field(strict=True, ge=1, le=8)] | None = None
    """Passes of the denoiser for a step: 2 with classifier-free guidance (they run as one, of twice the batch)."""
    tokens: Annotated[int, Field(strict=True, gt=0, le=1_000_000)] | None = None
    """Tokens of a sequence, for encoders of text."""
    seconds: Annotated[float, Field(gt=0, le=1e7, allow_inf_nan=False)] | None = None
    """Seconds of audio, for networks that listen."""
    output: Annotated[int, Field(strict=True, gt=0, le=1_000_000)] | None = None
    """Tokens that a decoder writes, for each window of audio or each sequence."""
    beams: Annotated[int, Field(strict=True, gt=0, le=64)] = 1
    """Beams of a decoder's search: they multiply its batch."""
    optimizer: Literal["sgd", "momentum", "adam"] = "momentum"
    """Of training."""
    finetune: Literal["full", "lora"] = "full"
    """Of training: all parameters, or adapters on the projections of attention beside frozen weights of 16 bits."""
    rank: Annotated[int, Field(strict=True, gt=0, le=4096)] = 4
    """Of the adapters (diffusers, examples/text_to_image/train_text_to_image_lora.py)."""
    stack: str | None = None
    """The software that runs it: pytorch, diffusers, xdit, compiled, pytorch-channels-last, tensorrt."""

    data: Data | None = None
    """What reads and decodes samples beside the step; default: they are on the GPU."""
    video: Video | None = None
    """Of inference: streams whose frames are the images, by the decoders and encoders of the GPU."""

    def size(self, pipeline: Pipeline) -> tuple[int, int]:
        """Height and width in pixels. Raises `InputError` (key only) where latents and patches do not divide them."""
        fields = pipeline.fields
        sides = (self.height or fields.height or 0, self.width or fields.width or self.height or 0)
        whole = fields.latent.scale * fields.latent.patch
        for key, side in zip(("height", "width"), sides, strict=True):
            if side % whole:
                near = max(round(side / whole), 1) * whole
                problem = f"{side} is not divisible by {whole}, the pixels of a patch of '{pipeline.name}'"
                raise InputError(f"{problem}; expected a size such as {near}", key=f"workload.{key}")
        return sides
