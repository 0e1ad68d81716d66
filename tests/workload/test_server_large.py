"""Large loads: the same bytes for any number of processes, percentiles from bins, two replicas as good as one."""

from random import Random

import pytest
from servers import RULES, poisson, run

from simgpu import Traffic, simulate
from simgpu.workload.server import shards, tally
from simgpu.workload.server.tally import Sample, Series

JOB = {"kind": "traffic", "rate": 20.0, "requests": 400, "prompt": 500, "output": 60, "lengths": "lognormal",
       "spread": 0.8, "runtime": "vllm"}  # fmt: skip


def row(monkeypatch, cores=None, **asked):
    if cores is not None:
        monkeypatch.setattr(shards.os, "sched_getaffinity", lambda _: range(cores))
    return simulate("dgx-h100", {**JOB, **asked}, "llama-3.1-8b", {"dp": 8}).row


@pytest.mark.parametrize("router", ["round_robin", "random"])
@pytest.mark.slow
def test_parts_of_a_load_are_the_whole_and_the_same_for_any_number_of_processes(monkeypatch, router):
    whole = row(monkeypatch, router=router)
    monkeypatch.setattr(shards, "LARGE", 100)
    one, two, many = (row(monkeypatch, cores, router=router) for cores in (1, 2, 5))
    assert repr(one) == repr(two) == repr(many)
    assert one["requests_served"] == 400
    for name in ("ttft_s", "tpot_s", "ttft_99th_s", "itl_s", "waiting", "running", "busy", "arrival_rate"):
        assert one[name] == pytest.approx(whole[name], rel=1e-6), name
    for name in ("ttft_s", "tpot_99th_s"):
        assert one[f"{name}_p10"] < one[name] < one[f"{name}_p90"]


@pytest.mark.parametrize(
    "asked",
    [{"router": "least_requests"}, {"turns": 2}, {"max_concurrency": 9}, {"prefill_replicas": 2}, {"retries": 1},
     {"failures": {"every_s": 9.0}}, {"scaling": {"target": 9.0}}],
)  # fmt: skip
def test_replicas_that_have_to_do_with_each_other_are_served_together(asked):
    job = Traffic.model_validate({**JOB, "requests": 10**6, **asked})
    assert shards.parts_of(job, 8) == 1
    assert shards.parts_of(Traffic.model_validate({**JOB, "requests": 10**6}), 8) == shards.PARTS


def test_percentiles_from_bins_are_within_a_thousandth(monkeypatch):
    monkeypatch.setattr(tally, "EXACT", 1000)
    random = Random(0)
    values = [random.lognormvariate(0, 1) for _ in range(50_000)]
    sample, parts = Sample(), [Sample(), Sample()]
    for place, value in enumerate(values):
        sample.add(value)
        parts[place % 2].add(value)
    parts[0].join(parts[1])
    values.sort()
    for share in (1.0, 50.0, 90.0, 99.0, 99.9):
        exact = values[round(share / 100 * (len(values) - 1))]
        for one in (sample, parts[0]):
            assert one.percentiles((share,))[0] == pytest.approx(exact, rel=2e-3)


def test_series_join_to_their_sum():
    one, other, both = Series(("x",)), Series(("x",)), Series(("x",))
    for made, spans in ((one, [(0.0, 30.0)]), (other, [(5.0, 90.0), (91.0, 95.0)])):
        for span in spans:
            made.span(*span, (2.0,))
            both.span(*span, (2.0,))
    one.join(other)
    assert [row["x"] for row in one.rows()] == pytest.approx([row["x"] for row in both.rows()])


def test_two_replicas_dealt_to_at_random_are_as_one_at_half_the_rate():
    """Thinning a Poisson process leaves one: waits have the same distribution."""

    def quartiles(rate, replicas):
        waits = sorted(
            one.first - one.sent
            for seed in range(6)
            for one in run(poisson(1500, rate, seed), RULES, replicas=replicas, router="random").requests
        )
        return [waits[len(waits) * share // 100] for share in (25, 50, 75, 90)]

    assert quartiles(16.0, 2) == pytest.approx(quartiles(8.0, 1), rel=0.05)


def test_progress_is_told(monkeypatch):
    told = []
    monkeypatch.setattr(shards, "TOLD", 50)
    with shards.telling(lambda done, total: told.append((done, total))):
        row(monkeypatch)
    assert told[-1][1] == 800 and all(done <= total for done, total in told)
