"""Constants inherit GPU <- architecture <- generic, by class and library, each with its source and regime."""

import pytest
import yaml

from simgpu import Catalogue, InputError
from simgpu.hardware.constants import KernelConstants
from simgpu.hardware.inherit import CLASSES, DEFAULT, REGIMES, SHARED, STEP
from simgpu.overrides import Override

CATALOGUE = Catalogue()
EVERY = CATALOGUE.names("gpus")

GPU = {
    "name": "tiny",
    "title": "A GPU of the tests",
    "vendor": "nobody",
    "architecture": "hopper",
    "sources": {"sheet": "a made-up datasheet", "bench": "a made-up benchmark"},
    "compute": {
        "sm_count": {"value": 100, "source": "sheet"},
        "boost_clock": {"value": 1000, "unit": "MHz", "source": "sheet"},
    },
    "peak": [
        {"dtype": dtype, "accumulate": "fp32", "engine": engine, "value": value, "unit": "TFLOPS", "source": "sheet"}
        for dtype, engine, value in (("fp16", "tensor", 100), ("bf16", "tensor", 100), ("fp32", "vector", 10))
    ],
    "memory": {
        "type": "HBM",
        "capacity": {"value": 16, "unit": "GiB", "source": "sheet"},
        "bandwidth": {"value": 1, "unit": "TB/s", "source": "sheet"},
        "l2_cache": {"value": 32, "unit": "MiB", "source": "sheet"},
        "ecc": {"value": True, "source": "sheet"},
    },
    "host_link": {
        "link": "pcie-4",
        "lanes": {"value": 16, "source": "sheet"},
        "peer_to_peer": {"value": True, "source": "sheet"},
    },
    "power": {"tdp": {"value": 300, "unit": "W", "source": "sheet"}},
}


def figure(value, unit="", source="bench"):
    return {"value": value, "unit": unit, "source": source}


def catalogue(folder, kernel=None, **more):
    (folder / "gpus").mkdir(exist_ok=True)
    (folder / "gpus/tiny.yaml").write_text(yaml.safe_dump(GPU | more | ({"kernel": kernel} if kernel else {})))
    return Catalogue(folder)


def constants(folder, kernel=None, without=(), **more):
    own = catalogue(folder, kernel, **more)
    return own.kernel_constants(own.spec("gpus", "tiny"), without)


# ---- levels ------------------------------------------------------------------------------------------------


def test_a_gpu_with_a_datasheet_alone_has_the_constants_of_its_architecture_and_of_any_gpu(tmp_path):
    tiny, h100 = constants(tmp_path), CATALOGUE.kernel_constants(CATALOGUE.spec("gpus", "h100-sxm"))
    assert {one.level for one in tiny.given.values()} == {"hopper", "generic"}
    assert tiny.regime("gemm") == tiny.regime("attention", "fa3") == "inherited"
    assert tiny.group("gemm")["k_step_clocks"] == h100.group("gemm")["k_step_clocks"]
    assert "clock_fraction" not in tiny.group("gemm")
    assert tiny.regime("gemm", "weight-only") == "inherited", "what it takes from the default counts"


def test_a_gpu_of_no_known_architecture_has_those_of_any_gpu(tmp_path):
    tiny = constants(tmp_path, architecture="generic")
    assert {(one.level, one.regime) for one in tiny.given.values()} == {("generic", "datasheet")}
    assert {tiny.regime(kind) for kind in CLASSES} == {"datasheet"}


def test_the_nearest_level_that_gives_a_constant_wins_one_by_one(tmp_path):
    kernel = {"gemm": {"default": {"k_step_clocks": figure(200), "throttle": figure(0.3)}}}
    tiny, plain = constants(tmp_path, kernel), constants(tmp_path)
    changed = {path for path in tiny.given if tiny.given[path] != plain.given.get(path)}
    assert changed == {("gemm", "default", "k_step_clocks"), ("gemm", "default", "throttle")}
    own = tiny.origins("gemm")["k_step_clocks"]
    assert (own.figure.si, own.level, own.regime, own.source) == (200, "tiny", "calibrated", "a made-up benchmark")
    assert tiny.origins("gemm")["wave_latency"].level == "generic"
    assert (tiny.regime("gemm"), tiny.regime("attention", "fa3"), tiny.regime("moe")) == (
        "calibrated", "inherited", "inherited",
    )  # fmt: skip


def test_what_is_left_out_is_passed_over(tmp_path):
    kernel = {"gemm": {"default": {"k_step_clocks": figure(200)}}}
    assert constants(tmp_path, kernel, ["tiny"]).given == constants(tmp_path).given
    bare = constants(tmp_path, kernel, ["tiny", "hopper"])
    assert {one.level for one in bare.given.values()} == {"generic"}
    assert bare.regime("gemm") == "datasheet"


def test_without_takes_the_constants_of_slices_and_caps_too():
    for name in ("h100-sxm@500W", "h100-sxm@1g.10gb"):
        spec = CATALOGUE.spec("gpus", name)
        assert CATALOGUE.kernel_constants(spec).regime("gemm") == "calibrated", "a part of it is what was measured"
        assert CATALOGUE.kernel_constants(spec, ["h100-sxm"]).regime("gemm") == "inherited"


# ---- classes and libraries ---------------------------------------------------------------------------------


def test_a_library_has_its_own_constants_then_those_of_the_default_then_the_shared_ones(tmp_path):
    kernel = {
        "launch_overhead": figure(9, "us"),
        "compute_fraction": figure(0.5),
        "gemm": {
            "default": {"compute_fraction": figure(0.6), "wave_latency": figure(3, "us")},
            "mine": {"compute_fraction": figure(0.7)},
        },
    }
    tiny = constants(tmp_path, kernel)
    assert "mine" in tiny.libraries("gemm") and "mine" not in tiny.libraries("moe")
    found = tiny.group("gemm", "mine")
    assert (found["compute_fraction"], found["wave_latency"], found["launch_overhead"]) == (0.7, 3e-6, 9e-6)
    assert tiny.group("gemm")["compute_fraction"] == tiny.group("gemm", "unheard-of")["compute_fraction"] == 0.6
    assert tiny.compute_fraction.si == 0.5
    assert tiny.origins("gemm", "mine")["compute_fraction"].level == "tiny"


def test_a_constant_of_a_library_is_not_lost_to_a_nearer_level_of_the_default(tmp_path):
    """generic says how fp8 kernels differ from others; a GPU that gives its own default does not change that."""
    tiny = constants(tmp_path, {"gemm": {"default": {"k_step_clocks": figure(77)}}}, architecture="generic")
    generic = constants(tmp_path, architecture="generic")
    assert tiny.group("gemm")["k_step_clocks"] == 77
    assert tiny.group("gemm", "fp8-block")["k_step_clocks"] == generic.group("gemm", "fp8-block")["k_step_clocks"] != 77


def test_groups_are_in_si_units_and_name_no_class_but_their_own():
    h100 = CATALOGUE.kernel_constants(CATALOGUE.spec("gpus", "h100-sxm"))
    assert h100.group("gemm")["launch_overhead"] == pytest.approx(2.2e-6)
    assert "quantise_bytes" not in h100.group("gemm") and "quantise_bytes" in h100.group("gemm", "fp8-scaled-mm")
    assert "permute_passes" in h100.group("moe") and "permute_passes" not in h100.group("gemm")
    assert h100.group("gemm") is h100.group("gemm"), "made once"


@pytest.mark.parametrize("name", EVERY)
def test_every_gpu_has_what_the_models_of_every_class_ask_for(name):
    given = CATALOGUE.kernel_constants(CATALOGUE.spec("gpus", name))
    assert given.architecture == CATALOGUE.spec("gpus", name).architecture and given.gpu == name
    for kind in CLASSES:
        for library in (DEFAULT, *given.libraries(kind)):
            found = given.origins(kind, library)
            assert set(SHARED) <= set(found)
            assert given.regime(kind, library) in REGIMES
            for one in found.values():
                assert len(one.source) > 10
                assert (one.level == name) == (one.regime == "calibrated")
                assert (one.level == "generic") == (one.regime == "datasheet")


def test_a_constant_set_by_hand_is_the_gpus_own():
    key = "gpu.kernel.gemm.default.wave_latency"
    spec = CATALOGUE.spec("gpus", "l4", [Override(key, "5 us", "--set")])
    changed = CATALOGUE.kernel_constants(spec)
    assert changed.group("gemm")["wave_latency"] == pytest.approx(5e-6)
    assert changed.origins("gemm")["wave_latency"].level == "l4"
    plain = CATALOGUE.kernel_constants(CATALOGUE.spec("gpus", "l4"))
    assert plain.group("gemm")["wave_latency"] < 2e-6, "it stays out of the catalogue's"


# ---- bad files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernel", "says"),
    [
        ({"gem": {}}, "gem"),
        ({"gemm": {"default": {"k_step_clock": figure(200)}}}, "k_step_clock"),
        ({"gemm": {"default": {"wave_latency": figure(3, "GB/s")}}}, "wave_latency"),
        ({"gemm": {"default": {"wave_latency": figure(3)}}}, "has no unit"),
        ({"gemm": {"default": {"wave_latency": figure(-3, "us")}}}, "out of range"),
        ({"gemm": {"default": {"compute_fraction": figure(1.2)}}}, "out of range"),
        ({"gemm": {"default": {"compute_fraction": figure(0.9, source="nobody")}}}, "source 'nobody' is not among"),
        ({"gemm": {"compute_fraction": figure(0.9)}}, "kernel.gemm.compute_fraction"),
    ],
)
def test_wrong_constants_are_refused_with_file_and_line(tmp_path, kernel, says):
    with pytest.raises(InputError, match=says) as error:
        catalogue(tmp_path, kernel).spec("gpus", "tiny")
    assert str(error.value.file).endswith("tiny.yaml") and error.value.line


def test_no_class_is_forgotten():
    assert set(CLASSES) | set(SHARED) | {STEP} == set(KernelConstants.model_fields)
