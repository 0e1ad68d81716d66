"""Peaks that a GPU's file does not give follow from those that it gives, by the rules of its architecture.

A rule is a ratio of two dense peaks that all GPUs of an architecture share, because the units that multiply one type
are built from those of the other: on Hopper bf16 runs at the rate of fp16, fp8 at twice that rate. Rules stand in the
files of `hardware/architectures/`, each with its source, and are read in both directions.
"""

from __future__ import annotations

from collections.abc import Sequence

from simgpu.hardware.spec import GPUSpec, Peak, PeakRule


def complete(gpu: GPUSpec, rules: Sequence[PeakRule], architecture: str) -> GPUSpec:
    """`gpu` with every peak (FLOP/s) that `rules` of its architecture give; what the file states stays as it is."""
    known = {peak.key: peak for peak in gpu.peak}
    sources = dict(gpu.sources)
    added = True
    while added:
        added = False
        for rule in rules:
            for key, of, ratio in ((rule.peak, rule.of, rule.ratio.si), (rule.of, rule.peak, 1 / rule.ratio.si)):
                if key not in known and of in known:
                    source = f"{of} x {ratio:.4g}"
                    known[key] = _peak(key, known[of].si * ratio, source)
                    sources[source] = f"derived: {ratio:.4g} times the peak {of}, as on all of {architecture}"
                    added = True
    if len(known) == len(gpu.peak):
        return gpu
    return gpu.model_copy(update={"peak": list(known.values()), "sources": sources})


def _peak(key: str, rate: float, source: str) -> Peak:
    dtype, accumulate, engine = key.split("-")
    return Peak(dtype=dtype, accumulate=accumulate, engine=engine, value=rate, unit="FLOP/s", source=source)
