"""The graph of a vision tower (`simgpu.model.vision`): patches, layers, and the projector into the text model.

Source of the layers: huggingface/transformers, models/qwen2_vl, qwen2_5_vl, qwen3_vl, siglip, clip (modeling files);
OpenGVLab InternVL, modeling_intern_vit.py. Engines run one fused kernel for each, as for the text model.
"""

from __future__ import annotations

from simgpu.model.graph import ModelGraph
from simgpu.model.networks.build import Builder, Inputs
from simgpu.model.operators import Dim
from simgpu.model.vision import Tower


def tower_graph(tower: Tower, pictures: int, rows: int, columns: int, dtype: str) -> ModelGraph:
    """One pass over `pictures` of `rows` x `columns` patches each."""
    b = Builder(Inputs(pictures, rows * tower.patch, columns * tower.patch), dtype)
    patches = rows * columns
    tokens = patches + tower.class_token
    all_rows, h = b.rows(tokens), tower.hidden
    b.linear("patches", b.rows(patches), h, tower.channels * tower.frames * tower.patch**2, bias=tower.patch_bias)
    held = h * (tower.positions + tower.class_token)
    if held:
        b.elementwise("positions", all_rows, h, reads=2, weights=held)
    if tower.first_norm:
        _norm(b, tower, "first_norm", all_rows, h)
    whole = tower.whole_layers if tower.window else tower.layers
    side = tower.window // tower.patch
    with b.segment("layers", whole):
        _layer(b, tower, tokens, tokens, 1)
    with b.segment("windowed layers", tower.layers - whole):
        _layer(b, tower, tokens, min(side * side, tokens), -(-tokens // (side * side)) if side else 1)
    if tower.last_norm:
        _norm(b, tower, "last_norm", all_rows, h)
    _projector(b, tower, rows * columns // tower.merge**2)
    return b.graph("vision tower")


def tower_parameters(tower: Tower) -> int:
    """Weights of a tower and its projector."""
    return tower_graph(tower, 1, tower.merge, tower.merge, "bf16").weights


def _layer(b: Builder, tower: Tower, tokens: int, seen: int, windows: int) -> None:
    """A layer, whose attention is among `seen` tokens of each of `windows` windows."""
    h, rows, bias = tower.hidden, b.rows(tokens), tower.linear_bias
    scales = h if tower.scales else 0
    _norm(b, tower, "norm1", rows, h)
    b.linear("qkv", rows, 3 * h, h, bias=bias)
    b.attention("attention", seen, seen, tower.heads, h // tower.heads, batch=windows)
    b.linear("out", rows, h, h, bias=bias)
    if tower.four_norms:
        _norm(b, tower, "norm1_behind", rows, h)
    b.elementwise("add1", rows, h, reads=2, weights=scales)
    _norm(b, tower, "norm2", rows, h)
    b.linear("fc1", rows, tower.ffn * (1 + tower.gated), h, bias=bias)
    b.elementwise("activation", rows, tower.ffn, reads=1 + tower.gated)
    b.linear("fc2", rows, h, tower.ffn, bias=bias)
    if tower.four_norms:
        _norm(b, tower, "norm2_behind", rows, h)
    b.elementwise("add2", rows, h, reads=2, weights=scales)


def _projector(b: Builder, tower: Tower, tokens: int) -> None:
    """From merged patches to tokens of the text model, and the same of layers in the middle."""
    rows = b.rows(tokens)
    width = tower.hidden if tower.pooled else tower.hidden * tower.merge**2
    if tower.pooled:
        b.elementwise("pool", rows, width, reads=tower.merge**2)
    for name in ("", *(f"_{i}" for i in range(tower.deep))):
        if tower.merged_norm or name:
            _norm(b, tower, f"merged_norm{name}", rows, width)
        if not tower.inner:
            b.linear(f"project{name}", rows, tower.out, width, bias=False)
            continue
        b.linear(f"project_in{name}", rows, tower.inner, width, bias=tower.inner_bias)
        b.activation(f"project_activation{name}", rows, tower.inner)
        inner = tower.inner
        if tower.between:
            b.linear(f"project{name}", rows, tower.between, inner, bias=tower.inner_bias)
            b.activation(f"project_second_activation{name}", rows, tower.between)
            inner = tower.between
        b.linear(f"project_out{name}", rows, tower.out, inner, bias=tower.inner_bias)


def _norm(b: Builder, tower: Tower, name: str, rows: Dim, width: int) -> None:
    b.layer_norm(name, rows, width, bias=not tower.rms_norm)
