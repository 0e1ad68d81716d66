"""What the local page is told is what the command line would print, and its file says the same."""

import json

import pytest

import simgpu
from simgpu.explore.app import make_app
from simgpu.explore.asking import STARTS, answer, starts

CATALOGUE = simgpu.Catalogue()
SERVER = STARTS["A server, Llama 3.3 70B on 4 H100"]


def asked(scenario=SERVER, **more):
    return {"scenario": scenario, **more}


@pytest.fixture(scope="module")
def page():
    return make_app(STARTS, CATALOGUE).test_client()


@pytest.mark.parametrize("name", list(STARTS))
def test_a_start_is_answered_and_its_file_says_the_same(name):
    told = answer(asked(STARTS[name]), CATALOGUE)
    row = simgpu.run_experiment(told["file"]).rows[0]
    for one in told["figures"]:
        assert one["value"] == row[one["column"]], one["column"]
        if one["interval"]:
            assert one["interval"][0] <= one["value"] <= one["interval"][1]
    assert told["figures"] and told["distance"]


def test_changes_and_factors_are_in_the_file_and_move_what_they_should():
    before = answer(asked(), CATALOGUE)
    after = answer(asked(changes={"plan.tp": 8}, factors={"hbm_bandwidth": 2.0, "tensor_peak": 1.0}), CATALOGUE)
    row = simgpu.run_experiment(after["file"]).rows[0]
    tpot = {one["column"]: one["value"] for one in after["figures"]}["tpot_s"]
    assert row["tp"] == 8 and row["tpot_s"] == tpot
    assert tpot < {one["column"]: one["value"] for one in before["figures"]}["tpot_s"]
    assert "peak" not in after["file"] and "gpu.memory.bandwidth" in after["file"]


def test_a_value_that_is_taken_away_is_as_if_never_said():
    without = {**SERVER, "workload": {key: one for key, one in SERVER["workload"].items() if key != "precision"}}
    told = answer(asked(changes={"workload.precision": None}), CATALOGUE)
    assert told["figures"] == answer(asked(without), CATALOGUE)["figures"]


def test_the_sliders_are_those_of_the_job():
    named = {one["name"] for one in answer(asked(), CATALOGUE)["inputs"]}
    assert {"hbm_bandwidth", "tensor_peak", "nvlink_bandwidth"} <= named and "nic_bandwidth" not in named


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ({"scenario": SERVER, "changes": {"plan.tp": 3}}, "expected one of 1, 2, 4"),
        ({"scenario": SERVER, "changes": {"model": "<script>"}}, "unknown model '<script>'"),
        ({"scenario": SERVER, "changes": {"plan": 7}}, "plan"),
        ({"scenario": SERVER, "factors": {"warp_drive": 2}}, "warp_drive: is no input of this job"),
        ({"scenario": SERVER, "factors": {"hbm_bandwidth": -1}}, "above 0"),
        ({"scenario": SERVER, "factors": {"hbm_bandwidth": "a lot"}}, "expected a number"),
        ({"scenario": SERVER, "factors": [1]}, "factors: expected a mapping"),
        ({"scenario": SERVER, "changes": {"model.name": 1}}, "model.name: leads nowhere"),
        ({"scenario": [1]}, "scenario: expected a mapping"),
        ([], "expected a question"),
    ],
)
def test_what_is_wrong_is_one_line(page, question, said):
    told = page.post("/ask", json=question)
    assert told.status_code == 200
    line = told.get_json()["error"]
    assert said in line and "\n" not in line and "fault of simgpu" not in line


def test_rows_of_an_experiment_are_starts():
    found = starts("llama70b_tp", (), CATALOGUE)
    assert len(found) == len(simgpu.run_experiment("llama70b_tp").rows)
    assert all(isinstance(one, dict) and one["model"] for one in found.values())


@pytest.mark.parametrize(
    "headers",
    [{"Host": "evil.example"}, {"Host": "evil.example:8321"}, {"Origin": "http://evil.example"}, {"Origin": "null"}],
)
def test_pages_of_others_are_refused(page, headers):
    assert page.post("/ask", json=asked(), headers=headers).status_code == 403
    assert page.get("/start", headers=headers).status_code == 403


def test_the_page_may_load_only_itself(page):
    reply = page.get("/")
    assert "default-src 'none'" in reply.headers["Content-Security-Policy"]
    assert "http" not in reply.get_data(as_text=True)
    told = json.loads(page.get("/start").get_data(as_text=True))
    assert list(told["starts"]) == list(STARTS) and "llama-3.3-70b" in told["names"]["models"]
    for outside in ("/../setup.cfg", "/asking.py", "/page.js/../app.py"):
        assert page.get(outside).status_code == 404
    assert page.post("/ask", data=b"x" * 300_000, content_type="application/json").status_code in (400, 413)
