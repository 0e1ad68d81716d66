"""Rows of measured power and energy, each with what is predicted: language models that are served, images and videos.

`energy_llm.csv`: mean board power and energy of a token (ML.ENERGY v1 to v3): vLLM in its steady state, vLLM 0.5.4, and
eager PyTorch with one stream. `energy_diffusion.csv`: whole pipelines. Columns are those of the published tables.

Prompt lengths are not in the file: 250 tokens are assumed, 500 where code is completed. `tp` 1 with `ep` n on n GPUs is
read as experts over n ranks of tensor parallelism.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from simgpu.analysis.inference import phases
from simgpu.analysis.power import SPREAD, Board, energy_of, server_watts
from simgpu.analysis.uncertainty import Part, parts_of
from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster
from simgpu.lab.machines import training_cluster
from simgpu.lab.validation.energy.stretched import UNEVEN, watts_at
from simgpu.lab.validation.sources.energy_diffusion import OTHERS
from simgpu.plan.parallelism import Plan
from simgpu.simulation.call import runtime_of, simulate
from simgpu.simulation.result import Result
from simgpu.workload.jobs import Serving

LLM, DIFFUSION = "energy_llm.csv", "energy_diffusion.csv"

PROMPT, CODE_PROMPT = 250, 500
CODE_TASKS = ("llm/code", "sourcegraph-fim")
SEEING = ("image-chat", "video-chat", "mllm/chat")
"""Tasks whose prompts hold images of sizes that nobody states."""

ENGINES = (
    ("0.5.4", "vllm@0.4", "vLLM 0.5.4"),
    ("eager", "eager@4.36", "eager, one stream"),
    ("vllm", "vllm", "vLLM 2025"),
)
"""What a row says of its engine, the runtime that stands for it, and the class it is scored in."""

DTYPES = {"bfloat16": "bf16", "float16": "fp16", "fp8": "bf16", "mxfp4": "bf16"}
"""Activations by the type of the weights."""
PRECISIONS = {"fp8": "fp8", "mxfp4": "mxfp4"}


@dataclass(frozen=True)
class Scored:
    """One row: W of a GPU, J of a token or an output, s of a token or a batch.

    `at_time` is the power that is predicted with the time as measured, with its P10 and P90; `power` that with the
    predicted time.
    """

    source: str
    line: int
    gpu: str
    kind: str
    what: str
    model: str
    tdp: float
    measured: float
    at_time: float
    low: float
    high: float
    power: float
    measured_j: float
    energy_j: float
    energy_low: float
    energy_high: float
    measured_s: float
    seconds: float


@dataclass(frozen=True)
class Skipped:
    """A row that nothing is predicted for."""

    source: str
    line: int
    reason: str


class Machines:
    """Clusters and predictions that rows share."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.clusters: dict[tuple[str, int], Cluster] = {}
        self.runs: dict[str, Result] = {}

    def of(self, gpu: str, gpus: int) -> Cluster:
        """A node with that many GPUs. Raises `InputError`."""
        if (gpu, gpus) not in self.clusters:
            self.clusters[gpu, gpus] = training_cluster(self.catalogue, gpu, gpus, gpus)
        return self.clusters[gpu, gpus]

    def run(self, cluster: Cluster, job: Mapping[str, Any], model: Any, plan: Plan, dtype: str) -> Result:
        """A simulated job; equal ones are run once."""
        key = repr((cluster.name, sorted(job.items()), getattr(model, "name", model), plan, dtype))
        if key not in self.runs:
            self.runs[key] = simulate(cluster, dict(job), model, plan, dtype=dtype, catalogue=self.catalogue)
        return self.runs[key]


def predict(folder: Path, catalogue: Catalogue) -> tuple[list[Scored], list[Skipped]]:
    """All rows of a folder. Raises `InputError` where it holds none of the tables."""
    machines = Machines(catalogue)
    found: list[Scored] = []
    skipped: list[Skipped] = []
    files = [(name, _file(folder, name)) for name in (LLM, DIFFUSION)]
    if all(file is None for _, file in files):
        raise InputError(f"holds neither {LLM} nor {DIFFUSION}", file=folder, key="data")
    for name, file in files:
        read = _served if name == LLM else _network
        for line, row in _rows(file) if file is not None else ():
            made = _row(read, row, name, line, machines)
            (found if isinstance(made, Scored) else skipped).append(made)  # type: ignore[arg-type]
    return found, skipped


def _row(
    read: Callable[[Mapping[str, str], str, int, Machines], Scored], row: Mapping[str, str], name: str, line: int,
    machines: Machines,
) -> Scored | Skipped:  # fmt: skip
    try:
        return read(row, name, line, machines)
    except InputError as error:
        return Skipped(name, line, error.problem)
    except (KeyError, ValueError) as error:
        return Skipped(name, line, f"cannot be read: {error}")


def _file(folder: Path, name: str) -> Path | None:
    return next((one for one in (folder / name, folder / "operations" / name) if one.is_file()), None)


def _rows(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    with file.open(encoding="utf-8", newline="") as stream:
        yield from enumerate(csv.DictReader(stream), 2)


def _number(row: Mapping[str, str], name: str) -> float | None:
    return float(row[name]) if row.get(name) else None


# ---- language models ---------------------------------------------------------------------------------


def _served(row: Mapping[str, str], source: str, line: int, machines: Machines) -> Scored:
    """A served model. Raises `InputError` for what is not predicted."""
    if row["task"] in SEEING:
        raise InputError("prompts with images or videos of sizes that are not stated")
    gpus, engine = int(row["num_gpus"]), next(one for one in ENGINES if one[0] in row["framework"])
    model = machines.catalogue.model(row["model"] or row["model_id"])
    tokens = float(row["output_tokens"]) if row.get("output_tokens") else float(PROMPT)
    batch = max(_number(row, "batch_avg") or 1.0, 1.0)
    job: dict[str, Any] = {
        "kind": "serving", "concurrency": max(round(batch), 1), "runtime": engine[1], "output": max(round(tokens), 2),
        "prompt": CODE_PROMPT if row["task"] in CODE_TASKS else PROMPT,
    }  # fmt: skip
    dtype = row["weight_dtype"]
    if dtype in PRECISIONS:
        job["precision"] = PRECISIONS[dtype]
    ep = int(row["ep"] or 1)
    plan = Plan(tp=gpus, ep=ep) if ep > 1 else Plan(tp=gpus)
    cluster = machines.of(row["gpu"], gpus)
    result: Any = machines.run(cluster, job, model, plan, DTYPES[dtype])
    joules, rate = float(row["energy_j_per_token"]), _number(row, "tokens_per_s")
    total = _number(row, "power_w_total") or joules * (rate or 0.0)
    if not total:
        raise InputError("no power, and no rate that it would follow from")
    seconds = _number(row, "tpot_s") or batch / (rate or 1.0)
    waits = 1.0 if not runtime_of(Serving(**job), machines.catalogue).overlaps_host else UNEVEN if ep > 1 else 0.0
    at_time = _at_time(result, cluster, seconds, waits)
    experts = ", experts" if model.experts > 1 else ""
    kind = f"{engine[2]}{experts}"
    what = f"{row['task']} tp={gpus} ep={ep} batch={batch:.0f} {dtype}"
    measured = (total / gpus, joules, seconds)
    return _scored((source, line, kind, what), cluster, result, measured, at_time, "energy_j_per_token", result.tpot_s)


def _at_time(result: Any, cluster: Cluster, seconds: float, waits: float) -> float:
    """W of a server's GPU whose steps of decodes take `seconds`."""
    board = Board.of(cluster)
    parts = [part for _, _, some in phases(result.execution) for part in some]
    scale = (result.tpot_s - result.interference_s) / result.execution.step
    work = [replace(one, seconds=one.seconds * scale, exposed=one.exposed * scale) for one in parts if not _waits(one)]
    waiting = max(result.execution.step * scale - sum(one.exposed for one in work), 0.0)
    running = watts_at(work, waiting, seconds, waits, board)
    share = result.interference_s / (seconds + result.interference_s)
    return server_watts(running, _prompts(result, board), board.levels.waiting, share)


def _waits(part: Part) -> bool:
    return part.activity.kind == "host" and part.activity.name == "host"


def _prompts(result: Any, board: Board) -> float:
    """W while prompts are worked on: that of the server less what its decodes draw."""
    running = energy_of(result.execution, board).watts
    share = result.interference_s / result.tpot_s if result.tpot_s else 0.0
    if share < SMALL:
        return board.levels.limit
    watts = float(result.power_w_per_gpu - (1 - share) * running) / share
    return min(max(watts, board.levels.idle), board.levels.limit)


SMALL = 1e-3


# ---- images and videos -------------------------------------------------------------------------------


def _network(row: Mapping[str, str], source: str, line: int, machines: Machines) -> Scored:
    """A batch of images or videos. Raises `InputError` for what is not predicted."""
    name = row["model_id"]
    reason = next((words for part, words in OTHERS.items() if part in name.lower()), None)
    if reason is not None:
        raise InputError(reason)
    gpus, ulysses, ring = (int(row.get(key) or 1) for key in ("num_gpus", "ulysses", "ring"))
    if ulysses > 1 and ring > 1:
        raise InputError("tokens shared by heads and in a ring at once")
    if ulysses * ring != gpus:
        raise InputError("GPUs that do not share the tokens")
    plan = Plan(cp=gpus, context="all_to_all" if ulysses > 1 else "ring") if gpus > 1 else Plan()
    job: dict[str, Any] = {key: int(float(row[key])) for key in ("batch", "steps", "height", "width")}
    job |= {"kind": "network", "stack": "xdit" if "xDiT" in row["note"] else "diffusers"}
    if row.get("frames"):
        job["frames"] = int(float(row["frames"]))
    cluster = machines.of(row["gpu"], gpus)
    pipeline = machines.catalogue.network(name)
    result: Any = machines.run(cluster, job, pipeline, plan, DTYPES[row["weight_dtype"]])
    seconds, joules = float(row["latency_s"]), float(row["energy_j_per_output"])
    total = _number(row, "power_w_total") or joules * job["batch"] / seconds
    parts = [one for one in parts_of(result.execution, 0) if one.activity.kind != "host"]
    rest = max(result.step_s - sum(one.exposed for one in parts), 0.0)
    at_time = watts_at(parts, rest, seconds, 0.0, Board.of(cluster))
    kind = "videos" if "video" in row["task"] else "images"
    kind += ", one GPU" if gpus == 1 else ", several GPUs"
    what = f"cp={gpus} batch={job['batch']}"
    measured = (total / gpus, joules, seconds)
    return _scored((source, line, kind, what), cluster, result, measured, at_time, "energy_j_per_item", result.step_s)


def _scored(
    named: tuple[str, int, str, str], cluster: Cluster, result: Any, measured: tuple[float, float, float],
    at_time: float, energy: str, seconds: float,
) -> Scored:  # fmt: skip
    source, line, kind, what = named
    low, high = SPREAD[result.power_regime]
    limit = cluster.gpu.power.tdp.si
    joules, joules_low, joules_high = (result.row[f"{energy}{end}"] for end in ("", "_p10", "_p90"))
    return Scored(
        source, line, cluster.gpu.name, kind, what, result.model, limit, measured[0], at_time, low * at_time,
        max(min(high * at_time, limit), at_time), result.power_w_per_gpu, measured[1], joules, joules_low, joules_high,
        measured[2], seconds,
    )  # fmt: skip
