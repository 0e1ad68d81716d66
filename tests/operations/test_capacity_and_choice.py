"""Capacity plans and recommendations: laws of both, the words that are refused, and the commands."""

import json

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import simgpu
from simgpu import InputError
from simgpu.cli import main
from simgpu.operations.capacity import Availability, Demand, Replica, Site, placed, replicas
from simgpu.operations.choice import (
    Candidate,
    break_even_price,
    pareto,
    probability_better,
    ranked,
    utilisation_to_win,
    why_it_loses,
)
from simgpu.study.choice.limits import limits_of

ONE = Replica(largest=2.0, latency=8.0, holds=64, gpus=2)
COUNTS = st.floats(0.0, 1e5)


@given(COUNTS, st.floats(0.1, 600.0))
def test_more_users_never_need_fewer_replicas_and_twice_as_many_at_most_twice_and_one(users, think):
    def total(count):
        return replicas(Demand(users=count, think=think), ONE).total

    assert total(users) <= total(2 * users) <= 2 * total(users) + 1
    assert total(users) <= total(users + 100)


@given(COUNTS)
def test_load_and_memory_each_bind(rate):
    slow = replicas(Demand(rate=rate), Replica(2.0, 80.0, 64, 2))
    assert slow.in_flight == pytest.approx(rate * 80.0)  # Little's law
    assert slow.needed == max(slow.by_load, slow.by_memory, 1)
    assert slow.binds in (("memory", "load") if rate * 80 / 64 > 1 else ("memory", "load", "kept warm"))
    assert replicas(Demand(rate=rate), ONE, headroom=0.5).needed >= replicas(Demand(rate=rate), ONE).needed


def test_three_ways_to_say_the_same_load():
    users = replicas(Demand(users=1000, think=42.0), ONE)
    assert users.requests_per_s == pytest.approx(20.0)
    assert replicas(Demand(in_flight=160), ONE).requests_per_s == pytest.approx(20.0)
    assert replicas(Demand(rate=20.0), ONE).total == users.total == 10
    assert replicas(Demand(rate=20.0, peak=1.5), ONE).total == 15


def test_no_users_keep_what_is_warm():
    none = replicas(Demand(rate=0.0), ONE, warm=3)
    assert (none.total, none.binds) == (3, "kept warm")


def test_replicas_that_fail_are_added():
    sure = replicas(Demand(rate=20.0), ONE, availability=Availability(99.0, 1.0, 0.999))
    assert (sure.needed, sure.total, sure.binds) == (10, 12, "availability")


def test_nodes_racks_and_kilowatts():
    found = replicas(Demand(rate=20.0), ONE)
    row = placed(found, ONE, 8, 9000.0, Site(rack_w=40e3, pue=1.2, hours=730), 2.5)
    assert (row["gpus"], row["nodes"], row["nodes_per_rack"], row["racks"]) == (20, 3, 4, 1)
    assert row["facility_kw"] == pytest.approx(3 * 9 * 1.2)
    assert row["usd_per_month"] == pytest.approx(20 * 2.5 * 730)
    wide = placed(found, Replica(2.0, 8.0, 64, 16), 8, 9000.0, Site(), None)
    assert (wide["nodes"], wide["gpus"], "usd_per_month" in wide) == (20, 160, False)
    with pytest.raises(InputError, match=r"--rack-kw: a rack of 5 kW holds no node of 9 kW; expected 9 kW or more"):
        placed(found, ONE, 8, 9000.0, Site(rack_w=5e3), None)


@pytest.mark.parametrize(
    ("demand", "line"),
    [
        (Demand(), "--users: no load; expected --users with --think-time, --in-flight or --rate"),
        (Demand(users=20000), "--users: 20,000 users may be open conversations, requests in flight, or"),
        (Demand(users=1, rate=1), "--rate: --users and --rate are given; expected one of them"),
        (Demand(rate=1, think=3), "--think-time: is of users; expected --users too"),
    ],
)  # fmt: skip
def test_the_word_users_alone_is_refused(demand, line):
    with pytest.raises(InputError) as found:
        demand.check()
    assert str(found.value).startswith(line)


# ---- choosing ---------------------------------------------------------------------------------------------

USD = "usd_per_million_output_tokens"


def machine(name, cost, time=1.0, broken="", spread=1.2, **more):
    ends = {f"{USD}_p10": cost / spread, f"{USD}_p90": cost * spread}
    row = {
        USD: cost,
        "tpot_s": time,
        "gpu": name,
        "gpus": 1,
        "usd_per_gpu_hour": 2.0,
        "utilisation": 0.5,
        **ends,
        **more,
    }
    return Candidate(name, row, broken)


A, B, C = machine("a", 1.0, 3.0), machine("b", 1.2, 2.0), machine("c", 2.0, 2.5)


def test_the_cheapest_that_keeps_the_limits_is_first():
    order = ranked([C, B, machine("d", 0.1, broken="no ECC"), A, Candidate("e", {}, "cannot run")], USD)
    assert [one.name for one in order] == ["a", "b", "c", "d", "e"]
    assert pareto(order, USD, "tpot_s") == {"a", "b"}
    assert why_it_loses(A, A, USD, "USD") == "first"
    assert why_it_loses(B, A, USD, "USD") == "1.2 x USD: 1 x the price an hour, 0.833 x as fast"
    assert why_it_loses(order[3], A, USD, "USD") == "no ECC"


@given(st.floats(0.1, 10.0), st.floats(0.1, 10.0), st.floats(1.001, 3.0))
def test_the_probability_of_an_order(first, second, spread):
    a, b = machine("a", first, spread=spread).row, machine("b", second, spread=spread).row
    forth, back = probability_better(a, b, USD), probability_better(b, a, USD)
    assert forth + back == pytest.approx(1.0)
    assert (forth >= 0.5) == (first <= second) or forth == pytest.approx(0.5)
    sure = probability_better({**a, "gpu": "x", "step_s": 1.0}, {**b, "gpu": "x", "step_s": 1.0}, USD)
    assert sure in (0.0, 0.5, 1.0)  # one job on one GPU, had in two ways


def test_at_the_break_even_price_both_cost_the_same():
    price = break_even_price(C, A, USD)
    assert C.row[USD] * price / C.row["usd_per_gpu_hour"] == pytest.approx(A.row[USD])
    owned = machine("o", 2.0, fixed_usd_per_h=0.9, energy_usd_per_h=0.1, idle_usd_per_h=0.02)
    hour = (0.9 + 0.02 * 0.5) / 0.5 + 0.1
    owned = Candidate("o", {**owned.row, "usd_per_gpu_hour": hour})
    used = utilisation_to_win(owned, B, USD)
    at = (0.9 + 0.02 * (1 - used)) / used + 0.1
    assert owned.row[USD] * at / hour == pytest.approx(B.row[USD])


@pytest.mark.parametrize(
    ("written", "line"),
    [
        ({"ttft": "2 s"}, "recommend.limits.ttft: 'ttft' cannot be limited; did you mean 'ttft_s'?"),
        ({"ttft_s": "2 kg"}, "recommend.limits.ttft_s: '2 kg': unit 'kg' does not fit"),
        ({"power": 20}, "recommend.limits.power: 20 has no unit; expected one such as '20 kW'"),
        ({"usd_per_run": -1}, "recommend.limits.usd_per_run: -1 is out of range; expected above 0"),
    ],
)
def test_bad_limits_are_one_line(written, line):
    with pytest.raises(InputError) as found:
        limits_of(written)
    assert str(found.value).startswith(line), str(found.value)


def test_limits_in_the_units_of_readers():
    found = limits_of({"training_days": "2 weeks", "ttft_s": "200 ms", "power": "1 MW", "training_goodput": "90 %"})
    assert [limit.value for limit in found] == pytest.approx([14.0, 0.2, 1000.0, 0.9])
    assert found[1].broken({"ttft_s": 0.3}) == "TTFT 300 ms > 200 ms" and not found[1].broken({"ttft_s": 0.1})
    assert found[3].broken({"training_goodput": 0.8}) and not found[3].broken({"training_goodput": 0.95})


FILE = """experiment: choice
title: A choice
scenario:
  model: llama-3.2-1b
  workload: {kind: inference, batch: 8, prompt: 256, output: 16}
  cost: {utilisation: 0.5}
cases:
  - {labels: {machine: l4}, cluster: l4}
  - {labels: {machine: "4090"}, cluster: rtx-4090, cost.price: owned}
  - {labels: {machine: big model}, cluster: l4, model: llama-3.3-70b}
  - {labels: {machine: slice}, cluster: "h100-sxm@1g.10gb"}
recommend: {limits: {tpot_s: 1 s}, require: [fit, ecc], batches: [4]}
"""


@pytest.mark.slow
def test_the_command_ranks_machines_and_says_why(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "choice.yaml").write_text(FILE)
    result = CliRunner().invoke(main, ["recommend", "choice.yaml", "--format", "json", "-o", "out", "-q"])
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    rows = {row["machine"]: row for row in found["rows"]}
    assert found["objective"] == USD and {rows["l4"]["rank"], rows["slice"]["rank"]} == {1, 2}
    assert rows["4090"]["why"] == "no ECC" and "does not fit: needs" in rows["big model"]["why"]
    assert sum(row["why"] == "first" for row in rows.values()) == 1
    notes = "\n".join(found["notes"])
    assert "with a probability of" in notes and "would win below" in notes and "At 4 x the batch" in notes
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "recommend.json", "recommend.csv", "ranked.png", "ranked.svg",
    }  # fmt: skip
    called = simgpu.recommend(tmp_path / "choice.yaml")
    assert [row["machine"] for row in called.rows] == [row["machine"] for row in found["rows"]]
    (tmp_path / "choice.yaml").write_text(FILE.replace("tpot_s: 1 s", "tpott_s: 1 s"))
    wrong = CliRunner().invoke(main, ["recommend", "choice.yaml", "-q"])
    assert wrong.exit_code == 2
    assert wrong.stderr.startswith("simgpu: choice.yaml:12: recommend.limits.tpott_s: 'tpott_s' cannot be limited")


SERVER = """experiment: served
scenario:
  model: llama-3.2-1b
  cluster: dgx-h100
  workload: {kind: traffic, rate: 2, requests: 60, prompt: 256, output: 32, ttft_limit_s: 1, tpot_limit_s: 0.05}
"""


@pytest.mark.slow
def test_the_command_plans_a_load(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "served.yaml").write_text(SERVER)

    def plan(*more, code=0):
        result = CliRunner().invoke(main, ["plan-capacity", "served.yaml", "-q", *more])
        assert result.exit_code == code, result.output + result.stderr
        return json.loads(result.stdout) if code == 0 else result.stderr

    line = plan("--users", "20000", code=2)
    assert "users may be open conversations, requests in flight, or requests a second" in line and line.count("\n") == 1
    asked = ("--format", "json", "--rack-kw", "40")
    (row,) = plan("--users", "20000", "--think-time", "60 s", *asked)["rows"]
    assert row["requests_per_s"] == pytest.approx(20000 / (60 + row["latency_s"]))
    assert row["replicas"] >= row["requests_per_s"] / row["largest_rate"]
    assert row["usd_per_month"] > 0 and row["racks"] >= 1 and row["binds"] in ("load", "memory", "kept warm")
    (called,) = simgpu.plan_capacity(tmp_path / "served.yaml", users=20000, think_s=60).rows
    assert {name: called[name] for name in ("replicas", "gpus", "kw")} == {
        name: row[name] for name in ("replicas", "gpus", "kw")
    }
    sure = {}
    for rates in ("rsc1-a100", "rsc2-a100"):
        given = ("--rate", "900", "--availability", "99.9%", "--rates", f"h100-sxm={rates}", "--format", "json")
        sure[rates] = plan(*given)
        assert rates in sure[rates]["notes"][-1]
    assert sure["rsc1-a100"]["rows"][0]["replicas"] > sure["rsc2-a100"]["rows"][0]["replicas"]
    assert plan("--rate", "3", "--pue", "2.6", *asked)["rows"][0]["facility_kw"] == pytest.approx(
        2 * plan("--rate", "3", *asked)["rows"][0]["facility_kw"]
    )
    for wrong, said in {
        "rsc": "unknown file of failure rates",
        "h100=rsc1-a100": "no server has the GPU 'h100'",
    }.items():
        assert said in plan("--rate", "3", "--availability", "99%", "--rates", wrong, code=2)
    for wrong in ("60", "60 kg"):
        assert "--think-time" in plan("--users", "20", "--think-time", wrong, code=2)
    assert "--headroom: '0' is out of range" in plan("--rate", "3", "--headroom", "0", code=2)
