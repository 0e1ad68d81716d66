"""A server request by request: laws of queues, of what is conserved, and of what makes it faster."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from servers import ONE, RULES, SERVICE, Ran, Steps, poisson, run, vllm

from simgpu.errors import InputError
from simgpu.workload.server.fleet import Apart, Clients, Fleet
from simgpu.workload.server.replica import Replica
from simgpu.workload.server.requests import Request
from simgpu.workload.server.routing import LeastRequests
from simgpu.workload.server.tally import Tally
from simgpu.workload.server.transfers import Transfer

LOADS = st.fixed_dictionaries(
    {
        "count": st.integers(1, 60),
        "rate": st.sampled_from([0.5, 5.0, 50.0]),
        "seed": st.integers(0, 10**6),
        "outputs": st.sampled_from([(1, 1), (1, 300), (50, 400)]),
        "paths": st.sampled_from([((),), ((), (("system", 333),)), ((("a", 64),), (("a", 64), ("b", 200)))]),
    }
)
ENGINES = st.builds(
    replace,
    st.just(RULES),
    blocks=st.sampled_from([2000, 130]),
    seats=st.sampled_from([3, 64]),
    keeps=st.booleans(),
    mixes=st.booleans(),
    ahead=st.booleans(),
    watermark=st.sampled_from([0.0, 0.02]),
    reserve=st.sampled_from([0.0, 0.3, 1.0]),
)


def waits(ran: Ran) -> float:
    return sum(one.admitted - one.arrival for one in ran.requests) / len(ran.requests)


# ---- queues ------------------------------------------------------------------------------------------


def test_one_place_and_one_step_a_request_is_lindleys_recursion():
    ran, free = run(poisson(3000, 0.9, outputs=(1, 1)), ONE, SERVICE), 0.0
    for one in ran.requests:
        free = max(free, one.sent) + 1.0
        assert one.last == free


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_wait_of_equal_services_is_that_of_m_d_1(load):
    ran = run(poisson(20_000, load, outputs=(1, 1)), ONE, SERVICE)
    assert waits(ran) == pytest.approx(load / (2 * (1 - load)), rel=0.08)


def test_wait_of_two_services_is_that_of_m_g_1():
    def load():
        for one in poisson(20_000, 0.3):
            one.output = 1 if one.number * 7919 % 10 < 5 else 3
            yield one

    ran = run(load(), replace(ONE, seats=1), SERVICE)
    rate, mean, square = 0.3, 2.0, 5.0
    assert waits(ran) == pytest.approx(rate * square / (2 * (1 - rate * mean)), rel=0.08)


def test_constant_gaps_below_saturation_never_wait():
    ran = run((Request(i, 1.25 * i, 100, 1) for i in range(200)), ONE, SERVICE)
    assert waits(ran) == 0


def test_work_ahead_makes_an_arrival_wait_for_one_more_step():
    def load():
        yield Request(0, 0.0, 100, 50)
        yield Request(1, 10.5, 100, 1)

    plain, ahead = (run(load(), vllm(ahead=ahead), SERVICE).requests[1] for ahead in (False, True))
    assert (plain.first, ahead.first) == (12.0, 13.0)


# ---- conservation ------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(LOADS, ENGINES)
def test_tokens_blocks_and_requests_are_conserved(load, rules):
    ran = run(poisson(**load), rules)
    assert [one.number for one in ran.requests] == list(range(load["count"]))
    assert ran.tally.made == sum(one.output for one in ran.requests)
    assert ran.tally.computed == sum(one.prompt - one.hit + one.again for one in ran.requests)
    assert ran.tally.itl.number == sum(one.output - 1 for one in ran.requests)
    assert ran.fleet.area == pytest.approx(sum(one.last - one.arrival for one in ran.requests), rel=1e-9)
    pool, growth = ran.fleet.replicas[0].pool, ran.fleet.replicas[0].growth
    assert pool.free == pool.total and ran.tally.most_used <= pool.total
    assert sum(growth.phases) == growth.growing == 0 and all(not node.users for node in pool.nodes.values())
    assert pool.idle_blocks == sum(node.cached for node in pool.idle.values()) <= pool.total
    for one in ran.requests:
        assert one.sent <= one.arrival <= one.admitted <= one.first <= one.last
    if rules.reserve == 1.0:
        assert ran.tally.preemptions == 0


@settings(max_examples=40, deadline=None)
@given(LOADS, ENGINES)
def test_a_leap_is_its_single_steps(load, rules):
    leaps, steps = (run(poisson(**load), rules, leaps=leaps) for leaps in (True, False))
    assert leaps.tally.preemptions == steps.tally.preemptions
    for one, other in zip(leaps.requests, steps.requests, strict=True):
        assert (one.first, one.last) == pytest.approx((other.first, other.last), rel=1e-9)


# ---- what makes it faster ----------------------------------------------------------------------------


def test_slower_steps_and_smaller_caches_lower_throughput():
    def duration(steps, blocks):
        return max(one.last for one in run(poisson(300, 50.0, 3), vllm(blocks=blocks), steps).requests)

    assert duration(Steps(), 2000) < duration(Steps(base=0.006), 2000)
    assert duration(Steps(), 2000) < duration(Steps(), 200)


def test_all_times_scale_together():
    def ends(scale):
        steps = Steps(0.005 * scale, 1e-5 * scale, 1e-8 * scale, 2e-5 * scale)
        return [one.last / scale for one in run(poisson(200, 8.0 / scale), RULES, steps).requests]

    assert ends(4.0) == pytest.approx(ends(1.0), rel=1e-12)


def test_later_arrivals_of_all_shift_all():
    def load(by):
        for one in poisson(200, 8.0):
            one.sent += by
            yield one

    early, late = ([one.last for one in run(load(by)).requests] for by in (0.0, 64.0))
    assert [one - 64.0 for one in late] == pytest.approx(early, rel=1e-9)


def test_a_request_larger_than_the_cache_is_refused():
    with pytest.raises(InputError, match="more than the 32,000 tokens of the cache"):
        run(iter([Request(0, 0.0, 40_000, 10)]))


# ---- clients, replicas, prefixes ---------------------------------------------------------------------


def test_as_many_clients_are_inside_as_there_are():
    ran = run((Request(i, 0.0, 200, 50) for i in range(300)), clients=Clients(closed=12))
    assert ran.fleet.most_inside == 12
    held = run((Request(i, 0.0, 200, 50) for i in range(300)), clients=Clients(limit=12))
    assert [one.last for one in held.requests] == pytest.approx([one.last for one in ran.requests])


@pytest.mark.parametrize("router", ["round_robin", "least_requests", "least_tokens", "prefix_aware", "power_of_two"])
def test_two_replicas_wait_no_longer_than_one_at_half_the_rate(router):
    one = waits(run(poisson(1500, 12.0, 5), vllm(seats=8)))
    two = waits(run(poisson(1500, 24.0, 5), vllm(seats=8), replicas=2, router=router))
    assert two < one


def test_a_router_by_prefix_hits_more_often():
    paths = [((f"system{i}", 800),) for i in range(24)]
    hits = {
        router: run(
            poisson(2000, 20.0, 1, prompts=(50, 100), outputs=(20, 60), paths=paths), vllm(blocks=700),
            replicas=4, router=router,
        ).tally.hits
        for router in ("round_robin", "prefix_aware")
    }  # fmt: skip
    assert hits["prefix_aware"] > 1.2 * hits["round_robin"]


def test_equal_prompts_in_sequence_hit_all_but_the_last_block():
    ran = run(Request(i, 10.0 * i, 160, 4, (("all", 160),)) for i in range(3))
    assert [one.hit for one in ran.requests] == [0, 144, 144]


def test_the_longest_unused_prefix_is_forgotten_first():
    def load():
        for i, name in enumerate("abcab"):
            yield Request(i, 10.0 * i, 176, 2, ((name, 160),))

    assert [one.hit for one in run(load(), vllm(blocks=26)).requests] == [0, 0, 0, 48, 48]  # its end first
    assert [one.hit for one in run(load(), vllm(blocks=50)).requests] == [0, 0, 0, 160, 160]


def test_a_conversation_finds_what_it_said():
    second = Request(1, 0.0, 400, 10, ((0, 299),))
    ran = run(iter([Request(0, 0.0, 200, 100, (), ((second, 5.0),))]))
    assert ran.requests[1].hit == 288
    assert ran.requests[1].sent == ran.requests[0].last + 5.0


def test_prefill_apart_with_a_fast_link_has_the_prompts_of_a_server_of_prompts():
    def apart(rate):
        tally, done = Tally(), []
        sides = [[Replica(RULES, Steps(), tally)] for _ in range(2)]
        how = Transfer(rate, lambda tokens: 1e5 * tokens)
        fleet = Fleet(
            sides[0], LeastRequests(), done.append,
            apart=Apart(sides[1], LeastRequests(), {one.engine: how for side in sides for one in side}),
        )  # fmt: skip
        fleet.run(poisson(300, 5.0, 2, outputs=(10, 20)))
        assert all(one.pool.free == one.pool.total for one in fleet.replicas)
        return sorted(done, key=lambda one: one.number)

    def prompts():
        for one in poisson(300, 5.0, 2, outputs=(10, 20)):
            one.output = 1
            yield one

    alone = run(prompts()).requests
    fast, slow = apart(1e15), apart(1e9)
    for one, other, late in zip(alone, fast, slow, strict=True):
        assert 0.0 < other.first - one.first < 0.03  # a step of decodes that runs, and one of its own
        assert late.first > other.first
