"""Kernels are remembered by all that their times depend on: every option, every figure of the GPU, every constant."""

from dataclasses import fields, replace
from typing import Any

import pytest

import simgpu
from simgpu import memo
from simgpu.hardware.cluster import Cluster
from simgpu.hardware.figure import Quantity, Switch, figures
from simgpu.model.operators import Attention, Dim, Matmul, Pointwise
from simgpu.timing.kernels import NO_TIME, KernelModel

CATALOGUE = simgpu.Catalogue()
CLUSTER = CATALOGUE.cluster("rtx-4090")
FIGURES = [path for path, _ in figures(CLUSTER.gpu, labels=False) if path[0] != "kernel"]
KERNELS = (
    Matmul("product", Dim(512), (Dim(4096),), Dim(4096), "bf16", "fp32"),
    Attention("attention", Dim(2), 512, 512, Dim(8), Dim(8), 64, "bf16"),
    Pointwise("stream", "elementwise", Dim(4096), (Dim(8192),), "bf16", 2, 1),
)
OPTIONS = {
    "sustained": False, "attention": "flashinfer", "narrow": "rowwise", "quantised": "none", "matmul_slowdown": 1.5,
    "stream_slowdown": 1.5, "context_slowdown": 1.5, "training": True,
    "vectors": 8, "experts": "deepgemm", "scan": "flashinfer", "sparse": "trtllm", "few_rows": "llamafile",
    "stack": "vllm",
}  # fmt: skip


def other(thing: Any, path: tuple) -> Any:
    """A specification with one figure changed."""
    if isinstance(thing, Switch):
        return thing.model_copy(update={"value": not thing.value})
    if isinstance(thing, Quantity):
        return thing.model_copy(update={"value": 2 * thing.value + 1})
    if isinstance(thing, list):
        return [other(one, path[1:]) if i == path[0] else one for i, one in enumerate(thing)]
    return thing.model_copy(update={path[0]: other(getattr(thing, path[0]), path[1:])})


def changed(path: tuple) -> Cluster:
    return replace(CLUSTER, gpu=other(CLUSTER.gpu, path))


def test_every_option_is_tried() -> None:
    assert {one.name for one in fields(KernelModel)} == {"cluster", *OPTIONS}


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_is_part_of_the_identity(option: str) -> None:
    assert KernelModel(CLUSTER, **{option: OPTIONS[option]}).identity != KernelModel(CLUSTER).identity  # type: ignore[arg-type]


@pytest.mark.parametrize("path", FIGURES, ids=lambda path: ".".join(map(str, path)))
def test_a_figure_is_part_of_the_identity_or_of_no_time(path: tuple) -> None:
    plain, one = KernelModel(CLUSTER), KernelModel(changed(path))
    assert (one.identity == plain.identity) == any(name in NO_TIME for name in path)
    if one.identity == plain.identity:
        memo.SHARED.clear()
        assert [KernelModel(changed(path)).time(op) for op in KERNELS] == [plain.time(op) for op in KERNELS]


@pytest.mark.slow
def test_every_constant_is_part_of_the_identity() -> None:
    seen = {KernelModel(CLUSTER).identity}
    for path, one in CLUSTER.kernel.given.items():
        given = {**CLUSTER.kernel.given, path: replace(one, figure=other(one.figure, ()))}
        seen.add(KernelModel(replace(CLUSTER, kernel=replace(CLUSTER.kernel, given=given))).identity)
        given[path] = replace(one, regime="datasheet" if one.regime != "datasheet" else "inherited")
        seen.add(KernelModel(replace(CLUSTER, kernel=replace(CLUSTER.kernel, given=given))).identity)
    assert len(seen) == 2 * len(CLUSTER.kernel.given) + 1


def test_names_and_sources_are_no_part_of_the_identity() -> None:
    gpu = CLUSTER.gpu.model_copy(update={"name": "another", "title": "Another", "sources": {"some": "where"}})
    assert KernelModel(replace(CLUSTER, gpu=gpu)).identity == KernelModel(CLUSTER).identity


def test_ecc_set_by_hand_is_felt_after_a_run_without() -> None:
    """GDDR keeps ECC bits among the data, so that streams lose bandwidth."""
    job, config = simgpu.Prefill(tokens=4096), replace(CATALOGUE.model("llama-3.1-8b"), layers=2)
    plain = simgpu.simulate(CATALOGUE.cluster("rtx-4090"), job, config).step_s
    with_ecc = simgpu.load_cluster("rtx-4090", gpu__memory__ecc=True, catalogue=CATALOGUE)
    used = simgpu.simulate(with_ecc, job, config).step_s
    memo.SHARED.clear()
    assert used == simgpu.simulate(replace(with_ecc), job, config).step_s > plain
