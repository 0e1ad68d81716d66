"""Loads of the job traffic: arrivals have their rates, lengths their distributions, conversations their turns."""

from itertools import islice, pairwise
from math import log
from statistics import fmean, pstdev

import pytest

from simgpu import InputError, Traffic
from simgpu.workload.server.arrivals import times_of
from simgpu.workload.server.lengths import lengths_of
from simgpu.workload.server.load import requests_of

BASE = {"prompt": 500, "output": 50}


def sent(**given):
    return [one.sent for one in requests_of(Traffic(**BASE, **given))]


# ---- arrivals ----------------------------------------------------------------------------------------


def test_scaled_arrivals_end_where_the_rate_says():
    for how in ({}, {"arrivals": "gamma", "burstiness": 0.3}):
        times = sent(rate=4.0, requests=200, scaled=True, **how)
        assert times[-1] == pytest.approx(200 / 4.0)
        drawn = sent(rate=4.0, requests=200, **how)
        assert [time / times[-1] for time in times] == pytest.approx([time / drawn[-1] for time in drawn])


def test_a_profile_is_followed_and_begins_again():
    job = {"profile": [[0, 2], [100, 10], [200, 2]], "duration_s": 2000.0}
    times = sent(**job)
    assert len(times) == pytest.approx(6 * 2000, rel=0.05)
    thirds = [sum(low <= time % 200 < low + 50 for time in times) for low in (0, 50, 100, 150)]
    assert thirds[0] == pytest.approx(200 * 10, rel=0.1) and thirds[1] == pytest.approx(400 * 10, rel=0.1)
    assert thirds[2] == pytest.approx(thirds[1], rel=0.1) and thirds[3] == pytest.approx(thirds[0], rel=0.1)


@pytest.mark.parametrize(("ramp", "mean"), [("requests", log(10 / 2) / (10 - 2)), ("factor", 0.4 / log(5))])
def test_ramps_over_requests_take_their_time(ramp, mean):
    """n gaps at rates a to b: n ln(b/a) / (b - a) s by steps, n (1/a - 1/b) / ln(b/a) by factors."""
    times = sent(rate=2.0, end_rate=10.0, arrivals="ramp", ramp=ramp, requests=4000, burstiness=50.0)
    assert len(times) == 4000
    assert times[-1] == pytest.approx(4000 * mean, rel=0.02)
    first, last = (fmean(b - a for a, b in pairwise(part)) for part in (times[:200], times[-200:]))
    assert first / last == pytest.approx(5.0, rel=0.15)


def test_clients_stop_sending_when_time_is_up():
    from simgpu import simulate

    load = {"kind": "traffic", "clients": 4, "duration_s": 5.0, **BASE}
    done = simulate("h100-sxm", load, "llama-3.2-1b").served
    assert 4.0 < done.last_sent <= 5.0 < done.end
    assert max(row["running"] + row["waiting"] for row in done.tally.series.rows()) <= 4.0001


def test_clients_hold_conversations():
    from simgpu import simulate

    load = {"kind": "traffic", "clients": 2, "requests": 6, "turns": 3, "think_s": 0.5, **BASE}
    done = simulate("h100-sxm", load, "llama-3.2-1b").served
    assert done.requests == 18 and done.hits > 0
    records = sorted(done.records)
    for number in range(0, 18, 3):
        turns = records[number : number + 3]
        assert [turn[2] for turn in turns] == [500, 1050, 1600]
        assert all(later[1] == pytest.approx(turn[7] + 0.5) for turn, later in pairwise(turns))


# ---- lengths -----------------------------------------------------------------------------------------


def drawn(number=4000, **given):
    return list(islice(lengths_of(Traffic(rate=1.0, **given)), number))


def test_normal_lengths_are_cut_at_their_ends():
    rows = drawn(prompt=1000, output=200, lengths="normal", spread=0.3, output_spread=0.1, prompt_range=[600, 1500])
    prompts, outputs = ([row[i] for row in rows] for i in (0, 1))
    assert fmean(prompts) == pytest.approx(1000, rel=0.02) and (min(prompts), max(prompts)) == (600, 1500)
    assert fmean(outputs) == pytest.approx(200, rel=0.01) and pstdev(outputs) == pytest.approx(20, rel=0.05)


def test_uniform_lengths_lie_between_their_ends():
    rows = drawn(prompt=550, output=100, lengths="uniform", prompt_range=[100, 1000], output_range=[100, 100])
    assert {row[1] for row in rows} == {100}
    assert min(row[0] for row in rows) < 105 and max(row[0] for row in rows) > 995
    assert fmean(row[0] for row in rows) == pytest.approx(550, rel=0.03)


def test_lengths_of_a_file_are_taken_in_turn_or_drawn(tmp_path):
    file = tmp_path / "lengths.csv"
    file.write_text("arrival_s,input_tokens,output_tokens\n0,10,1\n5,20,2\n5,30,3\n")
    given = {"lengths_file": str(file)}
    assert [row[0] for row in drawn(7, **given)] == [10, 20, 30, 10, 20, 30, 10]
    shares = [row[0] for row in drawn(3000, resample=True, **given)]
    assert [shares.count(one) / 3000 for one in (10, 20, 30)] == pytest.approx([1 / 3] * 3, abs=0.04)
    times = list(islice(times_of(Traffic(rate=2.0, **given)), 3))
    assert times == list(islice(times_of(Traffic(rate=2.0, **BASE)), 3))


def test_prompts_of_a_data_set_come_again():
    made = list(requests_of(Traffic(rate=1.0, requests=9, distinct=4, lengths="lognormal", spread=0.9, **BASE)))
    assert (
        [one.prompt for one in made[4:8]] == [one.prompt for one in made[:4]] == [one.path[-1][1] for one in made[:4]]
    )
    assert made[0].path == made[4].path == made[8].path != made[1].path
    behind = list(requests_of(Traffic(rate=1.0, requests=40, distinct=1, prefix_tokens=64, prefixes=2, **BASE)))
    assert len({one.path for one in behind}) == 2 == len({one.path[-1][0] for one in behind})


def test_a_data_set_of_few_prompts_is_cached_after_its_first_round():
    from simgpu import simulate

    load = {"kind": "traffic", "rate": 5.0, "requests": 40, "distinct": 10, **BASE}
    done = simulate("h100-sxm", load, "llama-3.2-1b")
    assert done.hit_rate == pytest.approx(0.75 * (499 // 16 * 16) / 500, rel=0.01)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"rate": 1.0, "scaled": True}, "scaled is of requests at a rate; expected requests"),
        ({"profile": [[5, 1], [9, 2]]}, "do not rise from 0"),
        ({"profile": [[0, 0], [9, 0]]}, "all rates are 0"),
        ({"profile": [[0, 1], [9, 2]], "rate": 1.0}, "given is rate and profile"),
        ({"rate": 1.0, "end_rate": 2.0, "arrivals": "ramp", "ramp": "factor"}, "expected requests, over which"),
        ({"rate": 1.0, "ramp": "factor"}, "ramp factor is of arrivals ramp"),
        ({"rate": 1.0, "resample": True}, "expected that file"),
        ({"rate": 1.0, "prompt_range": [600, 700]}, "does not hold prompt 500"),
        ({"rate": 1.0, "output_spread": 0.1}, "fixed lengths have none"),
        ({"trace": "a.csv", "lengths_file": "b.csv"}, "not both"),
    ],
)
def test_loads_that_cannot_be_are_one_line(given, says):
    with pytest.raises(InputError, match=says) as error:
        Traffic(**{**BASE, **given})
    assert "\n" not in str(error.value)
