"""Memory of a training step by the name of a framework, Megatron's unless a test says another."""

from typing import Any

from simgpu.plan import fit, memory
from simgpu.workload.framework_files import framework as framework_named


def _by_name(function: Any) -> Any:
    def call(config: Any, plan: Any, numerics: Any, *size: Any, framework: str = "megatron", **more: Any) -> Any:
        return function(config, plan, numerics, framework_named(framework).memory, *size, **more)

    return call


memory_per_stage, fullest, layer_activations, suggestions = map(
    _by_name,
    (memory.memory_per_stage, memory.fullest, memory.layer_activations, fit.suggestions),
)


def memory_of(
    config: Any, plan: Any, numerics: Any, batch: int, tokens: int, stage: int = 0, **more: Any
) -> memory.Memory:
    """Memory of a rank of one stage."""
    return memory_per_stage(config, plan, numerics, batch, tokens, **more)[stage]
