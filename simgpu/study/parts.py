"""Doubts about the parts that an experiment runs on: figures that no known GPU comes near."""

from __future__ import annotations

from simgpu.catalog import Catalogue
from simgpu.hardware.derive import is_slice
from simgpu.hardware.plausible import doubts
from simgpu.scenario import resolve_cluster
from simgpu.study.experiment import ExperimentResult


def doubtful_figures(outcome: ExperimentResult, catalogue: Catalogue) -> list[str]:
    """A note for each figure of the GPUs at work that is far outside every known part, each once."""
    found: dict[str, None] = {}
    seen = set()
    for case in outcome.experiment.cases:
        asked = (case.scenario.cluster, repr(case.scenario.hardware))
        if asked in seen:
            continue
        seen.add(asked)
        gpu = resolve_cluster(case.scenario, catalogue, case.origins).gpu
        found |= {f"check a figure of {gpu.name}: {doubt}": None for doubt in ([] if is_slice(gpu) else doubts(gpu))}
    return list(found)
