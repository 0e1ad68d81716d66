"""Adapters of tables of whole inference runs: each row is deployed, and its step, batch or load simulated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from simgpu.analysis.inference import light_of
from simgpu.errors import InputError, MisfitError
from simgpu.lab.machines import cluster_for, one_node_holds, training_cluster
from simgpu.lab.validation import inference_rows
from simgpu.lab.validation.batches import Batch, Detail, Machine, Part, Unpredicted
from simgpu.lab.validation.inference_rows import DECODE, E2E, PREFILL, TPOT, TTFT, Asked, Engine, Translate
from simgpu.lab.validation.tables import Rows, Table
from simgpu.lab.validation.training import plan_text
from simgpu.lab.validation.training_rows import Reader
from simgpu.plan.checks import check_serves
from simgpu.plan.precision import precision_of
from simgpu.plan.serving_memory import most_sequences, serving_memory
from simgpu.workload.inference.deployment import Deployment, StepTime
from simgpu.workload.inference.disaggregation import serve_apart
from simgpu.workload.inference.generation import decode_runs, pipelined, prefill_runs
from simgpu.workload.inference.serving import Load, Serving, serve
from simgpu.workload.runtime_files import bare_forward, runtime

IMPOSSIBLE = 0.9
"""Of the time that the datasheet's bandwidth and peak allow: what is measured below it is no such run."""

SHAPE = ("concurrency", "tp_size", "decode_num_workers", "num_gpus")
"""Columns that say what a row is, beside its details."""

TOO_FAST = "measured faster than the datasheet lets weights and cache be read and multiplied"


@dataclass(frozen=True)
class Found:
    """A prediction, s, and the same at the speed of light."""

    seconds: float
    light: float
    caveat: str = ""


def adapter(translate: Translate) -> Callable[[Table, Rows, Machine], Iterator[Part]]:
    """The adapter of tables whose rows `translate` understands."""

    def parts(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
        return _parts(translate, table, rows, machine)

    return parts


llama_cpp, load_test, neusight, ml_engineering = (
    adapter(rows)
    for rows in (
        inference_rows.llama_cpp,
        inference_rows.load_test,
        inference_rows.neusight,
        inference_rows.ml_engineering,
    )
)


def _parts(translate: Translate, table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    scored: dict[tuple[str, str, str, str, bool], list[tuple[int, Asked, Found]]] = {}
    refused: dict[tuple[str, str, bool, str, bool], list[int]] = {}  # fields of `Unpredicted` but `again`
    for row in rows.tolist():
        try:
            quantities = list(translate(Reader(table, row, machine), machine.bench.catalogue))
        except InputError as error:  # a cell that means nothing
            refused.setdefault(("all", str(error.problem), False, error.key or "", False), []).append(row)
            continue
        words = next((asked for asked in quantities if isinstance(asked, str)), None)
        if words is not None:
            refused.setdefault(("all", words, False, "", False), []).append(row)
            continue
        wanted = [asked for asked in quantities if not isinstance(asked, str)]
        try:
            found = [predict(machine, asked) for asked in wanted]
        except InputError as error:
            misfit = isinstance(error, MisfitError)
            refused.setdefault((wanted[0].op, str(error.problem), False, "", misfit), []).append(row)
            continue
        if any(_impossible(asked, one) for asked, one in zip(wanted, found, strict=True)):
            refused.setdefault(("all", TOO_FAST, True, "", False), []).append(row)
            continue
        for i, (asked, one) in enumerate(zip(wanted, found, strict=True)):
            key = (asked.op, asked.dtype, runtime(asked.engine.runtime).engine, asked.engine.caveat, i > 0)
            scored.setdefault(key, []).append((row, asked, one))
    for (op, reason, left_out, column, misfit), at in refused.items():
        yield Unpredicted(op, np.asarray(at, np.intp), reason, left_out, key=column, misfit=misfit)
    for key, entries in scored.items():
        yield _batch(table, *key, entries)


def _impossible(asked: Asked, found: Found) -> bool:
    """Whether a run was measured faster than the datasheet allows."""
    return asked.op in (TPOT, E2E, DECODE) and asked.measured < IMPOSSIBLE * found.light


def _batch(
    table: Table, op: str, dtype: str, library: str, caveat: str, again: bool,
    entries: list[tuple[int, Asked, Found]],
) -> Batch:  # fmt: skip
    values = np.asarray([found.seconds for _, _, found in entries])
    light = np.asarray([found.light for _, _, found in entries])
    return Batch(
        op,
        dtype,
        np.asarray([row for row, _, _ in entries], np.intp),
        lambda: values,
        lambda: light,
        "gemm",
        library,
        SHAPE,
        caveat=caveat,
        measured=np.asarray([asked.measured for _, asked, _ in entries]),
        details=tuple(_detail(table, row, asked, found) for row, asked, found in entries),
        again=again,
    )


def _detail(table: Table, row: int, asked: Asked, found: Found) -> Detail:
    engine = asked.engine
    load = f"{asked.batch} x {asked.prompt:,}+{asked.output:,}"
    words = [plan_text(engine.plan), load, engine.precision]
    words += ["prefill-apart"] if asked.apart else []
    reader = Reader(table, row)
    gpus = engine.plan.world * asked.instances[1]
    if asked.apart is not None:
        gpus += asked.apart.plan.world * asked.instances[0]
    version = reader.word("version")
    name = f"{runtime(engine.runtime).engine} {version}".strip()
    return Detail(
        table.source, engine.config.name, gpus, " ".join(filter(None, words)), name, found.caveat or asked.caveat
    )


# ---- predictions -------------------------------------------------------------------------------------


def predict(machine: Machine, asked: Asked) -> Found:
    """Seconds of a quantity. Raises `InputError` for what cannot be deployed."""
    kept = machine.bench.steps
    key = (machine.gpu.name, "inference", replace(asked, op="", measured=0.0))
    if key not in kept:
        try:
            kept[key] = _whole(machine, asked)
        except InputError as error:
            kept[key] = error
    found = kept[key]
    if isinstance(found, InputError):
        raise found
    return found[asked.op]


def _whole(machine: Machine, asked: Asked) -> dict[str, Found]:
    """All quantities of a run."""
    deployment = deploy(machine, asked.engine)
    if asked.served:
        return _served(machine, deployment, asked)
    held = max(serving_memory(deployment.served, 1, 2, 0.0), key=lambda one: one.weights).weights
    if held > machine.gpu.memory.capacity.si:
        raise MisfitError(f"{held / 1e9:.0f} GB of weights do not fit a GPU", key="plan")
    if asked.op == PREFILL:
        runs = prefill_runs(deployment, asked.batch, asked.prompt)
        light = sum(light_of(run.step) * run.count for run in runs)
        return {PREFILL: Found(pipelined(runs, deployment.runtime.queue), light)}
    decode = decode_runs(deployment, asked.batch, asked.prompt, asked.output)
    light = sum(light_of(run.step) * run.count for run in decode)
    return {DECODE: Found(sum(run.seconds * run.count for run in decode), light)}


def _served(machine: Machine, deployment: Deployment, asked: Asked) -> dict[str, Found]:
    """A load test: steady state in closed form."""
    load = Load(asked.batch, asked.prompt, asked.output)
    room = most_sequences(deployment.served, asked.prompt + asked.output, machine.gpu.memory.capacity.si)
    if room == 0:
        raise MisfitError("weights and the cache of one request do not fit", key="plan")
    if asked.apart is None:
        done = serve(deployment, load)
    else:
        done = serve_apart(deploy(machine, asked.apart), deployment, load, *asked.instances)
    light = _light_of_load(done, deployment, asked)
    caveat = "saturated: requests queue for room in the cache" if done.saturated else ""
    whole = done.ttft + done.tpot * (asked.output - 1)
    prompt = light_of(_prompt(deployment, asked))
    return {
        TTFT: Found(done.ttft, prompt, caveat),
        TPOT: Found(done.tpot, light, caveat),
        E2E: Found(whole, prompt + light * (asked.output - 1), caveat),
    }


def _prompt(deployment: Deployment, asked: Asked) -> StepTime:
    runs = prefill_runs(deployment, 1, asked.prompt)
    return max((run.step for run in runs), key=light_of)


def _light_of_load(done: Serving, deployment: Deployment, asked: Asked) -> float:
    """TPOT at the speed of light: reads and multiplications of a decode step, and of the prompts that come between."""
    found = sum(light_of(step) * share for step, share in done.decode)
    if asked.apart is None and deployment.runtime.mixes:
        alone = light_of(_prompt(deployment, asked))
        weights = light_of(deployment.decode(1, 2))
        found += (done.batch - 1) * max(alone - weights, 0.0) / asked.output
    return found


def deploy(machine: Machine, engine: Engine) -> Deployment:
    """The deployment of a row, on the machine with the constants that the regime of the validation allows."""
    bench, gpus = machine.bench, engine.plan.world
    key = (machine.gpu.name, engine)
    if key not in bench.steps:
        check_serves(engine.plan, engine.config)
        name = machine.gpu.name
        per_node = gpus if one_node_holds(bench.catalogue, name, gpus) else min(engine.per_node, gpus)
        where = (bench.catalogue, name, gpus, per_node, engine.link, engine.network)
        cluster = cluster_for(*where[:5]) if gpus <= per_node else training_cluster(*where)
        cluster = replace(cluster, kernel=bench.constants(cluster.gpu))
        run = runtime(engine.runtime)
        run = bare_forward(run.name) if run.style == "eager" else run  # all such rows are forwards
        bench.steps[key] = Deployment(
            engine.config, cluster, engine.plan, precision_of(engine.precision), run, engine.dtype, engine.kv_dtype
        )
    return bench.steps[key]
