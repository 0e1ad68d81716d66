"""Peaks that a file does not give, and figures that no known part comes near."""

from pathlib import Path

import pytest
import yaml

import simgpu
from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.hardware.peaks import complete
from simgpu.hardware.plausible import SUSPECT_FACTOR, checks, doubts

CATALOGUE = Catalogue()
GPUS = {name: CATALOGUE.spec("gpus", name) for name in CATALOGUE.names("gpus")}
PEAKS = {
    "fp32": {"dtype": "fp32", "accumulate": "fp32", "engine": "vector", "value": 50, "unit": "TFLOPS"},
    "bf16": {"dtype": "bf16", "accumulate": "fp32", "engine": "tensor", "value": 600, "unit": "TFLOPS"},
    "fp8": {"dtype": "fp8", "accumulate": "fp32", "engine": "tensor", "value": 1200, "unit": "TFLOPS"},
}
SOURCED = {"source": "mine"}


def own_gpu(folder: Path, architecture: str, *peaks: str, **changes: object) -> Catalogue:
    """A catalogue with the GPU `mine`, which gives the fp32 vector peak and `peaks`."""
    data = {
        "name": "mine",
        "title": "A GPU of my own",
        "vendor": "me",
        "architecture": architecture,
        "sources": {"mine": "datasheet"},
        "compute": {
            "sm_count": {"value": 120, **SOURCED},
            "boost_clock": {"value": 1.8, "unit": "GHz", **SOURCED},
        },
        "peak": [{**PEAKS[name], **SOURCED} for name in ("fp32", *peaks)],
        "memory": {
            "type": "HBM3",
            "capacity": {"value": 96, "unit": "GB", **SOURCED},
            "bandwidth": {"value": 3, "unit": "TB/s", **SOURCED},
            "l2_cache": {"value": 50, "unit": "MB", **SOURCED},
            "ecc": {"value": True, **SOURCED},
        },
        "host_link": {
            "link": "pcie-5",
            "lanes": {"value": 16, **SOURCED},
            "peer_to_peer": {"value": True, **SOURCED},
        },
        "power": {"tdp": {"value": 600, "unit": "W", **SOURCED}},
    } | changes
    (folder / "gpus").mkdir(exist_ok=True)
    (folder / "gpus" / "mine.yaml").write_text(yaml.safe_dump(data))
    return Catalogue(folder)


@pytest.mark.parametrize("name", GPUS)
def test_rules_of_an_architecture_agree_with_the_datasheets_of_its_gpus(name):
    gpu = GPUS[name]
    given = {peak.key: peak.si for peak in gpu.peak}
    rules = next((level.peak_rules for level in CATALOGUE.architectures(gpu) if level.peak_rules), [])
    for rule in rules:
        if rule.peak in given and rule.of in given:
            assert given[rule.peak] == pytest.approx(rule.ratio.si * given[rule.of], rel=0.02), rule
    for key in given:
        less = gpu.model_copy(update={"peak": [peak for peak in gpu.peak if peak.key != key]})
        again = {peak.key: peak.si for peak in complete(less, rules, gpu.architecture).peak}
        assert again.get(key, given[key]) == pytest.approx(given[key], rel=0.02), key


def test_every_architecture_that_multiplies_in_tensor_cores_says_what_bf16_stands_for(tmp_path):
    for name in ("hopper", "ampere", "ada", "ampere-ga10x", "blackwell", "blackwell-ultra", "blackwell-gb20x", "cdna3"):
        peaks = {peak.key: peak.si for peak in own_gpu(tmp_path, name, "bf16").spec("gpus", "mine").peak}
        assert peaks["fp16-fp32-tensor"] == 600e12, name
        assert peaks["tf32-fp32-tensor"] == 300e12, name


def test_a_gpu_with_the_bf16_peak_alone_is_as_fast_as_one_that_gives_all(tmp_path):
    job = simgpu.Prefill(batch=4, tokens=2048)

    def seconds(architecture, *peaks):
        catalogue = own_gpu(tmp_path, architecture, *peaks)
        return simgpu.simulate(catalogue.cluster("mine"), job, model=catalogue.model("llama-3.1-8b")).step_s

    whole = simgpu.simulate(CATALOGUE.cluster("h100-sxm"), job, model=CATALOGUE.model("llama-3.1-8b")).step_s
    for architecture in ("hopper", "ada", "generic"):
        alone = seconds(architecture, "bf16")
        assert alone == pytest.approx(seconds(architecture, "bf16", "fp8"), rel=1e-9)
        assert whole < alone < 3 * whole, architecture  # 600 of 989 TFLOPS
    fp8 = simgpu.simulate(
        own_gpu(tmp_path, "hopper", "fp8").cluster("mine"), job, model=CATALOGUE.model("llama-3.1-8b")
    )
    assert fp8.step_s == pytest.approx(seconds("hopper", "bf16"), rel=1e-9)


def test_derived_peaks_name_their_rule_and_can_be_set(tmp_path):
    catalogue = own_gpu(tmp_path, "hopper", "bf16")
    gpu = catalogue.spec("gpus", "mine")
    derived = next(peak for peak in gpu.peak if peak.key == "fp16-fp32-tensor")
    assert "hopper" in gpu.sources[derived.source] and "bf16-fp32-tensor" in gpu.sources[derived.source]
    asked = [simgpu.overrides.Override("gpu.peak.fp16-fp32-tensor", "500 TFLOPS", "--set")]
    changed = {peak.key: peak.si for peak in catalogue.spec("gpus", "mine", asked).peak}
    assert changed["fp16-fp32-tensor"] == 500e12 and changed["bf16-fp32-tensor"] == 600e12
    with pytest.raises(InputError, match="nothing named 'fp4'"):
        catalogue.spec("gpus", "mine", [simgpu.overrides.Override("gpu.peak.fp4", "5 TFLOPS", "--set")])


def test_a_rule_names_peaks_that_can_be(tmp_path):
    (tmp_path / "architectures").mkdir()
    text = "{name: own, title: Own, sources: {a: b}, peak_rules: [{peak: %s, of: fp32-fp32-vector, ratio: 2}]}"
    (tmp_path / "architectures" / "own.yaml").write_text(text % "bf17-fp32-tensor")
    with pytest.raises(InputError, match="'bf17-fp32-tensor' names no peak"):
        own_gpu(tmp_path, "own", "bf16").spec("gpus", "mine")


# ---- figures that no known part comes near -----------------------------------------------------------


def test_no_part_of_the_catalogue_is_doubted_and_the_ranges_are_its_own():
    found = {}
    for gpu in GPUS.values():
        assert doubts(gpu, CATALOGUE.architectures(gpu)) == [], gpu.name
        for at, check in enumerate(check for check in checks(gpu) if check.far == SUSPECT_FACTOR):
            found.setdefault(at, []).append(check)
    for of in found.values():
        assert min(check.value for check in of) == pytest.approx(of[0].least, rel=0.01), of[0].key
        assert max(check.value for check in of) == pytest.approx(of[0].most, rel=0.01), of[0].key


@pytest.mark.parametrize(
    "changes, key",
    [
        ({"memory.bandwidth": 3e12 / 1000}, "gpu.memory.bandwidth"),
        ({"memory.capacity": 96e9 * 1000}, "gpu.memory.capacity"),
        ({"compute.sm_count": 1}, "per clock and multiprocessor"),
    ],
)
def test_a_slip_of_a_unit_is_doubted(tmp_path, changes, key):
    (path, value), *_ = changes.items()
    room, name = path.split(".")
    gpu = own_gpu(tmp_path, "hopper", "bf16").spec("gpus", "mine")
    assert doubts(gpu) == []
    part = getattr(gpu, room)
    figure = getattr(part, name).model_copy(update={"value": value})
    wrong = gpu.model_copy(update={room: part.model_copy(update={name: figure})})
    assert any(key in doubt for doubt in doubts(wrong))


def test_the_bounds_are_far():
    check = checks(GPUS["h100-sxm"])[0]
    assert SUSPECT_FACTOR > 1 and check.doubt == ""
    assert type(check)("k", check.most * SUSPECT_FACTOR * 1.01, "B/s", check.least, check.most).doubt.startswith("k = ")
    assert type(check)("k", check.most * SUSPECT_FACTOR * 0.99, "B/s", check.least, check.most).doubt == ""


def test_a_figure_asks_for_its_unit_and_a_doubt_stands_below_the_table(tmp_path):
    experiment = {
        "scenario": {"model": "llama-3.1-8b", "cluster": "h100-sxm", "workload": {"kind": "prefill", "tokens": 512}}
    }
    with pytest.raises(InputError, match=r"gpu\.memory\.bandwidth: 5 has no unit; expected one, such as '3\.35 TB/s'"):
        simgpu.run_experiment({"scenario": {**experiment["scenario"], "hardware": {"gpu.memory.bandwidth": 5}}})
    with pytest.raises(InputError, match="has no unit"):
        simgpu.load_cluster("h100-sxm", gpu__power__tdp=500)

    from click.testing import CliRunner

    from simgpu.cli import main

    file = tmp_path / "own.yaml"
    file.write_text(yaml.safe_dump(experiment))
    said = CliRunner().invoke(
        main, ["run", str(file), "--no-plots", "--out", str(tmp_path / "out"), "--set", "gpu.memory.bandwidth=5 GB/s"]
    )
    assert said.exit_code == 0
    assert (
        "check a figure of h100-sxm: gpu.memory.bandwidth = 5 GB/s: known parts have 68.25 GB/s to 8 TB/s"
        in said.output
    )
