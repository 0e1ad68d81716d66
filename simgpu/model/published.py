"""Models as they are published: where their files come from, and ids of quantised copies on Hugging Face."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class ModelSource(BaseModel):
    """The place where a model's `config.json` was read, and the parameter count published for it."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)
    title: str = ""
    source: str = ""
    published_parameters: Annotated[float, Field(gt=0, le=1e18)] | None = None
    huggingface: list[str] = []
    parameters_source: str = ""


_FORMAT = re.compile(
    r"-(quantized\.)?((nv|mx)?fp[468]|mxint8|int[48]|w\d+a\d+|awq|gptq|nf4|bnb)(?![a-z0-9])([-_.].*)?$"
)
"""The name of a format behind the id of a model: '-NVFP4-v2', '-FP8-dynamic', '-AWQ-INT4', '-quantized.w8a8'."""


_PRECISIONS = {"fp8": "fp8", "fp4": "fp4", "nvfp4": "fp4", "mxfp4": "mxfp4", "awq": "int4", "gptq": "int4",
               "int4": "int4", "w4a16": "int4", "w8a16": "w8a16", "int8": "int8", "w8a8": "int8"}  # fmt: skip
"""Precisions by the names of formats in ids of models; FP8 has a scale for each row unless a checkpoint says more."""


def precision_named(name: str) -> str | None:
    """The precision that the id of a model names at its end, such as '-FP8'; None for an id without a format."""
    found = _FORMAT.search(name.lower())
    return _PRECISIONS.get(found[2]) if found else None


def without_format(name: str) -> str:
    """The id of a model, in small letters, without the name of a quantised format at its end."""
    return _FORMAT.sub("", name)
