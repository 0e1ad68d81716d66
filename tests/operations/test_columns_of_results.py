"""What a scenario's `cost` and `reliability` add to its results, in runs, sweeps, searches, sensitivity and diff."""

import json

import pytest
from click.testing import CliRunner

import simgpu
from simgpu.cli import main
from simgpu.operations.fitting import MISFIT
from simgpu.operations.money import priced

CATALOGUE = simgpu.Catalogue()
BATCH = {"kind": "inference", "batch": 8, "prompt": 512, "output": 64}
TRAINING = {"kind": "training", "batch": 64, "tokens": 2048, "train_tokens": 1e11}
NAMES = ("chips", "server", "network", "storage", "hosting", "staff", "software", "spares", "rent", "energy")
PARTS = [f"{part}_usd_per_gpu_hour" for part in NAMES]


def ran(job=BATCH, cluster="dgx-h100", **more):
    given = {"model": "llama-3.2-1b", "cluster": cluster, "workload": job, **more}
    (row,) = simgpu.run_experiment({"scenario": given}).rows
    return row


def training(**more):
    return ran(TRAINING, "dgx-h100-ib", plan={"dp": 64, "micro_batch": 1}, **more)


def test_without_asking_a_job_costs_what_its_gpus_are_listed_at():
    row, asked = ran(), ran(cost={"price": "on_demand"})
    assert row["price_used"] == asked["price_used"] and "h100-sxm 3.29 USD/h, on demand" in row["price_used"]
    told = [name for name in row if "usd" in name]
    assert "usd_per_million_output_tokens_p90" in told and {name: asked[name] for name in told} == {
        name: row[name] for name in told
    }
    assert not [name for name in row if "goodput" in name or name.startswith(("fixed", "rent", "break"))]
    assert ran(TRAINING, plan={"dp": 8, "zero": 1, "micro_batch": 1})["usd_per_run"] > 0


def test_a_gpu_without_a_quote_and_a_job_that_does_not_fit_say_why_they_have_no_cost():
    assert ran(cluster="hgx-h20")["price_used"].startswith("none: no price on demand of 'h20-96gb'")
    misfit = ran({**TRAINING, "batch": 8}, "l4")
    assert misfit["price_used"] == misfit["grid_used"] == MISFIT and "fit" in misfit["power_regime"]
    assert not [name for name in misfit if "usd" in name or name.startswith(("site_", "co2", "energy_kwh"))]


def test_parts_of_the_hour_add_up_and_owning_names_its_prices():
    row = ran(cost={"price": "owned", "utilisation": "50 %", "staff": "900 USD/year"})
    assert sum(row.get(part) or 0.0 for part in PARTS) == pytest.approx(row["usd_per_gpu_hour"])
    assert row["usd_per_gpu_hour"] == pytest.approx(
        (row["fixed_usd_per_h"] + row["idle_usd_per_h"] * 0.5) / 0.5 + row["energy_usd_per_h"]
    )
    for said in ("h100-sxm", "dgx-h100", "hosting", "electricity", "2025"):
        assert said in row["price_used"]
    half = ran(cost={"price": "owned", "staff": "900 USD/year", "utilisation": row["break_even_utilisation"]})
    assert half["usd_per_gpu_hour"] == pytest.approx(row["rent_compared_usd_per_gpu_hour"], rel=1e-9)


def test_the_sites_pue_is_that_of_its_cost():
    usual, twice = (ran(cost={"price": "owned"}, **more) for more in ({}, {"power": {"pue": 2.6}}))
    assert twice["energy_usd_per_h"] == pytest.approx(2 * usual["energy_usd_per_h"])
    assert twice["site_power_w"] == pytest.approx(2 * usual["site_power_w"])
    assert twice["fixed_usd_per_h"] == usual["fixed_usd_per_h"]


def test_tokens_share_an_hour():
    row = ran(cost={"price": 3.6})
    rate = row["output_tokens_per_s_per_gpu"]
    assert row["usd_per_million_output_tokens"] == pytest.approx(3.6 / 3600 / rate * 1e6)
    prompts = row["total_tokens_per_s"] - rate
    hour = 3600 / 1e6 * (row["usd_per_million_input_tokens"] * prompts + row["usd_per_million_decoded_tokens"] * rate)
    assert hour == pytest.approx(3.6)  # input and output tokens together pay for the hour
    assert row["usd_per_million_tokens"] * row["total_tokens_per_s"] * 3600 / 1e6 == pytest.approx(3.6)
    assert row["usd_per_million_output_tokens_p10"] < row["usd_per_million_output_tokens"]


def test_an_on_demand_rent_is_paid_while_used_and_a_reserved_one_always():
    assert ran(cost={"price": "on_demand", "utilisation": 0.5})["usd_per_gpu_hour"] == 3.29
    assert ran(cost={"price": "reserved_1y", "utilisation": 0.5})["usd_per_gpu_hour"] == pytest.approx(2 * 7.67)


def test_spot_is_dearer_the_oftener_it_is_taken_away():
    def hour(rate):
        return training(cost={"price": 2.0, "preemptions": rate})["usd_per_gpu_hour"]

    assert 2.0 < hour("0.01/h") < hour("0.1/h")


def test_a_slice_pays_one_part_of_as_many_as_fit():
    whole, slice_ = (ran(cluster=name, cost={}) for name in ("h100-sxm", "h100-sxm@1g.10gb"))
    assert slice_["tenants"] == 7 and whole["tenants"] == 1
    assert slice_["usd_per_gpu_hour"] == pytest.approx(whole["usd_per_gpu_hour"] / 7)
    capped = ran(cluster="h100-sxm@500W", cost={})
    assert capped["usd_per_gpu_hour"] == whole["usd_per_gpu_hour"]


def test_what_does_not_fit_has_no_cost_and_says_so():
    row = ran({**BATCH, "batch": 4}, "l4", model="llama-3.3-70b", cost={}, reliability={})
    assert row["memory_fits"] is False
    assert row["price_used"] == MISFIT and row["rates_used"].startswith("none")
    assert not [name for name in row if name.startswith(("usd_", "energy_usd", "training_goodput"))]
    assert priced(row, 2.0) is row


def test_images_have_a_price():
    row = ran({"kind": "network", "batch": 2, "steps": 4}, "h100-sxm", model="sdxl", cost={"price": 3.6})
    assert row["usd_per_image"] == pytest.approx(1e-3 / row["images_per_s"])


def test_a_training_run_with_failures_takes_longer_and_costs_more():
    row = training(cost={"price": 2.0}, reliability={"checkpoint": {"kind": "asynchronous"}, "spares": 1})
    assert 0 < row["training_goodput_p10"] < row["training_goodput"] < row["training_goodput_p90"] < 1
    assert row["training_days_with_failures"] == pytest.approx(row["training_days"] / row["training_goodput"])
    assert row["goodput_mfu"] == pytest.approx(row["mfu"] * row["training_goodput"])
    spare = 1 + 1 / 8  # one node beside eight
    assert row["usd_per_run_with_failures"] == pytest.approx(
        row["usd_per_run"] * spare / row["training_goodput"], rel=1e-9
    )
    accounts = ("useful", "saving", "lost", "restarting", "waiting", "planned")
    assert sum(row[f"{one}_share"] for one in accounts) == pytest.approx(1.0)
    assert row["simulated_goodput"] == pytest.approx(row["training_goodput"], abs=5e-3)
    again = training(cost={"price": 2.0}, reliability={"checkpoint": {"kind": "asynchronous"}, "spares": 1})
    assert again["simulated_goodput"] == row["simulated_goodput"]
    slow = training(reliability={"stragglers": {"slow": 0.01, "slowdown": 1.34}, "runs": 0})
    assert slow["training_goodput"] == pytest.approx(training(reliability={"runs": 0})["training_goodput"])
    assert slow["straggler_slowdown"] > 1.1 and "simulated_goodput" not in slow


def test_a_run_that_never_finishes_is_one_line():
    with pytest.raises(simgpu.InputError, match=r"fails every .* min never finishes with saves of"):
        training(reliability={"factor": 900, "checkpoint": {"save": "40 h"}})


def test_results_have_the_columns_as_attributes():
    (result,) = simgpu.run_experiment(
        {"scenario": {"model": "llama-3.2-1b", "cluster": "h100-sxm", "workload": BATCH, "cost": {"price": 2.0}}}
    ).results
    assert result.usd_per_gpu_hour == 2.0 == result.row["usd_per_gpu_hour"]
    assert result.interval("usd_per_million_output_tokens").p10 < result.usd_per_million_output_tokens
    assert result.training_goodput is None and "cost.price" in result.resolved


# ---- commands ---------------------------------------------------------------------------------------------

FILE = """experiment: mine
scenario:
  model: llama-3.2-1b
  cluster: dgx-h100
  workload: {kind: inference, batch: 8, prompt: 512, output: 16}
cases:
  - {labels: {name: two}, plan.tp: 2}
  - {labels: {name: four}, plan.tp: 4}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(FILE)
    return tmp_path


def said(*arguments, code=0):
    result = CliRunner().invoke(main, [*map(str, arguments)])
    assert result.exit_code == code, result.output + result.stderr
    return result.stdout if code == 0 else result.stderr


@pytest.mark.slow
def test_price_adds_cost_to_runs_sweeps_and_diffs(folder):
    rows = json.loads(said("run", "mine.yaml", "--price", "2.5", "--format", "json", "--no-plots", "-q"))["rows"]
    assert [row["usd_per_gpu_hour"] for row in rows] == [2.5, 2.5]
    owned = json.loads(said("run", "mine.yaml", "--price", "owned", "--format", "json", "--no-plots", "-q"))
    assert "h100-sxm" in owned["rows"][0]["price_used"] and any(note.startswith("Price") for note in owned["notes"])
    swept = said("sweep", "mine.yaml", "--price", "2.5", "--store", "s.sqlite", "--format", "csv", "--no-plots", "-q",
                 "-j", "1")  # fmt: skip
    assert "usd_per_million_output_tokens" in swept
    cheaper = said("diff", "mine.yaml:1", "mine.yaml:2", "--price", "2.5", "--value", "usd_per_million_output_tokens",
                   "-q")  # fmt: skip
    assert "USD per million output tokens" in cheaper
    table = said("sensitivity", "mine.yaml", "--case", "1", "--price", "2.5", "--no-plots", "-q", "-j", "1")
    assert "USD per million output tokens" in table and "Price of a GPU-hour" in table


@pytest.mark.slow
def test_a_search_takes_the_price_of_the_scenario(folder):
    text = FILE[: FILE.index("cases:")] + "  cost: {price: owned}\nsearch: {objective: usd_per_million_output_tokens}\n"
    (folder / "mine.yaml").write_text(text)
    found = json.loads(said("search", "mine.yaml", "--format", "json", "--no-plots", "-q", "-j", "1"))
    costs = [row["usd_per_million_output_tokens"] for row in found["rows"]]
    assert costs == sorted(costs) and costs[0] > 0
    limit = costs[1] * 1.0001
    (folder / "mine.yaml").write_text(
        text.replace("tokens}", f"tokens, limits: {{usd_per_million_output_tokens: {limit:.9f}}}}}")
    )
    less = json.loads(said("search", "mine.yaml", "--format", "json", "--no-plots", "-q", "-j", "1"))
    assert len(less["rows"]) == 2
    (folder / "mine.yaml").write_text(text.replace("  cost: {price: owned}\n", ""))
    listed = json.loads(said("search", "mine.yaml", "--format", "json", "--no-plots", "-q", "-j", "1"))
    assert {row["usd_per_gpu_hour"] for row in listed["rows"]} == {3.29}
    assert all(row["price_used"] and row["site_power_w"] > 0 for row in listed["rows"])
    assert any("h100-sxm 3.29 USD/h" in note for note in listed["notes"])
    (folder / "mine.yaml").write_text(text.replace("  cost: {price: owned}\n", "").replace("dgx-h100", "hgx-h20"))
    line = said("search", "mine.yaml", "--no-plots", "-q", "-j", "1", code=2)
    assert (
        "'usd_per_million_output_tokens' needs a price: no price on demand of 'h20-96gb' in the files of prices" in line
    )


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("cost.price=owne", "cost.price: 'owne' is no kind of price; did you mean 'owned'?"),
        ("cost.price=-1", "cost.price: -1 is out of range; expected above 0 USD/h"),
        ("cost.price=2 EUR/h", "cost.price: '2 EUR/h': all prices are in USD, and currencies are not mixed"),
        ("cost.utilisation=0", "cost.utilisation: 0 is out of range; expected above 0 and at most 1"),
        ("cost.utilisation=1.2", "cost.utilisation: 1.2 is out of range"),
        ("cost.pue=1.2", "pue 1.2 is the site's; expected it in its one place, power.pue"),
        ("cost.hosting=150", "cost.hosting: 150 has no unit; expected one such as '150 USD/kW/month'"),
        ("cost.price=spot", "cost: a spot price needs preemptions"),
        ("cost.preemptions=3", "cost.preemptions: 3 has no unit; expected one such as '0.05/h'"),
        ("cost.prices=2025-3", "cost.prices: unknown file of prices '2025-3'; expected one of 2025-03"),
        ("cost.date=2019", "no price of 'h100-sxm' up to 2019; the first is of 2025"),
        ("cost.lifetime=4", "cost.lifetime: unknown key; did you mean 'life'?"),
        ("reliability.rates=llama", "reliability.rates: unknown file of failure rates 'llama'"),
        ("reliability.restart.detect=60", "reliability.restart.detect: 60 has no unit; expected one such as '5 min'"),
        ("reliability.planned=3", "reliability.planned: 3 has no unit"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(folder, setting, line):
    said_ = said("run", "mine.yaml", "--set", setting, "--no-plots", "-q", code=2)
    assert line in said_ and said_.count("\n") == 1, said_
    assert not (folder / "results").exists()
