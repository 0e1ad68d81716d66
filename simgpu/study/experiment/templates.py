"""Commented files to start a GPU, node, cluster or model of one's own from."""

from __future__ import annotations

import re

from simgpu.reading import built_in_folder

TEMPLATES = {
    "gpu": "hardware/templates/gpu.yaml",
    "node": "hardware/templates/node.yaml",
    "cluster": "hardware/templates/cluster.yaml",
    "model": "models/templates/model.json",
}
"""Path of the template of each kind in the catalogue that comes with simgpu."""


def template(kind: str, name: str | None = None) -> str:
    """The text of the template of `kind`; `name` becomes the name of the part, as a file of that name needs it.

    A model's name is that of its file alone.
    """
    text = (built_in_folder() / TEMPLATES[kind]).read_text(encoding="utf-8")
    return re.sub(r"(?m)^name: .*$", f"name: {name}", text, count=1) if name else text
