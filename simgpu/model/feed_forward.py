"""The feed-forward half of a layer: dense, or a mixture of experts."""

from __future__ import annotations

from simgpu.model.config import TransformerConfig
from simgpu.model.operators import BYTES, Communicate, Dim, GroupedMatmul, Kernel, Matmul, Operator, Pointwise


def dense_operators(
    config: TransformerConfig, rows: Dim, width: int, dtype: str, accumulate: str, name: str = "ffn"
) -> tuple[Kernel, ...]:
    """Operators of a dense feed-forward block `width` wide: up (and gate), activation, down."""
    c, hidden, inner = config, Dim(config.hidden), Dim(width, 1, "ffn")
    up = Dim(width, 2, "ffn") if c.gated else inner
    activation = "activation" if name == "ffn" else f"{name}_activation"
    return (
        Matmul(f"{name}_up", rows, (up,), hidden, dtype, accumulate, bias=c.bias),
        Pointwise(activation, "elementwise", rows, (inner,), dtype, 2 if c.gated else 1, 1, 8),
        Matmul(f"{name}_down", rows, (hidden,), inner, dtype, accumulate, bias=c.bias),
        *_feed_gate(c, rows, dtype, accumulate),
    )


def _feed_gate(config: TransformerConfig, rows: Dim, dtype: str, accumulate: str) -> tuple[Kernel, ...]:
    """The gate of what a feed-forward gives, a product of the hidden state (RWKV 6)."""
    hidden = Dim(config.hidden)
    if not config.feed_gate:
        return ()
    product = Matmul("feed_gate", rows, (hidden,), hidden, dtype, accumulate)
    return product, Pointwise("feed_gated", "elementwise", rows, (hidden,), dtype, 2, 1, 5)


def expert_operators(
    config: TransformerConfig, rows: Dim, dtype: str, accumulate: str, routing: str = "balanced"
) -> tuple[Operator, ...]:
    """A mixture of experts: route, permute, dispatch, experts, combine, weigh; then the shared experts.

    Rows go to the ranks that hold their experts and back by all-to-all over the expert-parallel group, `topk` copies
    of each (Lepikhin et al., GShard, 2020, section 3.2; no copy is dropped and none saved by grouping by node).
    Experts are split over the group by number, and each over the tensor-parallel group by its width, or not at all
    (Megatron-LM): so that width is an axis of its own.
    """
    c, topk = config, config.experts_per_token
    width = c.latent_experts or c.hidden
    hidden = Dim(width)
    experts, inner = Dim(c.experts, 1, "experts"), Dim(c.expert_width, 1, "expert_ffn")
    up = Dim(c.expert_width, 2, "expert_ffn") if c.gated else inner
    copies = (Dim(topk * width),)
    moved = rows.size * topk * width * BYTES[dtype]

    def grouped(name: str, n: Dim, k: Dim) -> GroupedMatmul:
        return GroupedMatmul(name, rows, topk, experts, c.experts, (n,), k, dtype, accumulate, routing, bias=c.bias)

    routed: tuple[Operator, ...] = (
        Matmul("router", rows, (Dim(c.routed),), Dim(c.hidden), dtype, accumulate, bias=c.router_bias),
        *into_experts(c, rows, dtype, accumulate),
        Pointwise("routing", "softmax", rows, (Dim(c.routed),), dtype, 1, 1, 5),
        Pointwise("permute", "elementwise", rows, copies, dtype, 1, 1, 0),
        Communicate("dispatch", "all_to_all", moved, "ep", rows),
        grouped("experts_up", up, hidden),
        Pointwise(
            "experts_activation", "elementwise", rows, (Dim(c.expert_width, topk, "expert_ffn"),), dtype,
            2 if c.gated else 1, 1, 8,
        ),
        grouped("experts_down", hidden, inner),
        Communicate("combine", "all_to_all", moved, "ep", rows),
        Pointwise("unpermute", "elementwise", rows, (hidden,), dtype, topk, 1, 2 * topk),
        *out_of_experts(c, rows, dtype, accumulate),
    )  # fmt: skip
    return (*routed, *shared_operators(c, rows, dtype, accumulate))


def into_experts(config: TransformerConfig, rows: Dim, dtype: str, accumulate: str) -> tuple[Kernel, ...]:
    """The projection to the width that experts read, where that is not the hidden one."""
    c = config
    if not c.latent_experts:
        return ()
    return (Matmul("experts_in", rows, (Dim(c.latent_experts),), Dim(c.hidden), dtype, accumulate),)


def out_of_experts(config: TransformerConfig, rows: Dim, dtype: str, accumulate: str) -> tuple[Kernel, ...]:
    """The projection back to the hidden width."""
    c = config
    if not c.latent_experts:
        return ()
    return (Matmul("experts_out", rows, (Dim(c.hidden),), Dim(c.latent_experts), dtype, accumulate),)


def shared_operators(config: TransformerConfig, rows: Dim, dtype: str, accumulate: str) -> tuple[Kernel, ...]:
    """Experts that every token visits, and the number that weighs them where there is one."""
    c = config
    if not c.shared_width:
        return ()
    shared = dense_operators(c, rows, c.shared_width, dtype, accumulate, "shared")
    if not c.shared_gate:
        return shared
    return (*shared, Matmul("shared_gate", rows, (Dim(1),), Dim(c.hidden), dtype, accumulate))
