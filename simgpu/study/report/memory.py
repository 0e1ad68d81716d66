"""Memory of an experiment: plans that do not fit with what would help, and the stages of each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import IO, Any

from simgpu.catalog import Catalogue
from simgpu.columns import COLUMNS
from simgpu.hardware.derive import is_slice
from simgpu.plan.fit import fit_text, suggestions
from simgpu.plan.memory import GIB, PARTS, Memory, Room, peak
from simgpu.plan.serving_fit import DEGREES, misfit_text
from simgpu.plan.serving_memory import PARTS as SERVING_PARTS
from simgpu.plan.serving_memory import ServingMemory
from simgpu.render.columns import title
from simgpu.scenario import resolve_cluster
from simgpu.simulation.result import Result
from simgpu.study.experiment.loading import Case
from simgpu.study.experiment.running import ExperimentResult
from simgpu.workload.inference.jobs import Deployed
from simgpu.workload.jobs import Training, deployed_as

MOST_NAMES = 3
"""Rows that a note names, of those that do not fit for the same reason."""


def row_name(outcome: ExperimentResult, number: int) -> str:
    """Words that tell a row from the others: its labels, what the file varies, and the degrees of its plan."""
    row = outcome.rows[number]
    words = [str(value) for key, value in row.items() if key not in COLUMNS and isinstance(value, str)]
    words += [f"{title(key)} {value}" for key, value in row.items() if key.startswith(("workload.", "plan."))]
    words += [str(row[key]) for key in ("model", "cluster") if key in outcome.experiment.fields.varied]
    degrees = [f"{title(key)} {row[key]}" for key in ("tp", "cp", "pp", "dp", "ep") if row.get(key, 1) > 1]
    return ", ".join([*words, " ".join(degrees) or "1 GPU"])


def misfits(outcome: ExperimentResult, catalogue: Catalogue) -> list[tuple[str, str]]:
    """(rows, by how much their plan is too large and what would make it fit), for each that does not fit."""
    rows_of_text: dict[str, list[str]] = {}
    for number, (case, result) in enumerate(zip(outcome.experiment.cases, outcome.results, strict=True)):
        scenario, workload = case.scenario, case.scenario.workload
        if not result.memory or not scenario.model or result.row["memory_fits"]:
            continue
        cluster = catalogue.cluster(scenario.cluster)
        if not isinstance(workload, Training):
            rows_of_text.setdefault(_unserved(case, result, catalogue), []).append(row_name(outcome, number))
            continue
        worst = peak([stage for stage in result.memory if isinstance(stage, Memory)])
        framework = catalogue.framework(scenario.framework)
        helps = suggestions(
            workload.with_mtp(catalogue.model(scenario.model)),
            scenario.plan.plan(),
            workload.numerics(scenario.dtype, framework=framework),
            framework.memory,
            workload.batch,
            workload.fullest_tokens(scenario.plan.plan()),
            worst.capacity or 0.0,
            cluster.gpus_per_node,
            Room.of(cluster),
        )
        rows_of_text.setdefault(fit_text(worst, helps), []).append(row_name(outcome, number))
    return [("; ".join(names[:MOST_NAMES]) + _others(names), text) for text, names in rows_of_text.items()]


def tight(outcome: ExperimentResult) -> list[str]:
    """A line for each row that trains and may or may not fit: with which probability, and what it needs."""
    lines = []
    for number, row in enumerate(outcome.rows):
        if row.get("memory_verdict") == "tight":
            low, high = (row[f"memory_bytes_per_gpu_{end}"] / GIB for end in ("p10", "p90"))
            size = f"needs {low:.1f} to {high:.1f} of {row['memory_capacity_bytes'] / GIB:.1f} GiB"
            lines.append(
                f"{row_name(outcome, number)}: tight, fits with a probability of {row['fit_probability']:.2f} "
                f"({size}, and what the allocator's gaps take)"
            )
    return lines


def _unserved(case: Case, result: Result, catalogue: Catalogue) -> str:
    """The excess memory of a deployment that does not fit, and what would help."""
    from simgpu.workload.inference.deploying import deploy

    scenario, row = case.scenario, result.row
    assert isinstance(scenario.workload, Deployed)
    cluster, model = resolve_cluster(scenario, catalogue, case.origins), catalogue.model(str(scenario.model))
    run = catalogue.runtime(scenario.workload.runtime)
    deployment = deploy(cluster, deployed_as(scenario.workload), model, scenario.plan.plan(), run, scenario.options())
    tokens = row["prompt"] + row["output"] if "prompt" in row else max(row["past"] + row["prefill"], row["context"])
    batch = row.get("batch") or max(row.get("decodes", 0), 1)
    join = 1 if is_slice(cluster.gpu) else DEGREES[-1]  # slices reach no other GPU
    return misfit_text(deployment.served, batch, tokens, row["memory_capacity_bytes"], cluster.gpu_count, join=join)


def _others(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMES
    return f"; {more} more" if more > 0 else ""


def stage_data(stage: Memory | ServingMemory) -> dict[str, Any]:
    """Bytes of a stage by part; of a training step also when its peak is, and what stands in buffers and at work."""
    if isinstance(stage, ServingMemory):
        return dict(stage.as_dict())
    return {**stage.as_dict(), "event": stage.event, "ledger": dict(stage.ledger)}


def stages(memory: Sequence[Memory | ServingMemory]) -> dict[str, Mapping[str, Any]]:
    """Memory of each pipeline stage by name; neighbours that are alike stand together."""
    groups: list[list[Memory | ServingMemory]] = []
    for stage in memory:
        parts = PARTS if isinstance(stage, Memory) else SERVING_PARTS
        alike = groups and all(abs(getattr(groups[-1][0], part) - getattr(stage, part)) < 1.0 for part in parts)
        if alike:
            groups[-1].append(stage)
        else:
            groups.append([stage])
    if len(groups) == 1:
        return {"every GPU": groups[0][0].as_dict()}
    return {_named(group): group[0].as_dict() for group in groups}


def print_tables(outcome: ExperimentResult, out: IO[str]) -> None:
    """A table of memory for each scenario that trains or serves."""
    from simgpu.render.memory import print_memory

    for number, result in enumerate(outcome.results):
        if result.memory:
            print_memory(stages(result.memory), f"Memory of {row_name(outcome, number)}", out)


def _named(group: Sequence[Memory | ServingMemory]) -> str:
    first, last = group[0].stage, group[-1].stage
    return f"stage {first}" if first == last else f"stages {first}-{last}"
