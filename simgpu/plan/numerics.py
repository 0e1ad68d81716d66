"""Dtypes and states of training: weights, gradients, optimizer states, and which parameters are trained."""

from __future__ import annotations

from dataclasses import dataclass

from simgpu.errors import InputError, nearest, shown
from simgpu.model.config import TransformerConfig
from simgpu.model.operators import BYTES, Matmul

NVFP4 = "nvfp4"
"""Scaling of products in fp4: a scale for 16 values, and one for the tensor."""

FP8_SCALING = ("tensorwise", "rowwise", "delayed", "block", "mx")
"""Scaling of products in fp8: of a tensor, as it is or as it was a step before; of rows; of 128 values, weights 128 x
128 (DeepSeek-V3); of 32 values (MXFP8, OCP Microscaling), by which the products of Blackwell scale themselves."""

OPTIMIZERS: dict[str, int] = {"adam": 2, "muon": 1, "momentum": 1, "sgd": 0, "none": 0}
"""State tensors that each optimizer keeps per parameter; 'none': forward and backward only. Muon keeps those of Adam
for all that is no matrix of a layer."""

FINETUNE = ("full", "lora", "qlora")
NARROW = ("fp8", "fp4")
"""Dtypes of products alone: what they make, and all else, is of 16 bits."""

DTYPES = ("fp32", "tf32", "bf16", "fp16", *NARROW)
"""Dtypes in which a training step can multiply matrices; fp4 is NVFP4, a scale of 8 bits for 16 values (Transformer
Engine, NVFP4BlockScaling)."""

SCALES = {"fp8": 0.0, "fp4": 1 / 16}
"""Bytes of scales beside a value that is kept narrow: none to speak of, or one for 16 values."""

PROJECTIONS = ("qkv", "q", "q_down", "q_up", "kv_down", "kv_up", "attention_out", "out_down", "state_in", "state_out")
"""Matrices of attention, direct and latent, and of mixers with a state: those that have adapters unless others are
named. No layer has all."""

NF4_BITS = 4.127
"""Bits per weight of 4-bit NormalFloat with double quantisation: 4 + 8/64 + 32/(64 x 256) (Dettmers et al., QLoRA,
2023, section 3: 0.127 bits per parameter for the constants)."""


@dataclass(frozen=True)
class Numerics:
    """Dtypes and states of training; they give the bytes per parameter (Rajbhandari et al., ZeRO, 2020, section 3.1).

    `dtype` is what matrices are multiplied in; `weights` what kernels read and all-gathers move; `master` the copy that
    the optimizer updates (None: the weights themselves); `gradients` what they are accumulated in; `reduce` what they
    travel in; `states` of the optimizer. `sharded_copy` tells whether ZeRO-3 keeps shards of the weights beside those
    of the master; without them these are cast on the way to the all-gather (None: as the framework does). `targets`
    are names of matrices that adapters are put on; names that a model does not have match nothing. `loss_chunks` are
    the parts in which the head and the loss run forward and backward, one after another. `use_cache`: keys and values
    of all layers stay to the end of a step. `loss` is how the loss runs (`simgpu.plan.stack.LOSSES`) and `dropout`
    whether there is any; None: as the framework does.
    """

    dtype: str = "bf16"
    weights: str = "bf16"
    master: str | None = "fp32"
    gradients: str = "fp32"
    reduce: str = "fp32"
    states: str = "fp32"
    optimizer: str = "adam"
    flash: bool = True
    finetune: str = "full"
    rank: int = 16
    targets: tuple[str, ...] = PROJECTIONS
    sharded_copy: bool | None = None
    loss_chunks: int = 1
    use_cache: bool = False
    loss: str | None = None
    dropout: bool | None = None

    def __post_init__(self) -> None:
        for key, known in (("optimizer", OPTIMIZERS), ("finetune", FINETUNE)):
            given = getattr(self, key)
            if given not in known:
                raise InputError(f"{shown(given)} is not known{nearest(given, known)}", key=f"workload.{key}")
        if self.finetune != "full" and not self.targets:
            raise InputError("the list is empty: nothing would be trained", key="workload.targets")

    @property
    def weight_bytes(self) -> float:
        """Bytes per weight that is resident for the kernels, frozen or trained."""
        return NF4_BITS / 8 if self.finetune == "qlora" else BYTES[self.weights]

    @property
    def wide(self) -> str:
        """The dtype of activations: what products make, and all that is no product of matrices."""
        return "bf16" if self.dtype in NARROW else self.dtype

    @property
    def narrow_bytes(self) -> float:
        """Bytes of a value in the dtype of products, with its share of the scales."""
        return BYTES[self.dtype] + SCALES.get(self.dtype, 0.0)

    @property
    def casts_weights(self) -> bool:
        """True if weights are fp32 and GEMMs run in a narrower type, so that each GEMM casts them."""
        return self.weights == "fp32" and BYTES[self.dtype] < BYTES["fp32"]

    def stored_bytes(self, weights: float, matrices: float) -> float:
        """Bytes of `weights` parameters as they are stored and gathered.

        `matrices` of them are matrices of products: 4-bit fine-tuning packs those alone.
        """
        return BYTES[self.weights] * (weights - matrices) + self.weight_bytes * matrices

    @property
    def gradient_bytes(self) -> float:
        """Bytes per trained parameter."""
        return BYTES[self.gradients]

    @property
    def state_bytes(self) -> float:
        """Bytes per trained parameter of the optimizer: master copy and states."""
        if self.optimizer == "none":
            return 0.0
        master = BYTES[self.master] if self.master else 0.0
        return master + OPTIMIZERS[self.optimizer] * BYTES[self.states]

    @property
    def other_bytes(self) -> float:
        """Bytes of optimizer states, beside `state_bytes`, of a trained parameter that is in no matrix of a layer."""
        return BYTES[self.states] * (OPTIMIZERS["adam"] - OPTIMIZERS["muon"]) if self.optimizer == "muon" else 0.0


def scaling_of(dtype: str, fp8: str) -> str | None:
    """How products of a narrow dtype are scaled, `fp8` if that is the dtype; None for a wide one."""
    return {"fp8": fp8, "fp4": NVFP4}.get(dtype)


def adapter_targets(config: TransformerConfig) -> tuple[str, ...]:
    """Names of the matrices of a model's layers that an adapter can be put on. Grouped products of experts cannot."""
    from simgpu.model.transformer import layer_operators

    kinds = (kind for kind, _ in config.layer_kinds())
    layers = (layer_operators(config, kind, 1, 1, "bf16", "fp32") for kind in kinds)
    names = (op.name for layer in layers for op in layer if isinstance(op, Matmul) and op.weight)
    return tuple(dict.fromkeys(names))
