"""A network as it is run: stages with counts, such as text encoder 1, denoiser steps x guidance, decoder 1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from simgpu.documents import Document
from simgpu.model.networks.config import Config
from simgpu.schema_errors import validate

Count = Annotated[int, Field(strict=True, gt=0, le=1_000_000)]
Number = Literal["fp32", "tf32", "fp16", "bf16"]

UNITS = {"image": "images", "video": "videos", "audio": "audio", "text": "texts"}
"""What a network makes or reads, one and many."""


class StageFields(BaseModel):
    """One component of a pipeline, as its file gives it."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)
    name: str
    config: str
    part: str = "whole"
    role: Literal["encoder", "denoiser", "decoder", "network"] = "network"
    count: Literal["once", "steps", "tokens"] = "once"
    guided: Literal["together", "apart"] | None = None
    tokens: Annotated[int, Field(strict=True, ge=0, le=1_000_000)] = 0
    dtype: Number | None = None
    copies: Count = 1


class LatentFields(BaseModel):
    """Pixels and frames for each of the latents, and the pixels that a patch of the denoiser takes besides."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)
    scale: Count = 1
    frames: Count = 1
    patch: Count = 1


class PipelineFields(BaseModel):
    """A pipeline, as its file gives it."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)
    name: str
    title: str
    source: str
    unit: Literal["image", "video", "audio", "text"]
    stages: Annotated[list[StageFields], Field(min_length=1, max_length=16)]
    height: Count | None = None
    width: Count | None = None
    frames: Count | None = None
    steps: Count | None = None
    tokens: Count | None = None
    output: Count | None = None
    guidance: Annotated[int, Field(strict=True, ge=1, le=8)] = 1
    latent: LatentFields = LatentFields()
    stack: str = "pytorch"
    training_stack: str = "pytorch-channels-last"
    window: Annotated[float, Field(gt=0, le=1e6)] | None = None
    huggingface: list[str] = []


@dataclass(frozen=True)
class Stage:
    """A component with its configuration."""

    fields: StageFields
    config: Config

    @property
    def name(self) -> str:
        """Its name in the pipeline."""
        return self.fields.name


@dataclass(frozen=True)
class Pipeline:
    """A network of stages. It stands where language models have their `TransformerConfig`."""

    fields: PipelineFields
    stages: tuple[Stage, ...]

    @property
    def name(self) -> str:
        """Its name in the catalogue."""
        return self.fields.name

    def values(self) -> Mapping[str, Any]:
        """What its file says, beside its stages."""
        return self.fields.model_dump(exclude={"stages"})


def fields_of(document: Document) -> PipelineFields:
    """The checked fields of a pipeline's file. Raises `InputError`."""
    return validate(PipelineFields, document.data, lambda path, problem: document.error(problem, path))
