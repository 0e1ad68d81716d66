"""Mixers that keep a state of fixed size instead of a cache: shapes, weights, bytes of the state.

Each head folds a token into a matrix [key_dim, value_dim] and reads it with a query. Kinds differ in how the old state
fades and in what is projected:

- 'gated_delta': a factor for each head, and the delta rule (Yang et al., Gated Delta Networks, arXiv:2412.06464;
  transformers, modeling_qwen3_next.py);
- 'kda': a factor for each row of the state, made by a low-rank product or a whole one (Kimi Linear, arXiv:2510.26692;
  Kimi K3, transformers, modular_kimi_k3.py; Ring 2.5, modeling_bailing_hybrid.py);
- 'rwkv6': a factor for each row of the state, made by a low-rank product (Peng et al., arXiv:2404.05892);
- 'rwkv7': the delta rule besides, whose rates and gates are made by low-rank products (Peng et al., arXiv:2503.14456;
  fla-org/flash-linear-attention, layers/rwkv6.py and rwkv7.py);
- 'lightning': a constant for each head (MiniMax-01, arXiv:2501.08313, section 2.2);
- 'mamba2': a factor for each head; keys and queries are shared by groups of heads (Dao and Gu, arXiv:2405.21060);
- 'mamba': a state for each channel with factors of its own (Gu and Dao, arXiv:2312.00752);
- 'short_conv': a short causal convolution alone (LFM2; transformers, modeling_lfm2.py).
"""

from __future__ import annotations

from dataclasses import dataclass

KINDS = ("gated_delta", "kda", "lightning", "mamba2", "mamba", "short_conv", "rwkv6", "rwkv7")
"""Kinds of recurrences."""

STATE_BYTES = 4.0
"""Bytes of an element of a state: fp32 (transformers' and vLLM's kernels of every kind)."""


@dataclass(frozen=True)
class Recurrence:
    """Shape of a mixer with a state. `heads` of values, each with a state; `key_heads` of queries and keys."""

    kind: str
    heads: int
    key_dim: int
    value_dim: int
    key_heads: int = 0  # 0: as many as heads
    conv: int = 0  # width of the causal convolution before it; 0: none
    conv_bias: bool = False
    bias: bool = False  # in the projections in and out
    rank: int = 0  # of what makes time steps (mamba), factors (kda), of all low-rank products together (rwkv)
    whole_factors: bool = False  # factors of the state by one product, not by two of low rank (kda)
    whole_gate: bool = False  # and the gate of the output
    gated: bool = True  # a gate of the output, as wide as it
    norm: bool = True  # of the output
    step_norms: bool = False  # norms of time steps, keys and queries (Jamba)

    def said(self) -> str:
        """Its shape in words: 'gated_delta: 32 heads of 128 x 128'."""
        return f"{self.kind}: {self.heads:,} heads of {self.key_dim} x {self.value_dim}"

    @property
    def keys(self) -> int:
        """Heads of queries and keys."""
        return self.key_heads or self.heads

    @property
    def inner(self) -> int:
        """Width of all values together."""
        return self.heads * self.value_dim

    @property
    def channels(self) -> int:
        """Channels that the convolution runs over."""
        if not self.conv:
            return 0
        if self.kind in ("mamba", "short_conv"):
            return self.inner
        return self.inner + 2 * self.keys * self.key_dim

    @property
    def state_elements(self) -> int:
        """Elements of the states of all heads."""
        return 0 if self.kind == "short_conv" else self.heads * self.key_dim * self.value_dim

    def state_bytes(self, ways: int = 1, width: float = 2.0) -> float:
        """Bytes that one sequence keeps on a rank of `ways`: states in fp32, inputs of the convolution `width` each."""
        convolved = self.channels * max(self.conv - 1, 0) * width
        return (self.state_elements * STATE_BYTES + convolved) / ways

    def entry_widths(self) -> tuple[tuple[int, int], ...]:
        """Outputs of the projection in, as (heads, width of each): split over ranks by heads."""
        d, s = self.value_dim, self.key_dim
        match self.kind:
            case "mamba":
                return ((self.heads, (1 + self.gated) * d),)
            case "mamba2":
                return ((self.heads, (1 + self.gated) * d), (self.keys, 2 * s), (self.heads, 1))
            case "gated_delta":
                return ((self.heads, (1 + self.gated) * d), (self.keys, 2 * s), (self.heads, 2))
            case "kda":
                wide = 1 + self.whole_gate
                return ((self.heads, wide * d), (self.keys, (2 + self.whole_factors) * s), (self.heads, 1))
            case "rwkv6":
                return ((self.heads, 2 * d), (self.keys, 2 * s))
            case "rwkv7":
                return ((self.heads, d), (self.keys, 2 * s))
            case "short_conv":
                return ((self.heads, 3 * d),)
            case _:
                return ((self.heads, (1 + self.gated) * d), (self.keys, 2 * s))

    def small_weights(self) -> int:
        """Parameters that are in no product: convolution, factors, time steps, norms."""
        found = self.channels * (self.conv + self.conv_bias)
        match self.kind:
            case "mamba":
                found += self.inner * (self.key_dim + 1)  # A, D
                found += (self.rank + 2 * self.key_dim) if self.step_norms else 0
            case "mamba2":
                found += 3 * self.heads + (self.inner if self.norm else 0)  # A, D, bias of the step
            case "gated_delta":
                found += 2 * self.heads + (self.value_dim if self.norm else 0)
            case "kda":
                found += self.heads + self.keys * self.key_dim + (self.value_dim if self.norm else 0)
            case "lightning":
                found += self.inner if self.norm else 0
            case "rwkv6":
                found += 10 * self.inner  # shifts of the six inputs, the bonus, bias of the factor, the norm
            case "rwkv7":
                found += 15 * self.inner  # shifts, three scales of keys, biases of three low-rank products, the norm
        return found

    def parameters(self, hidden: int) -> int:
        """Weights of the mixer in a model of a hidden width."""
        entry = sum(heads * width for heads, width in self.entry_widths())
        found = hidden * entry + self.inner * hidden + self.small_weights()
        found += (entry + hidden) if self.bias else 0
        if self.kind == "mamba":  # time step, keys and queries are made of the convolved input
            found += self.inner * (self.rank + 2 * self.key_dim) + self.rank * self.inner + self.inner
        if self.kind == "kda":  # factors of the state and gate of the output, each by two products
            found += 0 if self.whole_factors else self.rank * (hidden + self.keys * self.key_dim)
            found += 0 if self.whole_gate else self.rank * (hidden + self.inner)
        if self.kind in ("rwkv6", "rwkv7"):
            found += self.rank * (hidden + self.inner)
        return found
