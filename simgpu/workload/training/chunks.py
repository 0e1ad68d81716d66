"""The contents of each pipeline stage: units (embedding, layers, head), chunk by chunk, as blocks with parameters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from simgpu.model.config import TransformerConfig
from simgpu.plan.parallelism import Plan
from simgpu.plan.states import has_copied_table, kinds_of_chunks
from simgpu.workload.training.job import Job
from simgpu.workload.training.layers import FURTHER_HEAD, Layers, Passes


def units_of(config: TransformerConfig, plan: Plan) -> Iterator[list[list[tuple[str, bool]]]]:
    """Yield the chunks of every stage.

    A chunk lists its units in order: kind, and whether the plan recomputes it.
    """
    for s in range(plan.pp):
        left = plan.recompute_layers if plan.recompute == "full" and plan.recompute_layers else config.layers
        stage = []
        for c, kinds in enumerate(kinds_of_chunks(config, plan, s)):
            units = [("embedding", False)] if s == 0 and c == 0 else []
            for kind in kinds:
                units.append((kind, left > 0))
                left -= 1
            if s == plan.last_stage and c == plan.vp - 1:
                units += [("head", False), *[(FURTHER_HEAD, False)] * config.trained_mtp]
            stage.append(units)
        yield stage


def chunks_of(job: Job, layers: Layers) -> list[list[list[Passes]]]:
    """The units of each chunk of each stage; equal ones are the same object."""
    units: dict[tuple[str, bool], Passes] = {}

    def unit(kind: str, again: bool) -> Passes:
        if (kind, again) not in units:
            one = layers.unit(kind, again)
            units[kind, again] = _tied(job, one) if kind == "head" else one
        return units[kind, again]

    return [[[unit(*one) for one in chunk] for chunk in stage] for stage in units_of(job.config, job.plan)]


def tied_table(job: Job) -> float:
    """Parameters of a rank's part of the embedding that a second stage holds too."""
    config, plan = job.config, job.plan
    return config.vocab * config.hidden / plan.tp if has_copied_table(config) and plan.last_stage else 0.0


def _tied(job: Job, unit: Passes) -> Passes:
    """The unit with a table of its own, where a tied head is on another stage than the embedding (Megatron-LM)."""
    table = tied_table(job)
    trained = unit.trained + (table if job.numerics.finetune == "full" else 0.0)
    return replace(unit, weights=unit.weights + table, trained=trained) if table else unit
