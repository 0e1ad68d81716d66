"""Frameworks: what a training stack does with the same operators. Kernels per operator, launches, overlap.

A framework does not change what is computed; it changes how many kernels the memory-bound operators take and how
often each reads and writes its tensors, whether gradients are summed inside the multiplication that makes them, which
attention kernels run, and how far the host keeps up. Traffic is counted from the sources of each stack, tensor by
tensor; only what cannot be counted is a constant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from simgpu.errors import InputError, nearest

Kernels = tuple[tuple[str, float, float], ...]
"""Kernels of one operator: (kind, tensors read, tensors written), each of the operator's rows and width."""


@dataclass(frozen=True)
class Framework:
    """How a stack runs a training step.

    `forward` and `backward` map kinds of memory-bound operators to kernels; norms under autocast are kinds of their own
    where a framework has it. `launch_s` is the host's time per kernel: a block takes no less than its kernels times
    this. `step_s` is host time once per step (optimizer loop, logging).
    """

    name: str
    title: str
    source: str
    forward: Mapping[str, Kernels]
    backward: Mapping[str, Kernels]
    launch_s: float
    step_s: float
    fused_wgrad: bool = False  # weight gradients are added to the accumulator inside their multiplication
    overlaps_tp: bool = False  # tensor-parallel collectives of backward run beside the weight gradients
    early_stop: bool = True  # recomputation ends where its last saved tensor is made
    gathers_each_microbatch: bool = True  # with ZeRO-2 too, weights are gathered for each microbatch (FSDP)
    optimizer_passes: float = 1.0  # over parameters and states, 1: one fused kernel
    bucket_bytes: float = 25 * 2**20  # of gradients that travel together, where they are not taken layer by layer
    flat_parameters: bool = False  # FSDP of PyTorch before 2.4: gradients are joined, cast, divided, then reduced
    saves_matmuls: bool = (
        False  # selective recomputation saves every other product (torchtitan), else all but attention
    )
    products: float = 1.0  # times of matrix multiplications over those of the present library
    streams: float = 1.0  # times of memory-bound kernels over those of their counted traffic
    fp8_scaling: str = "tensorwise"  # of products in fp8, unless the scenario says
    async_hidden: float = 0.3  # share of cut-up tensor-parallel collectives that hides beside products
    context_slowdown: float = 1.0  # of attention in pieces that context parallelism makes, over one kernel
    gradients_as_weights: bool = False  # gradients are summed in the dtype of the weights, unless the scenario says
    host_update: float = 1.0  # times of an update in host memory over one pass of it over gradients and states
    attention: str = ""  # library of the attention kernels; the default of the GPU if empty


_ONE: dict[str, Kernels] = {
    "normalization": (("normalization", 2, 2),),
    "elementwise": (("elementwise", 1, 1),),
    "activation": (("elementwise", 1, 1),),
    "gated": (("elementwise", 2, 1),),
    "rope": (("rope", 1, 1),),
    "softmax": (("softmax", 1, 1),),
    "scores": (("scores", 1, 1),),
}
_FUSED_BACKWARD: dict[str, Kernels] = {
    # dx from dy and x with the gradient of the residual added; sums for the weights' gradients beside
    "normalization": (("elementwise", 4, 1),),
    "activation": (("elementwise", 2, 1),),
    "gated": (("elementwise", 3, 2),),
    "rope": (("rope", 1, 1),),
    "softmax": (("elementwise", 1, 1),),
    "scores": (("elementwise", 2, 1),),
}
_MEGATRON_FORWARD: dict[str, Kernels] = {
    # bias + dropout + residual addition in one jit kernel (mask of a byte), then the fused layer norm
    "normalization": (("elementwise", 2, 1.5), ("normalization", 1, 1)),
    "activation": (("elementwise", 1, 1),),
    "gated": (("elementwise", 2, 1),),
    "rope": (("rope", 1, 1),),
    # fp32 copy of the logits, maximum, exponentials in place, their sum (core/tensor_parallel/cross_entropy.py)
    "softmax": (("elementwise", 1, 2), ("elementwise", 2, 0), ("elementwise", 2, 2), ("elementwise", 2, 2)),
    "heads": (("elementwise", 1, 1),),
    "scores": (("scores", 1, 1), ("elementwise", 1, 1.5)),  # fused scale, mask, softmax; dropout with its mask
}
_MEGATRON_BACKWARD: dict[str, Kernels] = {
    "normalization": (("elementwise", 2, 1), ("elementwise", 2, 0), ("elementwise", 2, 1), ("elementwise", 1.5, 1),
                      ("elementwise", 1, 0)),
    "activation": (("elementwise", 2, 1), ("elementwise", 1, 0)),
    "gated": (("elementwise", 3, 2),),
    "rope": (("rope", 1, 1),),
    "softmax": (("elementwise", 2, 2), ("elementwise", 2, 1)),
    "heads": (("elementwise", 0.5, 0.5),),
    "scores": (("elementwise", 1.5, 1), ("elementwise", 2, 1)),
}  # fmt: skip
_EAGER_FORWARD: dict[str, Kernels] = {
    "normalization": (("elementwise", 2, 1), ("normalization", 1, 1)),
    "activation": (("elementwise", 1, 1),),
    "gated": (("elementwise", 1, 1), ("elementwise", 2, 1)),
    # to fp32, complex product, back (model.py of torchtitan and of llama)
    "rope": (("elementwise", 1, 2), ("elementwise", 2, 2), ("elementwise", 2, 1)),
    "softmax": (("elementwise", 1, 2), ("elementwise", 2, 2)),
    "scores": (("elementwise", 1, 1), ("elementwise", 2, 1), ("scores", 1, 2), ("elementwise", 2, 1)),
    # residual; then step by step in fp32: cast, square, mean, root and product, cast back, weight (torch.nn.RMSNorm
    # before PyTorch 2.8)
    "rms": (
        ("elementwise", 2, 1),
        ("elementwise", 1, 2),
        ("elementwise", 2, 2),
        ("elementwise", 2, 0),
        ("elementwise", 2, 2),
        ("elementwise", 2, 1),
        ("elementwise", 1, 1),
    ),
}
_EAGER_BACKWARD: dict[str, Kernels] = {
    "normalization": (("elementwise", 2, 1), ("elementwise", 2, 0), ("elementwise", 2, 1)),
    "activation": (("elementwise", 2, 1),),
    "gated": (("elementwise", 3, 2), ("elementwise", 2, 1)),
    "rope": (("elementwise", 1, 2), ("elementwise", 2, 2), ("elementwise", 2, 1)),
    "softmax": (("elementwise", 2, 2), ("elementwise", 2, 1)),
    "heads": (("elementwise", 1, 1),),
    "scores": (("elementwise", 1, 2), ("elementwise", 4, 2), ("elementwise", 2, 1), ("elementwise", 1, 1)),
    "rms": (
        ("elementwise", 1, 1),
        ("elementwise", 2, 0),
        ("elementwise", 1, 2),
        ("elementwise", 2, 2),
        ("elementwise", 4, 0),
        ("elementwise", 2, 2),
        ("elementwise", 4, 2),
        ("elementwise", 2, 1),
        ("elementwise", 2, 1),
    ),
}

_HF_FORWARD: dict[str, Kernels] = {
    **_EAGER_FORWARD,
    # fp32 residual and 16-bit branch; square, mean, by the root, by the weights in fp32 (LlamaRMSNorm); a cast for each
    # product behind it, three in attention and two in the feed-forward
    "rms autocast": (
        ("elementwise", 3, 2),
        ("elementwise", 2, 2),
        ("elementwise", 2, 0),
        ("elementwise", 2, 2),
        ("elementwise", 2, 2),
        ("elementwise", 5, 2.5),
    ),
    "normalization autocast": (("elementwise", 3, 2), ("normalization", 2, 2), ("elementwise", 2, 1)),
}
_HF_BACKWARD: dict[str, Kernels] = {
    **_EAGER_BACKWARD,
    # gradients of the casts and their sum; by the weights, and those of the weights; by the root, and that of the root;
    # of the square; sums with it and with the residual's; a cast for the branch
    "rms autocast": (
        ("elementwise", 2.5, 5),
        ("elementwise", 6, 3),
        ("elementwise", 2, 2),
        ("elementwise", 4, 2),
        ("elementwise", 2, 0),
        ("elementwise", 2, 2),
        ("elementwise", 4, 2),
        ("elementwise", 2, 0),
        ("elementwise", 2, 2),
        ("elementwise", 4, 2),
        ("elementwise", 4, 2),
        ("elementwise", 2, 1),
    ),
    "normalization autocast": (("elementwise", 1, 2), ("elementwise", 4, 2), ("elementwise", 4, 0),
                               ("elementwise", 4, 2), ("elementwise", 2, 1)),
}  # fmt: skip

_CORE_FORWARD = {**_ONE, "softmax": _MEGATRON_FORWARD["softmax"]}  # the loss over a split vocabulary is not fused
_CORE_BACKWARD = {**_FUSED_BACKWARD, "softmax": _MEGATRON_BACKWARD["softmax"]}
_COMPILED_FORWARD = {**_ONE, "softmax": _EAGER_FORWARD["softmax"]}  # layers are compiled, the loss is not
_COMPILED_BACKWARD = {**_FUSED_BACKWARD, "softmax": _EAGER_BACKWARD["softmax"]}

_TORCH_ADAM = 6.0
"""torch.optim.Adam on a CPU over DeepSpeedCPUAdam, which is 5 to 7 times as fast (DeepSpeed, ZeRO-Offload tutorial)."""

FRAMEWORKS: dict[str, Framework] = {
    one.name: one
    for one in (
        Framework(
            "megatron",
            "Megatron-Core: fused kernels, gradients summed in the multiplication, collectives beside weight gradients",
            "NVIDIA/Megatron-LM, megatron/core (fusions/, tensor_parallel/layers.py, distributed/)",
            _CORE_FORWARD,
            _CORE_BACKWARD,
            launch_s=5e-6,
            step_s=15e-3,
            fused_wgrad=True,
            overlaps_tp=True,
            early_stop=False,
            async_hidden=0.7,
            bucket_bytes=160e6,
            fp8_scaling="delayed",
            gathers_each_microbatch=False,
        ),
        Framework(
            "megatron-2022",
            "Megatron-LM of 2022: as of 2021, with collectives beside weight gradients and sequence parallelism",
            "Korthikanti et al., arXiv 2205.05198; NVIDIA/Megatron-LM v3.0",
            _MEGATRON_FORWARD,
            _MEGATRON_BACKWARD,
            launch_s=5e-6,
            step_s=15e-3,
            fused_wgrad=True,
            overlaps_tp=True,
            early_stop=False,
            gathers_each_microbatch=False,
        ),
        Framework(
            "megatron-2021",
            "Megatron-LM of 2021: jit-fused kernels, dropout, nothing overlaps",
            "Narayanan et al., arXiv 2104.04473; NVIDIA/Megatron-LM v2.5",
            _MEGATRON_FORWARD,
            _MEGATRON_BACKWARD,
            launch_s=5e-6,
            step_s=15e-3,
            fused_wgrad=True,
            early_stop=False,
            products=1.07,
            gathers_each_microbatch=False,
        ),
        Framework(
            "pytorch-2023",
            "PyTorch 2.0 and 2.1 with FSDP of flat parameters and the Triton kernels of FlashAttention 1",
            "pytorch/pytorch 2.1, torch/distributed/fsdp/_runtime_utils.py; mosaicml/llm-foundry 0.3",
            _EAGER_FORWARD,
            _EAGER_BACKWARD,
            launch_s=13e-6,
            step_s=15e-3,
            optimizer_passes=2.0,
            fp8_scaling="delayed",
            flat_parameters=True,
            products=1.04,
            streams=1.5,
            saves_matmuls=True,
            attention="flash-1",
            host_update=_TORCH_ADAM,
        ),
        Framework(
            "pytorch-eager",
            "PyTorch, one kernel for each operation, FSDP or DDP",
            "pytorch/pytorch 2.1, torch/distributed/fsdp; mosaicml/llm-foundry",
            _EAGER_FORWARD,
            _EAGER_BACKWARD,
            launch_s=13e-6,
            step_s=8e-3,
            streams=1.25,
            optimizer_passes=2.0,
            context_slowdown=1.3,
            saves_matmuls=True,
            attention="sdpa",
            host_update=_TORCH_ADAM,
        ),
        Framework(
            "pytorch-compiled",
            "PyTorch with torch.compile: memory-bound operators fused by Inductor",
            "pytorch/torchtitan, torch.compile of each block",
            _COMPILED_FORWARD,
            _COMPILED_BACKWARD,
            launch_s=5e-6,
            step_s=8e-3,
            context_slowdown=1.3,
            saves_matmuls=True,
            attention="sdpa",
            host_update=_TORCH_ADAM,
        ),
        Framework(
            "hf-trainer",
            "Hugging Face models in eager PyTorch (Trainer, Accelerate), FSDP or DDP; autocast with `weights: fp32`",
            "huggingface/transformers 5, models/llama/modeling_llama.py, loss/loss_utils.py; kernels of pytorch-eager",
            _HF_FORWARD,
            _HF_BACKWARD,
            launch_s=13e-6,
            step_s=8e-3,
            streams=1.25,
            optimizer_passes=2.0,
            context_slowdown=1.3,
            saves_matmuls=True,
            attention="sdpa",
            host_update=_TORCH_ADAM,
        ),
        Framework(
            "deepspeed",
            "DeepSpeed: ZeRO 1 to 3 and its pipeline (1F1B, outputs freed once sent) around eager PyTorch layers",
            "deepspeedai/DeepSpeed, runtime/zero, runtime/pipe/engine.py, ops/adam; kernels of pytorch-eager",
            _HF_FORWARD,
            _HF_BACKWARD,
            launch_s=13e-6,
            step_s=8e-3,
            streams=1.25,
            early_stop=False,
            gathers_each_microbatch=False,
            bucket_bytes=1e9,
            context_slowdown=1.3,
            gradients_as_weights=True,
            attention="sdpa",
        ),
    )
}


def framework(name: str) -> Framework:
    """A framework by name. Raises `InputError`."""
    try:
        return FRAMEWORKS[name]
    except KeyError:
        raise InputError(f"unknown framework '{name}'{nearest(name, FRAMEWORKS)}", key="framework") from None
