"""What a configuration of a framework means: keys of a scenario, and what of it has none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from simgpu.model.config import TransformerConfig


@dataclass
class Config:
    """What a configuration means.

    kind, version
        The framework, and the version whose names were read.
    keys
        Keys of a scenario with their values.
    model
        The model as it names it, empty where it names none.
    shape
        Figures of the model that it says ('layers', 'hidden'), by which one of the catalogue is found.
    likely
        Figures that choose among models of that shape.
    starts
        How the name of the model in the catalogue begins, where only a family is named.
    gpus, per_node
        GPUs that it runs on, and of each node, where it says so; 0: it does not.
    ignored, unknown
        Names that change nothing of the times, and names that are not known here.
    notes
        Sentences for the reader.
    """

    kind: str
    version: str
    keys: dict[str, Any] = field(default_factory=dict)
    model: str = ""
    shape: dict[str, int] = field(default_factory=dict)
    likely: dict[str, int] = field(default_factory=dict)
    starts: tuple[str, ...] = ()
    gpus: int = 0
    per_node: int = 0
    ignored: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def put(self, key: str, value: Any, default: Any = None) -> None:
        """Set a key where its value is not the default."""
        if value is not None and value != default:
            self.keys[key] = value


def agreeing(shape: Mapping[str, int], config: TransformerConfig) -> int:
    """How many figures of a shape a model has."""
    return sum(getattr(config, name) == value for name, value in shape.items())
