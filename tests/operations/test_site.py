"""From the GPU to the meter of a site: nodes, PUE, CO2, racks and fleets, and bad input in one line."""

import pytest

import simgpu
from simgpu import Catalogue, InputError, run_experiment
from simgpu.operations.power.fields import PowerFields, RackFields, carbon_of, grids
from simgpu.operations.power.fleet import filled, node_peak
from simgpu.operations.power.site import BASE_SHARE, KWH, embodied_kg, node_base, site_columns

CATALOGUE = Catalogue()
DGX = CATALOGUE.cluster("dgx-h100")
ROW = {
    "workload": "training", "gpus": 8, "step_s": 2.0, "step_s_p10": 1.8, "step_s_p90": 2.4,
    "power_w_per_gpu": 650.0, "power_w_per_gpu_p10": 560.0, "power_w_per_gpu_p90": 700.0,
}  # fmt: skip


def file_of(power, cluster="dgx-h100"):
    return f"""experiment: site
scenario:
  cluster: {cluster}
  model: llama-3.2-1b
  workload: {{kind: prefill, batch: 1, tokens: 128}}
  power: {power}
"""


def row_of(power="{}", *settings):
    (row,) = run_experiment(file_of(power), *settings).rows
    return row


def test_kilowatt_hours_are_power_times_time_and_pue_one_adds_nothing():
    found = site_columns(PowerFields(pue=1, grid="FRA"), ROW, DGX)
    node = 8 * 650 + node_base(DGX)
    assert found["node_power_w"] == found["site_power_w"] == pytest.approx(node)
    assert found["energy_kwh_per_run"] == pytest.approx(node * 2.0 / KWH)
    assert found["co2_kg_per_run"] == pytest.approx(found["energy_kwh_per_run"] * carbon_of("FRA") / 1000)
    dearer = site_columns(PowerFields(pue=1.5, grid="FRA"), ROW, DGX)
    assert dearer["energy_kwh_per_run"] == pytest.approx(1.5 * found["energy_kwh_per_run"])


def test_a_run_of_days_takes_its_days_and_co2_goes_with_the_grid():
    found = site_columns(PowerFields(), ROW | {"training_days": 10.0}, DGX)
    assert found["energy_kwh_per_run"] == pytest.approx(found["site_power_w"] * 240 / 1000)
    assert (
        site_columns(PowerFields(grid="POL"), ROW, DGX)["co2_kg_per_h"]
        > 10 * site_columns(PowerFields(grid="FRA"), ROW, DGX)["co2_kg_per_h"]
    )


def test_intervals_hold_the_value():
    found = site_columns(PowerFields(), ROW, DGX)
    for name in ("node_power_w", "site_power_w", "co2_kg_per_h", "energy_kwh_per_run", "co2_kg_per_run"):
        assert found[f"{name}_p10"] < found[name] < found[f"{name}_p90"], name


def test_a_node_near_full_load_draws_what_was_measured():
    assert 8 * 700 + node_base(DGX) == pytest.approx(8400, rel=0.01), "HGX H100, Latif et al."
    assert node_peak(DGX) == pytest.approx(10_200, rel=0.01), "as it is rated"
    assert 0.5 < BASE_SHARE < 1


def test_a_job_on_a_part_of_a_node_has_its_part_of_it():
    whole, part = (site_columns(PowerFields(), ROW | {"gpus": n}, DGX)["site_power_w"] for n in (8, 2))
    assert part == pytest.approx(whole / 4)


def test_every_row_names_its_grid_and_pue():
    assert row_of()["grid_used"] == "PUE 1.3, United States 2023, 369 g/kWh"
    assert row_of("{grid: 120 g/kWh}")["grid_used"] == "PUE 1.3, 120 g/kWh"
    assert grids()["source"]


def test_embodied_carbon_is_spread_over_the_life():
    assert embodied_kg(1300.0, 5 * 365 * 86400, 365 * 86400) == pytest.approx(260.0)


# ---- racks and fleets --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rack", "nodes", "bound"),
    [
        ({"power": "40 kW"}, 3, "power"),
        ({"power": "200 kW", "units": 24}, 3, "height"),
        ({"power": "200 kW", "cooling": "21 kW"}, 2, "cooling"),
    ],
)
def test_a_rack_is_full_by_what_runs_out_first(rack, nodes, bound):
    found = filled(RackFields(**rack), 10_200.0)
    assert (found.nodes, found.bound) == (nodes, bound)


def test_more_power_never_takes_fewer_nodes():
    counts = [filled(RackFields(power=f"{kw} kW", units=400), 10_200.0).nodes for kw in range(15, 120, 5)]
    assert counts == sorted(counts)


def test_a_lower_limit_lets_more_gpus_into_a_megawatt():
    free, capped = (row_of("{budget: 1 MW}", f"gpu.power.tdp={watts} W") for watts in (700, 400))
    assert free["fleet_gpus"] == 8 * int(1e6 / (10_200 * 1.3)) < capped["fleet_gpus"]
    assert free["fleet_rate_per_s"] == pytest.approx(free["fleet_gpus"] * free["tokens_per_s"])
    assert free["fleet_gpus"] % 8 == 0


# ---- bad input ---------------------------------------------------------------------------------------

BAD = {
    "{pue: 0.9}": ("power.pue", "0.9 is less than the machines draw; expected a PUE of 1 or more"),
    "{pue: .nan}": ("power.pue", "nan"),
    "{grid: FRE}": ("power.grid", "no grid 'FRE'; did you mean 'FRA'?"),
    "{grid: 120}": ("power.grid", "has no unit"),
    "{grid: 120 kg/MWh}": ("power.grid", "expected g/kWh"),
    "{grid: 9000 g/kWh}": ("power.grid", "out of range"),
    "{budget: -1 MW}": ("power.budget", "out of range"),
    "{budget: 1 GB}": ("power.budget", "does not fit"),
    "{budget: 5 kW}": ("power.budget", "not enough for a node of 10.2 kW"),
    "{rack: {power: 5 kW}}": ("power.rack", "does not fit a rack"),
    "{rack: {power: 40 kW, derating: 0}}": ("power.rack.derating", ""),
    "{pew: 1.2}": ("power.pew", "expected one of budget, grid, pue, rack"),
}


@pytest.mark.parametrize("power", BAD)
def test_a_site_that_cannot_be_is_one_line(power):
    key, says = BAD[power]
    with pytest.raises(InputError) as caught:
        row_of(power)
    text = str(caught.value)
    assert key in text and says in text and "\n" not in text, text


def test_a_cap_set_by_hand_below_what_drivers_take_is_one_line():
    with pytest.raises(InputError, match="power cap of 40 W is out of range"):
        simgpu.load_cluster("dgx-h100", gpu__power__tdp="40 W")
