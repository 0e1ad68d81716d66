"""Models and clusters of many scenarios, each made once from the catalogue, whatever parameters are set by hand."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster
from simgpu.hardware.figure import figures
from simgpu.memo import Region
from simgpu.model.config import TransformerConfig
from simgpu.scenario import Origins

MOST_MODELS = 1024
"""Models that are kept, derived ones among them."""

MOST_CLUSTERS = 256
"""Clusters that are kept; a sweep over a hardware parameter has one for each of its values."""


class Resolver:
    """The models, clusters and GPUs that names of a catalogue mean."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self._models: Region[str, TransformerConfig] = Region(MOST_MODELS)
        self._clusters: OrderedDict[str, Cluster] = OrderedDict()
        self._figures: OrderedDict[int, tuple[Cluster, dict[str, Any]]] = OrderedDict()

    def model(self, name: str) -> TransformerConfig:
        """A model by name. Raises `InputError`."""
        return self._models.known(name, lambda: self.catalogue.model(name))

    def cluster(self, name: str, hardware: Mapping[str, Any], origins: Origins | None = None) -> Cluster:
        """A cluster with its parameters set by hand; errors name the place of each where `origins` knows it."""
        key = json.dumps([name, list(hardware.items())], default=repr)
        cluster = self._clusters.get(key)
        if cluster is None:
            places = origins or Origins()
            overrides = [places.override(key, value) for key, value in hardware.items()]
            try:
                cluster = self.catalogue.cluster(name, overrides)
            except InputError as error:
                raise error if error.file else places.error(error.problem, ("cluster",)) from None
            self._clusters[key] = cluster
            if len(self._clusters) > MOST_CLUSTERS:
                self._clusters.popitem(last=False)
        else:
            self._clusters.move_to_end(key)
        return cluster

    def figures(self, cluster: Cluster) -> Mapping[str, Any]:
        """Every figure of a cluster in SI units by the key that sets it: 'gpu.memory.bandwidth'."""
        known = self._figures.get(id(cluster))
        if known is not None and known[0] is cluster:
            return known[1]
        values: dict[str, Any] = {}
        specs: dict[str, Any] = {"cluster": cluster.spec, "node": cluster.node, "gpu": cluster.gpu}
        specs |= {f"link.{name}": link for name, link in cluster.links.items()}
        for root, spec in specs.items():
            for path, figure in figures(spec):
                values[".".join((root, *map(str, path)))] = figure.value
        for path, one in cluster.kernel.given.items():
            values["gpu.kernel." + ".".join(path)] = one.figure.value
        self._figures[id(cluster)] = cluster, values
        if len(self._figures) > MOST_CLUSTERS:
            self._figures.popitem(last=False)
        return values
