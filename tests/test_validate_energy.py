"""`simgpu validate energy`: rows read and predicted, scored beside a constant, in words where they cannot be."""

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import simgpu
from simgpu.analysis.power import Board
from simgpu.analysis.uncertainty import parts_of
from simgpu.cli import main
from simgpu.lab.validation.energy.rows import predict
from simgpu.lab.validation.energy.score import constants, groups
from simgpu.lab.validation.energy.stretched import seconds_of, watts_at

MEASURED = Path(__file__).parents[2] / "shared/measurements/operations"
LLM = (
    "source,gpu,num_gpus,kind,task,model_id,model,weight_dtype,framework,tp,dp,ep,pp,batch_avg,batch_max,"
    "output_tokens,power_w_total,energy_j_per_token,energy_j_per_request,tokens_per_s,tpot_s,note"
)
# invented
ROWS = [
    "a,h100-sxm,1,llm_serving,chat,x,llama-3.2-1b,bfloat16,vllm (2025),1,1,1,1,8,8,200,400,0.2,40,2000,0.004,",
    "a,h100-sxm,1,llm_serving,chat,x,llama-3.1-8b,bfloat16,vllm (2025),1,1,1,1,8,8,200,500,0.5,100,1000,0.008,",
    "a,h100-sxm,1,llm_serving,image-chat,x,llama-3.1-8b,bfloat16,vllm (2025),1,1,1,1,8,8,200,500,1,200,500,0.016,",
    "a,h100-sxm,1,llm_serving,chat,nobody/knows,,bfloat16,vllm (2025),1,1,1,1,8,8,200,500,1,200,500,0.016,",
    "a,h100-sxm,1,llm_serving,chat,x,llama-3.1-8b,bfloat16,vllm (2025),1,1,1,1,eight,8,200,500,1,200,500,0.016,",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("energy")
    (place / "energy_llm.csv").write_text("\n".join([LLM, *ROWS]) + "\n")
    return place


def test_rows_are_predicted_or_left_out_with_a_reason(folder):
    found, skipped = predict(folder, simgpu.Catalogue())
    assert [row.model for row in found] == ["llama-3.2-1b", "llama-3.1-8b"]
    assert [one.line for one in skipped] == [4, 5, 6]
    assert "not stated" in skipped[0].reason and "eight" in skipped[2].reason
    for row in found:
        assert row.low < row.at_time <= row.high <= row.tdp
        assert row.energy_low < row.energy_j < row.energy_high


def test_the_constant_of_a_row_is_that_of_other_models(folder):
    found, _ = predict(folder, simgpu.Catalogue())
    assert constants(found) == [500.0, 400.0]
    assert [group.rows for group in groups(found)] == [2, 2]


def test_the_command_prints_and_writes_the_page(folder, tmp_path):
    page = tmp_path / "page.md"
    done = CliRunner().invoke(main, ["validate", "energy", "--data", str(folder), "--page", str(page)])
    assert done.exit_code == 0, done.output
    assert "vLLM 2025" in done.output and "goal 8 %" in done.output
    assert "| vLLM 2025 | h100-sxm | 2 |" in page.read_text()
    done = CliRunner().invoke(main, ["validate", "energy", "--data", str(folder), "--format", "json"])
    assert len(json.loads(done.output)["rows"]) == 2


def test_a_folder_without_its_tables_is_one_line(tmp_path):
    done = CliRunner().invoke(main, ["validate", "energy", "--data", str(tmp_path)])
    assert done.exit_code == 2 and "holds neither energy_llm.csv nor energy_diffusion.csv" in done.output


# ---- a time that was measured ------------------------------------------------------------------------


@pytest.mark.parametrize("measured", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("waits", [0.0, 0.5, 1.0])
def test_seconds_add_up_to_the_measured_time(measured, waits):
    result = simgpu.simulate("h100-sxm", {"kind": "prefill", "batch": 1, "tokens": 512}, "llama-3.2-1b")
    parts, whole = parts_of(result.execution, 0), result.step_s
    seconds, waiting = seconds_of(parts, 0.1 * whole, measured * whole, waits)
    assert sum(seconds) + waiting == pytest.approx(measured * whole)
    board = Board.of(simgpu.load_cluster("h100-sxm"))
    longer, shorter = (watts_at(parts, 0.0, factor * whole, waits, board) for factor in (2.0, 1.0))
    assert board.levels.waiting <= longer <= shorter <= board.levels.limit


@pytest.mark.slow
@pytest.mark.skipif(not MEASURED.is_dir(), reason="no measurements beside the checkout")
def test_power_of_measured_boards_is_nearer_than_the_constant(tmp_path):
    with (MEASURED / "energy_llm.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["model"]][::6]
    with (tmp_path / "energy_llm.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    found, _ = predict(tmp_path, simgpu.Catalogue())
    whole = groups(found)[-1]
    assert whole.rows > 50 and whole.at_time.median < 0.09 < whole.constant.median
    assert 0.7 <= whole.coverage <= 0.95
