"""Which operators and tensors of a layer a plan's recomputation makes again in backward."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from simgpu.memo import remembered
from simgpu.plan.parallelism import Plan

ATTENTION = ("attention", "scores", "attention_softmax", "values")
"""Operators inside attention, behind its queries, keys and values."""

_EXPERTS = ("router", "routing", "permute", "dispatch", "experts_up", "experts_activation", "experts_down", "combine",
            "unpermute")  # fmt: skip
_SHARED = ("shared_up", "shared_activation", "shared_down")

OPERATORS: Mapping[str, tuple[str, ...]] = {
    "core_attn": ATTENTION,
    "layernorm": ("attention_norm", "ffn_norm"),
    "mlp": ("ffn_up", "activation", "ffn_down"),
    "moe": (*_EXPERTS, *_SHARED),
    "moe_act": ("experts_activation",),
    "mla_up_proj": ("q_norm", "q_up", "kv_norm", "kv_up", "rope"),
    "shared_experts": _SHARED,
}
"""Operators that run again with each module (Megatron-LM, --recompute-modules; transformer_config.py and the modules'
own forward functions)."""

_KEPT_BY: Mapping[str, tuple[str, ...]] = {
    "layernorm": ("qkv", "q", "q_down", "kv_down", "ffn_up", "router", "shared_up"),
    "moe_act": ("experts_down",),
    "mla_up_proj": ("attention", "scores", "values"),
}
"""Operators that keep what a module drops, where those are not its own."""

_DROPS: Mapping[str, tuple[str, ...]] = {
    "core_attn": ("scores",),
    "layernorm": ("norm_output",),
    "mlp": ("", "norm_output", "activated"),
    "moe": ("", "activated"),
    "moe_act": ("activated",),
    "mla_up_proj": ("projected",),
    "shared_experts": ("", "activated"),
}
"""What a module drops of the tensors its operators keep; the norm before a dense feed-forward is part of it, that
before experts is their input, which stays."""


@dataclass(frozen=True)
class Recomputed:
    """What is made again of a layer: all of it (`whole_layer`), or the tensors that some modules drop."""

    whole_layer: bool
    modules: tuple[str, ...] = ()

    def module(self, operator: str) -> str:
        """The module that makes what an operator keeps again, as far as one does."""
        return next((one for one in self.modules if operator in _KEPT_BY.get(one, OPERATORS[one])), "")

    def drops(self, operator: str, what: str) -> bool:
        """Whether a tensor that an operator keeps is dropped behind forward."""
        return any(what in _DROPS[one] and operator in _KEPT_BY.get(one, OPERATORS[one]) for one in self.modules)


@remembered(64)
def _recomputed(recompute: str, modules: tuple[str, ...] | None, by_operator: bool) -> Recomputed:
    if recompute == "full" or (recompute == "selective" and by_operator):
        return Recomputed(True)
    return Recomputed(False, (modules or ("core_attn",)) if recompute == "selective" else ())


def recomputed_by(plan: Plan, by_operator: bool) -> Recomputed:
    """What a plan makes again in backward.

    `by_operator`: selective recomputation lists operators over the whole layer (torchtitan), not modules (Megatron-LM).
    """
    return _recomputed(plan.recompute, plan.recompute_modules, by_operator)


def runs_again(plan: Plan) -> frozenset[str]:
    """Names of the operators that backward runs again under a plan's selective recomputation by modules."""
    return frozenset(name for one in plan.recompute_modules or ("core_attn",) for name in OPERATORS[one])
