"""Configurations and launch scripts become experiments; what is not known is listed, what cannot be is one line."""

import pytest
import yaml

import simgpu
from simgpu import InputError
from simgpu.launching.read_megatron import uneven, unfolded
from simgpu.launching.shell import read_script

SCRIPT = r"""#!/bin/bash
# a comment with 'a quote
export CUDA_DEVICE_MAX_CONNECTIONS=1
TP=${TP:-4}
PP=2
MODEL_ARGS=(
    --num-layers 80
    --hidden-size 8192   # width
    --num-attention-heads 64 --group-query-attention --num-query-groups 8
    --ffn-hidden-size 28672
)
PARALLEL_ARGS="--tensor-model-parallel-size $TP --pipeline-model-parallel-size ${PP}"
torchrun --nproc_per_node 8 --nnodes 2 pretrain_gpt.py \
    "${MODEL_ARGS[@]}" ${PARALLEL_ARGS} \
    --micro-batch-size 1 --global-batch-size 64 --seq-length 4096 --bf16 \
    --use-distributed-optimizer --overlap-grad-reduce --overlap-param-gather --sequence-parallel \
    --no-such-flag 3 | tee log.txt
"""


def made_of(tmp_path, name, text, cluster="dgx-h100-ib", *settings, **given):
    file = tmp_path / name
    file.write_text(text)
    return simgpu.import_config(file, cluster, *settings, **given)


def test_a_script_of_megatron_is_read_with_its_variables(tmp_path):
    made = made_of(tmp_path, "train.sh", SCRIPT)
    plan = yaml.safe_load(made.text)["scenario"]["plan"]
    assert {key: plan[key] for key in ("tp", "pp", "dp", "zero", "micro_batch")} == {
        "tp": 4, "pp": 2, "dp": 2, "zero": 1, "micro_batch": 1}  # fmt: skip
    assert plan["sequence_parallel"] is True
    assert made.keys["model"].startswith("llama")
    assert made.unknown == ["--no-such-flag"]
    assert "--no-such-flag" in made.text


def test_an_experiment_that_was_made_runs(tmp_path):
    made = made_of(tmp_path, "train.sh", SCRIPT)
    assert simgpu.run_experiment(made.text).rows[0]["gpus"] == 16


def test_servers_and_unknown_flags():
    made = simgpu.import_config(
        "vllm serve Qwen/Qwen3-32B -tp 4 --max-num-seqs 128 --no-such 3 --enable-lora", "dgx-h100"
    )
    assert made.keys["model"] == "qwen3-32b"
    assert made.keys["workload.sequences"] == 128
    assert [name.partition(":")[0] for name in made.unknown] == ["--no-such", "--enable-lora"]


DYNAMO = """
kind: DynamoGraphDeployment
spec:
  services:
    Frontend: {componentType: frontend, extraPodSpec: {mainContainer: {image: a}}}
    VllmPrefillWorker:
      componentType: worker
      subComponentType: prefill
      replicas: 2
      extraPodSpec:
        mainContainer:
          command: [python3, -m, dynamo.vllm]
          args: [--model, Qwen/Qwen3-32B, --tensor-parallel-size, "2", --is-prefill-worker]
    VllmDecodeWorker:
      componentType: worker
      subComponentType: decode
      replicas: 1
      extraPodSpec:
        mainContainer:
          command: [/bin/sh, -c]
          args:
            - |
              python3 -m dynamo.vllm --model Qwen/Qwen3-32B \\
                --tensor-parallel-size 2 --dyn-tool-call-parser hermes
"""


def test_a_graph_of_dynamo_has_prompts_apart(tmp_path):
    made = made_of(tmp_path, "graph.yaml", DYNAMO, "dgx-h100")
    assert made.keys["workload.kind"] == "traffic"
    assert (made.keys["plan.tp"], made.keys["plan.dp"], made.keys["workload.prefill_replicas"]) == (2, 3, 2)


@pytest.mark.parametrize(("name", "text", "problem"), [
    ("a.yaml", "a: 1\n", "no configuration that is known"),
    ("a.json", "{", "not JSON"),
    ("a.toml", "a = ", "not TOML"),
    ("a.sh", "echo hello\n", "starts nothing that is known"),
    ("a.json", '{"zero_optimization": {"stage": 3}}', "--gpus"),
    ("a.sh", "torchrun --nproc-per-node 3 pretrain_gpt.py --tensor-model-parallel-size 2", "whole replicas"),
    ("a.sh", "torchrun --nproc-per-node 2 pretrain_gpt.py --tensor-model-parallel-size $TP", "variable"),
    ("a.yaml", "kind: DynamoGraphDeployment\nspec: 3\n", "expected a mapping"),
    ("a.yaml", "base_model: no/such-model\n", "--model"),
])  # fmt: skip
def test_what_cannot_be_read_is_one_line(tmp_path, name, text, problem):
    with pytest.raises(InputError, match=problem) as caught:
        made_of(tmp_path, name, text, "dgx-h100")
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_layouts_are_written_out():
    assert unfolded("Et|(tt|)*2L") == "Et|tt|tt|L"
    assert unfolded("Et*3|t*2|L") == "Ettt|tt|L"
    assert uneven(61, 4, 15, 14) == [15, 16, 16, 14]


def test_variables_that_hold_each_other_end():
    with pytest.raises(InputError, match="without end"):
        read_script('A="$B $B"\nB="$A $A"\nrun $A\n')
