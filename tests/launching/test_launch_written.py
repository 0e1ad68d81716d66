"""What launches a plan: each flag follows from a key, what cannot be done is named, all is read back."""

import json
import shlex

import pytest

import simgpu
from simgpu import InputError
from simgpu.launching.targets import TARGETS
from simgpu.workload.server.like import server_like

SERVED = {
    "model": "llama-3.1-70b",
    "cluster": "dgx-h100",
    "workload": {"kind": "serving", "concurrency": 64, "prompt": 1024, "output": 256, "precision": "fp8"},
    "plan": {"tp": 4, "dp": 2},
}
TRAINED = {
    "model": "llama-3.1-8b",
    "cluster": "dgx-h100",
    "workload": {"kind": "training", "batch": 16, "tokens": 4096},
    "plan": {"dp": 8, "micro_batch": 1, "zero": 3, "recompute": "full"},
}
SERVERS = ("vllm", "sglang", "trtllm")
TRAINERS = ("megatron", "nemo", "torchtitan", "deepspeed", "accelerate", "axolotl")


def scenario(base, **changes):
    made = {**base, "workload": dict(base["workload"]), "plan": dict(base["plan"])}
    for key, value in changes.items():
        where, _, name = key.partition("__")
        if name:
            made[where][name] = value
        else:
            made[where] = value
    return {"scenario": made}


@pytest.mark.parametrize("target", SERVERS)
def test_a_server_that_is_written_is_the_one_that_was_asked_for(target, tmp_path, monkeypatch):
    made = simgpu.launch(scenario(SERVED, workload__runtime=target, workload__kv_cache="fp8"), target)
    for name, text in made.files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    meant = server_like(made.command)
    assert meant.keys["plan.tp"] == 4
    assert meant.keys["workload.kv_cache"] == "fp8"
    assert meant.keys.get("plan.dp", 2) == 2
    assert not meant.ignored


@pytest.mark.parametrize(("target", "flag"), [("vllm", "--all2all-backend"), ("sglang", "--moe-a2a-backend")])
def test_a_dispatcher_of_experts_is_written_as_the_engines_own(target, flag):
    asked = scenario(SERVED, model="qwen3-30b-a3b", workload__runtime=target)
    asked["scenario"]["plan"] = {"dp": 8, "ep": 8, "dispatcher": "deepep"}
    made = simgpu.launch(asked, target)
    assert f"{flag} deepep" in made.command and not made.missing
    assert server_like(made.command).keys["plan.dispatcher"] == "deepep"


@pytest.mark.parametrize("target", TRAINERS)
def test_a_trainer_that_is_written_is_read_back_as_the_plan_that_was_asked_for(target, tmp_path):
    asked = scenario(TRAINED) if target != "megatron" else scenario(TRAINED, plan__zero=1, plan__tp=2, plan__dp=4)
    made = simgpu.launch(asked, target)
    files = {path.name: path for path in made.write(tmp_path)}
    if target == "nemo":
        assert "model.tensor_model_parallel_size=1" in made.files["train.sh"]
        return
    file = next(files[name] for name in ("train.toml", "ds_config.json", "accelerate.yaml", "axolotl.yaml", "train.sh")
                if name in files)  # fmt: skip
    told = ("workload.batch=16", "workload.tokens=4096") if target in ("accelerate", "deepspeed") else ()
    read = simgpu.import_config(file, "dgx-h100", *told, model="llama-3.1-8b", gpus=8)
    for key, value in asked["scenario"]["plan"].items():
        if not (key in ("micro_batch", "recompute") and target in ("accelerate", "deepspeed")):
            assert read.keys.get(f"plan.{key}", 1) == value, key
    assert read.keys["workload.batch"] == 16
    assert not read.unknown


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_a_target_that_runs_other_jobs_says_so(target):
    other = TRAINED if target not in TRAINERS else SERVED
    with pytest.raises(InputError, match=f"--for: '{target}' runs"):
        simgpu.launch(scenario(other), target)


def test_every_key_that_was_said_is_a_flag_or_named_as_missing():
    asked = scenario(TRAINED, plan__schedule="zb-h1", plan__pp=2, plan__dp=4, plan__zero=0, plan__expert_overlap=None,
                     workload__loss_chunks=4)  # fmt: skip
    asked["scenario"]["plan"].pop("expert_overlap")
    made = simgpu.launch(asked, "megatron")
    said = {"plan.schedule", "workload.loss_chunks"}
    assert said == {line.partition(":")[0] for line in made.missing}


def test_what_does_not_fit_is_not_written():
    with pytest.raises(InputError, match="does not fit the memory"):
        simgpu.launch(scenario(SERVED, cluster="l40s", plan__tp=1, plan__dp=1), "vllm")


def test_limits_of_an_engine_hold_together():
    made = simgpu.launch(scenario(SERVED, workload__prompt=100, workload__output=28), "vllm")
    flags = {row["flag"]: row["value"] for row in made.rows}
    assert int(flags["--max-num-batched-tokens"]) >= int(flags["--max-num-seqs"])
    assert 128 <= int(flags["--max-model-len"]) <= 144
    with pytest.raises(InputError, match="fewer than"):
        simgpu.launch(scenario(SERVED, workload__chunk=16, workload__sequences=64), "vllm")


def test_prompts_apart_are_workers_of_their_own():
    asked = scenario(SERVED, workload__kind="traffic", workload__clients=16, workload__requests=64,
                     workload__prefill_replicas=1, workload__router="least_requests")  # fmt: skip
    asked["scenario"]["workload"].pop("concurrency")
    made = simgpu.launch(asked, "dynamo")
    text = made.files["dynamo.yaml"]
    assert "type: prefill" in text
    assert "type: decode" in text
    assert "least-loaded" in text
    assert any(line.startswith("workload.prefill_replicas") for line in simgpu.launch(asked, "vllm").missing)


def test_adapters_and_classes_are_flags_of_both_engines():
    asked = scenario(SERVED, workload__kind="traffic", workload__clients=16, workload__requests=64,
                     workload__lora={"adapters": 9, "rank": 20, "max_loras": 4}, workload__classes=[0.5, 0.5],
                     workload__policy="priority", workload__preempts=True)  # fmt: skip
    asked["scenario"]["workload"].pop("concurrency")
    made = simgpu.launch(asked, "vllm")
    assert all(words in made.command for words in ("--enable-lora", "--max-loras 4", "--max-lora-rank 32", "priority"))
    assert any("20 was simulated: give workload.lora.max_rank=32" in note for note in made.notes)
    assert [line.partition(":")[0] for line in made.missing] == ["workload.preempts"]
    asked["scenario"]["workload"]["runtime"] = "sglang"
    made = simgpu.launch(asked, "sglang")
    assert "--max-loras-per-batch 4" in made.command and "--enable-priority-scheduling" in made.command
    assert "--disable-priority-preemption" not in made.command and not made.missing
    asked["scenario"]["workload"]["preempts"] = False
    assert "--disable-priority-preemption" in simgpu.launch(asked, "sglang").command


def test_the_check_expects_what_is_predicted():
    asked = scenario(SERVED)
    made = simgpu.launch(asked, "vllm")
    row = simgpu.run_experiment(asked).rows[0]
    expected = {one["what"]: one for one in made.expected}
    assert expected["'Mean TPOT (ms)'"]["value"] == pytest.approx(1e3 * row["tpot_s"], rel=1e-9)
    assert expected["'Mean TPOT (ms)'"]["p90"] == pytest.approx(1e3 * row["tpot_s_p90"], rel=1e-9)
    words = shlex.split(made.check.command)
    assert words[words.index("--max-concurrency") + 1] == "64"


@pytest.mark.parametrize(
    ("target", "flag", "size"), [("vllm", "--kv-offloading-size", "64"), ("sglang", "--hicache-size", "17.2")]
)
def test_a_tier_of_cache_in_host_memory_is_the_engines_own(target, flag, size):
    """GiB of all ranks of a replica, or 10^9 bytes of each of four."""
    asked = scenario(SERVED, workload__kind="traffic", workload__clients=16, workload__requests=64,
                     workload__runtime=target, workload__tiers=[{"kind": "host", "size": "64 GiB"}])  # fmt: skip
    asked["scenario"]["workload"].pop("concurrency")
    flags = {row["flag"]: row["value"] for row in simgpu.launch(asked, target).rows}
    assert flags[flag] == size


@pytest.mark.parametrize(
    ("target", "changes", "words"),
    [
        ("vllm", {"graph_sizes": [1, 8]}, "--cudagraph-capture-sizes 1 8"),
        ("vllm", {"kv_cache": "int8"}, "--kv-cache-dtype int8_per_token_head"),
        ("sglang", {"graph_sizes": [1, 8]}, "--cuda-graph-bs-decode 1 8"),
        ("trtllm", {"chunk": 512, "sequences": 256}, "--enable_chunked_prefill"),
    ],
)
def test_flags_are_those_of_the_version_and_read_back(target, changes, words):
    """Each was another name once, or has a default that refuses what was asked for."""
    asked = scenario(SERVED, workload__runtime=target, **{f"workload__{key}": one for key, one in changes.items()})
    if "graph_sizes" in changes:
        asked["scenario"]["workload"] |= {"kind": "traffic", "requests": 64, "clients": 16}
        asked["scenario"]["workload"].pop("concurrency")
    made = simgpu.launch(asked, target)
    assert words in made.command
    assert (
        changes.items() <= {k.removeprefix("workload."): v for k, v in server_like(made.command).keys.items()}.items()
    )


def test_a_worker_of_dynamo_has_flags_of_its_own():
    """`dynamo.trtllm` knows `--tensor-parallel-size`, not the `--tp_size` of `trtllm-serve`."""
    asked = scenario(SERVED, workload__runtime="trtllm", workload__kv_cache="fp8",
                     workload__chunk=512, workload__sequences=256)  # fmt: skip
    words = {row["flag"]: row["value"] for row in simgpu.launch(asked, "dynamo").rows}
    assert words["--tensor-parallel-size"] == "4" and not any("_" in flag for flag in words)
    assert json.loads(words["--override-engine-args"]) == {
        "enable_chunked_prefill": True, "kv_cache_config": {"dtype": "fp8"},
    }  # fmt: skip


@pytest.mark.slow
def test_the_plan_of_a_search_is_launched(tmp_path):
    """FILE#2 of a file with a search is its second best plan, here as in every other command."""
    file = tmp_path / "searched.yaml"
    file.write_text(
        "scenario:\n  model: llama-3.1-8b\n  cluster: dgx-h100\n"
        "  workload: {kind: serving, concurrency: 16, prompt: 1024, output: 256, precision: fp8}\n"
        "search: {space: {tp: [1, 2, 4]}}\n"
    )
    found = simgpu.search(file).rows
    for rank in (1, 2):
        flags = {row["flag"]: row["value"] for row in simgpu.launch(f"{file}#{rank}", "vllm").rows}
        assert int(flags.get("--tensor-parallel-size", 1)) == found[rank - 1]["tp"]
