"""Keys of a `config.json` that name a shape, and a check that the reader of its family looked at them.

A key that a family does not know is not dropped in silence if its name says that it changes what is computed: the count
of parameters would be wrong without a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_OF_A_SHAPE = re.compile(
    r"(^|_)(dims?|sizes?|ranks?|heads?|layers?|experts?|width|ffn|intermediate|kernel|window|chunk|stride|ratio|"
    r"expand|state|groups|conv|ssm|mamba|linear|recurrent|memory|indexer|compress(ed|ion)?|interval|freq|frequency|"
    r"step|every|bias|biases|norm|lora|adapter|altup|laurel|hyper|lengths?|list|pattern|block|blocks|types?)(_|$)"
)
"""Words that a key has which names a shape: widths, counts, and what says which layers have which part."""

HARMLESS = frozenset(
    (
        *(
            "model_type",
            "torch_dtype",
            "dtype",
            "transformers_version",
            "architectures",
            "auto_map",
            "position_embedding_type",
        ),
        # how a run is done, not what
        *("ep_size", "pretraining_tp", "attn_type", "cache_implementation", "chunk_size_feed_forward", "use_cache"),
        *("max_length", "min_length", "num_beams", "num_beam_groups", "no_repeat_ngram_size", "add_cross_attention"),
        *("gradient_checkpointing", "tie_encoder_decoder", "task_specific_params", "problem_type", "prefix"),
        # numbers that scale values, no shapes
        *("norm_topk_prob", "initial_context_length", "original_max_position_embeddings", "attn_logit_softcapping"),
        *("router_aux_loss_coef", "router_jitter_noise", "norm_eps", "layer_norm_eps", "rms_norm_eps", "norm_epsilon"),
        *("layer_norm_epsilon", "layerdrop", "scale_attn_by_inverse_layer_idx", "output_router_logits"),
        *("moe_aux_loss_coef", "aux_loss_alpha", "seq_aux", "layernorm_full_attention_alpha", "layernorm_mlp_alpha"),
        # positions: rotary ones have no weights
        *("rotary_dim", "rotary_pct", "partial_rotary_factor", "rope_local_base_freq", "rope_interleave"),
        *("rope_type", "rope_parameters", "rope_scaling", "rope_theta"),
        # windows that are switched off, and groups of experts that only narrow the choice
        *("max_window_layers", "n_group", "topk_group", "num_expert_group", "num_limited_groups"),
        # layers that predict further tokens are no part of the main model (`mtp_layers`)
        *("num_nextn_predict_layers", "num_mtp_modules", "mtp_transformer_layers", "use_mtp", "mtp_num_layers"),
        # the same said twice
        *("experts_per_token", "_sliding_window_pattern", "n_ctx"),
    )
)
"""Keys with such words that do not change the shape of the model, or only what is left out on purpose."""


class Seen(dict[str, Any]):
    """Data of a file that remembers which keys were read."""

    def __init__(self, data: dict[str, Any]) -> None:
        super().__init__(data)
        self.read_keys: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        """The value of `key`, else `default`; remembers that it was read."""
        self.read_keys.add(key)
        return super().get(key, default)

    def __getitem__(self, key: str) -> Any:
        self.read_keys.add(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self.read_keys.add(str(key))
        return super().__contains__(key)

    def overlooked(self) -> Iterator[str]:
        """Keys that name a shape, hold something, and were never read."""
        for key, value in self.items():
            if key in self.read_keys or key in HARMLESS or not _OF_A_SHAPE.search(key):
                continue
            if not _says_nothing(value):
                yield key


def _says_nothing(value: Any) -> bool:
    """True if a value is that of an absent part: null, false, zero, one, empty, words, fractions."""
    if isinstance(value, (str, float)) or value is None or value is False:
        return True
    if isinstance(value, int) and not isinstance(value, bool):
        return value in (0, 1)
    return value in ([], {})
