"""Notes on the parts that an experiment runs on.

They are on figures that no known GPU comes near, GPUs left idle, and versions of runtimes.
"""

from __future__ import annotations

from collections.abc import Sequence

from simgpu.catalog import Catalogue
from simgpu.hardware.derive import is_slice
from simgpu.hardware.plausible import doubts
from simgpu.scenario import resolve_cluster
from simgpu.study.experiment.running import ExperimentResult
from simgpu.timing.distance import MEANING, NEW, SAME
from simgpu.workload.inference.jobs import Deployed
from simgpu.workload.operator_list import OperatorList
from simgpu.workload.runtimes import MARK


def doubtful_figures(outcome: ExperimentResult, catalogue: Catalogue) -> list[str]:
    """A note for each figure of the GPUs at work that is far outside every known part, each once."""
    notes: dict[str, None] = {}
    seen = set()
    for case in outcome.experiment.cases:
        hardware = (case.scenario.cluster, repr(case.scenario.hardware))
        if hardware in seen:
            continue
        seen.add(hardware)
        gpu = resolve_cluster(case.scenario, catalogue, case.origins).gpu
        problems = [] if is_slice(gpu) else doubts(gpu, catalogue.architectures(gpu))
        notes |= {f"check a figure of {gpu.name}: {doubt}": None for doubt in problems}
    return list(notes)


def idle_gpus(outcome: ExperimentResult) -> list[str]:
    """A note for each cluster that a training or serving plan leaves GPUs of idle because it does not say `dp`."""
    clusters: dict[tuple[str, int, int], None] = {}
    for case, result in zip(outcome.experiment.cases, outcome.results, strict=True):
        if "dp" in case.scenario.plan.model_fields_set or case.scenario.workload.kind not in (
            "training",
            "serving",
            "traffic",
        ):
            continue
        used, there = result.row["gpus"], outcome.catalogue.cluster(case.scenario.cluster).gpu_count
        if there >= 2 * used:
            clusters[(case.scenario.cluster, used, there)] = None
    return [
        f"{cluster}: {used:,} of {there:,} GPUs are used; plan.dp is not given and so 1 (up to {there // used:,} fit)"
        for cluster, used, there in clusters
    ]


def lone_microbatches(outcome: ExperimentResult) -> list[str]:
    """A note for pipelines that have fewer microbatches than stages because the plan does not say `micro_batch`."""
    notes = {}
    for case, result in zip(outcome.experiment.cases, outcome.results, strict=True):
        row = result.row
        if case.scenario.workload.kind != "training" or "micro_batch" in case.scenario.plan.model_fields_set:
            continue
        if row["microbatches"] < row["pp"]:
            notes[row["microbatches"], row["pp"]] = row["bubble_fraction"]
    return [
        f"{many:,} microbatch{'es' if many > 1 else ''} for {stages} stages, {100 * bubble:.0f} % bubble:"
        " plan.micro_batch is not given and so all sequences of a replica at once"
        for (many, stages), bubble in notes.items()
    ]


def versions_of_runtimes(outcome: ExperimentResult) -> list[str]:
    """A note for each runtime whose version was named, or whose interval is not that of its version."""
    jobs = [case.scenario.workload for case in outcome.experiment.cases]
    asked = dict.fromkeys(job.runtime for job in jobs if isinstance(job, Deployed))
    return [note for name in asked if (note := version_note(name, outcome.catalogue))]


def assumed(outcome: ExperimentResult) -> list[str]:
    """One note for each graph with operators that are not known and run as bound by memory."""
    notes = []
    for case in outcome.experiment.cases:
        job = case.scenario.workload
        if isinstance(job, OperatorList) and job.assumed:
            names = ", ".join(f"{name} ({count})" for name, count in job.assumed.items())
            notes.append(f"{job.file}: not known, taken as bound by memory: {names}")
    return list(dict.fromkeys(notes))


def distances(outcome: ExperimentResult) -> list[str]:
    """Notes of how far the rows stand from what was measured: one for all of them, or by row where they differ.

    The first time that words stand there, what they mean stands behind them.
    """
    found: dict[str, list[int]] = {}
    for number, result in enumerate(outcome.results, 1):
        if result.row.get("distance"):
            found.setdefault(result.row["distance"], []).append(number)
    notes, said, narrow = [], set[str](), list[int]()
    for words, numbers in found.items():
        phrases = []
        narrow += numbers if {NEW, SAME} & set(words.split("; ")) else []
        for phrase in words.split("; "):
            meaning = "" if phrase in said or phrase not in MEANING else f" ({MEANING[phrase]})"
            phrases.append(phrase + meaning)
            said.add(phrase)
        which = f", {_rows(numbers)}" if len(found) > 1 else ""
        notes.append(f"how far from measurements{which}: {'; '.join(phrases)}")
    if narrow:
        of = "" if len(found) == 1 else f" of {_rows(sorted(narrow))}"
        notes.append(f"kernels measured on your GPU and given to simgpu calibrate narrow the intervals{of}")
    return notes


def _rows(numbers: Sequence[int]) -> str:
    return f"row{'s' if len(numbers) > 1 else ''} {_ranges(numbers)}"


def _ranges(numbers: Sequence[int]) -> str:
    """Numbers in a few words: '1-4, 7'."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)


def version_note(name: str, catalogue: Catalogue) -> str:
    """A note on a runtime whose version was named or whose interval is that of another version; None for others."""
    run = catalogue.runtime(name)
    if run.measured and MARK not in name:
        return ""
    text = f"{name}: {run.title}; {run.version}"
    if run.measured:
        return text
    near = ", ".join(one.since for one in catalogue.runtimes.versions(run.engine) if one.measured)
    return f"{text}; its interval is that of {near}, widened because versions of an engine differ"
