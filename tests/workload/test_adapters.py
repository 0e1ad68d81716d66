"""Many adapters: their kernels by rank and number, slots, loads, memory, and what cannot be."""

import pytest

from simgpu import InputError, simulate
from simgpu.workload.inference.adapters import chances_of, expected
from simgpu.workload.server.slots import Loading, Slots

BASE = {"kind": "traffic", "rate": 20.0, "requests": 150, "prompt": 200, "output": 60, "runtime": "vllm"}
MODEL = "llama-3.2-1b"


def row(lora, **given):
    return simulate("h100-sxm", {**BASE, **given, "lora": lora}, MODEL).row


def step(lora, batch=16):
    job = {"kind": "inference", "batch": batch, "prompt": 128, "output": 32, "runtime": "vllm", "lora": lora}
    return simulate("h100-sxm", job, MODEL).row


# ---- laws --------------------------------------------------------------------------------------------


def test_chances_add_up_and_no_more_are_expected_than_there_are_or_ask():
    for exponent in (0.0, 1.0, 2.5):
        assert sum(chances_of(50, exponent)) == pytest.approx(1)
        assert expected(50, exponent, 1) == pytest.approx(1)
        found = [expected(50, exponent, sequences) for sequences in (1, 4, 16, 64, 256)]
        assert found == sorted(found) and found[-1] <= 50 and found[1] <= 4
    assert expected(50, 2.5, 64) < expected(50, 1.0, 64) < expected(50, 0.0, 64)


def test_adapters_take_time_and_more_where_there_are_more_or_of_a_higher_rank():
    none = step(None)["tpot_s"]
    assert step({"rank": 0})["tpot_s"] == none
    times = [step({"rank": rank})["tpot_s"] for rank in (8, 64, 256)]
    assert none < times[0] <= times[1] < times[2]
    several = [step({"adapters": count, "max_loras": 16, "rank": 64})["tpot_s"] for count in (1, 4, 100)]
    assert several == sorted(several) and several[0] < several[-1]
    wide = step({"rank": 8, "max_rank": 64})  # kernels run at the rank of the slots
    assert wide["tpot_s"] == times[1]


def test_slots_take_memory_from_the_cache():
    none, few, many = (step(lora)["weights_bytes_per_gpu"] for lora in
                       (None, {"adapters": 1}, {"adapters": 64, "max_loras": 64}))  # fmt: skip
    assert none < few and many - none == pytest.approx(64 * (few - none))


@pytest.mark.slow
def test_more_slots_are_never_slower():
    times = [row({"adapters": 24, "max_loras": slots, "popularity": "zipf_1"}, rate=60.0) for slots in (1, 4, 24)]
    waits = [one["ttft_99th_s"] for one in times]
    assert waits == sorted(waits, reverse=True) and waits[0] > waits[-1]
    rates = [one["output_tokens_per_s"] for one in times]
    assert rates == sorted(rates)
    assert [one["adapters_per_step"] <= slots for one, slots in zip(times, (1, 4, 24), strict=True)] == [True] * 3


def test_every_request_ends_and_every_adapter_is_loaded_once_where_all_have_a_slot():
    found = row({"adapters": 10, "max_loras": 10})
    assert found["requests_served"] == 150
    assert found["adapter_hit_rate"] == pytest.approx(1 - 10 / 150)
    one = row({"adapters": 1})
    assert one["adapter_hit_rate"] == pytest.approx(1 - 1 / 150) and one["adapters_per_step"] <= 1


def test_an_adapter_from_a_disk_is_longer_on_its_way():
    held = {"adapters": 40, "max_loras": 2}
    near = row(held, rate=2.0, requests=60)
    far = row({**held, "max_cpu_loras": 4, "disk": "1 GB/s", "disk_latency": "1 ms"}, rate=2.0, requests=60)
    assert far["adapter_load_s"] > near["adapter_load_s"] + 1e-3 and far["ttft_s"] > near["ttft_s"]


def test_prefixes_are_of_one_adapter():
    shared = {"prefix_tokens": 2048, "rate": 2.0, "requests": 60}
    one, many = (row({"adapters": count, "max_loras": 30}, **shared)["hit_rate"] for count in (1, 30))
    assert many < one


def test_the_slot_that_nobody_has_used_for_longest_goes():
    slots = Slots(Loading(slots=2, host=2, host_s=1.0, disk_s=10.0))
    assert [slots.join(one) for one in (0, 1, 0)] == [1.0, 1.0, 0.0]
    assert not slots.has_room(2)
    slots.leave(1)
    assert slots.has_room(2) and slots.join(2) == 11.0 and list(slots.there) == [0, 2]
    for one in (0, 0, 2):
        slots.leave(one)
    assert slots.distinct == 0 and slots.join(0) == 0.0


# ---- what cannot be ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lora", "more", "says"),
    [
        ({"rank": 64, "max_rank": 16}, {}, "rank 64 are larger than their slots of max_rank 16; expected max_rank 64"),
        ({"max_loras": 8, "max_cpu_loras": 4, "adapters": 9}, {}, "max_cpu_loras 4 is fewer than max_loras 8"),
        ({"adapters": 9, "max_cpu_loras": 4}, {}, "5 of 9 adapters are on disks; expected disk"),
        ({"disk": "1 GB/s"}, {}, "all adapters are in the host's memory"),
        ({"popularity": "zipf"}, {}, "expected uniform, or zipf_A"),
        ({"targets": ["qkvv"]}, {}, "qkvv"),
        ({"rnak": 8}, {}, "rank"),
        ({"rank": 4096, "max_loras": 1000, "adapters": 1000}, {}, "memory|does not fit|fit"),
        ({}, {"warmups": 1}, "adapters are not followed with warmups; leave one of both out"),
        ({}, {"pools": [{"cluster": "h100-sxm"}]}, "pools of other GPUs; leave one of both out"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(lora, more, says):
    with pytest.raises(InputError, match=says) as error:
        row(lora, **more)
    assert "\n" not in str(error.value)
