"""Commented files to start a part of the catalogue, or an experiment, of one's own from."""

from __future__ import annotations

import re

from simgpu.reading import built_in_folder

TEMPLATES = {
    "gpu": "hardware/templates/gpu.yaml",
    "node": "hardware/templates/node.yaml",
    "cluster": "hardware/templates/cluster.yaml",
    "model": "models/templates/model.json",
    "training": "experiments/templates/training.yaml",
    "inference": "experiments/templates/inference.yaml",
    "traffic": "experiments/templates/traffic.yaml",
    "search": "experiments/templates/search.yaml",
}
"""Path of the template of each kind in the catalogue that comes with simgpu."""


def template(kind: str, name: str | None = None) -> str:
    """The text of the template of `kind`; `name` becomes the name of the part or experiment, as its file needs it.

    A model's name is that of its file alone.
    """
    text = (built_in_folder() / TEMPLATES[kind]).read_text(encoding="utf-8")
    return re.sub(r"(?m)^(name|experiment): .*$", rf"\1: {name}", text, count=1) if name else text
