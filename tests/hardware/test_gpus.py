"""Datasheet figures of GPUs against the architecture: peak = SMs x FLOP per clock and SM x clock."""

import pytest

from simgpu import Catalogue, InputError
from simgpu.hardware.figure import figures

CATALOGUE = Catalogue()

GA100 = {
    "fp64-fp64-vector": 64, "fp64-fp64-tensor": 128, "fp32-fp32-vector": 128, "fp16-fp16-vector": 512,
    "tf32-fp32-tensor": 1024, "fp16-fp32-tensor": 2048, "fp16-fp16-tensor": 2048, "bf16-fp32-tensor": 2048,
    "int8-int32-tensor": 4096,
}  # fmt: skip
GA10X = {
    "fp64-fp64-vector": 4, "fp32-fp32-vector": 256, "fp16-fp16-vector": 256,
    "tf32-fp32-tensor": 512, "fp16-fp32-tensor": 1024, "fp16-fp16-tensor": 1024, "bf16-fp32-tensor": 1024,
    "int8-int32-tensor": 2048,
}  # fmt: skip
AD10X = GA10X | {"fp8-fp32-tensor": 2048, "fp8-fp16-tensor": 2048}
GB20X = AD10X | {"fp4-fp32-tensor": 4096}
GH100 = {
    "fp64-fp64-vector": 128, "fp64-fp64-tensor": 256, "fp32-fp32-vector": 256, "fp16-fp16-vector": 512,
    "tf32-fp32-tensor": 2048, "fp16-fp32-tensor": 4096, "fp16-fp16-tensor": 4096, "bf16-fp32-tensor": 4096,
    "fp8-fp32-tensor": 8192, "fp8-fp16-tensor": 8192, "int8-int32-tensor": 8192,
}  # fmt: skip
H20 = {key: rate / 4 if "tensor" in key else rate for key, rate in GH100.items() if "fp64" not in key}
GB100 = {
    "fp64-fp64-vector": 128, "fp64-fp64-tensor": 128, "fp32-fp32-vector": 256, "fp16-fp16-vector": 512,
    "tf32-fp32-tensor": 4096, "fp16-fp32-tensor": 8192, "fp16-fp16-tensor": 8192, "bf16-fp32-tensor": 8192,
    "fp8-fp32-tensor": 16384, "fp8-fp16-tensor": 16384, "int8-int32-tensor": 16384, "fp4-fp32-tensor": 32768,
}  # fmt: skip
GA10B = {
    "fp32-fp32-vector": 256, "fp16-fp16-vector": 512, "tf32-fp32-tensor": 1024, "fp16-fp32-tensor": 2048,
    "fp16-fp16-tensor": 2048, "bf16-fp32-tensor": 2048, "int8-int32-tensor": 4096,
}  # fmt: skip
THOR = {key: rate for key, rate in GB100.items() if "fp64" not in key}
GB110 = GB100 | {"fp64-fp64-vector": 4, "fp64-fp64-tensor": 4, "int8-int32-tensor": 512, "fp4-fp32-tensor": 49152}
GV100 = {
    "fp64-fp64-vector": 64, "fp32-fp32-vector": 128, "fp16-fp16-vector": 256,
    "fp16-fp32-tensor": 1024, "fp16-fp16-tensor": 1024,
}  # fmt: skip
TU10X = GV100 | {"fp64-fp64-vector": 4, "int8-int32-tensor": 2048}
GP100 = {"fp64-fp64-vector": 64, "fp32-fp32-vector": 128, "fp16-fp16-vector": 256, "fp16-fp32-vector": 128}
GP10X = {
    "fp64-fp64-vector": 8, "fp32-fp32-vector": 256, "fp16-fp16-vector": 4, "fp16-fp32-vector": 256,
    "int8-int32-vector": 1024,
}  # fmt: skip
CDNA3 = {
    "fp64-fp64-vector": 128, "fp64-fp64-tensor": 256, "fp32-fp32-vector": 256, "fp32-fp32-tensor": 256,
    "tf32-fp32-tensor": 1024, "fp16-fp32-tensor": 2048, "bf16-fp32-tensor": 2048, "fp8-fp32-tensor": 4096,
    "int8-int32-tensor": 4096,
}  # fmt: skip
CDNA4 = {
    "fp64-fp64-vector": 128, "fp64-fp64-tensor": 128, "fp32-fp32-vector": 256, "fp32-fp32-tensor": 256,
    "fp16-fp32-tensor": 4096, "bf16-fp32-tensor": 4096, "fp8-fp32-tensor": 8192, "int8-int32-tensor": 8192,
    "fp4-fp32-tensor": 16384,
}  # fmt: skip
CDNA2 = {
    "fp64-fp64-vector": 128, "fp64-fp64-tensor": 256, "fp32-fp32-vector": 128, "fp32-fp32-tensor": 256,
    "fp16-fp16-vector": 256, "fp16-fp32-tensor": 1024, "bf16-fp32-tensor": 1024, "int8-int32-tensor": 1024,
}  # fmt: skip
CDNA1 = {key: rate for key, rate in CDNA2.items() if key != "fp64-fp64-tensor"}
CDNA1 |= {"fp64-fp64-vector": 64, "bf16-fp32-tensor": 512}
"""FLOP per clock and SM (compute unit), dense: NVIDIA's whitepapers of each architecture, the table of arithmetic
throughput in the CUDA C++ Programming Guide,
AMD's CDNA white papers. Of Blackwell Ultra: its data sheet over 148 and 152 SMs."""

HALVED = {"tf32-fp32-tensor", "fp16-fp32-tensor", "bf16-fp32-tensor", "fp8-fp32-tensor"}
"""What GeForce cards and the A10G run at half the rate: tensor products with FP32 accumulation (all but FP4)."""

CHIPS = {
    "pascal": {"p100-pcie-16gb": GP100, "p100-sxm-16gb": GP100, "p4": GP10X, "gtx-1080-ti": GP10X},
    "volta": GV100, "turing": TU10X, "ampere": GA100, "ampere-ga10x": GA10X, "ada": AD10X, "hopper": GH100,
    "hopper-h20": H20, "hopper-h800": {key: rate for key, rate in GH100.items() if "fp64" not in key},
    "blackwell": GB100, "blackwell-ultra": GB110, "blackwell-gb20x": GB20X,
    "ampere-orin": GA10B, "blackwell-thor": THOR,
    "cdna": CDNA1, "cdna2": CDNA2, "cdna3": CDNA3, "cdna4": CDNA4,
}  # fmt: skip

FIXED = [
    "a100-sxm-80gb", "a100-sxm-40gb", "a100-pcie-80gb", "a100-pcie-40gb", "h100-sxm", "h100-pcie", "h100-nvl",
    "h100-sxm-96gb-hbm2e-500w", "h200-sxm", "gh200-80gb", "gh200-96gb", "gh200-141gb", "b200-sxm", "b300-sxm",
    "gb200", "gb300", "l40s", "l4", "t4", "p4", "p100-pcie-16gb", "v100-sxm-16gb", "v100-sxm-32gb", "v100-pcie-32gb",
    "a40", "a10", "rtx-a4000", "rtx-a4500", "rtx-a5000", "rtx-a5500", "rtx-a6000", "rtx-4000-ada", "rtx-5000-ada",
    "rtx-6000-ada", "rtx-pro-6000-server", "rtx-3070", "rtx-3080", "rtx-3080-ti", "rtx-3080-mobile",
    "rtx-3090", "rtx-4070-ti", "rtx-4080", "rtx-4090", "rtx-2080-ti", "quadro-rtx-5000", "quadro-rtx-6000",
    "quadro-rtx-8000", "titan-rtx", "gtx-1080-ti", "mi100", "mi210", "mi250", "mi250-1gcd", "mi300x", "mi325x",
    "mi355x", "gaudi2", "gaudi3", "apple-m1-7c", "apple-m1-max-32c", "apple-m2-ultra-76c", "apple-m3-max-40c",
]  # fmt: skip
"""The names that public measurements use."""

CHECKED = [name for name in CATALOGUE.names("gpus") if CATALOGUE.spec("gpus", name).architecture in CHIPS]


def rates_of(gpu):
    rates = CHIPS[gpu.architecture]
    rates = rates if "fp32-fp32-vector" in rates else rates[gpu.name]
    halved = HALVED if "GeForce" in gpu.title or "A10G" in gpu.title else ()
    return {key: rate / 2 if key in halved else rate for key, rate in rates.items()}


@pytest.mark.parametrize("name", FIXED)
def test_every_measured_gpu_is_there_by_that_name(name):
    assert CATALOGUE.spec("gpus", name).name == name


def test_only_devices_that_are_no_such_gpus_go_unchecked():
    unchecked = set(CATALOGUE.names("gpus")) - set(CHECKED)
    assert {CATALOGUE.spec("gpus", name).vendor for name in unchecked} == {"Intel", "Apple"}


@pytest.mark.parametrize("name", CHECKED)
def test_every_peak_is_sms_times_rate_times_clock(name):
    """The clock that a peak implies lies between the clock of the tensor peaks and the highest, within 1 %."""
    gpu = CATALOGUE.spec("gpus", name)
    rates = rates_of(gpu)
    low = gpu.compute.boost_clock.si
    high = gpu.compute.max_clock.si if gpu.compute.max_clock else low
    assert low <= high
    for peak in gpu.peak:
        clock = peak.si / gpu.compute.sm_count.si / rates[peak.key]
        assert 0.99 * low <= clock <= 1.01 * high, f"{peak.key} implies {clock / 1e6:.0f} MHz"


@pytest.mark.parametrize("name", CHECKED)
def test_the_boost_clock_is_that_of_the_tensor_peak(name):
    gpu = CATALOGUE.spec("gpus", name)
    peaks = {peak.key: peak.si for peak in gpu.peak}
    key = "fp16-fp32-tensor" if "fp16-fp32-tensor" in peaks else "fp32-fp32-vector"
    assert peaks[key] / gpu.compute.sm_count.si / rates_of(gpu)[key] == pytest.approx(
        gpu.compute.boost_clock.si, rel=0.01
    )


@pytest.mark.parametrize("name", CHECKED)
def test_no_rate_of_the_chip_is_left_out(name):
    gpu = CATALOGUE.spec("gpus", name)
    assert set(rates_of(gpu)) == {peak.key for peak in gpu.peak}


def test_hopper_with_six_memory_stacks_has_all_of_the_l2():
    for name, stacks in {"h100-sxm": 5, "h100-pcie": 5, "h100-nvl": 6, "h200-sxm": 6, "gh200-96gb": 6}.items():
        assert CATALOGUE.spec("gpus", name).memory.l2_cache.si == stacks * 10 * 2**20


def test_no_two_names_state_the_same_figures():
    """A second name of a card is a file that drifts; editions of one card differ in power, clocks or memory."""
    seen = {}
    for name in CATALOGUE.names("gpus"):
        gpu = CATALOGUE.spec("gpus", name)
        stated = tuple((path, getattr(one, "si", one.value)) for path, one in figures(gpu) if "price" not in path)
        assert stated not in seen, f"{name} is {seen[stated]}"
        seen[stated] = name


def test_editions_of_one_card_are_told_apart():
    """NVIDIA's datasheets: the Max-Q has half the power, the Server Edition slower memory."""
    workstation, max_q, server = (
        CATALOGUE.spec("gpus", f"rtx-pro-6000-{edition}") for edition in ("workstation", "max-q", "server")
    )
    assert (workstation.power.tdp.si, max_q.power.tdp.si, server.power.tdp.si) == (600, 300, 600)
    assert workstation.memory.bandwidth.si == max_q.memory.bandwidth.si > server.memory.bandwidth.si
    assert workstation.compute.boost_clock.si > server.compute.boost_clock.si > max_q.compute.boost_clock.si
    with pytest.raises(InputError, match="did you mean one of rtx-pro-6000-max-q, rtx-pro-6000-server, rtx-pro-6000-w"):
        CATALOGUE.cluster("rtx-pro-6000")


@pytest.mark.parametrize("name", CATALOGUE.names("gpus"))
def test_mig_profiles_fit_into_the_gpu(name):
    gpu = CATALOGUE.spec("gpus", name)
    most = max((profile.memory_slices for profile in gpu.mig_profiles), default=0)
    for profile in gpu.mig_profiles:
        assert profile.memory_slices * profile.instances <= most
        assert profile.memory.si * profile.instances <= gpu.memory.capacity.si * 1.001
        if profile.sm_count is not None:
            assert profile.sm_count.si * profile.instances <= gpu.compute.sm_count.si
