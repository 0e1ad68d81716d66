"""What two runs of a server teach holds for runs that nobody logged: `vllm_openloop_h100.csv`, where it is there."""

from __future__ import annotations

import csv
import os
from collections import defaultdict
from pathlib import Path
from statistics import fmean

import pytest

from simgpu.catalog import Catalogue
from simgpu.lab.logs.fitting import Given, learn
from simgpu.lab.logs.observed import SERVER, Measurement, Observed
from simgpu.overlay import overrides_of
from simgpu.scenario import Origins, PlanFields, Scenario, run_scenario
from simgpu.workload.server.jobs import Traffic

FOLDER = Path(os.environ.get("SIMGPU_MEASUREMENTS", Path(__file__).parents[2] / "shared/measurements"))
FILE = FOLDER / "reports/vllm_openloop_h100.csv"
SECONDS = 60
"""Of each stage that are served: means settle long before its ten or twenty minutes are over."""


def given(row: dict[str, str], catalogue: Catalogue) -> Given:
    """A stage as a log and the case that it is of."""
    engine, _, version = row["engine"].partition(" ")
    prompt, output = round(float(row["prompt_tokens_mean"])), int(row["output_tokens"]) + 1
    job = Traffic(
        arrivals="constant", rate=float(row["rate_requests_per_s"]), duration_s=SECONDS, prompt=1,
        prefix_tokens=prompt - 1, output=output, runtime=f"{engine}@{version}",
        prefixes=int(row["system_prompts"]) * int(row["users_per_system_prompt"]),
        chunk=int(row["max_num_batched_tokens"]), sequences=int(row["max_num_seqs"]),
    )  # fmt: skip
    model = catalogue.published(row["model"]) or row["model"].lower()
    scenario = Scenario(model=model, cluster="dgx-h100", workload=job, plan=PlanFields(tp=int(row["tp"])))
    tpot = (float(row["latency_s_mean"]) - float(row["ttft_s_mean"])) / (output - 1)
    measured = Measurement("tpot_s", tpot), Measurement("ttft_50th_s", float(row["ttft_s_median"]))
    run = Observed(Path(row["experiment"]), SERVER, row["engine"], measured)
    return Given(run, scenario, Origins())


@pytest.mark.slow
@pytest.mark.skipif(not FILE.is_file(), reason="the measurements are not here")
@pytest.mark.parametrize("logged", [[0, 1], [5, 6], [0, 5]], ids=["dense", "experts", "one of each"])
def test_two_stages_teach_about_the_others(logged: list[int]) -> None:
    """Tokens and first tokens are nearer on average than without them, and intervals hold as many as they promise."""
    catalogue = Catalogue()
    with FILE.open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["rate_requests_per_s"] and not row["flag"]]
    stages = [given(row, catalogue) for row in rows]
    mine = learn([stages[i] for i in logged], catalogue).overlay("two stages")
    clusters = [catalogue.cluster("dgx-h100", known) for known in ([], list(overrides_of(mine)))]
    errors: dict[tuple[str, int], list[float]] = defaultdict(list)
    inside: dict[str, int] = defaultdict(int)
    for i, stage in enumerate(stages):
        if i in logged:
            continue
        for known, cluster in enumerate(clusters):
            row = run_scenario(stage.scenario, catalogue, stage.origins, cluster).row
            for one in stage.run.measurements:
                errors[one.column, known].append(abs(row[one.column] / one.value - 1))
                low, high = row[f"{one.column}_p10"], row[f"{one.column}_p90"]
                inside[one.column] += known and low <= one.value <= high
    for column in ("tpot_s", "ttft_50th_s"):
        assert fmean(errors[column, 1]) < fmean(errors[column, 0]) < 0.1
        assert inside[column] >= 6  # of eight
