"""Laws of power and energy: bounded, additive, the integral of power; caps, folding, waiting."""

import json
import math
from itertools import pairwise

import numpy as np
import pytest

import simgpu
from simgpu import Catalogue, simulate
from simgpu.analysis.power import SPREAD, Board, energy_of, server_watts
from simgpu.analysis.power_trace import WINDOW, PowerTrace, trace_of
from simgpu.errors import InputError
from simgpu.timing.levels import RUNNING, levels_of
from simgpu.workload.jobs import OperatorList

CATALOGUE = Catalogue()
MODEL = "llama-3.2-1b"
JOBS = {
    "prefill": ({"kind": "prefill", "batch": 4, "tokens": 512}, {"tp": 2}),
    "training": ({"kind": "training", "batch": 8, "tokens": 512}, {"tp": 2, "dp": 2}),
    "stages": ({"kind": "training", "batch": 8, "tokens": 512}, {"pp": 4, "micro_batch": 1}),
    "batch": ({"kind": "inference", "batch": 4, "prompt": 512, "output": 32}, {"tp": 2}),
    "split batch": ({"kind": "inference", "batch": 4, "prompt": 512, "output": 32}, {"pp": 2}),
    "mixed": ({"kind": "mixed", "prefill": 512, "decodes": 8}, {}),
    "server": ({"kind": "serving", "concurrency": 8, "prompt": 512, "output": 32}, {}),
}


def run(job, cluster="dgx-h100"):
    asked, plan = JOBS[job]
    return simulate(cluster, asked, MODEL, plan)


def levels(name):
    gpu = CATALOGUE.spec("gpus", name) if "@" not in name else CATALOGUE.cluster(name).gpu
    return levels_of(gpu, CATALOGUE.kernel_constants(gpu))


@pytest.mark.parametrize("job", JOBS)
def test_power_lies_between_idle_and_the_limit(job):
    result = run(job)
    known = result.board.levels
    assert known.idle <= result.power_w_per_gpu_p10 <= result.power_w_per_gpu <= result.power_w_per_gpu_p90
    assert result.power_w_per_gpu_p90 <= known.limit
    for trace in (result.power_trace(), result.power_trace().windowed()):
        assert known.idle <= trace.watts.min() and trace.watts.max() <= known.limit * (1 + 1e-9)


@pytest.mark.parametrize("job", JOBS)
def test_energy_is_the_integral_of_power_over_time(job):
    result = run(job)
    ranks = [result.power_trace(rank) for rank in range(len(result.execution.streams))]
    mean = sum(trace.joules for trace in ranks) / len(ranks)
    assert mean == pytest.approx(energy_of(result.execution, result.board).joules, rel=1e-9)
    assert ranks[0].times[-1] == pytest.approx(result.execution.step)
    for trace in ranks:
        assert trace.thinned(50).joules == pytest.approx(trace.joules, rel=1e-9)


@pytest.mark.parametrize("job", [job for job in JOBS if job != "server"])
def test_energy_of_parts_adds_up_and_power_times_time_is_energy(job):
    result = run(job)
    found = energy_of(result.execution, result.board)
    assert found.kernels >= 0 and found.collectives >= 0 and found.waiting >= -1e-9
    assert found.joules == pytest.approx(found.watts * result.execution.step, rel=1e-9)
    assert result.energy_j_per_step == pytest.approx(result.power_w_per_gpu * result.gpus * result.step_s)


def test_energy_of_a_step_is_the_same_folded_or_not():
    job, plan = {"kind": "training", "batch": 16, "tokens": 512}, {"dp": 4, "tp": 2, "micro_batch": 2}
    folded, whole = (simulate("dgx-h100", job, MODEL, plan, folded=one) for one in (True, False))
    assert folded.energy_j_per_step == pytest.approx(whole.energy_j_per_step, rel=1e-6)


def test_replicas_that_do_the_same_draw_the_same():
    one, eight = (
        simulate("dgx-h100", {"kind": "prefill", "batch": n, "tokens": 512}, MODEL, {"dp": n}) for n in (1, 8)
    )
    assert eight.energy_j_per_step == pytest.approx(8 * one.energy_j_per_step)


def test_repeated_work_draws_as_when_every_run_is_simulated():
    def many(repeat):
        listed = [{"op": "matmul", "m": 512, "n": 512, "k": 512}]
        return simulate("h100-sxm", OperatorList(operators=listed, repeat=repeat)).energy_j_per_step

    assert many(2000) == pytest.approx(1000 * many(2), rel=1e-6)


# ---- caps and clock limits ---------------------------------------------------------------------------


def test_a_higher_cap_never_slows_and_never_draws_less():
    found = [
        simulate(
            f"h100-sxm@{watts}W", {"kind": "prefill", "batch": 4, "tokens": 2048}, "llama-3.1-8b", clocks="sustained"
        )
        for watts in (200, 300, 400, 500, 600, 700)
    ]
    for low, high in pairwise(found):
        assert high.step_s <= low.step_s and low.power_w_per_gpu <= high.power_w_per_gpu
    for watts, result in zip((200, 300, 400, 500, 600, 700), found, strict=True):
        assert result.power_w_per_gpu <= watts


def test_a_cap_at_the_rated_power_changes_nothing():
    job = {"kind": "prefill", "batch": 4, "tokens": 512}
    free, capped = (simulate(name, job, MODEL) for name in ("h100-sxm", "h100-sxm@700W"))
    assert capped.power_w_per_gpu == pytest.approx(free.power_w_per_gpu) and capped.step_s == free.step_s


def test_the_best_cap_is_below_the_rated_power_where_products_fill_the_step():
    def efficiency(watts):
        job = {"kind": "prefill", "batch": 8, "tokens": 2048}
        return simulate(f"h100-sxm@{watts}W", job, "llama-3.1-8b", clocks="sustained").tokens_per_j

    assert efficiency(450) > efficiency(700) and efficiency(450) > efficiency(200)


def test_a_clock_limit_saves_energy_of_operations_and_none_of_memory():
    free, slow = levels("h100-sxm"), levels("h100-sxm@1095MHz")
    assert slow.pipe < free.pipe and slow.memory == free.memory and slow.waiting == free.waiting
    assert all(slow.running[name] <= free.running[name] for name in free.running)


def test_a_cap_below_what_drivers_accept_is_one_line():
    with pytest.raises(InputError, match=r"power cap of 50 W is out of range for 'h100-sxm'; expected 175 W to 700 W"):
        simgpu.load_cluster("h100-sxm@50W")


# ---- levels ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CATALOGUE.names("gpus"))
def test_every_gpu_has_levels_below_its_limit(name):
    found = levels(name)
    assert 0 < found.idle <= found.waiting < found.limit
    assert found.regime in SPREAD
    for group in (*RUNNING, "vector"):
        light, heavy = found.kernel(group, 1.0, 0.0, 0.0), found.kernel(group, 1.0, 1.0, found.bandwidth)
        assert found.waiting <= light <= heavy <= found.limit


def test_the_nearer_the_levels_the_narrower_the_interval():
    widths = [math.log(high / low) for low, high in (SPREAD[one] for one in ("calibrated", "inherited", "datasheet"))]
    assert widths == sorted(widths)
    assert levels("h100-sxm").regime == "calibrated" and levels("h200-sxm").regime == "inherited"
    assert levels("mi300x").regime == "datasheet"


def test_waiting_costs_waiting_power_and_never_nothing():
    known = levels("h100-sxm")
    busy, half = server_watts(600, 700, known.waiting, 0.2), server_watts(600, 700, known.waiting, 0.2, busy=0.5)
    assert half == pytest.approx((busy + known.waiting) / 2)
    assert server_watts(600, 700, known.waiting, 0.0, busy=0.0) == known.waiting


def test_energy_of_a_token_falls_with_the_batch_while_weights_bound_the_step():
    found = [
        simulate("h100-sxm", {"kind": "inference", "batch": n, "prompt": 128, "output": 64}, "llama-3.1-8b")
        for n in (1, 4, 16, 64)
    ]
    energy = [one.energy_j_per_token for one in found]
    assert energy == sorted(energy, reverse=True)
    assert energy[0] / energy[1] > energy[2] / energy[3], "and tends to a constant"


def test_tensor_parallelism_at_a_fixed_batch_costs_energy():
    job = {"kind": "inference", "batch": 8, "prompt": 128, "output": 64}
    one, eight = (simulate("dgx-h100", job, "llama-3.1-8b", {"tp": n}) for n in (1, 8))
    assert eight.energy_j_per_token > one.energy_j_per_token and eight.power_w_per_gpu < one.power_w_per_gpu


def test_the_work_for_each_sequence_is_part_of_the_hosts_time_and_draws_more_than_a_wait():
    job = {"kind": "inference", "batch": 256, "prompt": 16, "output": 16, "runtime": "vllm@0.6"}
    result = simulate("h100-sxm", job, "llama-3.2-1b")
    assert 0 < result.host_sequences_s < result.host_s


# ---- over time ---------------------------------------------------------------------------------------


def test_a_window_keeps_energy_and_flattens_peaks():
    trace = PowerTrace(np.array([0.0, 0.01, 1.0]), np.array([1000.0, 100.0]))
    seen = trace.windowed(WINDOW, points=1000)
    assert seen.watts.max() <= 1000 * (1 + 1e-9) and seen.watts[-1] == pytest.approx(100)
    assert seen.watts[99] == pytest.approx((1000 * 0.01 + 100 * 0.09) / 0.1)
    with pytest.raises(InputError, match="no window"):
        trace.windowed(0.0)


def test_the_trace_file_has_counters_of_power(tmp_path):
    result = run("stages")
    events = json.loads(simgpu.save_trace(result, tmp_path / "trace.json").read_text())["traceEvents"]
    counters = [one for one in events if one["ph"] == "C"]
    assert {one["name"] for one in counters} == {"power (W)", "power, mean of 100 ms (W)"}
    assert {one["pid"] for one in counters} == set(range(4))
    limit = result.board.levels.limit
    assert all(0 < one["args"]["W"] <= limit for one in counters)


def test_a_board_without_work_between_steps_waits():
    result = run("stages")
    trace = trace_of(result.execution, Board(result.board.levels), 0)
    assert trace.watts.min() == pytest.approx(result.board.levels.waiting)
