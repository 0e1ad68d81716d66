"""LSTM, GRU and RNN of ONNX as products and gates."""

import math

import pytest
from test_onnx_import import node, read, save, weights

from simgpu.errors import InputError

STEPS, BATCH, WIDTH, HIDDEN = 7, 4, 32, 16


def imported(tmp_path, kind="LSTM", gates=4, ways=1, hidden=HIDDEN):
    held = [
        weights("w", ways, gates * HIDDEN, WIDTH),
        weights("r", ways, gates * HIDDEN, hidden),
        weights("b", ways, 8 * HIDDEN if kind == "LSTM" else 2 * gates * HIDDEN),
    ]
    direction = "bidirectional" if ways == 2 else "forward"
    one = node(kind, "x w r b", "y", hidden_size=HIDDEN, direction=direction)
    return read(save(tmp_path, [one], {"x": [STEPS, BATCH, WIDTH]}, held, "y"))


@pytest.mark.parametrize(("kind", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
@pytest.mark.parametrize("ways", [1, 2])
def test_flops_and_parameters_are_those_of_the_cell(tmp_path, kind, gates, ways):
    """Each step and direction multiplies by a matrix [gates x hidden, width + hidden]; PyTorch has as many weights."""
    found = imported(tmp_path, kind, gates, ways)
    products = [one for one in found.entries if one["op"] == "matmul"]
    flops = sum(2 * math.prod(one[size] for size in "mnk") for one in products)
    assert flops == ways * STEPS * BATCH * 2 * gates * HIDDEN * (WIDTH + HIDDEN)
    assert found.parameters == ways * gates * HIDDEN * (WIDTH + HIDDEN + 2)
    assert sum(one.get("weight", True) for one in products) == 2 * ways  # each matrix is held once
    assert len(found.entries) == ways * (1 + 2 * STEPS)


def test_shapes_that_do_not_fit_are_one_line(tmp_path):
    with pytest.raises(InputError) as error:
        imported(tmp_path, hidden=HIDDEN + 1)
    assert "\n" not in str(error.value)
