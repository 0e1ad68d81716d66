"""Recurrent operators of ONNX: LSTM, GRU, RNN (https://onnx.ai/onnx/operators/onnx__LSTM.html and its relatives).

Each direction multiplies the inputs of all steps by its matrix at once. Then it goes step by step: the product of the
last state and the second matrix, and the gates, which are one kernel (as cuDNN does without persistent kernels).
"""

from __future__ import annotations

from simgpu.errors import InputError
from simgpu.model.imported.onnx_shapes import Node
from simgpu.model.imported.pieces import Pieces, Tensor

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
"""Gates by operator: rows of its matrices over the width of its state."""

MOST_STEPS = 20_000
"""Steps of an operator, all directions together."""


def recurrent(pieces: Pieces, node: Node) -> None:
    """An operator as its products and gates. Raises `InputError` for shapes that do not fit each other."""
    x, w, r = node.of(0), node.of(1), node.of(2)
    if len(x.shape) != 3 or len(w.shape) != 3 or len(r.shape) != 3 or r.shape[1] != GATES[node.kind] * r.shape[2]:
        raise InputError(
            f"operator '{node.name}' ({node.kind}): its tensors are not [steps, batch, width], [ways, ...]"
        )
    steps, batch = (x.shape[1], x.shape[0]) if node.attributes.get("layout", 0) else x.shape[:2]
    ways, width, hidden = w.shape[0], x.shape[2], r.shape[2]
    if steps * ways > MOST_STEPS:
        problem = f"operator '{node.name}' ({node.kind}) has {steps * ways:,} steps"
        raise InputError(f"{problem}; expected at most {MOST_STEPS:,}")
    gates = Tensor(f"{node.name}.gates", (batch, GATES[node.kind] * hidden))
    state = Tensor(f"{node.name}.state", (batch, hidden))
    kept = (state, state) if node.kind == "LSTM" else (state,)  # its cell, and what it gives
    for way in range(ways):
        name = node.name if ways == 1 else f"{node.name}.{way}"
        taken = Tensor(f"{w.name}.{way}", w.shape[1:], w.parameter)
        folded = Tensor(f"{r.name}.{way}", r.shape[1:], r.parameter)
        rows = Tensor(f"{name}.inputs", (steps * batch, gates.shape[1]))
        pieces.matmul(f"{name}.inputs", (x, taken), rows, (steps * batch, gates.shape[1], width, 1))
        for step in range(steps):
            of_step = f"{name}.{step}"
            pieces.matmul(of_step, (state, folded), gates, (batch, gates.shape[1], hidden, 1))
            pieces.pointwise(f"{of_step}.gates", (gates, gates, *kept), kept, "activation")
    bias = node.input(3)
    if bias is not None and ways and steps:
        pieces.found[-1].entry["weights"] = pieces.hold(bias)
