"""Models by the shape that a row of a table states, and plans in a few words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from simgpu.lab.validation.adapters.reader import Reader
from simgpu.model.config import TransformerConfig
from simgpu.plan.parallelism import Plan


def gpt(
    row: Reader, tied: bool = True, hidden: str = "hidden_size", vocabulary: int | None = None
) -> TransformerConfig:
    """A model of GPT-2's kind: LayerNorm, biases, learned positions, a feed-forward of two matrices.

    `hidden` names the column of the hidden size; `vocabulary` counts where the table has no column of it.
    """
    kind = {"gated": False, "rms_norm": False, "rope": False, "qkv_bias": True, "bias": True}
    return _config(row, hidden, vocabulary, tied_embeddings=tied, **kind)


def llama(row: Reader, tied: bool = False) -> TransformerConfig:
    """A model of Llama's kind: RMSNorm, no biases, rotary positions, a gated feed-forward."""
    kind = {"gated": True, "rms_norm": True, "rope": True, "qkv_bias": False, "bias": False}
    return _config(row, "hidden_size", None, tied_embeddings=tied, **kind)


def bidirectional(config: TransformerConfig) -> TransformerConfig:
    """The same model as an encoder: every token attends to every other."""
    return replace(config, causal=False)


def _config(row: Reader, hidden_column: str, vocabulary: int | None, **kind: Any) -> TransformerConfig:
    hidden, heads = row.count(hidden_column), row.count("num_heads")
    return TransformerConfig(
        name=row.word("model") or "model",
        layers=row.count("num_layers"),
        hidden=hidden,
        heads=heads,
        kv_heads=row.count("num_kv_heads", heads),
        head_dim=hidden // heads,
        ffn=row.count("ffn_size"),
        vocab=row.count("vocab_size", vocabulary),
        max_tokens=row.count("seq_len"),
        qk_norm=False,
        **kind,
    )


def plan_text(plan: Plan) -> str:
    """Degrees above one and whatever else is not the default."""
    words = [f"{name}{getattr(plan, name)}" for name in ("tp", "cp", "pp", "vp", "ep", "dp") if getattr(plan, name) > 1]
    words += [f"zero{plan.zero}"] if plan.zero else []
    words += ["sp"] if plan.sequence_parallel else []
    words += ["async-tp"] if plan.async_tp else []
    words += [f"mb{plan.micro_batch}"] if plan.micro_batch else []
    words += [f"recompute-{plan.recompute}"] if plan.recompute != "none" else []
    return " ".join(words)
