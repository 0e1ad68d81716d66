"""Checkpoints that say how they are stored."""

import json

import pytest

from simgpu import Catalogue, InputError, run_experiment
from simgpu.documents import Document
from simgpu.model.quantised import checkpoint_of
from simgpu.plan.parallelism import Plan
from simgpu.plan.precision import as_published, precision_of
from simgpu.plan.serving_memory import stage_weights

CATALOGUE = Catalogue()


def stored(**section):
    found = checkpoint_of(Document("m", {"quantization_config": section}, {}), layers=4)
    return found.precision, found.wide, found.kv


def group(**weights):
    activations = weights.pop("activations", None)
    return {"group_0": {"weights": weights, "input_activations": activations, "targets": ["Linear"]}}


@pytest.mark.parametrize(
    ("section", "precision"),
    [
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "int4"),
        ({"quant_method": "gptq", "bits": 4, "group_size": 32}, "int4-g32"),
        ({"quant_method": "gptq", "bits": 8, "group_size": 128}, "w8a16"),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8-block"),
        ({"quant_method": "fp8", "activation_scheme": "static"}, "fp8"),
        ({"quant_method": "mxfp4"}, "mxfp4"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "int4-g64"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "w8a16"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "fp4"),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, "fp8"),
        (
            {"quant_method": "compressed-tensors", "config_groups": group(num_bits=4, type="int", group_size=32,
                                                                          symmetric=True)},
            "int4-g32-sym",
        ),
        (
            {"quant_method": "compressed-tensors", "config_groups": group(num_bits=8, type="int", activations={})},
            "w8a16",
        ),
        (
            {"quant_method": "compressed-tensors", "config_groups": {"a": {"weights": {"num_bits": 8, "type": "int"},
                                                                           "input_activations": {"num_bits": 8}}}},
            "int8",
        ),
        ({"quant_method": "compressed-tensors", "config_groups": group(num_bits=8, type="float")}, "fp8"),
        (
            {"quant_method": "compressed-tensors", "config_groups": group(num_bits=4, type="float", group_size=32)},
            "mxfp4",
        ),
        ({"quant_method": "something new"}, ""),
    ],
)  # fmt: skip
def test_methods_are_read_as_precisions(section, precision):
    assert stored(**section)[0] == precision


def test_modules_that_stay_wide_and_the_type_of_the_cache():
    left = ["lm_head", "re:.*self_attn.*", "re:.*shared_experts.*"]
    assert stored(quant_method="modelopt", quant_algo="NVFP4", ignore=left)[1] == ("attention", "shared")
    norms = [f"model.layers.{i}.post_attention_layernorm" for i in range(4)]
    assert stored(quant_method="fp8", modules_to_not_convert=norms)[1] == ()
    assert stored(quant_method="modelopt", quant_algo="NVFP4", kv_cache_quant_algo="FP8")[2] == "fp8"


def test_small_products_and_modules_that_hold_matrices_leave_no_part_wide():
    """Lists of Qwen3-Next in FP8 and of Qwen3.6 by llm-compressor, whose layers of states are stored narrow."""
    layers = [f"model.layers.{i}.linear_attn" for i in range(3)]
    small = [f"{layer}.{name}" for layer in layers for name in ("conv1d", "in_proj_ba", "in_proj_a", "in_proj_b")]
    assert stored(quant_method="fp8", modules_to_not_convert=small)[1] == ()
    packed = group(num_bits=4, type="int", group_size=128, symmetric=False)
    found = stored(quant_method="compressed-tensors", config_groups=packed, ignore=[*layers, *small])
    assert found == ("int4", (), "")
    assert stored(quant_method="fp8", modules_to_not_convert=[f"{one}.in_proj_qkvz" for one in layers])[1] == ("state",)


def test_a_section_that_is_no_mapping_is_refused():
    with pytest.raises(InputError, match="'fp8' is not a mapping"):
        checkpoint_of(Document("m", {"quantization_config": "fp8"}, {}), layers=1)


def deployed(model, **workload):
    scenario = {"model": model, "cluster": "dgx-b200", "dtype": "bf16", "plan": {"tp": 8},
                "workload": {"kind": "mixed", "decodes": 8, "context": 1024, **workload}}  # fmt: skip
    return run_experiment({"experiment": "e", "title": "e", "scenario": scenario}).rows[0]


def test_the_default_precision_follows_the_file():
    """Experts of Kimi K2.5 in groups of 32, all else in 16 bits."""
    own, wide = deployed("kimi-k2.5"), deployed("kimi-k2.5", precision="bf16")
    assert own["precision"] == "int4-g32-sym"
    config = CATALOGUE.model("kimi-k2.5")
    narrow = as_published(precision_of(config.published), config)
    experts = 60 * 384 * 3 * 7168 * 2048
    expected = 2 * (config.parameters - experts) + (4 + 16 / 32) / 8 * experts
    assert stage_weights(config, Plan(), narrow, "bf16") == pytest.approx(expected, rel=1e-3)  # 594 GB
    assert wide["weights_bytes_per_gpu"] > 3 * own["weights_bytes_per_gpu"]
    assert deployed("qwen3.5-397b-a17b-nvfp4")["kv_cache"] == "fp8"


def test_the_file_of_modelopt_beside_a_configuration_is_read(tmp_path):
    data = json.loads(CATALOGUE.find("models", "qwen3-8b").read_text())
    (tmp_path / "config.json").write_text(json.dumps(data))
    assert CATALOGUE.model(str(tmp_path)).published == ""
    quantised = {
        "producer": {"name": "modelopt"},
        "quantization": {"quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8"},
    }
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(quantised))
    read = Catalogue().model(str(tmp_path))
    assert (read.published, read.published_kv) == ("fp4", "fp8")


@pytest.mark.parametrize(
    ("left", "further"),
    [
        (["model.layers.4*"], True),  # of a model with 4 layers, 0 to 3
        (["mtp*"], True),
        (["mtp.layers.0*"], True),
        (["model.layers.3*"], False),
        (["model.layers.4.mlp.gate", "model.layers.4.input_layernorm"], False),  # parts of it that are no matrix
    ],
)
def test_a_further_layer_that_is_left_alone_stays_in_16_bits(left, further):
    wide = stored(quant_method="modelopt", quant_algo="NVFP4", ignore=left)[1]
    assert ("further" in wide) == further
