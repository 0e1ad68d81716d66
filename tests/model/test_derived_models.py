"""Models derived from models, and keys of a config.json that nobody reads."""

import json

import pytest

import simgpu
from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.model.derive import written

CATALOGUE = Catalogue()
BASE = "llama-3.1-8b"


def test_a_derived_model_is_its_base_with_the_fields_changed():
    base, made = CATALOGUE.model(BASE), CATALOGUE.model(f"{BASE}@layers=12,kv_heads=4,gated=false")
    assert (made.layers, made.kv_heads, made.gated) == (12, 4, False)
    assert (made.hidden, made.vocab, made.head_dim) == (base.hidden, base.vocab, base.head_dim)
    assert made.parameters < base.parameters
    assert CATALOGUE.model(f"{BASE}@layers={base.layers}").parameters == base.parameters


def test_the_width_of_a_head_follows_and_other_heads_keep_theirs():
    assert CATALOGUE.model(f"{BASE}@hidden=2048").head_dim == 64
    assert CATALOGUE.model(f"{BASE}@hidden=2048,head_dim=128").head_dim == 128
    assert CATALOGUE.model("llama-2-7b@heads=16").kv_heads == 16  # each head has its own keys
    assert CATALOGUE.model("gemma-3-1b@hidden=2048").head_dim == 256  # does not follow from hidden


@pytest.mark.parametrize(
    "changes, told",
    [
        ("layers", "'layers' is not a change of a model"),
        ("layerz=3", "did you mean 'layers'"),
        ("layers=0", "layers = 0 is not a positive"),
        ("layers=1e9", "'1e9' is not a whole number"),
        ("layers=9999999999999", "is not a whole number"),
        ("gated=3", "is not true or false"),
        ("kv_heads=3", "kv_heads = 3 does not divide heads = 32"),
        ("heads=3", "do not divide hidden"),
        ("layers=3,layers=4", "given twice"),
        ("name=x", "has no 'name'"),
        ("experts_per_token=2", "is more than experts = 1"),
    ],
)
def test_a_wrong_change_is_one_line(changes, told):
    with pytest.raises(InputError, match=told) as refused:
        CATALOGUE.model(f"{BASE}@{changes}")
    assert "\n" not in str(refused.value)


def test_an_experiment_says_a_model_as_a_mapping_and_varies_it():
    asked = {
        "scenario": {
            "model": {"base": BASE, "kv_heads": 4, "layers": 12},
            "cluster": "h100-sxm",
            "workload": {"kind": "prefill", "tokens": 256},
        },
        "vary": {"model.layers": [6, 12]},
    }
    rows = simgpu.run_experiment(asked).rows
    assert [row["model"] for row in rows] == [written(BASE, {"layers": n, "kv_heads": 4}) for n in (6, 12)]
    assert rows[0]["step_s"] < rows[1]["step_s"]
    del asked["scenario"]["model"]["base"]
    with pytest.raises(InputError, match="model: None names no model; expected base"):
        simgpu.run_experiment(asked)
    with pytest.raises(InputError, match="layers: \\[1\\] is not a whole number"):
        simgpu.run_experiment(
            asked | {"scenario": asked["scenario"] | {"model": {"base": BASE, "layers": [1]}}, "vary": {}}
        )


# ---- keys that name a shape --------------------------------------------------------------------------


def config(tmp_path, name, **more):
    data = json.loads(CATALOGUE.find("models", name).read_text()) | more
    file = tmp_path / "config.json"
    file.write_text(json.dumps(data))
    return str(file)


@pytest.mark.parametrize(
    "key, value",
    [
        ("linear_num_value_heads", 32),
        ("mamba_d_state", 128),
        ("conv_kernel_size", 4),
        ("shared_expert_intermediate_size", 5632),
        ("hidden_size_per_layer_input", 256),
        ("full_attention_interval", 4),
        ("index_n_heads", 64),
        ("num_memory_blocks_per_group", 4),
        ("layers_block_type", ["attention", "mamba"]),
        ("parallel_ffn_bias", True),
    ],
)
@pytest.mark.parametrize("name", [BASE, "qwen3-8b", "deepseek-v3", "gpt2", "gemma-3-1b"])
def test_a_key_that_names_a_shape_and_is_not_understood_is_refused(tmp_path, name, key, value):
    with pytest.raises(InputError, match=f"{key}: .* changes the shape, and simgpu does not know how"):
        CATALOGUE.model(config(tmp_path, name, **{key: value}))


@pytest.mark.parametrize(
    "more",
    [
        {"shared_expert_intermediate_size": 0},
        {"mamba_d_state": None},
        {"layers_block_type": []},
        {"initializer_range": 0.5, "bos_token_id": 77, "use_cache": True, "attention_dropout": 0.1, "comment": "x" * 9},
        {"rope_scaling": {"factor": 8.0}, "num_nextn_predict_layers": 3, "pretraining_tp": 4},
    ],
)
def test_what_says_nothing_or_changes_no_shape_is_read_over(tmp_path, more):
    changed = CATALOGUE.model(config(tmp_path, BASE, **more))
    assert changed.parameters == CATALOGUE.model(BASE).parameters


def test_windows_in_some_layers_of_qwen2_stand_in_those(tmp_path):
    settings = {"use_sliding_window": True, "sliding_window": 4096, "max_window_layers": 21}
    read = CATALOGUE.model(config(tmp_path, "qwen2.5-7b", **settings))
    assert read.layer_kinds() == (("dense", 21), ("dense local", 7))
    assert read.parameters == CATALOGUE.model("qwen2.5-7b").parameters


def test_layers_that_predict_further_tokens_are_told_as_published():
    """num_nextn_predict_layers of DeepSeek-V3 and GLM-4.5, num_mtp_modules of MiniMax-M2; Llama has none."""
    told = {"deepseek-v3": 1, "glm-4.5": 1, "minimax-m2": 3, "llama-3.1-8b": 0}
    assert {name: CATALOGUE.model(name).mtp_layers for name in told} == told
