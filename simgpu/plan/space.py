"""All plans of a training step over so many GPUs: every degree that divides, every choice that has an effect.

A choice without effect where it stands (virtual stages without a pipeline, ZeRO without copies, sequence parallelism
without tensor parallelism) is taken once, with the first of its values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, NamedTuple

from simgpu.errors import InputError, nearest, shown
from simgpu.model.config import TransformerConfig
from simgpu.plan.checks import check_fits_model
from simgpu.plan.experts import SETTINGS
from simgpu.plan.parallelism import V_SHAPED, Plan, every_value
from simgpu.plan.schedule import check
from simgpu.plan.stages import layer_ranges

ALL = "all"

DEGREES = ("tp", "pp", "dp", "cp", "ep")
"""Degrees of parallelism that a structure fixes."""

UNSEEN = ("overlap_gradients", "overlap_weights", "async_tp")
"""Choices that memory does not depend on."""

_NAMED = (
    *("sequence_parallel", "recompute", "zero", "offload", "offload_to", "schedule", "context", "async_tp"),
    *("overlap_gradients", "overlap_weights"),
)
_EVERY: dict[str, tuple[Any, ...]] = {key: every_value(key) for key in _NAMED}
"""All values of the choices that are no numbers."""

AS_SAID = ("order", "recompute_modules", "offload_layers", "stage_layers", "expert_tp", "redundant_experts", *SETTINGS)
"""Keys that no search goes over: plans have those of the base."""

KEYS = (*DEGREES, "vp", "micro_batch", "recompute_layers", "shard", *_EVERY)
USUAL = ("tp", "pp", "vp", "dp", "ep", "cp", "micro_batch", "recompute", "zero", "offload")
"""Keys that a search varies by default."""


class Structure(NamedTuple):
    """Degrees of parallelism that several plans share."""

    tp: int
    pp: int
    dp: int
    cp: int
    ep: int

    @property
    def gpus(self) -> int:
        """GPUs that the degrees make together."""
        return self.tp * self.pp * self.dp * self.cp


@dataclass(frozen=True)
class Space:
    """Plans of `batch` sequences of `tokens` tokens over each of `gpus` GPUs.

    `choices` maps a key of `KEYS` to its values, or to 'all'; other keys are those of `base`.
    """

    config: TransformerConfig
    batch: int
    tokens: int
    gpus: tuple[int, ...]
    base: Plan
    choices: Mapping[str, Sequence[Any] | str]

    def __post_init__(self) -> None:
        for key, values in self.choices.items():
            if key not in KEYS:
                raise InputError(f"unknown key{nearest(key, KEYS)}", key=f"search.space.{key}")
            if key in _EVERY:
                _check_names(key, values)
            else:
                check_degrees(key, values)

    def structures(self) -> Iterator[Structure]:
        """Degrees that split the model, the batch and the GPUs."""
        for gpus in self.gpus:
            divisors = [n for n in range(1, gpus + 1) if gpus % n == 0]
            for tp, cp in product(self._degrees("tp", divisors), self._degrees("cp", divisors)):
                if gpus % (tp * cp) == 0 and self._splits(tp, cp):
                    yield from self._pipelined(gpus, tp, cp, divisors)

    def _pipelined(self, gpus: int, tp: int, cp: int, divisors: Sequence[int]) -> Iterator[Structure]:
        """Structures with these degrees of tensor and context parallelism."""
        folded = tp if tp > 1 and self.base.expert_tp == 1 else 1
        for pp in self._degrees("pp", divisors):
            dp = gpus // (tp * cp * pp)
            if dp * tp * cp * pp != gpus or self.batch % dp or not self._holds(pp, 1):
                continue
            if dp not in self._degrees("dp", divisors):
                continue
            for ep in self._degrees("ep", range(1, self.config.experts + 1)):
                if self.config.experts % ep == 0 and (dp * cp * folded) % ep == 0:
                    yield Structure(tp, pp, dp, cp, ep)

    def families(self, at: Structure) -> Iterator[list[Plan]]:
        """Plans of a structure; plans that need equal memory stand together."""
        local = self.batch // at.dp
        sizes = self._numbers("micro_batch", [n for n in range(1, local + 1) if local % n == 0], local)
        sequences = self._flags("sequence_parallel", at.tp > 1)
        copies = at.dp * at.cp > 1
        for vp, schedule in self._pipelines(at):
            chunked = {"vp": vp, "schedule": schedule}
            held = max(sum(map(len, stage)) for stage in _ranges(self.config, at.pp, vp))
            for size, sequence in product(sizes, sequences):
                if local % size or not self._runs(at, vp, schedule, local // size):
                    continue
                if not self._divides_tokens(at, sequence):
                    continue
                for (recompute, layers), sharded, away, context in product(
                    self._recomputations(held), self._shardings(at, copies), self._offloads(),
                    self._flags("context", at.cp > 1),
                ):  # fmt: skip
                    if away["offload"] == "parameters" and (sharded["zero"] != 3 or at.pp > 1):
                        continue
                    given: dict[str, Any] = {
                        **at._asdict(), **chunked, **sharded, "micro_batch": size, "sequence_parallel": sequence,
                        "recompute": recompute, "recompute_layers": layers, **away, "context": context,
                        **self._said(at, vp, recompute, held),
                    }  # fmt: skip
                    yield [Plan(**given, **unseen) for unseen in self._unseen(at, sequence, copies, sharded["zero"])]

    def _said(self, at: Structure, vp: int, recompute: str, held: int) -> dict[str, Any]:
        """What the base says of keys that no search goes over, where it has a meaning with these degrees."""
        said = {key: getattr(self.base, key) for key in AS_SAID}
        if self.base.offload_layers is not None:
            said["offload_layers"] = min(self.base.offload_layers, held)
        if recompute != "selective":
            said["recompute_modules"] = None
        if said["stage_layers"] is not None and len(said["stage_layers"]) != at.pp * vp:
            said["stage_layers"] = None
        if said["expert_tp"] not in (None, 1, at.tp):
            said["expert_tp"] = None
        return said

    # ---- values --------------------------------------------------------------------------------------

    def _asked(self, key: str, every: Iterable[Any], otherwise: Iterable[Any]) -> tuple[Any, ...]:
        """The values of a choice: `every` for 'all', `otherwise` where the space does not name it."""
        asked = self.choices.get(key)
        if asked is None:
            return tuple(otherwise)
        return tuple(every) if asked == ALL else tuple(dict.fromkeys(asked))

    def _values(self, key: str) -> tuple[Any, ...]:
        """Values, in order, of a choice that is not a number."""
        return self._asked(key, _EVERY[key], (getattr(self.base, key),))

    def _flags(self, key: str, matters: bool) -> tuple[Any, ...]:
        values = self._values(key)
        return values if matters else values[:1]

    def _degrees(self, key: str, every: Iterable[int]) -> tuple[int, ...]:
        return self._asked(key, every, every if key == "dp" else (getattr(self.base, key),))

    def _numbers(self, key: str, every: Iterable[int], otherwise: int) -> tuple[int, ...]:
        return self._asked(key, every, (getattr(self.base, key) or otherwise,))

    def _unseen(self, at: Structure, sequence: bool, copies: bool, zero: int) -> list[dict[str, Any]]:
        found = product(
            self._flags("overlap_gradients", copies), self._flags("overlap_weights", copies and zero > 0),
            self._flags("async_tp", at.tp > 1) if sequence or at.tp == 1 else (False,),
        )  # fmt: skip
        return [dict(zip(UNSEEN, flags, strict=True)) for flags in found]

    def _recomputations(self, held: int) -> list[tuple[str, int | None]]:
        choices: list[tuple[str, int | None]] = []
        for recompute in self._values("recompute"):
            if recompute != "full":
                choices.append((recompute, None))
                continue
            layers = self._asked("recompute_layers", (None, *range(1, held)), (self.base.recompute_layers,))
            choices += [(recompute, n) for n in layers if n is None or n <= held]
        return choices

    def _shardings(self, at: Structure, copies: bool) -> list[dict[str, Any]]:
        """ZeRO stages, with the number of ranks that hold one copy."""
        shardings: list[dict[str, Any]] = []
        for zero in self._flags("zero", copies):
            both = at.dp * at.cp
            shards = self._asked("shard", (None, *range(2, both)), (self.base.shard,))
            if not zero:
                shards = (None,)
            shardings += [{"zero": zero, "shard": shard} for shard in shards if shard is None or both % shard == 0]
        return shardings

    def _offloads(self) -> list[dict[str, str]]:
        """Pairs of what is offloaded, and where to."""
        offloads: list[dict[str, str]] = []
        for offload in self._values("offload"):
            places = self._values("offload_to") if offload != "none" else ("host",)
            places = tuple(place for place in places if (offload, place) != ("optimizer", "mixed"))
            offloads += [{"offload": offload, "offload_to": place} for place in places]
        return offloads

    def _pipelines(self, at: Structure) -> list[tuple[int, str | None]]:
        """Virtual stages and schedules; a schedule that is the default of its virtual stages has no other name."""
        if at.pp == 1:
            return [(1, None)]
        pipelines = []
        deepest = self.config.layers // at.pp + 1
        for vp in self._numbers("vp", range(1, deepest + 1), 1):
            if not self._holds(at.pp, vp):
                continue
            default = "interleaved" if vp > 1 else "1f1b"
            named = dict.fromkeys(None if one == default else one for one in self._values("schedule"))
            if vp > 1:
                named = dict.fromkeys(one for one in named if one is None or (one in V_SHAPED and vp == 2))
            pipelines += [(vp, one) for one in named if one != "interleaved" and (one not in V_SHAPED or vp == 2)]
        return pipelines

    # ---- what divides --------------------------------------------------------------------------------

    def _splits(self, tp: int, cp: int) -> bool:
        try:
            check_fits_model(Plan(tp=tp), self.config, self.batch, self.tokens)
        except InputError:
            return False
        return cp == 1 or self.tokens % (2 * cp) == 0

    def _divides_tokens(self, at: Structure, sequence: bool) -> bool:
        ways = at.tp if sequence else 1
        return self.tokens % (ways * (2 * at.cp if at.cp > 1 else 1)) == 0

    def _holds(self, pp: int, vp: int) -> bool:
        return self._held.setdefault((pp, vp), _ranges(self.config, pp, vp) is not None)

    @cached_property
    def _held(self) -> dict[tuple[int, int], bool]:
        return {}

    @staticmethod
    def _runs(at: Structure, vp: int, schedule: str | None, microbatches: int) -> bool:
        if at.pp == 1:
            return True
        try:
            check(Plan(pp=at.pp, vp=vp, schedule=schedule).pipeline, at.pp, microbatches, vp)
        except InputError:
            return False
        return True


def check_degrees(key: str, values: Sequence[Any] | str) -> None:
    """Raise `InputError` for values that are not whole numbers above zero (`recompute_layers`, `shard`: or null)."""
    place = f"search.space.{key}"
    if values == ALL:
        return
    if isinstance(values, str) or not values:
        raise InputError(f"{shown(values)} is not 'all' or a list of values", key=place)
    for value in values:
        if value is None and key in ("recompute_layers", "shard"):
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InputError(f"{shown(value)} is not a positive whole number", key=place)


def _check_names(key: str, values: Sequence[Any] | str) -> None:
    known, place = _EVERY[key], f"search.space.{key}"
    if values == ALL:
        return
    if isinstance(values, str) or not values:
        raise InputError(f"{shown(values)} is not 'all' or a list of values", key=place)
    for value in values:
        if not any(type(value) is type(one) and value == one for one in known):
            expected = ", ".join("null" if one is None else str(one).lower() for one in known)
            raise InputError(f"{shown(value)} is not known; expected some of {expected}", key=place)


def _ranges(config: TransformerConfig, pp: int, vp: int) -> Any:
    """Layers of each stage; None where they do not divide."""
    try:
        return layer_ranges(config.layers, Plan(pp=pp, vp=vp))
    except InputError:
        return None
