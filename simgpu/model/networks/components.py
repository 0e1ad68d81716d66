"""Which builder reads which configuration file: by `_class_name` of diffusers, `model_type` of transformers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from simgpu.errors import nearest, shown
from simgpu.model.graph import ModelGraph
from simgpu.model.networks import (
    controlnet,
    convnet,
    detection,
    dit,
    efficientnet,
    encoders,
    mmdit,
    seq2seq,
    unet,
    vae,
    vae3d,
    whisper,
)
from simgpu.model.networks.build import Builder, Inputs
from simgpu.model.networks.config import Config

Build = Callable[[Config, Builder], None]

WHOLE = "whole"

BUILDERS: Mapping[str, Mapping[str, Build]] = {
    "UNet2DConditionModel": {WHOLE: unet.build},
    "ControlNetModel": {WHOLE: controlnet.controlnet},
    "AutoencoderKL": {WHOLE: vae.whole, "decoder": vae.decoder, "encoder": vae.encoder},
    "AutoencoderKLHunyuanVideo": {"decoder": vae3d.hunyuan},
    "AutoencoderKLCogVideoX": {"decoder": vae3d.cogvideox},
    "AutoencoderKLWan": {"decoder": vae3d.wan},
    "FluxTransformer2DModel": {WHOLE: mmdit.flux},
    "SD3Transformer2DModel": {WHOLE: mmdit.sd3},
    "HunyuanVideoTransformer3DModel": {WHOLE: mmdit.hunyuan_video},
    "PixArtTransformer2DModel": {WHOLE: dit.pixart},
    "HunyuanDiT2DModel": {WHOLE: dit.hunyuan_dit},
    "WanTransformer3DModel": {WHOLE: dit.wan},
    "CogVideoXTransformer3DModel": {WHOLE: dit.cogvideox},
    "clip_text_model": {WHOLE: encoders.clip_text},
    "bert": {WHOLE: encoders.bert},
    "xlm-roberta": {WHOLE: encoders.bert},
    "resnet": {WHOLE: convnet.resnet},
    "convnext": {WHOLE: convnet.convnext},
    "whisper": {"encoder": whisper.encoder, "decoder": whisper.decoder},
    "vit": {WHOLE: encoders.vit},
    "umt5": {WHOLE: encoders.umt5_encoder},
    "t5": {WHOLE: encoders.t5_encoder, "encoder": seq2seq.t5_pair_encoder, "decoder": seq2seq.t5_decoder},
    "bart": {"encoder": seq2seq.bart_encoder, "decoder": seq2seq.bart_decoder},
    "efficientnet": {WHOLE: efficientnet.efficientnet},
    "yolov8": {WHOLE: detection.yolov8},
    "yolos": {WHOLE: detection.yolos},
    "rrdbnet": {WHOLE: controlnet.rrdbnet},
}
"""Builders of the parts of each class."""


def class_of(config: Config) -> str:
    """The class of a component. Raises `InputError` for one that has no builder."""
    key = "_class_name" if config.has("_class_name") else "model_type"
    name = config.get(key)
    if name is None:
        raise config.error("names no class; expected _class_name (diffusers) or model_type (transformers)")
    plain = str(name).removeprefix("Flax")
    if plain not in BUILDERS:
        raise config.error(f"unknown network {shown(name)}{nearest(plain, BUILDERS)}", key)
    return plain


def builder_of(config: Config, part: str) -> Build:
    """The builder of a part of a component. Raises `InputError`."""
    name = class_of(config)
    parts = BUILDERS[name]
    if part not in parts:
        raise config.error(f"'{name}' has no part '{part}'; expected one of {', '.join(parts)}")
    return parts[part]


def built(config: Config, part: str, inputs: Inputs, dtype: str) -> tuple[ModelGraph, Builder]:
    """The graph of one pass of a part, and its builder, which knows the memory that was live."""
    builder = Builder(inputs, dtype)
    builder_of(config, part)(config, builder)
    return builder.graph(config.name or class_of(config)), builder
