"""Where the time of inference goes: kernels by class, collectives by group, host and copies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from simgpu.analysis.uncertainty import Part
from simgpu.analysis.utilisation import Products, products
from simgpu.model.operators import Attention
from simgpu.model.serving import is_decode
from simgpu.plan.parallelism import Plan
from simgpu.workload.blocks import BlockPart
from simgpu.workload.execution import Activity, Execution
from simgpu.workload.inference.deployment import StepTime
from simgpu.workload.inference.generation import Run

CLASSES = {"gemm": "gemm_s", "attention": "attention_s", "moe": "experts_s", "scan": "attention_s"}
GROUPS = {"tp": "exposed_tp_s", "cp": "exposed_cp_s", "experts": "exposed_ep_s", "pp": "exposed_pp_s"}
COLUMNS = (*dict.fromkeys(CLASSES.values()), "memory_bound_s", *GROUPS.values(), "host_s", "copies_s")


def anatomy_of(runs: Sequence[Run]) -> dict[str, float]:
    """Seconds of runs by column of `COLUMNS`, all pipeline stages together."""
    seconds = dict.fromkeys(COLUMNS, 0.0)
    for run in runs:
        for step, times in ((run.step, run.count), *(((run.extra, run.count * _guesses(run)),) if run.extra else ())):
            for made in step.stages:
                for block, count in made:
                    for part in block.parts:
                        seconds[column_of(part)] += part.exposed * count * times
            seconds["exposed_pp_s"] += step.send * (len(step.stages) - 1) * times
            seconds["host_s"] += step.host * times
            seconds["copies_s"] += sum(step.copies) * times
    return seconds


def _guesses(run: Run) -> float:
    """Steps of the draft model for each step of the model."""
    assert run.extra is not None
    return (run.seconds - run.step.seconds) / run.extra.seconds


def column_of(part: BlockPart) -> str:
    """The column of `COLUMNS` that a kernel or a collective counts for."""
    if part.activity.category != "compute":
        return GROUPS.get(part.activity.group, "exposed_tp_s")
    return CLASSES.get(part.activity.uncertainty.group, "memory_bound_s")


def products_of(runs: Sequence[Run], plan: Plan) -> Products:
    """Matrix products of steps on all GPUs. Those of a draft model, which do no work of the model, are left out.

    Where ranks of context parallelism decode, each attends to its part of the cache, and all of them multiply by the
    same weights: that counts once.
    """
    ranks = plan.tp * plan.dp

    def times(run: Run, activity: Activity) -> float:
        alike = plan.cp > 1 and activity.kind != Attention.kind and is_decode(run.step.groups)
        return run.count * run.together * ranks * (1 if alike else plan.cp)

    return products((one, count * times(run, one)) for run in runs for one, count in _kernels(run.step))


def phases(execution: Execution) -> list[tuple[str, str, list[Part]]]:
    """(phase, segment, parts) of every operator and collective of a timeline of inference, all pipeline stages.

    Parts of one name and phase stand together; those of the host are an operator 'host'.
    """
    found: dict[tuple[str, str, str], dict[Activity, list[float]]] = {}
    timeline = execution.timeline
    for stream in execution.streams:
        for number in timeline.of(stream["compute"]):
            label, seconds = timeline.labels[number], timeline.end[number] - timeline.start[number]
            assert isinstance(label, Activity)
            made = execution.blocks.get(label)
            if made is None:
                _add(found, label.segment, label.segment, label, 1, seconds, seconds)
                continue
            planned = sum(block.seconds * times for block, times in made)
            stretch = seconds / planned if planned else 1.0
            for block, times in made:
                for part in block.parts:
                    runs, factor = part.runs * times, times * stretch
                    _add(found, label.kind, part.activity.segment, part.activity, runs, part.seconds * factor,
                         part.exposed * factor)  # fmt: skip
    return [
        (phase, segment, [Part(one, int(runs), seconds, exposed) for one, (runs, seconds, exposed) in some.items()])
        for (phase, segment, _), some in found.items()
    ]


def _add(
    found: dict[tuple[str, str, str], dict[Activity, list[float]]], phase: str, segment: str, activity: Activity,
    runs: float, seconds: float, exposed: float,
) -> None:  # fmt: skip
    sums = found.setdefault((phase, segment, activity.name), {}).setdefault(activity, [0, 0.0, 0.0])
    for i, value in enumerate((runs, seconds, exposed)):
        sums[i] += value


def speed_of_light(step: StepTime) -> float:
    """Seconds of the kernels of a step at datasheet peaks and bandwidth, without gaps between them."""
    return sum(activity.sol_s * times for activity, times in _kernels(step))


def floor_of(run: Run) -> float:
    """Lower bound of the seconds of a step of a run, a draft's included, on a GPU with this datasheet.

    Weights and caches pass the memory once, matrix products run at their peaks, and what fits L2 stays there.
    """
    steps = [(run.step, 1.0), *([(run.extra, _guesses(run))] if run.extra else ())]
    seconds: float = sum(
        factor * times * activity.time.floor
        for step, factor in steps
        for activity, times in _kernels(step)
        if activity.time is not None
    )
    return seconds


def _kernels(step: StepTime) -> Iterator[tuple[Activity, float]]:
    """Kernels of a step, all stages, and how often each runs."""
    for made in step.stages:
        for block, times in made:
            for part in block.parts:
                if part.activity.category == "compute":
                    yield part.activity, float(part.runs * times)
