"""Random corners of the whole catalogue, and what must not fall from one to the next.

    for fall in falls(served(random.Random(1), 10)):
        print(fall)

A corner is a model, a machine, an engine or a framework, a precision and a plan; `served` and `trained` walk over such
corners and compare a step with one that has more to do. Whether a model fits a memory is ignored, and models have few
layers: laws hold for each kind of layer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from simgpu import Catalogue, Inference, InputError, Plan, Prefill, Training
from simgpu.hardware.cluster import Cluster
from simgpu.model.config import TransformerConfig
from simgpu.model.serving import Group
from simgpu.overrides import Override
from simgpu.plan.precision import PRECISIONS
from simgpu.simulation.call import simulate
from simgpu.study.whatif.inputs import inputs_of
from simgpu.workload.framework_files import built_in
from simgpu.workload.inference.deploying import deploy
from simgpu.workload.inference.deployment import Deployment
from simgpu.workload.inference.generation import generate
from simgpu.workload.inference.serving import Load, serve
from simgpu.workload.options import RunOptions
from simgpu.workload.runtime_files import shipped

CATALOGUE = Catalogue()
GPUS, NODES, CLUSTERS = (CATALOGUE.names(kind) for kind in ("gpus", "nodes", "clusters"))
MODELS = CATALOGUE.names("models")
SAME = 1e-9
"""Sums in another order."""
BESIDE = 1e-4
"""Where transfers run beside kernels: a kernel that ends later moves a transfer to where fewer others share its links.
Lists of tasks have such anomalies (R. Graham, "Bounds on Multiprocessing Timing Anomalies", 1969)."""
PACKED = 0.02
"""Prompts of a batch that fill several steps: a token more packs them anew, and the tiles of a step may miss a wave."""
SERVED = 0.005
"""The same of a server, whose prompts come among decodes."""
ROUTER = 5e-3
"""One expert more: llama.cpp scores nine of them with another kernel than eight."""
EDGES = (1, 2, 4, 7, 8, 15, 16, 17, 32, 63, 64, 127, 128, 255, 256, 511, 512)
"""Sizes beside which kernels and engines change what they do."""
RUNTIMES = {one.name: one for one in shipped().every()}
FIXED = {"algorithm": "ring", "protocol": "simple"}
"""How collectives run: NCCL goes from one protocol to the next where its own estimates say so, engines from one kernel
of theirs to the next at a number of bytes, and measured times fall there (docs/collectives.md). Within one way they
rise."""


@dataclass(frozen=True)
class Pair:
    """Two times of which the second has more to do."""

    law: str
    less: float
    more: float
    where: str
    slack: float = SAME

    @property
    def fall(self) -> float:
        """By which part of the first the second is shorter."""
        return 1 - self.more / self.less


def falls(pairs: Iterator[Pair]) -> list[str]:
    """Pairs that break their law, the worst first."""
    found = sorted((pair for pair in pairs if pair.fall > pair.slack), key=lambda pair: -pair.fall)
    return [f"{pair.law} falls by {pair.fall:.2g}: {pair.where}" for pair in found]


def some_size(draw: Random, most: int) -> int:
    """A number of tokens, sequences ...: often at or beside a power of two."""
    if draw.random() < 0.3:
        return draw.choice([size for size in EDGES if size <= most])
    size = round(math.exp(draw.uniform(0, math.log(most))))
    grain = 2 ** draw.randint(0, 8)
    return max(size // grain * grain, 1) if draw.random() < 0.5 else size


def machine(draw: Random) -> Cluster:
    """Any GPU by itself, node or cluster."""
    return CATALOGUE.cluster(draw.choice(draw.choice([GPUS, GPUS, NODES, CLUSTERS])))


def small(name: str, layers: int = 1) -> TransformerConfig:
    """A model with a layer of each kind, or so many."""
    config = CATALOGUE.model(name)
    kinds = config.dense_layers + 1 if config.experts > 1 else max(config.window_every, 1)
    return replace(config, layers=min(config.layers, max(kinds, layers)))


def degrees(draw: Random, cluster: Cluster, config: TransformerConfig) -> dict[str, int]:
    """Degrees of parallelism that the machine has GPUs for."""
    tp = draw.choice([n for n in (1, 1, 2, 4, 8) if n <= cluster.gpus_per_node])
    pp = draw.choice([n for n in (1, 1, 2, 4) if n * tp <= cluster.gpu_count])
    ep = draw.choice([1, tp]) if config.experts > 1 else 1
    return {"tp": tp, "pp": pp, "ep": ep}


# ---- inference ---------------------------------------------------------------------------------------


def deployment(draw: Random, model: str | None = None, engine: str | None = None) -> Deployment:
    """A model on a machine, as some engine runs it; others are drawn until one can be."""
    while True:
        cluster, name = machine(draw), model or draw.choice(MODELS)
        split = degrees(draw, cluster, CATALOGUE.model(name))
        config = small(name, split["pp"])
        job = Inference(
            batch=1, prompt=8, output=2 if config.causal else 1, runtime=engine or draw.choice(list(RUNTIMES)),
            precision=draw.choice([None, *PRECISIONS]), kv_cache=draw.choice([None, None, "fp8"]),
            routing=draw.choice([None, None, "balanced", "random", "power_law_1.2"]) if config.experts > 1 else None,
        )  # fmt: skip
        try:
            run, how = CATALOGUE.runtime(job.runtime), RunOptions(draw.choice(["bf16", "fp16"]), **FIXED)
            found = deploy(cluster, job, config, Plan(**split), run, how)
        except InputError:
            continue
        return replace(found, runtime=replace(found.runtime, custom_reduce=False)).fresh()


def served(draw: Random, corners: int, models: tuple[str | None, ...] = (None,)) -> Iterator[Pair]:
    """Steps, batches, servers and larger models of deployments, each beside one with more to do."""
    for i in range(corners):
        found = deployment(draw, models[i % len(models)])
        for part in (_steps, _batches, _servers, _larger_models):
            yield from part(draw, found)


def _text(found: Deployment, **sizes: int) -> str:
    plan = found.plan
    how = f"{found.runtime.name} {found.precision.name} {found.dtype} kv {found.kv_dtype} {found.routing}"
    where = f"{found.config.name} on {found.cluster.name}, tp {plan.tp} pp {plan.pp} ep {plan.ep}"
    return f"{where}, {how}, {sizes}"


def _steps(draw: Random, found: Deployment) -> Iterator[Pair]:
    count, context, decodes = some_size(draw, 4), some_size(draw, 30_000) + 1, some_size(draw, 300)
    new, past = some_size(draw, 4000), draw.choice([0, 0, 500, 3000])
    if found.config.causal:
        at = {"decodes": decodes, "context": context}
        first = found.decode(decodes, context).seconds
        for name in at:
            more = at | {name: at[name] + 1}
            yield Pair(f"decode, {name}", first, found.decode(*more.values()).seconds, _text(found, **at))
        if found.runtime.style == "ggml" and new == 1:
            return  # one query over a cache runs in slow kernels of its own: docs/inference.md
    at = {"count": count, "new": new, "past": past if found.config.causal else 0}
    base = _prompts(found, **at)
    for name in at if found.config.causal else ("count", "new"):
        more = at | {name: at[name] + 1}
        yield Pair(f"prompt, {name}", base, _prompts(found, **more), _text(found, **at))
    if found.runtime.mixes:
        beside = found.step(Group(count, new, new), Group(decodes, 1, context)).seconds
        text = _text(found, count=count, new=new, decodes=decodes, context=context)
        yield Pair("mixed, decodes", beside, _mixed(found, count, new, decodes + 1, context), text)
        yield Pair("mixed, new", beside, _mixed(found, count, new + 1, decodes, context), text)


def _prompts(found: Deployment, count: int, new: int, past: int) -> float:
    return found.step(Group(count, new, new + past)).seconds


def _mixed(found: Deployment, count: int, new: int, decodes: int, context: int) -> float:
    return found.step(Group(count, new, new), Group(decodes, 1, context)).seconds


def _batches(draw: Random, found: Deployment) -> Iterator[Pair]:
    at = {"batch": some_size(draw, 64), "prompt": some_size(draw, 9000), "output": some_size(draw, 40)}
    if not found.config.causal:
        at["output"] = 1
    once = generate(found, **at)
    packed = at["batch"] > 1 and at["batch"] * (at["prompt"] + 1) > found.chunk
    for name in at if found.config.causal else ("batch", "prompt"):
        more = generate(found, **at | {name: at[name] + 1})
        slack = PACKED if packed and name != "output" else SAME
        yield Pair(f"batch, {name}, end to end", once.total, more.total, _text(found, **at), slack)
        if name != "output":
            yield Pair(f"batch, {name}, first token", once.ttft, more.ttft, _text(found, **at), slack)


def _servers(draw: Random, found: Deployment) -> Iterator[Pair]:
    if not found.config.causal:
        return
    at = {"concurrency": some_size(draw, 100), "prompt": some_size(draw, 4000), "output": some_size(draw, 100)}
    once = serve(found, Load(**at))
    more = serve(found, Load(**at | {"concurrency": at["concurrency"] + 1}))
    yield Pair("server, users, time of a request", once.total, more.total, _text(found, **at), SERVED)
    yield Pair("server, users, requests/s", once.requests_per_s, more.requests_per_s, _text(found, **at))


def _larger_models(draw: Random, found: Deployment) -> Iterator[Pair]:
    config, count, context = found.config, some_size(draw, 100), some_size(draw, 3000) + 1
    larger = {"layers": replace(config, layers=config.layers + found.plan.pp)}
    if config.experts > 1 and found.routing == "balanced":  # else all tokens are dealt anew (docs/inference.md)
        larger["experts"] = replace(config, experts=config.experts + found.plan.ep)
    for name, other in larger.items():
        more = replace(found, config=other).fresh()
        for law, groups in (("decode", Group(count, 1, context)), ("prompt", Group(1, context, context))):
            pair = found.step(groups).seconds, more.step(groups).seconds
            slack = ROUTER if name == "experts" else SAME
            yield Pair(f"{law}, {name}", *pair, _text(found, count=count, context=context), slack)


# ---- faster hardware ---------------------------------------------------------------------------------


def quickened(draw: Random, corners: int) -> Iterator[Pair]:
    """The same work on a GPU of which one thing is better, and as it is."""
    for _ in range(corners):
        served, learning = deployment(draw), trainee(draw)
        at = {"batch": some_size(draw, 64), "prompt": some_size(draw, 3000), "output": 3 if served.config.causal else 1}
        slow = generate(served, **at)
        for one in _better(draw, served.cluster, served.dtype, served.plan.world):
            fast = generate(replace(served, cluster=one[1]).fresh(), **at)
            yield Pair(f"{one[0]}, first token", fast.ttft, slow.ttft, _text(served, **at))
            yield Pair(f"{one[0]}, end to end", fast.total, slow.total, _text(served, **at))
        step, gpus = learning.step(), Plan(**learning.plan).world
        for name, cluster in _better(draw, learning.cluster, learning.how["dtype"], gpus):
            slack = BESIDE if learning.plan["dp"] > 1 else SAME
            yield Pair(f"{name}, training", replace(learning, cluster=cluster).step(), step, str(learning), slack)


def _better(draw: Random, cluster: Cluster, dtype: str, gpus: int) -> Iterator[tuple[str, Cluster]]:
    """The machine with inputs of its GPUs scaled, some at a time; links make NCCL choose anew."""
    known = [one for one in inputs_of(cluster, dtype, gpus) if any(key.startswith("gpu.") for key in one.figures)]
    for one in draw.sample([one for one in known if one.name in OF_THE_GPU], 2):
        better = draw.choice([1.03, 1.5, 2.0])
        _, values = one.scaled(1 / better if one.dimension == "time" else better)
        overrides = [Override(key, value, "test") for key, value in values.items()]
        yield f"{one.name} x {better:g}", CATALOGUE.cluster(cluster.name, overrides)


OF_THE_GPU = (
    *("hbm_bandwidth", "hbm_capacity", "l2_cache", "tensor_peak", "vector_peak", "sm_clock", "sm_count"),
    *("power_limit", "kernel_latency"),
)

# ---- training ----------------------------------------------------------------------------------------


def trained(draw: Random, corners: int, models: tuple[str | None, ...] = (None,)) -> Iterator[Pair]:
    """Steps of training, and forward passes, each beside one with more to do."""
    for i in range(corners):
        yield from _training(draw, models[i % len(models)])


@dataclass(frozen=True)
class Trainee:
    """A model in training."""

    cluster: Cluster
    config: TransformerConfig
    plan: dict[str, Any]
    how: dict[str, Any]
    many: int
    tokens: int
    flash: bool

    def __str__(self) -> str:
        work = f"{self.many} x {self.tokens} tokens, flash {self.flash}"
        return f"{self.config.name} on {self.cluster.name}, {self.how}, {self.plan}, {work}"

    def step(self) -> float:
        """Seconds of a step of `many` microbatches."""
        batch = self.plan["dp"] * self.plan["micro_batch"] * self.many
        return self._seconds(Training(batch=batch, tokens=self.tokens, flash=self.flash), Plan(**self.plan))

    def forward(self, batch: int = 2, more: int = 0) -> float:
        """Seconds of a forward pass over `batch` sequences, `more` tokens longer."""
        return self._seconds(Prefill(batch=batch, tokens=self.tokens + more), Plan(tp=self.plan["tp"]))

    def _seconds(self, job: Training | Prefill, plan: Plan) -> float:
        return float(simulate(self.cluster, job, self.config, plan, **self.how, **FIXED).step_s)

    def larger(self, **more: int) -> Trainee:
        """The same with fields of its model grown."""
        grown = {name: getattr(self.config, name) + by for name, by in more.items()}
        return replace(self, config=replace(self.config, **grown))


def trainee(draw: Random, model: str | None = None) -> Trainee:
    """A model on a machine, as some framework trains it; others are drawn until one can be."""
    while True:
        cluster, name = machine(draw), model or draw.choice(MODELS)
        plan: dict[str, Any] = degrees(draw, cluster, CATALOGUE.model(name))
        free = cluster.gpu_count // (plan["tp"] * plan["pp"])
        config = small(name, plan["pp"])
        config = replace(config, layers=-(-config.layers // plan["pp"]) * plan["pp"])
        plan["dp"] = draw.choice([n for n in (1, 2, 4) if n <= free])
        plan["ep"] = draw.choice([1, plan["dp"]]) if config.experts > 1 else 1
        plan |= {"micro_batch": draw.choice([1, 2, 5]), "zero": draw.choice([0, 1, 2, 3])}
        plan["recompute"] = draw.choice(["none", "selective", "full"])
        how = {"dtype": draw.choice(["bf16", "fp16", "fp8"]), "framework": draw.choice(list(built_in().names))}
        flash = draw.choice([True, True, False])
        found = Trainee(cluster, config, plan, how, draw.choice([1, 3]), some_size(draw, 3000), flash)
        try:
            found.step()
        except InputError:
            continue
        return found


def _training(draw: Random, model: str | None) -> Iterator[Pair]:
    found = trainee(draw, model)
    plan, base = found.plan, found.step()
    where, slack = str(found), BESIDE if found.plan["dp"] > 1 else SAME
    wider = replace(found, plan=plan | {"micro_batch": plan["micro_batch"] + 1})
    yield Pair("training, tokens", base, replace(found, tokens=found.tokens + 1).step(), where, slack)
    yield Pair("training, microbatch", base, wider.step(), where, slack)
    yield Pair("training, microbatches", base, replace(found, many=found.many + 1).step(), where, slack)
    kinds = {kind for kind, _ in found.larger(layers=plan["pp"]).config.layer_kinds()}
    if plan["pp"] == 1 or len(kinds) == 1:  # else the fullest stage may get layers of a lighter kind
        yield Pair("training, layers", base, found.larger(layers=plan["pp"]).step(), where, slack)
    if found.config.experts > 1:
        yield Pair("training, experts", base, found.larger(experts=plan["ep"]).step(), where, slack)
    forward = found.forward()
    yield Pair("forward, tokens", forward, found.forward(more=1), where)
    yield Pair("forward, batch", forward, found.forward(batch=3), where)
