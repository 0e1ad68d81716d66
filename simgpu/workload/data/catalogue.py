"""The catalogue of a data pipeline: kinds of storage, of samples and of decoders, each figure with its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simgpu.documents import Document, read_yaml
from simgpu.errors import InputError, nearest, no_flag
from simgpu.memo import remembered
from simgpu.workload.sourced import figure, quantity

FILE = Path(__file__).with_name("catalogue.yaml")

NO_DECODER = "none"
"""The decoder of what needs none."""


@dataclass(frozen=True)
class Storage:
    """A place that samples are read from.

    bandwidth
        Bytes a second that a node reads at most; 0: only `stream` limits it.
    stream
        Bytes a second of one connection; 0: as many as there are.
    latency
        Seconds until the first byte of a request comes.
    requests
        Requests a second that it answers, each node's own or, where `shared`, all nodes together; 0: not known.
    """

    name: str
    title: str
    bandwidth: float
    stream: float
    latency: float
    requests: float
    shared: bool
    sources: Mapping[str, str]


@dataclass(frozen=True)
class Samples:
    """What a data set is made of: bytes of a sample, or of a token where `by_token`, and who decodes it."""

    name: str
    title: str
    unit: str
    bytes: float
    by_token: bool
    decoder: str
    sources: Mapping[str, str]


@dataclass(frozen=True)
class Decoder:
    """Seconds of a core for a sample, or for a token of text; `of` is the unit of samples that it takes."""

    name: str
    title: str
    of: str
    seconds: float
    sources: Mapping[str, str]


@dataclass(frozen=True)
class Known:
    """All of the catalogue, by names."""

    storage: Mapping[str, Storage]
    samples: Mapping[str, Samples]
    decoders: Mapping[str, Decoder]


@remembered(1)
def known() -> Known:
    """The catalogue, read once."""
    document = read_yaml(FILE)
    stores, sets, decoders = (document.data[part] for part in ("storage", "samples", "decoders"))
    return Known(
        {name: _storage(document, name, data) for name, data in stores.items()},
        {name: _samples(document, name, data) for name, data in sets.items()},
        {name: _decoder(document, name, data) for name, data in decoders.items()},
    )


def found(part: str, name: str) -> Any:
    """An entry of a part of the catalogue. Raises `InputError` at the key of the job that names it."""
    entries = getattr(known(), part)
    if name not in entries:
        key = {"samples": "samples", "storage": "storage", "decoders": "decoder"}[part]
        raise InputError(f"'{name}' is not known{nearest(name, entries)}", key=f"workload.data.{key}")
    return entries[name]


def _figures(document: Document, part: str, name: str, data: Mapping[str, Any], units: Mapping[str, str]) -> Any:
    values, sources = dict.fromkeys(units, 0.0), {}
    for key, unit in units.items():
        if key in data:
            value, own, source = figure(document, data[key], (part, name, key))
            values[key], sources[key] = quantity(value, own, unit), source
    return values, sources


def _storage(document: Document, name: str, data: Mapping[str, Any]) -> Storage:
    units = {"bandwidth": "B/s", "stream": "B/s", "latency": "s", "requests": ""}
    values, sources = _figures(document, "storage", name, data, units)
    shared = data.get("shared", False)
    if not isinstance(shared, bool):
        raise document.error(no_flag(shared), ("storage", name, "shared"))
    return Storage(name, data["title"], shared=shared, sources=sources, **values)


def _samples(document: Document, name: str, data: Mapping[str, Any]) -> Samples:
    values, sources = _figures(document, "samples", name, data, {"bytes": "B"})
    return Samples(name, data["title"], data["unit"], values["bytes"], "each" in data, data["decoder"], sources)


def _decoder(document: Document, name: str, data: Mapping[str, Any]) -> Decoder:
    values, sources = _figures(document, "decoders", name, data, {"seconds": "s"})
    return Decoder(name, data["title"], data.get("of", ""), values["seconds"], sources)
