"""Parameters of the stages of a network, counted from graphs of the smallest inputs that they take."""

from __future__ import annotations

from collections.abc import Mapping

from simgpu.model.networks.build import Inputs
from simgpu.model.networks.components import built
from simgpu.model.networks.pipeline import Pipeline

SMALL = 64
"""Pixels of a side, latents or tokens: parameters depend on none of them."""


def parameters_of(pipeline: Pipeline) -> Mapping[str, int]:
    """Parameters of each stage by its name."""
    found = {}
    for stage in pipeline.stages:
        fields = pipeline.fields
        plain = stage.fields.role == "network" and fields.height
        side = fields.height if plain and fields.height else SMALL
        inputs = Inputs(1, side, side, 1, stage.fields.tokens or SMALL)
        graph, _ = built(stage.config, stage.fields.part, inputs, "fp32")
        found[stage.name] = graph.weights * stage.fields.copies
    return found
