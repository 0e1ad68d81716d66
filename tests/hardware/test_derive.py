"""MIG slices, power caps and clock limits: never faster than the whole, named, sourced, refused in one line."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simgpu import Catalogue, simulate
from simgpu.errors import InputError
from simgpu.hardware.derive import bandwidth_share, clock_share, derive, is_slice, mig_shares, sliced, throttled
from simgpu.hardware.figure import figures
from simgpu.hardware.machine import topology_of
from simgpu.overrides import Override

CATALOGUE = Catalogue()
SLICED = [name for name in CATALOGUE.names("gpus") if CATALOGUE.spec("gpus", name).mig_profiles]
PROFILES = [(name, one.name) for name in SLICED for one in CATALOGUE.spec("gpus", name).mig_profiles]
H100 = CATALOGUE.spec("gpus", "h100-sxm")


def speeds(gpu):
    """Everything of a GPU of which more is faster."""
    found = {peak.key: peak.si for peak in gpu.peak}
    found |= {"bandwidth": gpu.memory.bandwidth.si, "l2": gpu.memory.l2_cache.si, "capacity": gpu.memory.capacity.si}
    top = gpu.compute.max_clock or gpu.compute.boost_clock
    return found | {"sms": gpu.compute.sm_count.si, "clock": gpu.compute.boost_clock.si, "top": top.si}


def not_faster(gpu, whole):
    mine, other = speeds(gpu), speeds(whole)
    return mine.keys() == other.keys() and all(mine[key] <= other[key] * (1 + 1e-12) for key in mine)


# ---- slices --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "profile"), PROFILES)
def test_a_slice_is_never_faster_than_the_whole_nor_all_of_them_together(name, profile):
    whole, part = CATALOGUE.spec("gpus", name), CATALOGUE.spec("gpus", f"{name}@{profile}")
    assert part.name == f"{name}@{profile}"
    assert is_slice(part) and not is_slice(whole)
    assert not_faster(part, whole)
    times = next(one.instances for one in whole.mig_profiles if one.name == profile)
    for key in ("sms", "bandwidth", "l2", "capacity", "fp32-fp32-vector"):
        assert times * speeds(part)[key] <= speeds(whole)[key] * 1.001, key
    assert times * part.power.tdp.si <= whole.power.tdp.si * 1.001
    assert part.nvlink is None and not part.host_link.peer_to_peer.value and not part.mig_profiles


@pytest.mark.parametrize(("name", "profile"), PROFILES)
def test_a_larger_slice_of_as_much_memory_has_as_many_sms(name, profile):
    gpu = CATALOGUE.spec("gpus", name)
    mine = next(one for one in gpu.mig_profiles if one.name == profile)
    for other in gpu.mig_profiles:
        if other.compute_slices >= mine.compute_slices and other.memory_slices >= mine.memory_slices:
            more, fewer = (sliced(gpu, one.name).compute.sm_count.si for one in (other, mine))
            assert more >= fewer, other.name


@pytest.mark.parametrize(
    ("name", "sms"),
    {
        "a100-sxm-80gb@1g.10gb": 14, "a100-sxm-40gb@7g.40gb": 98, "h100-sxm@1g.10gb": 16, "h100-sxm@1g.20gb": 26,
        "h200-sxm@3g.71gb": 60, "b200-sxm@1g.45gb": 30, "b200-sxm@4g.90gb": 72, "rtx-pro-6000-server@2g.48gb": 92,
        "h100-pcie@1g.10gb": 14, "h100-pcie@7g.80gb": 114,
    }.items(),
)  # fmt: skip
def test_sms_of_slices(name, sms):
    """Those of nvidia-smi mig -lgip where it was seen, else whole pairs of SMs and no more than there are."""
    assert CATALOGUE.spec("gpus", name).compute.sm_count.si == sms


def test_memory_of_a_slice_goes_with_its_memory_slices():
    part = CATALOGUE.spec("gpus", "h100-sxm@3g.40gb")
    assert part.memory.bandwidth.si == H100.memory.bandwidth.si / 2
    assert part.memory.l2_cache.si == H100.memory.l2_cache.si / 2
    assert part.memory.capacity.si == 40e9


# ---- power caps and clock limits -------------------------------------------------------------------------

DRAWN = CATALOGUE.drawn(H100)
CAPS = st.floats(0.25, 1.0)


@given(CAPS, CAPS)
@settings(max_examples=100, deadline=None)
def test_less_power_is_never_faster(one, other):
    low, high = sorted((one, other))
    slow, fast = (throttled(H100, share * H100.power.tdp.si, drawn=DRAWN) for share in (low, high))
    assert not_faster(slow, fast) and not_faster(fast, H100)


@given(st.floats(0.1, 1.08), st.floats(0.1, 1.08), CAPS)
@settings(max_examples=100, deadline=None)
def test_a_lower_clock_is_never_faster(one, other, cap):
    low, high = sorted(share * H100.compute.boost_clock.si for share in (one, other))
    slow, fast = (throttled(H100, cap * H100.power.tdp.si, clock, drawn=DRAWN) for clock in (low, high))
    assert not_faster(slow, fast)
    assert fast.compute.max_clock.si <= high * (1 + 1e-12)


def test_the_shares_of_slices_are_those_that_they_get():
    for profile in H100.mig_profiles:
        made, (sms, memory) = derive(H100, [profile.name], DRAWN), mig_shares(H100, profile)
        assert made.memory.bandwidth.si == pytest.approx(memory * H100.memory.bandwidth.si)
        assert made.memory.l2_cache.si == pytest.approx(memory * H100.memory.l2_cache.si)
        assert made.compute.sm_count.si == pytest.approx(sms * H100.compute.sm_count.si)
        assert profile.instances * sms <= 1 and profile.instances * memory <= 1  # what is cut fits the whole


def test_a_cap_of_all_the_power_and_the_highest_clock_change_nothing():
    assert speeds(CATALOGUE.spec("gpus", "h100-sxm@700W@1980MHz")) == speeds(H100)
    assert clock_share(1.0) == bandwidth_share(1.0, DRAWN.idle) == 1.0


def test_a_cap_takes_the_clock_of_heavy_kernels_only_and_the_memory_last():
    capped = CATALOGUE.spec("gpus", "h100-sxm@500W")
    assert capped.power.tdp.si == 500
    assert 0.75 < capped.compute.boost_clock.si / H100.compute.boost_clock.si < 0.9
    assert capped.compute.max_clock == H100.compute.max_clock
    assert capped.compute.rated_clock == H100.compute.boost_clock and H100.compute.rated_clock is None
    assert capped.memory.bandwidth == H100.memory.bandwidth
    assert CATALOGUE.spec("gpus", "l40s@200W").compute.max_clock.si == 2520e6
    assert CATALOGUE.spec("gpus", "rtx-4090@300W").compute.max_clock.si == 2520e6  # the boost clock of the parent


@pytest.mark.parametrize(
    ("cap", "full", "measured"),
    [
        (300 / 600, 500 / 600, 124.2 / 157.5),  # RTX PRO 6000 Server Edition, tensor-core burn
        (400 / 600, 500 / 600, 143.8 / 157.5),
        (300 / 600, 1.0, 90.2 / 163.5),  # Workstation Edition
        (450 / 600, 1.0, 131.1 / 163.5),
        (250 / 300, 1.0, 1252 / 1417),  # Max-Q, clock
        (280 / 350, 1.0, 0.95),  # four RTX 3090 training ResNet-50
    ],
)
def test_clock_under_a_cap_against_measured_sweeps(cap, full, measured):
    assert clock_share(cap) / clock_share(full) == pytest.approx(measured, rel=0.25)


@pytest.mark.parametrize(("cap", "measured"), [(400 / 700, 1.0), (375 / 700, 0.97), (350 / 700, 0.90)])
def test_bandwidth_under_a_cap_against_a_measured_sweep(cap, measured):
    """An H100 that reads its HBM at random."""
    assert bandwidth_share(cap, DRAWN.idle) == pytest.approx(measured, rel=0.02)


def test_a_clock_limit_scales_peaks_from_the_clock_they_are_given_at():
    whole, limited = speeds(H100), speeds(CATALOGUE.spec("gpus", "h100-sxm@1900MHz"))
    assert limited["bf16-fp32-tensor"] == whole["bf16-fp32-tensor"]  # given at 1830 MHz
    assert limited["fp32-fp32-vector"] == pytest.approx(whole["fp32-fp32-vector"] * 1900 / 1980)
    slow = speeds(CATALOGUE.spec("gpus", "a100-sxm-80gb@1.095GHz"))
    assert slow["bf16-fp32-tensor"] == pytest.approx(312e12 * 1095 / 1410)
    assert slow["bandwidth"] == 2039e9


# ---- names and places ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["h100-sxm@500W@1410MHz@1g.10gb", "h100-sxm@1g.10gb@1.41GHz@0.5kW"])
def test_cap_limit_and_slice_combine_in_any_order(name):
    made = CATALOGUE.spec("gpus", name)
    assert made.name == "h100-sxm@500W@1410MHz@1g.10gb"
    assert made == derive(H100, ["500W", "1410MHz", "1g.10gb"], DRAWN)
    assert not_faster(made, CATALOGUE.spec("gpus", "h100-sxm@1g.10gb"))
    assert CATALOGUE.spec("gpus", made.name) == made


@pytest.mark.parametrize("name", ["h100-sxm@500W", "h100-sxm@1g.20gb", "b200-sxm@1g.23gb", "rtx-4090@1500MHz"])
def test_every_figure_keeps_a_source_and_constants_are_the_parents(name):
    made, whole = CATALOGUE.spec("gpus", name), CATALOGUE.spec("gpus", name.partition("@")[0])
    for path, figure in figures(made):
        assert len(made.sources[figure.source]) > 10, path
    assert made.kernel == whole.kernel
    mine, parents = CATALOGUE.kernel_constants(made), CATALOGUE.kernel_constants(whole)
    assert {path: one.figure for path, one in mine.given.items()} == {p: o.figure for p, o in parents.given.items()}
    without = CATALOGUE.kernel_constants(made, without=[whole.name])
    assert all(one.regime != "calibrated" for one in without.given.values())


def test_a_node_takes_a_derived_gpu_and_a_slice_has_no_nvlink():
    capped = CATALOGUE.cluster("dgx-h100", [Override("node.gpu", "h100-sxm@500W", "test")])
    assert capped.gpu.power.tdp.si == 500
    assert topology_of(capped).route(0, 1).via == topology_of(CATALOGUE.cluster("dgx-h100")).route(0, 1).via
    slices = CATALOGUE.cluster("dgx-h100", [Override("node.gpu", "h100-sxm@1g.10gb", "test")])
    assert slices.node.nvlink is None and slices.gpu.compute.sm_count.si == 16


@pytest.mark.parametrize("plan", [{"tp": 2}, {"pp": 2}, {"dp": 2}])
def test_a_plan_that_communicates_between_slices_is_refused_in_one_line(plan):
    """MIG has no peer-to-peer; replicas that never communicate may stand on slices."""
    slices = CATALOGUE.cluster("dgx-h100", [Override("node.gpu", "h100-sxm@3g.40gb", "test")])
    served = {"kind": "serving", "concurrency": 2, "prompt": 64, "output": 4}
    jobs = [served, {"kind": "training", "batch": 2, "tokens": 128}]
    for job in jobs[len(jobs) - 1 if "dp" in plan else 0 :]:
        asked = plan | ({"micro_batch": 1} if job["kind"] == "training" and "pp" in plan else {})
        with pytest.raises(InputError, match="no peer-to-peer") as told:
            simulate(slices, job, "llama-3.2-1b", asked)
        assert told.value.key == "plan"
    assert simulate(slices, served, "llama-3.2-1b", {"dp": 2}).row["gpus"] == 2


def test_an_override_is_of_the_derived_gpu():
    asked = [Override("node.gpu", "h100-sxm@1g.10gb", "test"), Override("gpu.memory.bandwidth", "500 GB/s", "test")]
    assert CATALOGUE.cluster("dgx-h100", asked).gpu.memory.bandwidth.si == 500e9
    with pytest.raises(InputError, match=r"gpu\.memory\.bandwidht"):
        CATALOGUE.cluster("dgx-h100", [asked[0], Override("gpu.memory.bandwidht", "500 GB/s", "test")])


@pytest.mark.parametrize(
    ("name", "says"),
    {
        "h100-sxm@1g.11gb": "no MIG profile '1g.11gb'; expected one of 1g.10gb",
        "h100-sxm@": "no MIG profile ''; expected one of 1g.10gb",
        "h100-sxm@500": "no MIG profile '500'",
        "l4@1g.10gb": "cannot be sliced",
        "h100-sxm@1g.10gb@2g.20gb": "gives two slices",
        "h100-sxm@500W@400W": "gives two power caps",
        "h100-sxm@1GHz@1000MHz": "gives two clock limits",
        "h100-sxm@800W": "a power cap of 800 W is out of range for 'h100-sxm'; expected 175 W to 700 W",
        "h100-sxm@100W": "out of range",
        "h100-sxm@0W": "out of range",
        "h100-sxm@2GHz": "a clock limit of 2 GHz is out of range for 'h100-sxm'; expected 183 MHz to 1.98 GHz",
        "h100-sxm@50MHz": "out of range",
        "h100-smx@500W": "unknown gpu 'h100-smx'; did you mean 'h100-sxm'",
    }.items(),
)
def test_what_cannot_be_derived_is_refused_in_one_line(name, says):
    with pytest.raises(InputError) as refused:
        CATALOGUE.spec("gpus", name)
    assert says in str(refused.value) and "\n" not in str(refused.value)
    with pytest.raises(InputError) as refused:
        CATALOGUE.cluster("dgx-h100", [Override("node.gpu", name, "test")])
    assert str(refused.value).startswith("test: node.gpu: ") and says in str(refused.value)


def test_derived_gpus_are_not_listed():
    assert not any("@" in name for name in CATALOGUE.names("gpus"))


# ---- clocks under load -----------------------------------------------------------------------------------


def test_a_slice_is_as_far_from_its_power_limit_as_the_whole():
    whole, part = (CATALOGUE.spec("gpus", name) for name in ("h200-sxm@500W", "h200-sxm@500W@1g.18gb"))
    share = part.power.tdp.si / whole.power.tdp.si
    assert part.power.rated_peak.si == pytest.approx(share * whole.half_peak.datasheet, rel=1e-12)
    assert part.half_peak.si < part.power.rated_peak.si
    assert part.compute.rated_clock == whole.compute.rated_clock


def test_a_peak_set_by_hand_leaves_the_clock_under_load():
    half = Override("gpu.peak.fp16-fp32-tensor", "500 TFLOPS", "set")
    origin = CATALOGUE.spec("gpus", "h200-sxm")
    changed = CATALOGUE.spec("gpus", "h200-sxm", [half])
    assert changed.half_peak.si == 500e12
    assert changed.power.rated_peak.si == origin.half_peak.si
    assert changed.power.rated_vector_peak.si == origin.vector_peak.si
    assert origin.power.rated_peak is None
    assert CATALOGUE.spec("gpus", "h200-sxm", [Override("gpu.power.tdp", "500 W", "set")]).power.rated_peak is None
