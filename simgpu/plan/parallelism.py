"""Degrees and choices of a plan: how a step is split over GPUs, and which splits a model and a cluster allow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from operator import attrgetter
from typing import Any

from simgpu.arguments import FLAG, TEXTS, check, plain
from simgpu.errors import InputError, nearest, shown
from simgpu.field_pages import listed
from simgpu.memo import fields_of, remembered
from simgpu.plan.experts import NAMED
from simgpu.plan.keys import STACK, Key, counts_of, micro_batch_of, number_of, of_plan, schedule_of, shard_of
from simgpu.plan.ranks import Ranks

TENSOR_AXES = ("heads", "ffn", "vocab")
"""Axes that tensor parallelism splits (Shoeybi et al., Megatron-LM, 2019, section 3)."""

EXPERT_AXIS = "expert_ffn"
"""The width of experts, which may be split in fewer ways."""

ORDER = ("tp", "cp", "ep", "dp", "pp")
"""Rank order, innermost first: neighbouring ranks form tensor-parallel groups (Megatron-LM's default)."""

SCHEDULES = ("gpipe", "1f1b", "interleaved", "zb-h1", "zb-v", "dualpipe-v")
V_SHAPED = ("zb-v", "dualpipe-v")
"""Schedules of two chunks on each stage, the second in reverse order."""
RECOMPUTE = ("none", "selective", "full")
CONTEXT = ("ring", "all_gather", "all_to_all")
MODULES = ("core_attn", "layernorm", "mlp", "moe", "moe_act", "mla_up_proj", "shared_experts")
"""What selective recomputation can make again, by Megatron-LM's names."""
OFFLOAD = ("none", "optimizer", "parameters")
OFFLOAD_TO = ("host", "nvme", "mixed")
LISTS = ("order", "recompute_modules", "stage_layers")
"""Keys whose value is a list."""

_PLAIN = (int, float, bool, str, tuple, type(None))


@dataclass(frozen=True)
class Plan(Ranks, metaclass=listed(Ranks)):  # type: ignore[metaclass]
    """The split of a step over GPUs. World = tp x cp x pp x dp.

    The degree ep is carved out of dp x cp (Megatron-LM), in inference out of tp x dp (serving engines).

    This is the one definition of the keys of a plan: experiment files, searches and docs/experiments.md follow it.
    """

    tp: int = of_plan(1, "tensor parallelism: heads, feed-forward width, vocabulary")
    dp: int = of_plan(1, "data-parallel replicas; the batch is divided among them")
    sequence_parallel: bool = of_plan(
        False, "what works on whole rows is split along the sequence (Korthikanti et al. 2022)"
    )
    pp: int = of_plan(
        1,
        "pipeline stages; layers must divide evenly, or with embedding and head counted as layers (one fewer on the "
        "first or last stage)",
    )
    vp: int = of_plan(1, "virtual stages: chunks of layers on each stage")
    cp: int = of_plan(1, "context parallelism: each sequence is split, in two chunks a rank")
    ep: int = of_plan(1, "expert parallelism, carved out of dp x cp")
    schedule: str | None = of_plan(
        None,
        "gpipe, 1f1b, interleaved, zb-h1 (zero bubble, as much memory as 1f1b), zb-v (`vp: 2`, the second chunks in "
        "reverse order: no bubble but the start), dualpipe-v (`vp: 2` as well, forward of one chunk beside backward of "
        "the other: DeepSeek); without effect with `pp: 1`",
        values=SCHEDULES,
        absent="1f1b, with vp interleaved",
        rule=schedule_of,
        of=("vp",),
    )
    zero: int = of_plan(
        0,
        "0: whole copies, gradients all-reduced (DDP); 1: optimizer states sharded; 2: gradients too; 3: weights too "
        "(FSDP)",
        least=0,
        most=3,
    )
    shard: int | None = of_plan(
        None,
        "ranks that hold one sharded copy between them (fewer: HSDP)",
        absent="all of dp x cp",
        rule=shard_of,
        of=("dp", "cp"),
    )
    context: str = of_plan(
        "ring",
        "method of context parallelism: ring (keys and values go round), all_gather (of keys and values), all_to_all "
        "(from parts of the sequence to heads and back); without effect with `cp: 1`",
        values=CONTEXT,
    )
    micro_batch: int | None = of_plan(
        None,
        "sequences of one microbatch; fewer microbatches than stages leave stages idle (1f1b, gpipe), zb-h1 needs at "
        "least as many, dualpipe-v twice as many, interleaved a multiple",
        absent="all of a replica",
        rule=micro_batch_of,
        of=("batch", "dp"),
    )
    recompute: str = of_plan(
        "none",
        "activations computed again in backward: none, full, or selective: attention, which saves memory with "
        "`flash: false` only; in PyTorch frameworks every second product instead",
        values=RECOMPUTE,
    )
    recompute_layers: int | None = of_plan(
        None, "layers of each stage that are recomputed, with full; at most as many as the stage has", absent="all"
    )
    recompute_modules: tuple[str, ...] | None = of_plan(
        None,
        "modules that selective recomputation makes again, by Megatron-LM's names: core_attn, layernorm, mlp, moe, "
        "moe_act, mla_up_proj, shared_experts",
        values=MODULES,
        absent="core_attn",
    )
    overlap_gradients: bool = of_plan(True, "reductions run beside backward")
    overlap_weights: bool = of_plan(True, "gathering of sharded weights runs beside compute")
    async_tp: bool = of_plan(
        False,
        "gathers and scatters of sequence parallelism, which it needs, cut up and run beside their matrix "
        "multiplications; without effect with `tp: 1`",
    )
    offload: str = of_plan(
        "none",
        "optimizer: states live off the GPU and are updated by the processor; parameters: sharded "
        "weights and gradients too (`zero: 3`, no pipeline)",
        values=OFFLOAD,
    )
    offload_to: str = of_plan(
        "host",
        "place of offloaded tensors: host (its memory), nvme (drives of the node), mixed (weights in host memory, "
        "states on drives)",
        values=OFFLOAD_TO,
    )
    offload_layers: int | None = of_plan(
        None,
        "layers of each stage whose activations wait in host memory from forward to backward; at most as many as the "
        "stage has",
        absent="none",
    )
    order: tuple[str, ...] = of_plan(ORDER, "rank order, innermost first: which group sits in a node", values=ORDER)
    stage_layers: tuple[int, ...] | None = of_plan(
        None,
        "layers of each chunk in order of depth, pp x vp of them; 0 leaves the embedding or the head alone",
        least=0,
        most=10_000,
        absent="evenly, see pp",
        listed=True,
    )
    expert_tp: int | None = of_plan(
        None,
        "ranks that split each expert by width: as tp, or 1 (whole experts; ep is then carved out of tp x dp x cp)",
        absent="as tp",
    )
    dispatcher: str | None = of_plan(
        None,
        "what brings rows to experts: allgather, alltoall (NCCL), deepep, hybridep (once to a rank or node)",
        values=NAMED["dispatcher"],
        absent=STACK,
    )
    cuda_graphs: str | None = of_plan(
        None,
        "what runs as a CUDA graph: none, router, parts (attention too), layer, full (the whole iteration)",
        values=NAMED["cuda_graphs"],
        absent=STACK,
    )
    permute_fusion: bool | None = of_plan(None, "rows are permuted by fused kernels", flag=True, absent=STACK)
    router_fusion: bool | None = of_plan(None, "experts are chosen by fused kernels", flag=True, absent=STACK)
    grouped: str | None = of_plan(
        None,
        "products of experts: loop (a module for each), te (a library call for each), fused (with their activation)",
        values=NAMED["grouped"],
        absent=STACK,
    )
    capacity_factor: float | None = of_plan(
        None,
        "rows of each expert over the mean: what is above is dropped, what is below padded",
        real=True,
        most=100,
        absent="no row is dropped",
    )
    expert_overlap: bool | None = of_plan(
        None, "the all-to-all of experts runs beside kernels of another microbatch", flag=True, absent=STACK
    )
    balance: str | None = of_plan(
        None,
        "what balances experts: even, forced (noise, as benchmarks do), aux_loss (or a bias), early (at first), none",
        values=NAMED["balance"],
        absent=STACK,
    )
    redundant_experts: int | None = of_plan(
        None,
        "inference: experts are placed by their loads, with so many copies of popular ones over all ranks (EPLB)",
        least=0,
        absent="none, and experts are placed by chance",
    )

    def __post_init__(self) -> None:
        for name, value in vars(self).items():  # numbers of numpy are numbers too
            if type(value) not in _PLAIN:
                object.__setattr__(self, name, plain(value))
        self._check_types()
        if type(self.zero) is not int or self.zero not in (0, 1, 2, 3):
            raise InputError(f"{shown(self.zero)} is not a ZeRO stage; expected 0, 1, 2 or 3", key="plan.zero")
        if self.order is not ORDER:
            object.__setattr__(self, "order", tuple(check(TEXTS, "plan.order", self.order)))
        if sorted(self.order) != sorted(ORDER):
            problem = f"{shown(list(self.order))} does not hold each of {', '.join(ORDER)} once"
            raise InputError(problem, key="plan.order")
        if self.recompute_modules is not None:
            self._check_modules()
        self._check_degrees()

    def _check_types(self) -> None:
        """Raise `InputError` for flags, degrees and names that have another type or are not known."""
        for key in _FLAGS:
            if type(flag := getattr(self, key)) is not bool:
                check(FLAG, f"plan.{key}", flag)
        for key in _MAYBE:
            if (flag := getattr(self, key)) is not None and type(flag) is not bool:
                check(FLAG, f"plan.{key}", flag)
        self._check_numbers()
        for key, optional in _DEGREES:
            degree = getattr(self, key)
            if degree is None and optional:
                continue
            if not isinstance(degree, int) or isinstance(degree, bool) or degree < 1:
                raise InputError(f"{shown(degree)} is not a positive whole number", key=f"plan.{key}")
        for key, names, optional in _NAMED:
            name = getattr(self, key)
            if name is None and optional:
                continue
            if not isinstance(name, str) or name not in names:
                raise InputError(f"{shown(name)} is not known{nearest(name, names)}", key=f"plan.{key}")

    def _check_modules(self) -> None:
        key = "plan.recompute_modules"
        object.__setattr__(self, "recompute_modules", tuple(check(TEXTS, key, self.recompute_modules)))
        assert self.recompute_modules is not None
        for name in self.recompute_modules:
            if name not in MODULES:
                raise InputError(f"{shown(name)} is not known{nearest(name, MODULES)}", key=key)
        if len(set(self.recompute_modules)) < max(len(self.recompute_modules), 1):
            raise InputError("expected one module or more, each once", key=key)
        if self.recompute != "selective":
            problem = f"modules are recomputed only with plan.recompute selective, not {self.recompute}"
            raise InputError(problem, key=key)

    def _check_numbers(self) -> None:
        """What is neither a degree nor a word."""
        copies: Any = self.redundant_experts
        if copies is not None and (type(copies) is not int or copies < 0):
            raise InputError(f"{shown(copies)} is not a whole number, 0 or more", key="plan.redundant_experts")
        if self.capacity_factor is not None:
            object.__setattr__(self, "capacity_factor", number_of("capacity_factor", self.capacity_factor, KEYS))
        if self.stage_layers is not None:
            object.__setattr__(self, "stage_layers", counts_of("stage_layers", self.stage_layers, KEYS))

    def _check_degrees(self) -> None:
        if self.expert_tp not in (None, 1, self.tp):
            problem = f"{self.expert_tp}: experts are split as tp = {self.tp}, or whole; expected {self.tp} or 1"
            raise InputError(problem, key="plan.expert_tp")
        if self.stage_layers is not None and len(self.stage_layers) != self.pp * self.vp:
            problem = f"{len(self.stage_layers)} chunks, where pp {self.pp} x vp {self.vp} = {self.pp * self.vp}"
            raise InputError(problem, key="plan.stage_layers")
        if self.schedule == "interleaved" and self.vp == 1 and self.pp > 1:
            raise InputError("1 virtual stage cannot be interleaved; expected plan.vp of 2 or more", key="plan.vp")
        if self.vp > 1 and self.pp == 1:
            raise InputError(f"{self.vp} virtual stages need a pipeline; expected plan.pp of 2 or more", key="plan.vp")
        if self.schedule in V_SHAPED and self.vp != 2 and self.pp > 1:
            problem = f"{self.vp}: {self.schedule} runs two chunks on each stage; expected plan.vp 2"
            raise InputError(problem, key="plan.vp")
        if self.vp > 1 and self.schedule not in (None, "interleaved", *V_SHAPED):
            problem = f"{shown(self.schedule)} has no virtual stages (plan.vp is {self.vp}); expected interleaved"
            raise InputError(problem, key="plan.schedule")
        if self.shard is not None and self.zero == 0:
            problem = f"{self.shard} has no effect with plan.zero 0; expected plan.zero of 1, 2 or 3"
            raise InputError(problem, key="plan.shard")
        if self.offload == "parameters" and (self.zero != 3 or self.pp > 1):
            given = f"plan.zero {self.zero}" if self.zero != 3 else f"plan.pp {self.pp}"
            problem = f"'parameters' is not supported with {given}; expected plan.zero 3 and plan.pp 1"
            raise InputError(problem, key="plan.offload")
        if self.offload == "optimizer" and self.offload_to == "mixed":
            problem = "'mixed' needs plan.offload parameters; expected host or nvme with plan.offload optimizer"
            raise InputError(problem, key="plan.offload_to")
        if self.shard is not None and (self.dp * self.cp) % self.shard:
            raise InputError(f"{self.shard} does not divide dp x cp = {self.dp * self.cp}", key="plan.shard")

    @property
    def weights_away(self) -> bool:
        """True if weights live off the GPU."""
        return self.offload == "parameters"

    @property
    def states_on_nvme(self) -> bool:
        """True if optimizer states live on drives."""
        return self.offload != "none" and self.offload_to in ("nvme", "mixed")

    @property
    def weights_on_nvme(self) -> bool:
        """True if weights live on drives."""
        return self.weights_away and self.offload_to == "nvme"

    @staticmethod
    def of(given: Plan | Mapping[str, object]) -> Plan:
        """The plan itself, or a plan made from a mapping of its keys."""
        if isinstance(given, Plan):
            return given
        for key in given:
            if key not in KEYS:
                raise InputError(f"unknown key{nearest(key, KEYS)}", key=f"plan.{str(key)[:80]}")
        return Plan(**given)  # type: ignore[arg-type]

    @property
    def pipeline(self) -> str:
        """The schedule: as given, else interleaved where there are virtual stages, else 1F1B."""
        return self.schedule or schedule_of(self.vp)

    @property
    def last_stage(self) -> int:
        """The stage that has the head: the last, with schedules in V shape the first."""
        return 0 if self.schedule in V_SHAPED else self.pp - 1

    def filled(self, batch: int) -> dict[str, Any]:
        """The value of every key that has a rule, for a job of `batch` sequences: defaults worked out."""
        return {key: self._absent(key, batch) if getattr(self, key) is None else getattr(self, key) for key in RULES}

    def _absent(self, key: str, batch: int = 0) -> Any:
        rule, of = RULES[key]
        return rule(*(batch if name == "batch" else getattr(self, name) for name in of))

    def __getstate__(self) -> dict[str, object]:
        """The state to pickle, without cached values."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    def within_layer(self) -> Plan:
        """The part of the plan that decides the kernels of one layer on one rank, and what they keep.

        Plans with an equal part share these kernels.
        """
        return _within_layer(_inside(self))

    @cached_property
    def tensor_ways(self) -> dict[str, int]:
        """The number of parts that tensor parallelism splits each axis into."""
        return {**dict.fromkeys(TENSOR_AXES, self.tp), EXPERT_AXIS: self.expert_tp or self.tp}

    @cached_property
    def ways(self) -> dict[str, int]:
        """The number of parts that each named axis is split into."""
        return {
            **self.tensor_ways,
            "batch": self.dp,
            "tp": self.tp,
            "context": self.cp,
            "experts": self.ep,
        }


KEYS: dict[str, Key] = {one.name: one.metadata["key"] for one in fields(Plan)}
"""Every key of a plan."""

RULES = {name: (key.rule, key.of) for name, key in KEYS.items() if key.rule is not None}
"""Rules for the defaults of absent keys, with the names of the values that each rule takes."""

Plan.__doc__ = f"{(Plan.__doc__ or '').rstrip()}\n\n    Parameters\n    ----------\n" + "\n".join(
    f"    {name}\n        {key.about}" for name, key in KEYS.items()
)


_FLAGS = tuple(one.name for one in fields(Plan) if isinstance(one.default, bool))
_MAYBE = tuple(name for name, key in KEYS.items() if key.flag)
_NAMED = tuple(
    (name, key.values, getattr(Plan, name) is None) for name, key in KEYS.items() if key.values and name not in LISTS
)
_DEGREES = tuple(
    (name, getattr(Plan, name) is None)
    for name, key in KEYS.items()
    if not (key.values or key.flag or key.real or key.listed) and key.least == 1 and name not in _FLAGS
)


def every_value(key: str) -> tuple[Any, ...]:
    """All values of a key that takes few of them, the default first where that is true, false or None."""
    of, default = KEYS[key], getattr(Plan, key)
    if isinstance(default, bool):
        return (default, not default)
    if of.flag:
        return (None, False, True)
    known: tuple[Any, ...] = of.values or tuple(range(of.least, of.most + 1))
    return (None, *known) if default is None else known


OUTSIDE_LAYERS = (
    *("dp", "pp", "vp", "schedule", "zero", "shard", "micro_batch", "recompute_layers", "overlap_gradients"),
    *("overlap_weights", "offload", "offload_to", "offload_layers", "order", "stage_layers"),
)
"""Fields of a plan that the kernels of one layer on one rank, and what they keep, do not depend on."""

_INSIDE = fields_of(Plan, OUTSIDE_LAYERS)
_inside = attrgetter(*_INSIDE)


@remembered(4096)
def _within_layer(seen: tuple[Any, ...]) -> Plan:
    return Plan(**dict(zip(_INSIDE, seen, strict=True)))
