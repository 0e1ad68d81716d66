"""What to measure next: which measurement would shrink the interval of a prediction most, by predicting again as if.

A class of kernels that its user measured has the regime and the source that `simgpu calibrate` gives it, and a logged
run is one more run of the framework or engine, as `simgpu observe` writes it. Values stay as they are: what a
measurement will say nobody knows, only how sure one is after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from simgpu.analysis.uncertainty import Part, parts_of
from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster
from simgpu.hardware.figure import Quantity
from simgpu.hardware.inherit import CALIBRATE, REGIMES, STEP, Calibration, Given
from simgpu.model.operators import Attention, Matmul
from simgpu.scenario import Origins, Scenario, resolve_cluster, run_scenario
from simgpu.timing.uncertainty import class_of
from simgpu.workload.runtime_files import runtime

MAIN = ("step_s", "tpot_s", "latency_s", "ttft_s")
"""The column whose interval counts, by workload: the first that a row has; of servers time per output token."""
SERVERS = ("serving", "traffic")
LLAMA = "llama.cpp"
TOP = 3
"""Shapes and sizes that are named."""
NOTICED = 0.005
"""Part of the width that a measurement has to take away to be listed."""
HAIR = 1 + 1e-9
"""Constants that are as if measured differ by this, so that no interval that is remembered stands for theirs."""

WHAT = {"gemm": "gemm", "attention": "attention", "vector": "stream,l2"}
"""Kinds of rows of `simgpu measure` by class of constants."""


@dataclass(frozen=True)
class Proposed:
    """A measurement: its `commands`, why (what of the time it speaks for), the width of the interval after it."""

    what: str
    commands: tuple[str, ...]
    why: str
    after: float


@dataclass(frozen=True)
class Planned:
    """Measurements, the best first; widths are P90 over P10. `column` is the one whose interval it is."""

    name: str
    column: str
    value: float
    before: float
    proposed: Sequence[Proposed]
    useless: Sequence[str]


def plan(scenario: Scenario, origins: Origins, catalogue: Catalogue, name: str, number: int) -> Planned:
    """The measurements that would shrink the interval of a case most. Raises `InputError` where it has none."""
    cluster = resolve_cluster(scenario, catalogue, origins)
    result = run_scenario(scenario, catalogue, origins, cluster)
    row = result.row
    column = _main(row, scenario.workload.kind)
    before = _width(row, column)
    if before <= 1:
        raise InputError(f"{column} has no interval: nothing to measure would change it", key="--plan")
    found = []
    for what, commands, why, changed in _candidates(scenario, row, _parts(result), cluster, f"{name} --case {number}"):
        after = _width(run_scenario(scenario, catalogue, origins, changed).row, column)
        found.append(Proposed(what, commands, why, after))
    found.sort(key=lambda one: one.after)
    least = before ** (1 - NOTICED)
    helps = [one for one in found if one.after < least]
    return Planned(name, column, row[column], before, helps, [one.what for one in found if one.after >= least])


def _main(row: Mapping[str, Any], kind: str) -> str:
    names = ("tpot_s", *MAIN) if kind in SERVERS else MAIN
    for name in names:
        if row.get(f"{name}_p90"):
            return name
    raise InputError(f"a case of '{kind}' has no time with an interval", key="--plan")


def _width(row: Mapping[str, Any], column: str) -> float:
    low, high = row.get(f"{column}_p10"), row.get(f"{column}_p90")
    return float(high / low) if low and high else 1.0


def _parts(result: Any) -> list[Part]:
    """What the first rank runs, longest first."""
    return sorted(parts_of(result.execution, 0), key=lambda part: -part.seconds)


Candidate = tuple[str, tuple[str, ...], str, Cluster]


def _candidates(
    scenario: Scenario, row: Mapping[str, Any], parts: Sequence[Part], cluster: Cluster, case: str
) -> Iterator[Candidate]:
    """Measurements, each with the cluster as it is known after it."""
    total = sum(part.seconds for part in parts) or 1.0
    classes: dict[str, list[Part]] = {}
    for part in parts:
        classes.setdefault(class_of(part.activity.kind), []).append(part)
    for kind, some in classes.items():
        share = f"{100 * sum(part.seconds for part in some) / total:.0f} % of the time of kernels and collectives"
        if kind in WHAT:
            said = _shapes(some)
            rows = f"simgpu measure --what {WHAT[kind]} -o rows.csv"
            then = f"simgpu calibrate rows.csv --gpu {cluster.gpu.name} --out my-catalogue"
            yield f"kernels: {kind}", (rows, then), f"{share}{said}", _calibrated(cluster, kind)
        elif kind == "collective":
            measured = ("simgpu measure --what nccl -o links.csv",
                    f"simgpu calibrate links.csv --gpu {cluster.gpu.name} --out my-catalogue")  # fmt: skip
            yield "links", (*_nccl(some, row), *measured), share, _calibrated(cluster, kind)
    stack = _stack(scenario, row)
    if stack:
        for what, commands, why, runs in _runs(scenario, row, case):
            yield what, commands, why, _logged(cluster, stack, runs)


def _stack(scenario: Scenario, row: Mapping[str, Any]) -> str:
    if scenario.workload.kind == "training":
        return str(row["framework"])
    return runtime(row["runtime"]).engine if row.get("runtime") else ""


def _runs(scenario: Scenario, row: Mapping[str, Any], case: str) -> Iterator[tuple[str, tuple[str, ...], str, int]]:
    """Logs of the real run: what, commands, why, how many runs they are."""
    if scenario.workload.kind == "training":
        log_it = f"simgpu observe train.log --of {case} -o mine.yaml"
        yield "one run of the framework", ("# log ten steps of this very job: train.log", log_it), "all of the step", 1
        return
    if row["runtime"] == LLAMA:
        prompt, output = _lengths(row)
        line = f"llama-bench -m MODEL.gguf -p {prompt} -n {output} -o json > bench.json"
        yield "one run of the engine", (line, f"simgpu observe bench.json --of {case} -o mine.yaml"), "all of it", 1
        return
    bench = [_bench(scenario, row, concurrency) for concurrency in (1, 64)]
    observe = f"simgpu observe c1.json --of {case} -o mine.yaml"
    both = f"simgpu observe c1.json c64.json --of {case} -o mine.yaml"
    yield "the engine at concurrency 1", (bench[0], observe), "kernels that stream weights, and the host", 1
    yield "the engine at concurrency 1 and 64", (*bench, both), "tells time of kernels from that of the host", 2


def _bench(scenario: Scenario, row: Mapping[str, Any], concurrency: int) -> str:
    prompt, output = _lengths(row)
    return (
        f"vllm bench serve --model {scenario.model or 'MODEL'} --dataset-name random --random-input-len {prompt}"
        f" --random-output-len {output} --max-concurrency {concurrency} --num-prompts {max(16, 4 * concurrency)}"
        f" --save-result --result-filename c{concurrency}.json"
    )


def _lengths(row: Mapping[str, Any]) -> tuple[int, int]:
    """Tokens of a prompt and of an answer."""
    return round(row.get("prompt") or 1024), round(row.get("output") or 256)


def _shapes(parts: Sequence[Part]) -> str:
    """The shapes in which a class spends its time."""
    found = []
    for part in parts:
        op = part.activity.op
        if isinstance(op, Matmul):
            found.append(f"{op.m.size}x{op.n_size}x{op.k.size} {op.dtype}")
        elif isinstance(op, Attention):
            found.append(f"{part.activity.name}, {op.dtype}")
    named = list(dict.fromkeys(found))[:TOP]
    return f", most in {'; '.join(named)}" if named else ""


def _nccl(parts: Sequence[Part], row: Mapping[str, Any]) -> Iterator[str]:
    """Lines of nccl-tests for the collectives that take longest, at the sizes they have."""
    exposed = sorted(parts, key=lambda part: -part.exposed)
    calls = {(part.activity.kind, _ranks(part, row)): part.activity.bytes for part in reversed(exposed)}
    for (kind, ranks), size in list(reversed(calls.items()))[:TOP]:
        program = {"all_to_all": "alltoall", "send_recv": "sendrecv"}.get(kind, kind)
        least = max(int(size) // 16, 8)
        yield f"{program}_perf -b {least} -e {max(int(size), least)} -f 2 -g {ranks} > {kind}.log"


def _ranks(part: Part, row: Mapping[str, Any]) -> int:
    """Over how many GPUs a collective goes, as far as a result says."""
    known = part.activity.ranks or row.get(part.activity.group) or row.get("dp") or row.get("gpus") or 2
    return max(int(known), 2)


# ---- as if measured --------------------------------------------------------------------------------------


def _calibrated(cluster: Cluster, kind: str) -> Cluster:
    """A cluster whose user measured a class of kernels, with the constants as they are."""
    constants = cluster.kernel
    given = {path: _own(one) if path[0] == kind else one for path, one in constants.given.items()}
    return replace(cluster, kernel=Calibration(given, constants.gpu, constants.architecture))


def _own(one: Given) -> Given:
    value = one.figure.value
    figure = one.figure.model_copy(update={"value": value if value == int(value) else value * HAIR})
    return replace(one, figure=figure, regime=REGIMES[0], source=f"as if by {CALIBRATE}")


def _logged(cluster: Cluster, stack: str, more: int) -> Cluster:
    """A cluster of which `more` runs of a framework or an engine are known."""
    constants = cluster.kernel
    slowdown, runs = constants.steps(stack)
    figures = {"slowdown": Quantity(value=slowdown), "runs": Quantity(value=float(runs + more))}
    made: dict[tuple[str, ...], Given] = {
        (STEP, stack, name): Given(figure, "as if logged", cluster.gpu.name, REGIMES[0])
        for name, figure in figures.items()
    }
    return replace(cluster, kernel=Calibration({**constants.given, **made}, constants.gpu, constants.architecture))
