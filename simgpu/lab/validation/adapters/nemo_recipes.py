"""Settings of NVIDIA's recipes of training, which stand beside the tables of its containers, not in them.

They were read at the tag of each container (NVIDIA-NeMo/Megatron-Bridge, scripts/performance/configs: 0.1.0rc4 is
25.09, 0.2.0 25.11, 0.3.0 26.02, 0.4.0 26.04), before that in NVIDIA/NeMo, scripts/performance,
recommended_model_configs. A recipe is a file for one model on one GPU: what is in them is a fact of the run that was
measured, as are the columns of a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

RACKS = ("GB200", "GB300")
QWEN_SMALL, QWEN_LARGE, GPT_OSS = ("qwen3-30b-a3b",), ("qwen3-235b-a22b",), ("gpt-oss-120b",)


class Recipe(NamedTuple):
    """Settings of experts of a plan, and the recipes that have them: those of all models, GPUs ... where none is named.

    Versions of the container go from `since` on, to those before `before`; precisions are told by their last letters.
    """

    settings: Mapping[str, Any]
    since: str = ""
    before: str = "99"
    models: tuple[str, ...] = ()
    gpus: tuple[str, ...] = ()
    precision: str = ""

    def holds(self, model: str, gpu: str, version: str, precision: str) -> bool:
        """True if a run has this recipe."""
        named = (not self.models or model in self.models) and (not self.gpus or gpu in self.gpus)
        return named and self.since <= version < self.before and precision.endswith(self.precision)


def _of(dispatcher: str, graphs: str, **more: Any) -> dict[str, Any]:
    return {"dispatcher": dispatcher, "cuda_graphs": graphs, **more}


OVERLAPS = {"expert_overlap": True}
ALONE = {"expert_overlap": False}

RECIPES = (
    Recipe({"permute_fusion": True, "balance": "forced"}, before="25.09"),
    Recipe({"cuda_graphs": "none"}, before="25.11", gpus=("H100",)),
    Recipe({"cuda_graphs": "none"}, before="25.11", models=QWEN_LARGE, gpus=("B200",)),  # cuda_graphs: false
    Recipe({"cuda_graphs": "layer"}, before="25.11"),
    # 26.06 and later
    Recipe(_of("hybridep", "router"), "26.06", gpus=("H100",)),
    Recipe(_of("hybridep", "full", grouped="fused", **ALONE), "26.06", "99", QWEN_LARGE, (*RACKS, "B300"), "MX"),
    Recipe(_of("hybridep", "full", grouped="fused", **OVERLAPS), "26.06", gpus=(*RACKS, "B300"), precision="MX"),
    Recipe(_of("hybridep", "parts", grouped="te", **ALONE), "26.06", precision="MX"),
    Recipe(_of("hybridep", "parts"), "26.06"),
    # from 25.11 on
    Recipe(_of("alltoall", "router"), models=GPT_OSS, gpus=("GB300",)),
    Recipe(_of("alltoall", "none"), models=GPT_OSS, gpus=("H100",)),
    Recipe(_of("hybridep", "none", **OVERLAPS), "26.04", models=GPT_OSS, gpus=("GB200",)),
    Recipe(_of("hybridep", "none", **ALONE), "26.04", models=GPT_OSS),
    Recipe(_of("alltoall", "router"), "26.02", models=GPT_OSS, gpus=("B300",)),
    Recipe(_of("alltoall", "none"), models=GPT_OSS),
    Recipe(_of("deepep", "none", **OVERLAPS), "26.02", models=QWEN_SMALL, gpus=("H100",)),
    Recipe(_of("alltoall", "none", **OVERLAPS), models=QWEN_SMALL, gpus=("H100",)),
    Recipe(_of("hybridep", "router"), "26.04", models=QWEN_SMALL, precision="MX"),
    Recipe(_of("hybridep", "parts"), "26.04", models=QWEN_SMALL),
    Recipe(_of("alltoall", "router"), models=QWEN_SMALL, gpus=("B200",)),
    Recipe(_of("hybridep", "router"), models=QWEN_SMALL),
    Recipe(_of("hybridep", "parts"), "26.04", models=QWEN_LARGE, gpus=RACKS),
    Recipe(_of("hybridep", "router"), models=QWEN_LARGE, gpus=RACKS),
    Recipe(_of("alltoall", "none", **OVERLAPS), models=QWEN_LARGE, gpus=("H100",)),
    Recipe(_of("alltoall", "none", **OVERLAPS), "", "26.02", QWEN_LARGE, ("B200",)),
    Recipe(_of("alltoall", "none", **OVERLAPS), "", "26.04", QWEN_LARGE, ("B300",)),
    Recipe(_of("alltoall", "none", **ALONE), models=QWEN_LARGE),
    Recipe(_of("hybridep", "parts"), "26.04", gpus=("GB200",)),
    Recipe(_of("hybridep", "parts"), "26.04", precision="BF16"),
    Recipe(_of("hybridep", "none"), "26.02"),
    Recipe(_of("hybridep", "none"), gpus=RACKS),
    Recipe(_of("alltoall", "none")),
)
"""The first that holds of a run is its recipe."""


WHOLE = (
    Recipe({"zero": 3}, before="25.09", models=("llama-3-70b",), gpus=("GB200",)),
    Recipe({"zero": 3, "offload_layers": 95}, before="25.09", models=("llama-3.1-405b",), gpus=("GB200",)),
    Recipe({"zero": 3, "offload_layers": 80}, before="25.11", models=("llama-3.1-405b",), gpus=("GB200",)),
)
"""Recipes of dense models without a pipeline: use_mcore_fsdp shards weights too, activations of layers wait in the
memory of the host (activation_offload_layers, cpu_offloading_num_layers)."""


OTHERWISE = (Recipe({"ep": 64}, "25.11", "26.02", GPT_OSS, ("B200",)),)
"""Degrees of which a table and the recipe say different things: the table stands, and the row says so.

The recipe of B200 with 512 sequences a step is GPT_OSS_120B_PRETRAIN_CONFIG_B200_BF16_V1 in
scripts/performance/configs/gpt_oss (64 ranks of experts, microbatches of 4). It was read later than its container:
older files had 8 ranks of experts with microbatches of 8."""


def settings_of(model: str, gpu: str, version: str, precision: str) -> dict[str, Any]:
    """Dispatcher, graphs and overlap of the recipe of a run, by the names of the table."""
    return dict(next(one.settings for one in RECIPES if one.holds(model, gpu, version, precision)))


def sharding_of(model: str, gpu: str, version: str) -> dict[str, Any]:
    """What else than its optimizer a dense run without a pipeline shards, and the layers that it offloads."""
    return dict(next((one.settings for one in WHOLE if one.holds(model, gpu, version, "")), {}))


def doubt_of(model: str, gpu: str, version: str, degrees: Mapping[str, int]) -> str:
    """What the recipe of a run says otherwise than its table, in words; nothing where both agree.

    >>> doubt_of("gpt-oss-120b", "B200", "25.11", {"ep": 8})
    'the table says ep 8, the recipe ep 64'
    >>> doubt_of("gpt-oss-120b", "B200", "26.02", {"ep": 8})
    ''
    """
    said = next((one.settings for one in OTHERWISE if one.holds(model, gpu, version, "")), {})
    return "; ".join(
        f"the table says {name} {degrees[name]}, the recipe {name} {value}"
        for name, value in said.items()
        if degrees[name] != value
    )
