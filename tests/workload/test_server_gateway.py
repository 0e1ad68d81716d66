"""A queue in front of the router, users who keep a gap between their turns, mixed lengths, and further laws."""

import json
from dataclasses import replace
from heapq import heapify, heapreplace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from servers import ONE, RULES, SERVICE, poisson, run

from simgpu import InputError, Traffic, simulate
from simgpu.workload.server.arrivals import sessions_of
from simgpu.workload.server.care import TIMED_OUT, TURNED_AWAY, Care
from simgpu.workload.server.like import load_like
from simgpu.workload.server.load import requests_of
from simgpu.workload.server.managed import Gateway, Scaling
from simgpu.workload.server.requests import Request
from simgpu.workload.server.tally import Sample

BASE = {"kind": "traffic", "rate": 30.0, "requests": 120, "prompt": 500, "output": 100, "sequences": 16}


def gate(**rules):
    return Care(gateway=Gateway(**rules))


# ---- the gateway -------------------------------------------------------------------------------------


@pytest.mark.parametrize("router", ["round_robin", "least_requests", "random"])
def test_one_queue_for_all_is_that_of_several_servers(router):
    """Kiefer and Wolfowitz' recursion: the next request begins where a replica is free first."""
    load = [Request(i, sent, 100, 1) for i, sent in enumerate(one.sent for one in poisson(400, 2.7, 1))]
    ran = run(iter(load), ONE, SERVICE, replicas=3, router=router, care=gate(per_replica=1))
    free = [0.0] * 3
    heapify(free)
    for one in ran.requests:
        heapreplace(free, max(free[0], one.sent) + 1.0)
        assert one.last == pytest.approx(max(one.sent, one.last - 1.0) + 1.0)
    assert ran.fleet.now == pytest.approx(max(free), rel=1e-12)
    waits = sum(one.last - one.sent - 1.0 for one in ran.requests)
    free, wanted = [0.0] * 3, 0.0
    for one in ran.requests:
        start = max(free[0], one.sent)
        wanted += start - one.sent
        heapreplace(free, start + 1.0)
    assert waits == pytest.approx(wanted, rel=1e-9)


def test_a_gateway_with_room_for_all_is_none():
    load = {"count": 300, "rate": 20.0, "seed": 3}
    wide, none = (
        run(poisson(**load), RULES, replicas=2, care=care) for care in (gate(per_replica=10**6, max_queue=0), Care())
    )
    assert [one.last for one in wide.requests] == [one.last for one in none.requests]


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 9), st.sampled_from([None, 0, 4]), st.sampled_from([None, 0.3]), st.sampled_from([1, 3]),
    st.booleans(), st.integers(0, 99),
)  # fmt: skip
def test_each_request_ends_once_behind_a_gateway(most, queue, timeout, replicas, leaps, seed):
    care = replace(gate(per_replica=most, max_queue=queue, timeout_s=timeout), retries=1, retry_s=0.2, patience=2.0)
    ran = run(poisson(150, 30.0, seed), RULES, replicas=replicas, care=care, leaps=leaps)
    assert len(ran.requests) + sum(ran.fleet.fates.values()) == 150
    assert not ran.fleet.gate.queue and ran.fleet.inside == 0
    for one in ran.fleet.replicas:
        assert one.pool.free == one.pool.total and not one.requests
    if queue is None and timeout is None:
        assert not ran.fleet.fates[TURNED_AWAY] and not ran.fleet.fates[TIMED_OUT]


def test_a_replica_that_starts_late_takes_from_the_queue():
    scaling = Scaling(target=4.0, every_s=1.0, start_s=2.0, settle_s=20.0)
    load = [Request(i, 0.0, 500, 100) for i in range(64)]

    def last(care):
        rules = replace(RULES, seats=4)
        ran = run((Request(one.number, 0.0, 500, 100) for one in load), rules, replicas=8, care=care)
        return max(one.last for one in ran.requests)

    assert last(replace(gate(per_replica=4), scaling=scaling)) < 0.8 * last(Care(scaling=scaling))


def test_a_decision_makes_four_replicas_or_twice_as_many_at_most():
    care = Care(scaling=Scaling(target=1.0, every_s=1.0, start_s=0.0, settle_s=1e6))
    ran = run((Request(i, 0.0, 500, 4000) for i in range(200)), RULES, replicas=32, care=care)
    assert [number for _, number in ran.fleet.scaler.wanted][:6] == [4, 8, 16, 32, 32, 32]


def test_a_row_has_the_wait_at_the_gateway():
    done = simulate("h100-sxm", {**BASE, "gateway": {"per_replica": 8, "max_queue": 40}}, "llama-3.1-8b")
    assert done.gateway_s > 0.01 and done.turned_away == 120 - done.requests_served
    assert done.waiting < 1  # they do not wait at the replica
    with pytest.raises(InputError, match="of which a gateway counts one"):
        simulate("dgx-h100", {**BASE, "gateway": {"per_replica": 8}, "prefill_replicas": 1}, "llama-3.1-8b", {"dp": 2})


# ---- loads of tools ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("users", "turns"), [(20, 5), (7, 3), (12, 13), (1, 2)])
def test_users_send_at_the_rate_from_the_start(users, turns):
    job = Traffic(arrivals="users", users=users, rate=4.0, duration_s=100.0, turns=turns, prompt=9, output=9)
    gap = users / 4.0
    sent = sorted(time + turn * gap for time, count in sessions_of(job) for turn in range(count))
    sent = [one for one in sent if one < 100.0]
    assert sent == pytest.approx([i / 4.0 for i in range(len(sent))]) and len(sent) == 400


def test_a_turn_waits_for_its_time_and_for_its_answer():
    job = {**BASE, "rate": 4.0, "users": 20, "turns": 5, "requests": None, "duration_s": 60.0, "sequences": None}
    done = simulate("h100-sxm", {**job, "arrivals": "users"}, "llama-3.1-8b")
    assert done.arrival_rate == pytest.approx(4.0, rel=0.15)  # turns of users who came in time end after it
    slow = simulate("h100-sxm", {**job, "arrivals": "users", "sequences": 1, "rate": 40.0, "users": 10}, "llama-3.1-8b")
    assert slow.requests_per_s < 20  # answers take longer than the gap


FORMS = (
    "256|10,128|5:40;2048,256:60",
    "[(256|10,128|5):40,(2048,256):60]",
    json.dumps(
        {"pairs": [{"isl": 256, "isl_stddev": 10, "osl": 128, "osl_stddev": 5, "prob": 40},
                   {"isl": 2048, "osl": 256, "prob": 60}]}
    ),
)  # fmt: skip


def test_lengths_come_in_the_shares_of_a_mix():
    meant = [
        load_like(f"aiperf profile -m x --concurrency 4 --num-prompts 4000 --seq-dist '{form}'").keys for form in FORMS
    ]
    assert meant[0] == meant[1] == meant[2]
    made = list(requests_of(Traffic(rate=1.0, requests=4000, mix=meant[0]["workload.mix"])))
    short = [one for one in made if one.prompt < 1000]
    assert len(short) / 4000 == pytest.approx(0.4, abs=0.03)
    assert all(one.output == 256 for one in made if one.prompt == 2048)
    assert sum(one.output for one in short) / len(short) == pytest.approx(128, rel=0.01)


@pytest.mark.parametrize(
    ("text", "says"),
    [("256,128:40;512,256:50", "shares add up to 90"), ("256:40", "expected ISL,OSL:PERCENT"), ("{", "expected ISL")],
)
def test_a_mix_that_cannot_be_is_refused(text, says):
    with pytest.raises(InputError, match=says):
        load_like(f"aiperf profile -m x --seq-dist '{text}'")


def test_a_delta_holds_what_is_new(tmp_path):
    """As Dynamo reads `mooncake-delta`: 4 tokens, an answer of 2, and 2 new ones are a prompt of 8."""
    rows = [
        {"session_id": "s", "input_length": 4, "output_length": 2, "hash_ids": [1], "timestamp": 0},
        {"session_id": "s", "input_length": 2, "output_length": 1, "hash_ids": [2], "delay": 5},
    ]
    file = tmp_path / "delta.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    first = next(requests_of(Traffic(trace=str(file), trace_block=4, trace_deltas=True)))
    ((second, pause),) = first.follows
    assert (first.prompt, second.prompt, pause) == (4, 8, 0.005)
    assert second.path[-1] == (first.number, first.longest)


def test_a_warm_up_leaves_the_first_prompt_in_the_caches():
    def hits(warmups, replicas=1):
        job = {**BASE, "rate": 1.0, "requests": 4, "prompt": 1000, "warmups": warmups, "sequences": None}
        return simulate("dgx-h100", job, "llama-3.1-8b", {"dp": replicas}).hit_rate

    assert hits(0) == 0.0
    assert hits(1) == hits(5) == pytest.approx(992 / 4000)
    shared = {**BASE, "rate": 1.0, "requests": 1, "prompt": 1000, "prefix_tokens": 320, "warmups": 1}
    assert simulate("h100-sxm", shared, "llama-3.1-8b").hit_rate == pytest.approx(1312 / 1320)
    assert load_like("python -m sglang.bench_serving --dataset-name random").keys["workload.warmups"] == 1
    assert "workload.warmups" not in load_like("vllm bench serve --num-prompts 4").keys


# ---- laws --------------------------------------------------------------------------------------------


@settings(max_examples=8, deadline=None)
@given(st.sampled_from([3.0, 20.0, 60.0]), st.sampled_from([4, 64]), st.booleans(), st.integers(0, 99))
def test_littles_law_holds_of_the_queue_and_of_the_batch(rate, seats, ahead, seed):
    ran = run(poisson(200, rate, seed), replace(RULES, seats=seats, ahead=ahead, blocks=10**5))
    rows, width = ran.tally.series.rows(), ran.tally.series.width
    waiting, running = (sum(row[name] for row in rows) * width for name in ("waiting", "running"))
    assert waiting == pytest.approx(sum(one.admitted - one.arrival for one in ran.requests), rel=1e-6, abs=1e-6)
    assert running == pytest.approx(sum(one.last - one.admitted for one in ran.requests), rel=1e-6)


def test_no_cache_hits_more_than_one_without_end():
    paths = [((f"p{i}", 160), (f"q{i}", 640)) for i in range(12)]

    def hits(blocks):
        rules = replace(RULES, blocks=blocks)
        return sum(one.hit for one in run(poisson(300, 20.0, 5, paths=paths), rules).requests)

    found = [hits(blocks) for blocks in (150, 400, 1000, 10**6)]
    assert found == sorted(found) and found[0] < found[-1]


def test_weighted_values_have_the_percentiles_of_the_expanded_list():
    random, some, all_of = Random(3), Sample(), []
    for _ in range(2000):
        value, times = random.lognormvariate(-4, 1), random.randint(1, 9)
        some.add_many(value, times)
        all_of += [value] * times
    all_of.sort()
    for share in (1.0, 50.0, 90.0, 99.0):
        exact = all_of[round(share / 100 * (len(all_of) - 1))]
        assert some.percentiles((share,))[0] == pytest.approx(exact, rel=2e-3)
