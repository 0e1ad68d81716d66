"""The layers that each pipeline stage runs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from simgpu.errors import InputError
from simgpu.memo import remembered
from simgpu.plan.parallelism import Plan
from simgpu.plan.schedule import part_of


def layer_ranges(layers: int, plan: Plan) -> tuple[tuple[range, ...], ...]:
    """Layers of each stage, chunk by chunk: `layer_ranges(...)[stage][chunk]`.

    Layers go round the stages, chunk by chunk (Narayanan et al. 2021, section 2.2), with zb-v there and back. Where
    they do not divide evenly but would with the embedding or the head, or both, counted as a layer, the first or last
    chunk has one fewer (Llama 3.1 405B, Meta 2024, section 3.3.2). A plan may list the layers of each chunk instead, in
    order of depth (Megatron-Core, pipeline_model_parallel_layout). Raises `InputError` where no such split divides, or
    the list is of others.
    """
    if plan.stage_layers is None:
        return _layer_ranges(layers, plan.pp, plan.vp, plan.pipeline)
    sizes = plan.stage_layers
    if sum(sizes) != layers:
        raise InputError(f"{sum(sizes)} layers are listed; the model has {layers}", key="plan.stage_layers")
    ends = list(accumulate(sizes))
    found = [range(end - size, end) for size, end in zip(sizes, ends, strict=True)]
    return _placed(found, plan.pp, plan.vp, plan.pipeline)


@remembered(1024)
def _layer_ranges(layers: int, pp: int, vp: int, schedule: str) -> tuple[tuple[range, ...], ...]:
    parts = pp * vp
    for first, last in ((0, 0), (1, 1), (0, 1), (1, 0)):
        if (layers + first + last) % parts == 0 and (parts > 1 or not first + last):
            break
    else:
        what = f"pp {pp} x vp {vp} = {parts} chunks" if vp > 1 else f"{pp} stages"
        good = [n for n in range(1, layers + 1) if layers % n == 0 or (layers + 2) % n == 0]
        near = ", ".join(str(n) for n in sorted(good, key=lambda n: abs(n - parts))[:3])
        raise InputError(
            f"{what} do not divide {layers} layers; near by would be {near}, or list plan.stage_layers", key="plan.pp"
        )
    size = (layers + first + last) // parts
    if size < 1:
        raise InputError(f"{parts} chunks are more than {layers} layers", key="plan.pp")
    starts = [max(i * size - first, 0) for i in range(parts)] + [layers]
    ranges = [range(starts[i], min(starts[i + 1], layers)) for i in range(parts)]
    return _placed(ranges, pp, vp, schedule)


def _placed(parts: Sequence[range], pp: int, vp: int, schedule: str) -> tuple[tuple[range, ...], ...]:
    """Parts of the model, in order of depth, by stage and chunk."""
    return tuple(tuple(parts[part_of(stage, chunk, pp, schedule)] for chunk in range(vp)) for stage in range(pp))


def spread_layers(layers: int, stages: int) -> tuple[range, ...]:
    """Layers of each stage where they need not divide evenly.

    The later stages but the last have one more, since the last has the head (vLLM, distributed/utils.py,
    get_pp_indices). Raises `InputError` for more stages than layers.
    """
    if stages > layers:
        raise InputError(f"{stages} stages are more than {layers} layers", key="plan.pp")
    sizes = [layers // stages] * stages
    for i in range(layers % stages):
        sizes[-(i + 2) % stages] += 1
    starts = [sum(sizes[:i]) for i in range(stages + 1)]
    return tuple(range(starts[i], starts[i + 1]) for i in range(stages))
