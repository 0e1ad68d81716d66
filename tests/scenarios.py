"""Random valid scenarios of every kind of job, for laws that hold for all of them.

    @given(scenes())
    def test_a_law(scene):
        assert scene.run().step_s > 0

A `Scene` runs on a cluster of its own, or with an input of the hardware scaled: `scene.run(memory_bandwidth=2)`. Models
have few layers, so that a scene takes some hundredths of a second. `scenes("training")` draws one kind alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from itertools import count
from typing import Any

from hypothesis import assume, settings
from hypothesis import strategies as st

from simgpu import Catalogue, Inference, InputError, MixedStep, OperatorList, Plan, Prefill, Result, Serving, Training
from simgpu.hardware.cluster import Cluster
from simgpu.model.config import TransformerConfig
from simgpu.overrides import Override
from simgpu.simulation.call import simulate
from simgpu.study.whatif.inputs import Input, inputs_of

CATALOGUE = Catalogue()
KINDS = ("prefill", "training", "operators", "inference", "mixed", "serving")
MACHINES = (
    *("dgx-h100", "dgx-a100", "dgx-b200", "h100-sxm", "l4", "rtx-4090", "l40s-pcie-4x", "rtx-4090-pcie-4x"),
    *("rtx-3090-nvlink-2x", "a100-sxm-80gb", "dgx-h100-ib"),
)
MODELS = {
    "llama-3.2-1b": 4, "llama-3.1-8b": 2, "qwen3-8b": 2, "gpt2-xl": 3, "gemma-3-4b": 6, "mixtral-8x7b": 2,
    "deepseek-v2-lite": 3,
}  # fmt: skip
"""Models by name, and the layers that are kept of each."""


def laws(examples: int) -> settings:
    """The same examples each time, and no limit by the clock."""
    return settings(derandomize=True, deadline=None, max_examples=examples, database=None)


_numbers = count()


def fresh(cluster: Cluster) -> Cluster:
    """A cluster of the same figures on which nothing was worked out: its title makes it a machine of its own."""
    title = f"{cluster.spec.title}, fresh {next(_numbers)}"
    return replace(cluster, spec=cluster.spec.model_copy(update={"title": title}))


@dataclass(frozen=True)
class Scene:
    """One thing to simulate, in objects."""

    machine: str
    job: Any
    model: TransformerConfig | None
    plan: Plan
    how: dict[str, Any] = field(default_factory=dict)
    nodes: int = 1

    def cluster(self, **factors: float) -> Cluster:
        """A fresh cluster, with inputs of its hardware (`simgpu.study.whatif.inputs`) scaled by name."""
        values: dict[str, Any] = {"cluster.nodes": self.nodes} if self.machine.endswith("-ib") else {}
        if factors:
            known = self.inputs()
            values |= {key: value for name, factor in factors.items() for key, value in _scaled(known[name], factor)}
        return CATALOGUE.cluster(self.machine, [Override(key, value, "test") for key, value in values.items()])

    def inputs(self) -> dict[str, Input]:
        """Physical inputs of the machine that this scene can feel, by name."""
        return {one.name: one for one in inputs_of(self.cluster(), self.how.get("dtype", "bf16"), self.plan.world)}

    def run(self, cluster: Cluster | None = None, **factors: float) -> Result:
        """The answer, on a cluster of its own unless one is given."""
        if cluster is None and not factors:
            return self._plain
        return simulate(cluster or self.cluster(**factors), self.job, self.model, self.plan, **self.how)

    @cached_property
    def _plain(self) -> Result:
        return self.run(self.cluster())

    def but(self, **changes: Any) -> Scene:
        """The same scene with fields of its job changed."""
        return replace(self, job=self.job.model_copy(update=changes))


def _scaled(one: Input, factor: float) -> list[tuple[str, Any]]:
    return list(one.scaled(factor)[1].items())


@cache
def small(name: str) -> TransformerConfig:
    """A model of the catalogue with few layers."""
    config = CATALOGUE.model(name)
    return replace(config, layers=MODELS[name], dense_layers=min(config.dense_layers, 1))


def scenes(*kinds: str, machines: tuple[str, ...] = MACHINES) -> st.SearchStrategy[Scene]:
    """Valid scenes of some kinds of jobs (default: all)."""
    return st.one_of(*(_SCENES[kind](st.sampled_from(machines)) for kind in kinds or KINDS))


def valid(scene: Scene) -> Scene:
    """The scene, where it can be run; else another one is drawn."""
    try:
        scene.run()
    except InputError:
        assume(False)
    return scene


def _degrees(draw: Any, machine: str, *sizes: int) -> list[int]:
    """Degrees of at most `sizes`, of which the machine has GPUs enough, each a power of two."""
    left, found = 16 if machine.endswith("-ib") else CATALOGUE.cluster(machine).gpus_per_node, []
    for most in sizes:
        found.append(draw(st.sampled_from([n for n in (1, 2, 4, 8) if n <= min(left, most)])))
        left //= found[-1]
    return found


_TOKENS = st.sampled_from([64, 128, 512, 1024])


@st.composite
def _operators(draw: Any, machines: st.SearchStrategy[str]) -> Scene:
    machine = draw(machines)
    (tp,) = _degrees(draw, machine, 8)
    size = st.sampled_from([64, 512, 2048, 4096])
    made: list[dict[str, Any]] = [
        {"op": "matmul", "m": draw(size), "n": draw(size), "k": draw(size), "split": draw(st.sampled_from("mnk"))},
        {"op": "pointwise", "rows": draw(size), "width": draw(size), "split": "rows"},
        {"op": draw(st.sampled_from(["all_reduce", "all_gather", "all_to_all"])), "bytes": draw(size) * 1e3},
    ]
    job = OperatorList(operators=draw(st.permutations(made)), repeat=draw(st.integers(1, 3)))  # type: ignore[arg-type]
    return valid(Scene(machine, job, None, Plan(tp=tp), {"dtype": draw(st.sampled_from(["fp16", "bf16"]))}))


@st.composite
def _prefill(draw: Any, machines: st.SearchStrategy[str]) -> Scene:
    machine = draw(machines)
    tp, dp = _degrees(draw, machine, 8, 2)
    plan = Plan(tp=tp, dp=dp, sequence_parallel=draw(st.booleans()))
    job = Prefill(batch=dp * draw(st.sampled_from([1, 2, 4])), tokens=draw(_TOKENS))
    return valid(Scene(machine, job, small(draw(_MODELS)), plan, {"dtype": draw(_DTYPES)}, _nodes(plan)))


@st.composite
def _training(draw: Any, machines: st.SearchStrategy[str]) -> Scene:
    machine = draw(machines)
    pp, cp, tp, dp = _degrees(draw, machine, 2, 2, 8, 8)
    zero = draw(st.integers(0, 3))
    try:
        plan = Plan(
            tp=tp, dp=dp, pp=pp, cp=cp, zero=zero, ep=draw(st.sampled_from([1, 1, 2])),
            sequence_parallel=draw(st.booleans()), micro_batch=draw(st.sampled_from([1, 1, 2])),
            recompute=draw(st.sampled_from(["none", "selective", "full"])), overlap_gradients=draw(st.booleans()),
            overlap_weights=draw(st.booleans()), async_tp=draw(st.sampled_from([False, False, True])),
        )  # fmt: skip
    except InputError:
        assume(False)
        raise
    job = Training(
        batch=dp * draw(st.sampled_from([2, 4])), tokens=draw(_TOKENS), clip=draw(st.booleans()),
        optimizer=draw(st.sampled_from(["adam", "adam", "sgd"])), reduce=draw(st.sampled_from([None, "bf16"])),
        train_tokens=1e9,
    )  # fmt: skip
    stacks = ["megatron", "megatron", "pytorch-2023", "pytorch-eager", "pytorch-compiled"]
    how = {"dtype": draw(_DTYPES), "framework": draw(st.sampled_from(stacks))}
    return valid(Scene(machine, job, small(draw(_MODELS)), plan, how, _nodes(plan)))


def _deployed(draw: Any) -> dict[str, Any]:
    runtime = draw(st.sampled_from(["vllm", "sglang", "trtllm", "eager", "compiled"]))
    precision = draw(st.sampled_from([None, "fp8", "int4"])) if runtime in ("vllm", "sglang", "trtllm") else None
    return {"runtime": runtime, "precision": precision}


def _served(draw: Any, machine: str) -> Plan:
    tp, dp = _degrees(draw, machine, 8, 2)
    return Plan(tp=tp, dp=dp)


def _nodes(plan: Plan) -> int:
    """Nodes that a plan fills, of eight GPUs each."""
    return -(-plan.world // 8)


@st.composite
def _inference(draw: Any, machines: st.SearchStrategy[str]) -> Scene:
    machine = draw(machines)
    job = Inference(
        batch=2 * draw(st.sampled_from([1, 2, 8])), prompt=draw(_TOKENS), output=draw(st.sampled_from([1, 2, 17])),
        prefix_hit=draw(st.sampled_from([0.0, 0.0, 0.5])), **_deployed(draw),
    )  # fmt: skip
    plan = _served(draw, machine)
    return valid(Scene(machine, job, small(draw(_MODELS)), plan, nodes=_nodes(plan)))


@st.composite
def _mixed(draw: Any, machines: st.SearchStrategy[str]) -> Scene:
    machine = draw(machines)
    prefill, past = draw(st.sampled_from([(0, 0), (64, 0), (256, 0), (64, 128)]))
    job = MixedStep(prefill=prefill, past=past, decodes=2, context=draw(_TOKENS), **_deployed(draw))
    plan = _served(draw, machine)
    return valid(Scene(machine, job, small(draw(_MODELS)), plan, nodes=_nodes(plan)))


@st.composite
def _serving(draw: Any, machines: st.SearchStrategy[str]) -> Scene:
    machine = draw(machines)
    job = Serving(
        concurrency=2 * draw(st.sampled_from([1, 4, 32])), prompt=draw(_TOKENS), output=draw(st.sampled_from([4, 64])),
        **_deployed(draw),
    )  # fmt: skip
    plan = _served(draw, machine)
    return valid(Scene(machine, job, small(draw(_MODELS)), plan, nodes=_nodes(plan)))


_MODELS = st.sampled_from(list(MODELS))
_DTYPES = st.sampled_from(["bf16", "bf16", "fp16", "fp8"])
_SCENES = {
    "operators": _operators, "prefill": _prefill, "training": _training, "inference": _inference, "mixed": _mixed,
    "serving": _serving,
}  # fmt: skip
