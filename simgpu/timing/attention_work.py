"""Shapes of attention: what callers give, checked, and what the kernel models take."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from simgpu.timing.checks import WIDEST_HEAD, check_heads, check_keys, check_sizes
from simgpu.timing.parts import ArrayLike


class AttentionWork(NamedTuple):
    """Attention of `batch` sequences; all sizes broadcast against each other.

    Causal queries are the last of the keys: a chunk of a prompt has more keys than queries, and a decode step one
    query, or a few speculated ones.
    """

    batch: ArrayLike
    queries: ArrayLike  # new tokens of a sequence
    keys: ArrayLike  # new and cached tokens
    heads: ArrayLike
    kv_heads: ArrayLike
    head_dim: ArrayLike  # elements of a query and a key of one head
    v_head_dim: ArrayLike | None = None  # of a value; None: as `head_dim`
    window: ArrayLike = 0.0  # keys that a query sees; 0: all
    cache_width: ArrayLike = 0.0  # elements stored per token and KV head; 0: a key and a value

    def checked(self, causal: bool = True) -> AttentionWork:
        """The same with every width given, as the kernel models take it.

        Raises `InputError` for a shape that no attention has.
        """
        check_sizes(batch=self.batch, queries=self.queries, keys=self.keys, heads=self.heads, kv_heads=self.kv_heads)
        check_sizes(1, WIDEST_HEAD, head_dim=self.head_dim, v_head_dim=self.v_head_dim)
        check_sizes(0, window=self.window)
        check_heads(self.heads, self.kv_heads)
        if causal:
            check_keys(self.keys, self.queries)
        return self if self.v_head_dim is not None else self._replace(v_head_dim=self.head_dim)


class LatentWork(NamedTuple):
    """Latent attention (DeepSeek-V2, arXiv:2405.04434): `latent_dim` elements of a token stand for keys and values."""

    batch: ArrayLike
    queries: ArrayLike
    keys: ArrayLike
    heads: ArrayLike
    nope_dim: ArrayLike = 128  # elements of a head's key without positions, once expanded
    rope_dim: ArrayLike = 64  # elements with rotary positions, which all heads share
    v_head_dim: ArrayLike = 128  # elements of a head's value, once expanded
    latent_dim: ArrayLike = 512

    def expanded(self) -> AttentionWork:
        """Every head has keys and values of its own, as prompts are run."""
        check_sizes(0, nope_dim=self.nope_dim, rope_dim=self.rope_dim)
        wide = np.asarray(self.nope_dim, float) + np.asarray(self.rope_dim, float)
        return AttentionWork(self.batch, self.queries, self.keys, self.heads, self.heads, wide, self.v_head_dim)

    def absorbed(self) -> AttentionWork:
        """All heads share one key of latent and rope with its value inside, as decode steps are run."""
        check_sizes(0, rope_dim=self.rope_dim)
        check_sizes(latent_dim=self.latent_dim)
        wide = np.asarray(self.latent_dim, float) + np.asarray(self.rope_dim, float)
        work = AttentionWork(self.batch, self.queries, self.keys, self.heads, 1.0, wide).checked()
        return work._replace(v_head_dim=self.latent_dim, cache_width=wide)


class MixedWork(NamedTuple):
    """A chunk of one prompt and `decodes` sequences of one query each, in one kernel."""

    queries: ArrayLike  # of the chunk
    keys: ArrayLike  # of the chunk, cached ones with it
    decodes: ArrayLike
    decode_keys: ArrayLike
    heads: ArrayLike
    kv_heads: ArrayLike
    head_dim: ArrayLike
    v_head_dim: ArrayLike | None = None
