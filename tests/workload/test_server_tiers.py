"""Tiers of cache behind a server's prefix cache: laws of what they hold, of loads, and of what a user gets."""

import csv
from dataclasses import replace
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inference_tables import FOLDER
from servers import RULES, STEPS, Steps, poisson, run

from simgpu import InputError, Traffic, simulate
from simgpu.workload.server.care import Care
from simgpu.workload.server.fleet import Clients
from simgpu.workload.server.managed import Failures
from simgpu.workload.server.requests import Request
from simgpu.workload.server.tiers import Level, Levels, Shelf

PATHS = [((name, 960),) for name in "abcdef"]
SMALL = replace(RULES, blocks=180)
"""A cache that holds two of these prefixes beside a request."""
TIGHT = replace(RULES, blocks=62)
"""A cache that holds one of them."""
ALONE = Clients(closed=1)


def levels(*tiers, chunk=64, seconds=0.001, at_once=True):
    return Levels(tuple(tiers), chunk, 1e6, seconds, at_once)


def behind(*tiers, rules=SMALL, **rest):
    return replace(rules, tiers=levels(*tiers, **rest))


def load(count=60, seed=0, rate=5.0, outputs=(1, 20)):
    return poisson(count, rate, seed, (20, 100), outputs, PATHS)


# ---- what a tier holds -------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9)), max_size=60), st.integers(1, 20))
def test_a_shelf_drops_chunk_by_chunk_the_longest_unused_from_its_end(puts, room):
    shelf, held = Shelf(room), {}
    for name, count in puts:
        shelf.put(name, count)
        held[name] = max(held.pop(name, 0), min(count, room))
        while sum(held.values()) > room:
            oldest = next(iter(held))
            held[oldest] -= 1
            if not held[oldest]:
                del held[oldest]
        assert list(shelf.kept.items()) == list(held.items())
        assert shelf.used == sum(held.values())


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_more_room_never_finds_less_and_a_chunkless_tier_is_none(seed, at_once):
    found = []
    for room in (0, 10, 20, 40, 80, 160, inf):
        ran = run(load(seed=seed), behind(Level("host", room), at_once=at_once), clients=ALONE)
        found.append(ran.tally.hits)
    none = run(load(seed=seed), SMALL, clients=ALONE)
    assert found[0] == none.tally.hits
    assert found == sorted(found) and found[-1] > found[0]


def test_a_tier_without_room_changes_no_time():
    a, b = (run(load(300, rate=20.0), one) for one in (SMALL, behind(Level("host", 0))))
    assert [(x.admitted, x.first, x.last) for x in a.requests] == [(x.admitted, x.first, x.last) for x in b.requests]


@pytest.mark.parametrize("seed", range(3))
def test_written_at_once_a_small_tier_holds_what_the_cache_holds_and_one_that_takes_what_it_drops_adds_to_it(seed):
    def hits(room, at_once):
        return run(load(seed=seed), behind(Level("host", room), at_once=at_once), clients=ALONE).tally.hits

    none = run(load(seed=seed), SMALL, clients=ALONE).tally.hits
    assert hits(15, at_once=True) == none
    assert hits(40, at_once=False) > hits(40, at_once=True) >= none  # what comes late may bring nothing


# ---- loads -------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from([1.0, 5.0, 50.0]),
    st.lists(st.sampled_from([20.0, 100.0, inf]), min_size=1, max_size=3),
    st.booleans(),
    st.integers(1, 3),
)
def test_each_request_ends_once_bytes_are_those_of_the_hits_and_no_block_is_left(seed, rate, rooms, at_once, replicas):
    kinds = [("host", inf, 0.0), ("ssd", 5e8, 0.001), ("store", 2e8, 0.01)]
    tiers = [
        Level(kind, room, speed, latency, kind == "store")
        for room, (kind, speed, latency) in zip(rooms, kinds, strict=False)
    ]
    rules = behind(*tiers, at_once=at_once)
    ran = run(load(80, seed, rate, (1, 120)), rules, replicas=replicas)
    assert [one.number for one in ran.requests] == list(range(80))
    assert all(one.first >= one.admitted >= one.arrival for one in ran.requests)
    for one in ran.fleet.replicas:
        assert one.pool.free == one.pool.total and not one.loading and not one.prompts
        assert not one.keeper._arriving
    tokens = sum(ran.tally.loaded.values())
    if not ran.tally.preemptions:
        assert ran.tally.loaded_bytes == pytest.approx(tokens / 64 * 1e6)
        assert sum(one.hit for one in ran.requests) == ran.tally.hits >= tokens
    assert all(shelf.used <= shelf.chunks for one in ran.fleet.replicas for shelf in one.keeper.shelves)


def test_a_load_takes_latency_and_the_slower_of_link_and_tier():
    """15 chunks of 1 MB: 15 ms of the link; of a tier of 0.2 GB/s 75 ms."""
    for level, seconds in ((Level("host", inf), 0.015), (Level("ssd", inf, 2e8), 0.075),
                           (Level("store", inf, 2e9, 0.25), 0.265)):  # fmt: skip
        other = tuple(Request(n, n * 100.0, 970, 1, path) for n, path in enumerate([PATHS[0], PATHS[1], PATHS[2]]))
        ran = run(iter((*other, Request(3, 300.0, 970, 1, PATHS[0]))), behind(level, rules=TIGHT))
        last = ran.requests[-1]
        assert (last.hit, last.place, ran.tally.loads) == (960, level.kind, 1)
        assert ran.tally.load_s == pytest.approx(seconds)
        assert last.first - last.sent == pytest.approx(seconds + STEPS.mixed(0, 0, [(10, 960)]))


def test_loads_share_their_links():
    """Two replicas load at once: from tiers of their own as if alone, from a store in twice the time."""
    for shared, factor in ((False, 1.0), (True, 2.0)):
        level = Level("store", inf, 2e8, 0.0, shared)
        first = [Request(n, n * 10.0, 970, 1, PATHS[n // 2]) for n in range(6)]
        again = [Request(6 + n, 100.0, 970, 1, PATHS[0]) for n in range(2)]
        ran = run(iter([*first, *again]), behind(level, rules=TIGHT), replicas=2)
        assert [one.place for one in ran.requests[6:]] == ["store"] * 2
        seconds = ran.requests[-1].first - 100.0 - STEPS.mixed(0, 0, [(10, 960)])
        assert seconds == pytest.approx(factor * 0.075)


def test_what_is_written_is_there_when_it_has_arrived_and_takes_bandwidth_from_loads():
    """15 chunks of 1 MB of a tier of 10 MB/s are 1.5 s on their way; a load beside a write takes twice as long."""
    level, rules = Level("ssd", inf, 1e7), replace(RULES, blocks=62)
    early, late = (run(iter([Request(0, 0.0, 970, 1, PATHS[0]), Request(1, 0.05, 970, 1, PATHS[1]),
                             Request(2, again, 970, 1, PATHS[0])]), behind(level, rules=rules))
                   for again in (0.2, 20.0))  # fmt: skip
    assert early.requests[2].hit < 64 and late.requests[2].hit == 960
    assert late.tally.load_s == pytest.approx(1.5, rel=0.02) and late.tally.written_bytes == pytest.approx(30e6)
    loads = [Request(0, 0.0, 970, 1, PATHS[0]), Request(1, 50.0, 970, 1, PATHS[1]), Request(2, 51.4, 970, 1, PATHS[0])]
    beside = run(iter(loads), behind(level, rules=rules))
    assert 1.55 < beside.tally.load_s < 3.0  # the last 0.1 s of the write are shared
    quick = run(
        iter([Request(n, 0.01 * n, 970, 1, PATHS[0]) for n in range(2)]), behind(Level("host", inf), rules=SMALL)
    )
    assert quick.tally.written_bytes == pytest.approx(15e6)  # once, though both have it


def test_others_go_on_while_one_loads_and_a_second_waits_for_the_same_load():
    level = Level("ssd", inf, 1e7)  # 1.5 s
    fill = [Request(n, n * 10.0, 970, 1, PATHS[n]) for n in range(5)]
    coming = [Request(5, 100.0, 970, 1, PATHS[0]), Request(6, 100.1, 970, 1, PATHS[0]), Request(7, 100.2, 50, 5)]
    ran = run(iter([*fill, *coming]), behind(level, rules=replace(RULES, blocks=200)))
    one, two, three = ran.requests[5:]
    assert ran.tally.loads == 1 and two.hit == 960
    assert three.last < 100.5 < 101.5 <= one.first == two.first


@pytest.mark.parametrize("seed", range(3))
def test_a_large_tier_faster_than_computing_never_makes_requests_slower(seed):
    steps = Steps(prompt=1e-4)
    none, tier = (
        run(load(80, seed), one, steps, clients=ALONE) for one in (SMALL, behind(Level("host", inf), seconds=1e-4))
    )
    assert all(b.last - b.sent <= a.last - a.sent + 1e-9 for a, b in zip(none.requests, tier.requests, strict=True))
    assert tier.fleet.now < none.fleet.now


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "care", [Care(timeout=0.6), Care(patience=0.5), Care(failures=Failures(every_s=3.0, repair_s=0.5))]
)
def test_clients_that_leave_and_engines_that_fail_while_tokens_are_loaded_leave_nothing_behind(seed, care):
    rules = behind(Level("host", 40), Level("ssd", inf, 5e7, 0.05))
    ran = run(load(150, seed, 20.0, (1, 60)), rules, replicas=2, care=replace(care, seed=seed))
    assert ran.tally.loads > 0
    assert len(ran.requests) + sum(ran.fleet.fates.values()) == 150
    for one in ran.fleet.replicas:
        assert one.pool.free == one.pool.total and not one.loading and not one.prompts and not one.running


def test_turns_of_conversations_find_all_that_was_said_before():
    keys = {"rate": 1.0, "turns": 4, "think_s": 20.0, "requests": 20, "prompt": 1000, "output": 50, "prefix_tokens": 0}
    none, tier = served(**keys), served(**keys, tiers=[{"kind": "host", "size": "64 GB"}], tier_chunk=16)
    whole = served(**keys, cache_tokens=400_000)
    assert none.hit_rate < 0.9 * whole.hit_rate and tier.hit_rate == pytest.approx(whole.hit_rate, rel=0.02)


# ---- what a user gets --------------------------------------------------------------------------------

JOB = {
    "kind": "traffic", "rate": 4.0, "requests": 60, "prompt": 100, "output": 8, "prefix_tokens": 4000, "prefixes": 6,
    "cache_tokens": 12_000,
}  # fmt: skip


def served(**keys):
    return simulate("h100-sxm", Traffic(**{**JOB, **keys}), "llama-3.1-8b")


def test_a_tier_of_no_bytes_is_no_tier_to_the_byte():
    assert served(tiers=[{"kind": "host", "size": 0}]).row == served().row


def test_a_tier_raises_hits_and_one_that_is_slower_than_computing_is_left_out_and_said():
    slow = {"kind": "ssd", "size": "1 TB", "bandwidth": "3 GB/s"}
    none, host, both = (served(tiers=one) for one in (None, [{"kind": "host", "size": "64 GB"}], [slow]))
    assert host.hit_rate > none.hit_rate and host.ttft_s < none.ttft_s
    assert host.tier_hit_rate == host.host_hit_rate > 0 and host.tiers_unused is None
    assert host.gpu_ttft_s < host.host_ttft_s < host.computed_ttft_s
    assert both.ttft_s == none.ttft_s and "ssd is not used" in both.tiers_unused
    assert served(tiers=[{**slow, "always": True}]).ttft_s > none.ttft_s


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"tiers": [{"kind": "ssd", "size": "1 TB"}]}, "expected bandwidth"),
        ({"tiers": [{"kind": "host"}]}, "expected size"),
        ({"tiers": [{"kind": "host", "size": "1 MB"}]}, "more than the 1e\\+06 B of the host"),
        ({"tiers": [{"kind": "host", "size": "-1 GB"}]}, "out of range"),
        ({"tiers": [{"kind": "store", "bandwidth": "1 GB/s"}, {"kind": "host", "size": "1 GB"}]}, "in the order"),
        ({"tier_chunk": 16}, "expected tiers"),
        ({"tiers": [{"kind": "host", "size": "1 GB"}], "prefix_cache": False}, "without prefix cache"),
    ],
)
def test_tiers_that_make_no_sense_are_refused(keys, words):
    with pytest.raises(InputError, match=words):
        served(**keys)


MEASURED = FOLDER / "reports" / "kv_tier_ttft_h20.csv"


@pytest.mark.skipif(not MEASURED.exists(), reason="measurements are not part of the project")
def test_64k_tokens_from_the_host_of_an_h20():
    """Within 12 % of what they take beyond a hit on the GPU; bandwidth alone is 26 % short."""
    with MEASURED.open() as rows:
        ttft = {(int(one["prefix_tokens"]), one["tier"]): float(one["ttft_s"]) for one in csv.DictReader(rows)}
    job = Traffic(
        clients=1, requests=12, prompt=16, output=1, prefix_tokens=65536, prefixes=2, cache_tokens=66_000,
        runtime="vllm", tier_chunk=16, tiers=[{"kind": "host", "size": "64 GB"}],
    )  # fmt: skip
    found = simulate("hgx-h20", job, "qwen3-30b-a3b")
    assert found.load_s == pytest.approx(ttft[65536, "cpu_hit"] - ttft[65536, "gpu_hit"], rel=0.12)
