"""Laws of models that share a GPU: shares add up, a chain waits for its slowest, and what was measured of it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simgpu.errors import InputError
from simgpu.simulation.call import simulate
from simgpu.workload.shared.queues import Model, follow, percentile
from simgpu.workload.shared.rates import BANDWIDTH, SMS, TIME, Call, rates, room

SHARES = st.floats(0.0, 1.0)
CALLS = st.lists(st.builds(lambda s, b: Call(1.0, {SMS: s, BANDWIDTH: b}), SHARES, SHARES), min_size=1, max_size=6)


@given(CALLS)
def test_shares_of_multiprocessors_and_bandwidth_add_up_to_no_more_than_there_is(calls):
    given_ = rates("mps", calls)
    assert all(0 <= rate <= 1 for rate in given_)
    for name in (SMS, BANDWIDTH):
        assert sum(rate * call.takes[name] for rate, call in zip(given_, calls, strict=True)) <= 1 + 1e-9
    if all(sum(call.takes[name] for call in calls) <= 1 for name in (SMS, BANDWIDTH)):
        assert given_ == [1.0] * len(calls)
    slowed = [i for i, rate in enumerate(given_) if rate < 1 - 1e-9]
    for i in slowed:  # nobody is slowed unless something that it uses is used up
        full = [
            n for n in (SMS, BANDWIDTH) if sum(r * c.takes[n] for r, c in zip(given_, calls, strict=True)) > 1 - 1e-6
        ]
        assert any(calls[i].takes[name] > 0 for name in full)


@given(st.integers(1, 8))
def test_slices_of_time_are_even_and_cost_their_switching(many):
    given_ = rates("time_slicing", [Call(1.0, {TIME: 1.0})] * many)
    assert len(set(given_)) == 1 and sum(given_) == pytest.approx(room("time_slicing", many)[TIME])
    assert rates("separate", [Call(1.0, {})] * many) == [1.0] * many


@given(st.lists(st.floats(0.01, 1.0), min_size=1, max_size=4), st.sampled_from(["separate", "time_slicing", "in_turn"]))
@settings(max_examples=20, deadline=None)
def test_a_chain_is_never_faster_than_its_slowest_part_nor_a_request_than_its_calls(seconds, sharing):
    models = [Model(lambda running, s=s: Call(s, {TIME: 1.0})) for s in seconds]
    rate = 0.5 / sum(seconds)
    done = follow(models, sharing, rate, 200, 1)
    assert min(done.whole) >= sum(seconds) * (1 - 1e-6)
    assert done.per_second <= 1 / max(seconds) + 1e-9
    assert percentile(done.whole, 0.5) <= percentile(done.whole, 0.99)


def run(sharing, parts, cluster="dgx-a100", **job):
    return simulate(cluster, {"kind": "shared", "sharing": sharing, "parts": parts, "requests": 400, **job})


def yolos(many, **more):
    job = {"kind": "network", "stack": "pytorch"}
    return [{"name": f"{i}", "model": "yolos-small", "workload": job, "dtype": "fp32", "host": "51.5 ms", **more}
            for i in range(many)]  # fmt: skip


@pytest.mark.parametrize(
    ("sharing", "many", "measured", "within"),
    [
        ("mps", 3, 0.16400, 0.06), ("mps", 5, 0.24086, 0.08), ("mps", 7, 0.31982, 0.09),
        ("mig", 1, 0.34237, 0.05), ("mig", 7, 0.34425, 0.06),
        ("time_slicing", 3, 0.29314, 0.01), ("time_slicing", 7, 0.68488, 0.01),  # one of these made `SWITCHING`
    ],
)  # fmt: skip
def test_seconds_of_processes_that_share_an_a100(sharing, many, measured, within):
    """nebuly-ai/nos @14a194e2, demos/gpu-sharing-comparison: YOLOS small without a pause, 88.15 ms alone, of which the
    host's part here is what is left beside the simulated kernels."""
    parts = yolos(many, **({"profile": "1g.10gb"} if sharing == "mig" else {}))
    assert run(sharing, parts, order="apart").latency_50th_s == pytest.approx(measured, rel=within)


def test_sharing_never_serves_more_than_gpus_of_their_own_and_slices_do_not_mind_their_neighbours():
    parts = [{"name": "see", "model": "yolov8s", "workload": {"kind": "network"}},
             {"name": "name", "model": "resnet50", "workload": {"kind": "network"}}]  # fmt: skip
    alone = run("separate", parts)
    for sharing in ("in_turn", "time_slicing", "mps"):
        done = run(sharing, parts)
        assert done.capacity_per_s <= alone.capacity_per_s * (1 + 1e-9) and done.gpus == 1 and alone.gpus == 2
        assert done.memory_bytes_per_gpu > alone.memory_bytes_per_gpu and done.slowdown >= 1
        assert done.offered_load == pytest.approx(0.7)
    sliced = [{**part, "profile": "2g.20gb"} for part in parts]
    lone, both = run("mig", sliced[:1], order="apart"), run("mig", sliced, order="apart")
    assert both.latency_50th_s == pytest.approx(lone.latency_50th_s)


def test_a_noisy_neighbour_is_felt_at_the_99th_percentile():
    quiet = {"name": "quiet", "model": "yolov8s", "workload": {"kind": "network"}, "rate": 20}
    noisy = {"name": "noisy", "model": "yolov8x", "workload": {"kind": "network", "batch": 16}}
    alone = run("time_slicing", [quiet], order="apart").latency_99th_s
    for sharing in ("in_turn", "time_slicing", "mps"):
        assert run(sharing, [quiet, noisy], order="apart").latency_99th_s > 1.2 * alone


@pytest.mark.parametrize(
    ("change", "key", "says"),
    [
        ({"sharing": "mig"}, "workload.parts", "parts.0.profile is missing"),
        ({"sharing": "mig", "parts": [{**yolos(1)[0], "profile": "9g.90gb"}]}, "workload.parts.0.profile", "9g.90gb"),
        ({"parts": [*yolos(1), *yolos(1)]}, "workload.parts", "two are called '0'"),
        ({"parts": [{**yolos(1)[0], "rate": 3}]}, "workload", "the rate of the chain"),
        ({"order": "apart", "rate": 3}, "workload", "rates of their own"),
        ({"parts": [{**yolos(1)[0], "model": "yolo-small"}]}, "workload.parts.0.model", "yolos-small"),
        ({"parts": []}, "workload.parts", "at least 1"),
    ],
)
def test_what_cannot_share_is_one_line(change, key, says):
    with pytest.raises(InputError, match=says) as error:
        run(**{"sharing": "time_slicing", "parts": yolos(1), **change})
    assert "\n" not in str(error.value) and error.value.key.startswith(key.split(".")[0])


def test_two_runs_are_the_same_and_another_seed_is_another_run():
    parts = yolos(1)
    one, again, other = run("mps", parts), run("mps", parts), run("mps", parts, seed=7)
    assert one.row == again.row and one.latency_99th_s != other.latency_99th_s


def test_one_process_needs_less_memory_than_processes_of_their_own():
    job = {"dtype": "fp16", "workload": {"kind": "network"}}
    parts = [{"name": name, "model": name, **job} for name in ("sd15-controlnet", "real-esrgan-x4")]
    one, many = run("in_turn", parts), run("time_slicing", parts)
    for done in (one, many):
        assert sum(done.memory.parts.values()) == pytest.approx(done.memory.peak) == done.memory_bytes_per_gpu
    assert (
        one.memory_bytes_per_gpu < many.memory_bytes_per_gpu and one.weights_bytes_per_gpu == many.weights_bytes_per_gpu
    )
