"""What a timer is given in Python is checked as files are: one line, with key, value and what was expected."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest

import simgpu
from simgpu.timing.attention_work import AttentionWork, MixedWork
from simgpu.timing.expert_timer import ExpertLayerWork

ATTENTION = {"batch": 1, "queries": 128, "keys": 256, "heads": 32, "kv_heads": 8, "head_dim": 128}
DECODE = ATTENTION | {"queries": 1}
GEMM = {"m": 16, "n": 32, "k": 64}
MOE = {"tokens": 64, "hidden": 512, "inner": 256, "topk": 2, "experts": 8}
NORM = {"rows": 8, "cols": 512}


def called(timer: Any, name: str, given: dict) -> Any:
    """Times of a call of a part of a timer, 'attention.prefill' ..., with the sizes of its work among what is given."""
    part, method = name.split(".")
    kind = {"attention": AttentionWork, "experts": ExpertLayerWork}.get(part)
    if kind is None:
        return getattr(getattr(timer, part), method)(**given)
    sizes = {key: value for key, value in given.items() if key in kind._fields}
    return getattr(getattr(timer, part), method)(
        kind(**sizes), **{key: value for key, value in given.items() if key not in sizes}
    )


@pytest.fixture(scope="module")
def timer() -> Any:
    return simgpu.load_timer("h100-sxm")


@pytest.mark.parametrize(
    ("method", "good", "key", "value", "says"),
    [
        ("matrix.gemm", GEMM, "dtype", "bf61", "did you mean 'bf16'"),
        ("matrix.gemm", GEMM, "dtype", None, "unknown dtype None"),
        ("matrix.gemm", GEMM, "weights", "bf16", "int4"),
        ("matrix.gemm", GEMM, "library", "weight-olny", "did you mean 'weight-only'"),
        ("matrix.gemm", GEMM, "m", -1, "-1"),
        ("matrix.gemm", GEMM, "m", 0, "from 1 on"),
        ("matrix.gemm", GEMM, "k", math.nan, "nan"),
        ("matrix.gemm", GEMM, "n", [64, math.inf], "inf"),
        ("matrix.gemm", GEMM, "batch", "many", "'many': expected numbers"),
        ("matrix.gemm", GEMM, "batch", 10**400, "expected finite numbers"),
        ("matrix.gemm", GEMM, "m", [8, 1e150], "1e+150: expected finite numbers from 1 to 1e+18"),
        ("attention.prefill", ATTENTION, "head_dim", 0, "from 1 to"),
        ("attention.prefill", ATTENTION, "head_dim", 99999, "99999"),
        ("attention.prefill", ATTENTION, "kv_heads", 5, "5 does not divide heads = 32"),
        ("attention.prefill", ATTENTION, "kv_heads", [8, 64], "64 does not divide"),
        ("attention.prefill", ATTENTION, "keys", 64, "less than queries = 128"),
        ("attention.prefill", ATTENTION, "window", -1, "from 0 on"),
        ("attention.prefill", ATTENTION, "kv_dtype", "foo", "foo"),
        ("attention.prefill", ATTENTION, "library", "fa9", "expected one of default, fa2, fa3"),
        ("attention.backward", ATTENTION, "queries", 0, "from 1 on"),
        ("attention.decode", DECODE, "keys", 0, "from 1 on"),
        ("attention.decode", DECODE, "dtype", "foo", "expected one of"),
        ("experts.layer", MOE, "topk", 9, "more than experts = 8"),
        ("experts.layer", MOE, "ep", 3, "does not divide experts = 8"),
        ("experts.layer", MOE, "distribution", "power_law_x", "power_law_A"),
        ("experts.layer", MOE, "tokens", math.nan, "nan"),
        ("vector.normalization", NORM, "rows", 0, "from 1 on"),
        ("vector.softmax", NORM, "library", "foo", "torch"),
    ],
)
def test_what_cannot_be_is_refused(timer: Any, method: str, good: dict, key: str, value: object, says: str) -> None:
    assert (called(timer, method, good).seconds > 0).all()
    with pytest.raises(simgpu.InputError) as caught:
        called(timer, method, good | {key: value})
    assert caught.value.key == key
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_what_can_be_is_not(timer: Any) -> None:
    """Fewer keys than queries where nothing is masked; libraries other GPUs have; nothing at all; empty arrays."""
    assert timer.attention.prefill(AttentionWork(**(ATTENTION | {"keys": 64})), causal=False).seconds > 0
    a100 = simgpu.load_timer("a100-sxm-80gb")
    assert a100.experts.layer(ExpertLayerWork(**MOE), library="cutlass-fp4").seconds > 0
    assert timer.attention.prefill(AttentionWork(**ATTENTION), library="fa3-sm80").seconds > 0
    assert timer.vector.memory_copy(0).seconds >= 0
    mixed = MixedWork([128, 0], [256, 0], [0, 4], [0, 100], 32, 8, 128)
    assert timer.attention.mixed(mixed).seconds.shape == (2,)
    assert timer.gemm(np.zeros(0), 8, 8).seconds.shape == (0,)


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"sizes": -1}, "sizes"),
        ({"sizes": [1e6, math.nan]}, "sizes"),
        ({"sizes": 1e6, "gpus": 9}, "gpus"),
        ({"sizes": 1e6, "gpus": 0}, "gpus"),
        ({"sizes": 1e6, "dtype": "bf61"}, "dtype"),
    ],
)
def test_a_collective_of_what_cannot_be(given: dict, key: str) -> None:
    with pytest.raises(simgpu.InputError) as caught:
        simgpu.time_collective(simgpu.load_cluster("dgx-h100"), "all_reduce", **given)
    assert caught.value.key == key


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        ("Prefill", {"batch": 0, "tokens": 8}, "batch: 0: input should be greater than 0"),
        ("Training", {"batch": 1}, "tokens: this key is missing"),
        ("Prefill", {"tokns": 8}, "tokns: unknown key; did you mean 'tokens'?"),
        ("OperatorList", {"operators": [{"op": "matmul", "m": 0, "n": 1, "k": 1}]}, "operators.0.m: 0: input"),
    ],
)
def test_a_workload_made_in_python_is_refused_in_one_line(kind: str, given: dict, message: str) -> None:
    with pytest.raises(simgpu.InputError) as caught:
        getattr(simgpu, kind)(**given)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "tp", "key"),
    [
        ({"queries": 64, "keys": 32, "heads": 8}, 1, "workload.operators.0.keys"),
        ({"queries": 64, "heads": 48, "kv_heads": 8, "split": "heads"}, 3, "workload.operators.0.kv_heads"),
    ],
)
def test_listed_attention_that_cannot_be(entry: dict, tp: int, key: str) -> None:
    job = simgpu.OperatorList(operators=[{"op": "attention", "head_dim": 64} | entry])
    with pytest.raises(simgpu.InputError) as caught:
        simgpu.simulate(simgpu.load_cluster("dgx-h100"), job, plan=simgpu.Plan(tp=tp))
    assert caught.value.key == key


@pytest.mark.parametrize("gpu", ["h100-sxm", "l4"])
def test_the_largest_sizes_are_finite_times_without_a_warning(gpu: str) -> None:
    """Of every size alone and of all at once; what is refused is refused in one line."""
    timer = simgpu.load_timer(gpu)
    calls = {
        "matrix.gemm": GEMM,
        "attention.prefill": ATTENTION,
        "attention.backward": ATTENTION,
        "attention.decode": DECODE,
        "experts.layer": MOE,
        "vector.normalization": NORM,
        "vector.softmax": NORM,
        "vector.memory_copy": {"size": 1},
        "vector.elementwise": {"elements": 1},
        "vector.optimizer": {"parameters": 1},
    }
    answered = 0
    for name, good in calls.items():
        for keys in [*([key] for key in good), list(good)]:
            given = {**good, **{key: 1e18 for key in keys if key not in ("head_dim", "topk", "experts")}}
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                try:
                    seconds = called(timer, name, given).seconds
                except simgpu.InputError as error:
                    assert "\n" not in str(error)
                    continue
            assert seconds > 0 and np.isfinite(seconds), (name, keys)
            answered += 1
    assert answered > 25
    with pytest.raises(simgpu.InputError, match="experts"):
        timer.experts.layer(ExpertLayerWork(**(MOE | {"experts": 1e12})))
