"""What clients and operators do to a server: give up, send again, fail, start and stop replicas, come first."""

from dataclasses import replace
from math import inf
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from servers import ONE, RULES, SERVICE, Ran, poisson, run

from simgpu import InputError, simulate
from simgpu.workload.server.care import CANCELLED, FAILED, TIMED_OUT, TURNED_AWAY, Care
from simgpu.workload.server.fleet import Clients
from simgpu.workload.server.managed import Failures, Scaling
from simgpu.workload.server.requests import Request


def clean(ran: Ran) -> bool:
    """True if nothing is left in any replica."""
    return all(
        one.pool.free == one.pool.total and not one.requests and one.n == one.held == one.queued == 0
        for one in ran.fleet.replicas
    )


CARES = st.builds(
    Care,
    queue=st.sampled_from([None, 0, 3]),
    timeout=st.sampled_from([inf, 0.4, 3.0]),
    patience=st.sampled_from([inf, 1.0]),
    retries=st.sampled_from([0, 2]),
    retry_s=st.just(0.5),
    failures=st.sampled_from([None, Failures(every_s=2.0, repair_s=1.0, retries=2)]),
    seed=st.integers(0, 100),
)
ENGINES = st.builds(
    replace,
    st.just(RULES),
    blocks=st.sampled_from([2000, 130]),
    seats=st.sampled_from([3, 64]),
    keeps=st.booleans(),
    mixes=st.booleans(),
    ahead=st.booleans(),
    policy=st.sampled_from(["fcfs", "priority"]),
    reserve=st.sampled_from([0.0, 0.3, 1.0]),
    swap_tokens=st.sampled_from([0, 3000]),
    swap_s=st.just(1e-6),
)


def classed(count: int, rate: float, seed: int):
    for one in poisson(count, rate, seed):
        one.rank = one.number % 3
        yield one


@settings(max_examples=60, deadline=None)
@given(CARES, ENGINES, st.sampled_from([2.0, 20.0]), st.integers(0, 10**6), st.sampled_from([1, 3]))
def test_each_request_ends_once_and_nothing_is_left(care, rules, rate, seed, replicas):
    ran = run(classed(60, rate, seed), rules, replicas=replicas, care=care)
    assert len(ran.requests) + sum(ran.fleet.fates.values()) == 60
    assert ran.fleet.inside == 0 and clean(ran)
    numbers = [one.number % 10**9 for one in ran.requests]
    assert len(set(numbers)) == len(numbers)
    for one in ran.requests:
        assert one.made == one.output and one.sent <= one.arrival <= one.admitted <= one.first <= one.last


@settings(max_examples=30, deadline=None)
@given(CARES, ENGINES, st.integers(0, 10**6))
def test_a_leap_is_its_single_steps_whoever_gives_up(care, rules, seed):
    leaps, steps = (run(classed(40, 8.0, seed), rules, leaps=leaps, care=care) for leaps in (True, False))
    assert leaps.fleet.fates == steps.fleet.fates
    for one, other in zip(leaps.requests, steps.requests, strict=True):
        assert (one.number, one.first, one.last) == pytest.approx((other.number, other.first, other.last), rel=1e-8)


# ---- giving up ---------------------------------------------------------------------------------------


def test_users_leave_at_the_rate_of_their_patience():
    """With exponential patience, departures per second are the users inside over their mean patience."""
    ran = run(poisson(6000, 12.0, 1), replace(RULES, seats=8), care=Care(patience=2.0))
    left = ran.fleet.fates[CANCELLED]
    assert left > 1000
    assert left == pytest.approx(ran.fleet.area / 2.0, rel=0.06)


def test_nobody_is_inside_for_longer_than_the_time_out():
    ran = run(poisson(400, 30.0, 2), replace(RULES, seats=4), care=Care(timeout=1.5))
    assert ran.fleet.fates[TIMED_OUT] > 50
    assert max(one.last - one.sent for one in ran.requests) <= 1.5 + 1e-9


def test_a_time_out_longer_than_any_request_changes_nothing():
    plain, watched = (run(poisson(300, 6.0, 3), care=care) for care in (Care(), Care(timeout=1e6, queue=10**6)))
    assert [one.last for one in plain.requests] == [one.last for one in watched.requests]


def test_one_place_and_no_queue_is_erlangs_loss_formula():
    """M/D/1/1: a share a / (1 + a) is turned away, with any service time of that mean (Erlang B, insensitive)."""
    ran = run(poisson(20_000, 0.8, outputs=(1, 1)), ONE, SERVICE, care=Care(queue=0))
    assert ran.fleet.fates[TURNED_AWAY] / 20_000 == pytest.approx(0.8 / 1.8, rel=0.03)


def test_who_is_turned_away_comes_again():
    ran = run(iter([Request(0, 0.0, 100, 5), Request(1, 0.5, 100, 1)]), ONE, SERVICE,
              care=Care(queue=0, retries=9, retry_s=1.0))  # fmt: skip
    assert ran.fleet.fates == {} and ran.fleet.retries == 5
    assert ran.requests[1].sent == 0.5 and ran.requests[1].tried == 5.5  # counts from when it was sent first


def test_requests_beyond_the_longest_are_turned_away():
    ran = run(iter([Request(0, 0.0, 100, 28), Request(1, 0.0, 100, 29)]), care=Care(longest=128))
    assert [one.number for one in ran.requests] == [0] and ran.fleet.fates[TURNED_AWAY] == 1


def test_the_next_client_comes_when_one_gives_up():
    load = (Request(i, 0.0, 200, 10**4) for i in range(50))
    ran = run(load, clients=Clients(closed=5), care=Care(timeout=2.0))
    assert ran.fleet.fates[TIMED_OUT] == 50 and ran.fleet.most_inside == 5
    assert ran.fleet.now == pytest.approx(20.0)


# ---- classes -----------------------------------------------------------------------------------------


def test_urgent_requests_wait_as_if_they_were_alone_but_for_a_step():
    """Cobham (1954): the first class of two waits R / (1 - rho_1), with R the mean rest of the service in progress."""

    random = Random(0)

    def load():
        for one in poisson(30_000, 0.8, 4, outputs=(1, 1)):
            one.rank = int(random.random() < 0.5)
            yield one

    ran = run(load(), replace(ONE, policy="priority"), SERVICE)
    waits = [[one.admitted - one.arrival for one in ran.requests if one.rank == rank] for rank in (0, 1)]
    first, second = (sum(some) / len(some) for some in waits)
    rest = 0.8 / 2
    assert first == pytest.approx(rest / (1 - 0.4), rel=0.05)
    assert second == pytest.approx(rest / (1 - 0.4) / (1 - 0.8), rel=0.12)


def test_the_last_class_loses_its_place_first():
    def load():
        for i in range(40):
            one = Request(i, 0.01 * i, 320, 200)
            one.rank = i % 2
            yield one

    ran = run(load(), replace(RULES, blocks=300, policy="priority"))
    lost = [sum(one.preempted for one in ran.requests if one.rank == rank) for rank in (0, 1)]
    assert lost[0] < lost[1] / 2


def mixed_classes(count, rate, seed=4, outputs=(20, 120)):
    random = Random(seed)
    for one in poisson(count, rate, seed, prompts=(100, 700), outputs=outputs):
        one.rank = int(random.random() * 3)
        yield one


TIGHT = replace(RULES, seats=12, blocks=300, policy="priority")


@pytest.mark.parametrize("more", [{}, {"mixes": False}, {"reserve": 1.0}, {"reserve": 0.5}, {"chunk": 256}])
def test_urgent_requests_take_the_places_of_others_and_nothing_is_lost(more):
    """With pre-emption the first class is as if it were alone in the queue; every request still ends once."""
    rules = replace(TIGHT, **more)
    plain = run(mixed_classes(400, 12.0), rules)
    taken = run(mixed_classes(400, 12.0), replace(rules, preempts=True))
    for ran in (plain, taken):
        assert sorted(one.number for one in ran.requests) == list(range(400))
        assert all(one.pool.free == one.pool.total for one in ran.fleet.replicas)
    worst = [max(one.first - one.sent for one in ran.requests if not one.rank) for ran in (plain, taken)]
    assert worst[1] < worst[0]
    lost = [sum(one.preempted for one in taken.requests if one.rank == rank) for rank in (0, 1, 2)]
    assert lost[0] <= lost[1] <= lost[2] and lost[2] > 0


def test_leaps_are_single_steps_where_urgent_requests_take_places():
    rules = replace(TIGHT, preempts=True)
    ends = [[(one.first, one.last, one.preempted) for one in run(mixed_classes(300, 9.0), rules, leaps=leaps).requests]
            for leaps in (True, False)]  # fmt: skip
    for one, other in zip(*ends, strict=True):
        assert one == pytest.approx(other, rel=1e-9)


def test_nobody_takes_the_place_of_an_equal():
    def load():
        for one in mixed_classes(200, 12.0):
            one.rank = 0
            yield one

    first, second = (run(load(), replace(TIGHT, preempts=some)).requests for some in (False, True))
    assert [one.last for one in first] == [one.last for one in second]


def test_an_urgent_request_takes_the_place_in_the_queue_of_the_last():
    def load():
        for number, rank in enumerate((1, 1, 1, 0, 1)):
            one = Request(number, 0.1 * number, 100, 3)
            one.rank = rank
            yield one

    ran = run(load(), replace(ONE, policy="priority", preempts=True), SERVICE, care=Care(queue=2))
    assert sorted(one.number for one in ran.requests) == [0, 1, 3]
    assert ran.fleet.fates[TURNED_AWAY] == 2 and ran.fleet.lost == {1: 2}
    assert ran.requests[2].last < ran.requests[0].last < ran.requests[1].last  # it takes the running one's place, too


def test_a_cache_swapped_over_a_fast_link_saves_the_prompt():
    def computed(tokens):
        rules = replace(RULES, blocks=200, keeps=False, swap_tokens=tokens, swap_s=1e-9)
        ran = run((Request(i, 0.01 * i, 320, 200) for i in range(40)), rules)
        assert ran.tally.preemptions > 0 and clean(ran)
        return ran.tally.computed

    assert computed(10**9) < computed(10) == computed(0)


# ---- engines that fail, replicas that come and go ----------------------------------------------------


def test_engines_are_there_for_their_share_of_the_time():
    ran = run(poisson(3000, 10.0, 5), replicas=4, care=Care(failures=Failures(every_s=20.0, repair_s=5.0)))
    up = 1 - ran.fleet.down_s / (4 * ran.fleet.now)
    assert up == pytest.approx(20.0 / 25.0, abs=0.06)
    assert ran.fleet.fates == {}  # none was lost three times


def test_failures_that_never_come_change_nothing():
    plain, careful = (
        run(poisson(200, 10.0, 5), replicas=2, care=care)
        for care in (Care(), Care(failures=Failures(every_s=1e9), scaling=Scaling(target=1.0, least=2)))
    )
    assert [one.last for one in plain.requests] == [one.last for one in careful.requests]


def test_requests_that_outlive_every_engine_fail():
    care = Care(failures=Failures(every_s=0.5, repair_s=0.1, retries=3))
    ran = run((Request(i, 0.0, 100, 7000) for i in range(4)), care=care)
    assert ran.fleet.fates[FAILED] == 4


def test_replicas_follow_the_load():
    def load(rate):
        return run(poisson(int(400 * rate), rate, 6), replace(RULES, seats=8), replicas=8, router="least_requests",
                   care=Care(scaling=Scaling(target=6.0, every_s=1.0, start_s=5.0, settle_s=20.0)))  # fmt: skip

    low, high = load(1.0), load(12.0)
    means = [ran.fleet.scaler.seconds / ran.fleet.now for ran in (low, high)]
    assert 1.0 <= means[0] < 1.5 < means[1] <= 8.0
    inside = high.fleet.area / high.fleet.now / means[1]
    assert 2.0 < inside < 7.0  # near its target


def test_slower_starts_make_longer_waits():
    def first(start):
        care = Care(scaling=Scaling(target=6.0, every_s=1.0, start_s=start, settle_s=20.0))
        ran = run(poisson(900, 20.0, 7), replace(RULES, seats=8), replicas=8, router="least_requests", care=care)
        return sum(one.first - one.sent for one in ran.requests)

    assert first(1.0) < first(10.0) < first(100.0)


# ---- what a user asks --------------------------------------------------------------------------------

BASE = {"kind": "traffic", "rate": 30.0, "requests": 120, "prompt": 500, "output": 100, "sequences": 16}


def test_rows_say_what_became_of_requests():
    done = simulate("h100-sxm", {**BASE, "max_queue": 4, "timeout_s": 2.0, "retries": 1}, "llama-3.1-8b")
    assert done.turned_away > 0 and done.timed_out is not None and done.cancelled is None
    assert done.requests_served + done.turned_away + done.timed_out == 120
    urgent = simulate("h100-sxm", {**BASE, "policy": "priority", "classes": [0.3, 0.7]}, "llama-3.1-8b")
    assert urgent.urgent_ttft_99th_s < urgent.ttft_99th_s


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"classes": [0.5, 0.4]}, "add up to 0.9; expected shares that add up to 1"),
        ({"policy": "priority"}, "expected classes"),
        ({"max_model_len": 10**9}, "the engine does not start"),
        ({"cache_tokens": 640, "watermark": 0.5}, "wait for ever"),
        ({"timeout_s": 1e-6}, "none of 120 requests was answered: 120 timed out"),
        ({"timeout_s": -1.0}, "greater than 0|more than"),
        ({"scaling": {"target": 4.0, "least": 3}}, "3 replicas at least are more than the 1 of plan.dp"),
        ({"scaling": {"target": 4.0, "start": 3.0}}, "start_s"),
        ({"failures": {}}, "every_s"),
        ({"pools": [{"cluster": "dgx-h100"}], "prefill_replicas": 1}, "leave none for decodes"),
        ({"pools": [{"cluster": "dgx-h100"}], "scaling": {"target": 4.0}}, "leave one of them out"),
    ],
)
def test_what_contradicts_itself_is_refused_in_a_line(asked, says):
    with pytest.raises(InputError, match=says) as error:
        simulate("h100-sxm", {**BASE, **asked}, "llama-3.1-8b")
    assert "\n" not in str(error.value)
