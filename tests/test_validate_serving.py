"""`simgpu validate serving`: runs of invented servers, of which every request is known."""

import json

import pytest
from command_line import command, simgpu

from simgpu import Traffic, simulate

HEAD = "gpu,model,num_gpus,tp_size,dp_size,expert_parallel,request,input_tokens,output_tokens,arrival_s,queued_s,"
RUN = {"sequences": 64, "chunk": 2048, "cache_tokens": 50_000, "front_s": 0.0, "runtime": "vllm@0.19"}


@pytest.fixture
def folder(tmp_path):
    """A run that simgpu predicts, twice as slow."""
    trace = tmp_path / "trace.csv"
    trace.write_text("arrival_s,input_tokens,output_tokens\n" + "".join(f"{i / 4},{200 + i},40\n" for i in range(40)))
    done = simulate("rtx-4090", Traffic(trace=str(trace), **RUN), "llama-3.1-8b").served
    rows = [
        f"rtx-4090,Llama-3.1-8B,1,1,1,False,{number},{prompt},{output},{sent},0,0,{sent + 2 * (first - sent)},"
        f"{sent + 2 * (last - sent)}"
        for number, sent, prompt, output, _, _, first, last, _ in sorted(done.records)
    ]
    (tmp_path / "llmservingsim_requests.csv").write_text(
        "\n".join([HEAD + "scheduled_s,first_token_s,last_token_s", *rows])
    )
    (tmp_path / "llmservingsim_serving_summary.csv").write_text(
        "gpu,model,tp_size,dp_size,framework,max_num_seqs,max_num_batched_tokens,kv_cache_tokens\n"
        "rtx-4090,Llama-3.1-8B,1,1,vllm 0.19.0,64,2048,50000\n"
    )
    return tmp_path


def test_a_run_twice_as_slow_is_half_off(folder):
    rows = json.loads(simgpu("validate", "serving", "--data", folder, "--format", "json").stdout)["rows"]
    errors = {(row["figure"], row["statistic"]): row["error_percent"] for row in rows}
    assert len(errors) == 13
    assert all(error == pytest.approx(-50, abs=0.01) for (figure, _), error in errors.items() if figure != "duration")
    page = folder / "page.md"
    assert (
        "| requests | ttft | p99 | 1 | 50.0 |" in simgpu("validate", "serving", "--data", folder, "--page", page).stdout
    )
    assert page.is_file()


def test_a_folder_without_servers_says_so(tmp_path):
    found = command("validate", "serving", "--data", tmp_path)
    assert found.returncode == 2 and "holds neither llmservingsim_requests.csv nor" in found.stderr
