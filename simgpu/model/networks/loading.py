"""Puts a network together: its file, and the configurations that its stages name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from simgpu.documents import Document
from simgpu.errors import InputError, nearest
from simgpu.model.networks.config import Config
from simgpu.model.networks.pipeline import Pipeline, Stage, fields_of

WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".gguf", ".onnx", ".msgpack", ".h5")
"""Endings of files that hold weights."""


def refuse_weights(file: Path) -> None:
    """Raise `InputError` for a file of weights, whose shapes stand in the configuration beside it."""
    if file.suffix.lower() in WEIGHTS:
        raise InputError("holds weights; expected the configuration beside it, such as config.json", file=file)


def named_file(name: str) -> Path:
    """The file that a path names. Raises `InputError`."""
    file = Path(name)
    if not file.is_file():
        raise InputError(f"'{name}': no such file")
    refuse_weights(file)
    return file


def is_path(name: str) -> bool:
    """True if a name is meant as a path."""
    file = Path(name)
    return file.is_file() or len(file.parts) > 1 or file.suffix in (".yaml", ".yml", ".json", *WEIGHTS)


def assembled(file: Path, read: Callable[[Path], Document], components: dict[str, Path]) -> Pipeline:
    """The network of a file; `components` are configurations by name, others lie beside the file.

    Raises `InputError`.
    """
    document = read(file)
    fields = fields_of(document)
    stages = []
    for i, one in enumerate(fields.stages):
        beside = file.parent / one.config
        place = components.get(one.config) or (beside if beside.is_file() else None)
        if place is None:
            known = nearest(one.config, components, where="they stand in models/components")
            raise document.error(f"no such component '{one.config}'{known}", ("stages", i, "config"))
        refuse_weights(place)
        stages.append(Stage(one, Config(read(place), place.stem)))
    return Pipeline(fields, tuple(stages))
