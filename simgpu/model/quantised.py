"""The precision that a checkpoint is stored in, by the section `quantization_config` of its `config.json`."""

from __future__ import annotations

from simgpu.documents import Document


def precision_of_checkpoint(document: Document) -> str:
    """The quantisation that the checkpoint's file states; empty: none."""
    stored = document.data.get("quantization_config")
    return str(stored.get("quant_method", "")) if isinstance(stored, dict) else ""
