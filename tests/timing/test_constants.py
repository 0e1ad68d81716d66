"""Constants of kernel models: files may give what models read and nothing else, and no GPU lacks one."""

from dataclasses import fields

import pytest

from simgpu import Catalogue
from simgpu.errors import InputError
from simgpu.hardware.constants import AttentionFigures
from simgpu.hardware.inherit import Calibration, filled
from simgpu.timing import constants
from simgpu.timing.attention_libraries import LIBRARIES
from simgpu.timing.constants import (
    DecodeConstants,
    GemvConstants,
    HostCopyConstants,
    LaunchConstants,
    MmqConstants,
    PrefillConstants,
    StreamConstants,
    UnfusedConstants,
)
from simgpu.timing.expert_libraries import LIBRARIES as EXPERTS
from simgpu.timing.gemm_libraries import BY_DTYPE, ENGINES, GGML, GGML_GRAPHS, GGML_MMQ, ROW_WISE, SIMT, WEIGHT_ONLY
from simgpu.timing.timer import GPUTimer

CATALOGUE = Catalogue()


@pytest.mark.parametrize("name", CATALOGUE.names("gpus"))
def test_no_gpu_lacks_a_constant_of_any_library(name):
    spec = CATALOGUE.spec("gpus", name)
    known = CATALOGUE.kernel_constants(spec)
    timer = GPUTimer(spec, known)
    for library in ("default", SIMT, WEIGHT_ONLY, ROW_WISE, *BY_DTYPE.values(), *ENGINES, *known.libraries("gemm")):
        timer.matrix.libraries.of(library)
    for library in (GGML, GGML_GRAPHS):
        known.read(GemvConstants, library)
    known.read(MmqConstants, GGML_MMQ)
    known.read(UnfusedConstants, GGML)
    for library in ("default", *EXPERTS, *known.libraries("moe")):
        timer.experts.constants(library)
    for library in ("default", *LIBRARIES, *known.libraries("attention")):
        known.read(PrefillConstants, library)
        known.read(DecodeConstants, library)
    for library in ("default", *known.libraries("vector")):
        for kind in (StreamConstants, LaunchConstants, HostCopyConstants):
            known.read(kind, library)


def test_what_a_model_reads_is_what_files_may_give(monkeypatch):
    constants.check_names()
    few = DecodeConstants, UnfusedConstants
    monkeypatch.setattr(constants, "READ", {AttentionFigures: few})
    with pytest.raises(TypeError, match="no kernel model reads backward_fraction"):
        constants.check_names()
    monkeypatch.setattr(constants, "READ", {AttentionFigures: (PrefillConstants, *few, StreamConstants)})
    with pytest.raises(TypeError, match="no file can give flat_overlap"):
        constants.check_names()


def test_a_constant_that_no_level_gives_is_named():
    spec = CATALOGUE.spec("gpus", "l4")
    known = CATALOGUE.kernel_constants(spec)
    given = {
        path: one for path, one in known.given.items() if path[2:] not in (("vector_exponent",), ("tile_latency",))
    }
    less = Calibration(given, known.gpu, known.architecture)
    with pytest.raises(InputError) as caught:
        GPUTimer(spec, less).matrix.gemv(1, 4096, 4096)
    assert caught.value.key == "kernel.gemm"
    assert "'l4', library 'ggml', lacks vector_exponent" in str(caught.value)
    assert GPUTimer(spec, less).gemm(1, 4096, 4096).seconds > 0, "a constant with a default may be missing"


def test_constants_are_filled_by_name():
    values = {one.name: float(i) for i, one in enumerate(fields(GemvConstants))}
    found = filled(GemvConstants, values | {"something_else": 1.0}, "a GPU")
    assert vars(found) == values
