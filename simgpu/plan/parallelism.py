"""How a step is split over GPUs, and which splits a model and a cluster allow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from operator import attrgetter

from simgpu.arguments import FLAG, TEXTS, check, plain
from simgpu.errors import InputError, nearest, shown
from simgpu.memo import fields_of, remembered

TENSOR_AXES = ("heads", "ffn", "vocab")
"""Axes that tensor parallelism splits (Shoeybi et al., Megatron-LM, 2019, section 3)."""

ORDER = ("tp", "cp", "ep", "dp", "pp")
"""Rank order, innermost first: neighbouring ranks form tensor-parallel groups (Megatron-LM's default)."""

SCHEDULES = ("gpipe", "1f1b", "interleaved", "zb-h1")
RECOMPUTE = ("none", "selective", "full")
CONTEXT = ("ring", "all_gather")
OFFLOAD = ("none", "optimizer", "parameters")
OFFLOAD_TO = ("host", "nvme", "mixed")
_PLAIN = (int, bool, str, tuple, type(None))
_DEGREES = ("tp", "pp", "vp", "dp", "ep", "cp")


@dataclass(frozen=True)
class Plan:
    """How a step is split. World = tp x cp x pp x dp; ep is carved out of dp x cp (Megatron-LM), in inference out of
    tp x dp (serving engines).

    Parameters
    ----------
    tp, sequence_parallel
        Tensor parallelism; sequence parallelism beside it (Korthikanti et al. 2022).
    pp, vp, schedule
        Pipeline stages, virtual stages (chunks of layers) per rank, and 'gpipe', '1f1b', 'interleaved' or 'zb-h1'.
    dp, zero, shard
        Data-parallel replicas; ZeRO stage 0 (plain DDP) to 3 (FSDP); ranks that hold one sharded copy between them
        (None: all of dp x cp; fewer is HSDP, and copies are all-reduced).
    cp, context
        Context parallelism: 'ring' attention, or 'all_gather' of keys and values.
    ep
        Expert parallelism.
    micro_batch
        Sequences of one microbatch on one rank; None: all sequences of the rank at once.
    recompute, recompute_layers
        Activations recomputed in backward: 'none', 'selective' (attention only), 'full' (of `recompute_layers` layers
        of each stage, None: all).
    overlap_gradients, overlap_weights, async_tp
        Whether gradient reductions run beside backward, weight all-gathers beside compute, and tensor-parallel
        collectives are cut up and run beside their matrix multiplications (those of sequence parallelism; without
        effect with tp 1).
    offload, offload_to
        'optimizer': states and master weights live in host memory, where the processor updates them (ZeRO-Offload).
        'parameters': so do the sharded weights, which come layer by layer (ZeRO-3 with `offload_param`, FSDP's
        `CPUOffload`). To memory of the 'host', to the drives of the node ('nvme', ZeRO-Infinity), or 'mixed': weights
        in host memory, states on the drives.
    order
        Rank order, innermost first.
    """

    tp: int = 1
    dp: int = 1
    sequence_parallel: bool = False
    pp: int = 1
    vp: int = 1
    cp: int = 1
    ep: int = 1
    schedule: str | None = None
    zero: int = 0
    shard: int | None = None
    context: str = "ring"
    micro_batch: int | None = None
    recompute: str = "none"
    recompute_layers: int | None = None
    overlap_gradients: bool = True
    overlap_weights: bool = True
    async_tp: bool = False
    offload: str = "none"
    offload_to: str = "host"
    order: tuple[str, ...] = ORDER

    def __post_init__(self) -> None:
        for name, value in vars(self).items():  # numbers of numpy are numbers too
            if type(value) not in _PLAIN:
                object.__setattr__(self, name, plain(value))
        for key in ("sequence_parallel", "overlap_gradients", "overlap_weights", "async_tp"):
            if type(flag := getattr(self, key)) is not bool:
                check(FLAG, f"plan.{key}", flag)
        for key in (*_DEGREES, "shard", "micro_batch", "recompute_layers"):
            degree = getattr(self, key)
            if degree is None and key not in _DEGREES:
                continue
            if not isinstance(degree, int) or isinstance(degree, bool) or degree < 1:
                raise InputError(f"{shown(degree)} is not a positive whole number", key=f"plan.{key}")
        known: tuple[tuple[str, Sequence[str]], ...] = (
            ("recompute", RECOMPUTE),
            ("context", CONTEXT),
            ("offload", OFFLOAD),
            ("offload_to", OFFLOAD_TO),
        )
        for key, names in (*known, *((("schedule", SCHEDULES),) if self.schedule is not None else ())):
            given = getattr(self, key)
            if not isinstance(given, str) or given not in names:
                raise InputError(f"{shown(given)} is not known{nearest(given, names)}", key=f"plan.{key}")
        if type(self.zero) is not int or self.zero not in (0, 1, 2, 3):
            raise InputError(f"{shown(self.zero)} is not a ZeRO stage; expected 0, 1, 2 or 3", key="plan.zero")
        if self.order is not ORDER:
            object.__setattr__(self, "order", tuple(check(TEXTS, "plan.order", self.order)))
        if sorted(self.order) != sorted(ORDER):
            problem = f"{shown(list(self.order))} does not hold each of {', '.join(ORDER)} once"
            raise InputError(problem, key="plan.order")
        self._check_degrees()

    def _check_degrees(self) -> None:
        if self.schedule == "interleaved" and self.vp == 1 and self.pp > 1:
            raise InputError("1 virtual stage cannot be interleaved; expected plan.vp of 2 or more", key="plan.vp")
        if self.vp > 1 and self.pp == 1:
            raise InputError(f"{self.vp} virtual stages need a pipeline; expected plan.pp of 2 or more", key="plan.vp")
        if self.vp > 1 and self.schedule not in (None, "interleaved"):
            problem = f"{shown(self.schedule)} has no virtual stages (plan.vp is {self.vp}); expected interleaved"
            raise InputError(problem, key="plan.schedule")
        if self.shard is not None and self.zero == 0:
            problem = f"{self.shard} ranks share nothing with plan.zero 0; expected plan.zero of 1, 2 or 3"
            raise InputError(problem, key="plan.shard")
        if self.offload == "parameters" and (self.zero != 3 or self.pp > 1):
            given = f"plan.zero {self.zero}" if self.zero != 3 else f"plan.pp {self.pp}"
            problem = f"'parameters' come layer by layer, not with {given}; expected plan.zero 3 and plan.pp 1"
            raise InputError(problem, key="plan.offload")
        if self.offload == "optimizer" and self.offload_to == "mixed":
            problem = "'mixed' puts weights elsewhere than states; expected host or nvme with plan.offload optimizer"
            raise InputError(problem, key="plan.offload_to")
        if self.shard is not None and (self.dp * self.cp) % self.shard:
            raise InputError(f"{self.shard} does not divide dp x cp = {self.dp * self.cp}", key="plan.shard")

    @property
    def weights_away(self) -> bool:
        """Whether weights live off the GPU."""
        return self.offload == "parameters"

    @property
    def states_on_nvme(self) -> bool:
        return self.offload != "none" and self.offload_to in ("nvme", "mixed")

    @property
    def weights_on_nvme(self) -> bool:
        return self.weights_away and self.offload_to == "nvme"

    @staticmethod
    def of(given: Plan | Mapping[str, object]) -> Plan:
        """A plan as it is, or from a mapping of its keys."""
        if isinstance(given, Plan):
            return given
        known = [one.name for one in fields(Plan)]
        for key in given:
            if key not in known:
                raise InputError(f"unknown key{nearest(key, known)}", key=f"plan.{str(key)[:80]}")
        return Plan(**given)  # type: ignore[arg-type]

    @property
    def world(self) -> int:
        return self.tp * self.cp * self.pp * self.dp

    @property
    def pipeline(self) -> str:
        """The schedule: as given, else interleaved where there are virtual stages, else 1F1B."""
        return self.schedule or ("interleaved" if self.vp > 1 else "1f1b")

    @property
    def shards(self) -> int:
        """Ranks that hold one sharded copy of weights, gradients or states between them."""
        return self.shard or self.dp * self.cp

    def __getstate__(self) -> dict[str, object]:
        """Without what was worked out of it."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    def within_layer(self) -> Plan:
        """The plan as far as the kernels of one layer on one rank, and what they keep, depend on it: plans that share
        this share them."""
        return _within_layer(_inside(self))

    @property
    def ways(self) -> dict[str, int]:
        """In how many parts each named axis is split."""
        return {
            **dict.fromkeys(TENSOR_AXES, self.tp),
            "batch": self.dp,
            "tp": self.tp,
            "context": self.cp,
            "experts": self.ep,
        }

    def coordinates(self, rank: int) -> dict[str, int]:
        """Place of a rank along tp, cp, dp and pp."""
        found = {}
        for name in self._axes:
            size = getattr(self, name)
            found[name], rank = rank % size, rank // size
        return found

    def stage(self, rank: int) -> int:
        """The pipeline stage of a rank."""
        return rank // self._stride % self.pp

    @cached_property
    def _stride(self) -> int:
        """Ranks from one to its like on the next stage."""
        return self.rank(pp=1) if self.pp > 1 else 1

    def rank(self, **place: int) -> int:
        """The rank at a place."""
        found = 0
        for name in reversed(self._axes):
            found = found * getattr(self, name) + place.get(name, 0)
        return found

    def group(self, kind: str, rank: int) -> tuple[int, ...]:
        """Ranks of a group of `rank`, in order.

        'tp', 'cp', 'dp', 'pp': along that axis. 'grad': along dp and cp, which reduce gradients together. 'shard':
        those of it that hold one sharded copy; 'replica': those that hold the same shard. 'ep': those that share the
        experts; 'expert': those that hold the same experts. 'experts': in inference, those of tp x dp that do.
        """
        found = self._groups.get((kind, rank))
        if found is None:
            found = self._groups[kind, rank] = self._group(kind, rank)
        return found

    @cached_property
    def _groups(self) -> dict[tuple[str, int], tuple[int, ...]]:
        return {}

    def _group(self, kind: str, rank: int) -> tuple[int, ...]:
        place = self.coordinates(rank)
        if kind == "experts":
            near = [self.rank(**{**place, "tp": t, "dp": d}) for d in range(self.dp) for t in range(self.tp)]
            at = near.index(rank) // self.ep * self.ep
            return tuple(sorted(near[at : at + self.ep]))
        if kind in ("tp", "cp", "dp", "pp"):
            return tuple(sorted(self.rank(**{**place, kind: i}) for i in range(getattr(self, kind))))
        both = tuple(sorted(self.rank(**{**place, "dp": d, "cp": c}) for d in range(self.dp) for c in range(self.cp)))
        if kind == "grad":
            return both
        size = self.ep if kind in ("ep", "expert") else self.shards
        at = both.index(rank)
        # with dp before ep in the order, ranks that share experts are as far apart as they can be
        far = kind in ("ep", "expert") and self.order.index("dp") < self.order.index("ep")
        if (kind in ("ep", "shard")) != far:
            first = at // size * size if not far else at // (len(both) // size) * (len(both) // size)
            span = size if not far else len(both) // size
            return both[first : first + span]
        stride = size if not far else len(both) // size
        return both[at % stride :: stride]

    @cached_property
    def _axes(self) -> tuple[str, ...]:
        return tuple(name for name in self.order if name != "ep")


OUTSIDE_LAYERS = (
    *("dp", "pp", "vp", "schedule", "zero", "shard", "micro_batch", "recompute_layers", "overlap_gradients"),
    *("overlap_weights", "offload", "offload_to", "order"),
)
"""Fields of a plan that the kernels of one layer on one rank, and what they keep, do not depend on."""

_INSIDE = fields_of(Plan, OUTSIDE_LAYERS)
_inside = attrgetter(*_INSIDE)


@remembered(4096)
def _within_layer(seen: tuple) -> Plan:
    return Plan(**dict(zip(_INSIDE, seen, strict=True)))
