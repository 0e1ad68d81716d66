"""Models of the catalogue: parameter counts against published ones, and the shapes their files describe."""

from dataclasses import replace

import pytest

from simgpu import Catalogue, InputError

CATALOGUE = Catalogue()

PUBLISHED = {
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,  # transformers' GPT2LMHeadModel; KerasHub presets
    "opt-1.3b": 1_315_758_080,  # transformers' OPTForCausalLM
    "bert-base": 110_106_428,
    "bert-large": 336_226_108,  # safetensors.total of google-bert's checkpoints
    "gpt3-2.7b": 2_651_307_520,  # EleutherAI/gpt-neo-2.7B, the same shape
    "mpt-125m": 125_311_488,
    "mpt-350m": 355_985_408,
    "mpt-760m": 760_470_528,
    "mpt-1b": 1_315_950_592,
    "mpt-3b": 2_651_837_440,
    "mpt-7b": 6_658_859_008,
    "mpt-13b": 12_853_954_560,
    "mpt-30b": 29_975_214_080,
    "mpt-70b": 64_862_437_376,  # NumParams at 2,048 tokens, llm-foundry scripts/train/benchmarking/README.md
    "mixtral-8x7b": 46_702_792_704,
    "mixtral-8x22b": 140_620_634_112,  # safetensors.total of mistralai's and mistral-community's checkpoints
    "deepseek-v2-lite": 15_706_484_224,
    "deepseek-v3": 671_026_419_200,  # main model, counted from the checkpoints' headers
    "llama-3.1-405b": 405_853_388_800,  # Hugging Face API safetensors.total
}
"""Parameters; where each was read stands in models/SOURCES.yaml."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_those_published(name):
    assert CATALOGUE.model(name).parameters == pytest.approx(PUBLISHED[name], rel=1e-4)
    assert CATALOGUE.model_source(name).published_parameters == PUBLISHED[name]


@pytest.mark.parametrize("name", CATALOGUE.names("models"))
def test_every_model_says_where_it_was_read_and_agrees_with_what_was_published(name):
    source = CATALOGUE.model_source(name)
    assert len(source.source) > 20
    assert len(source.parameters_source) > 10
    near = {"grok-1": 6e-3}.get(name, 5e-3)  # its 314B are the layers alone: with the table of tokens 315.7
    assert CATALOGUE.model(name).parameters == pytest.approx(source.published_parameters, rel=near)


@pytest.mark.parametrize(
    ("name", "active"),
    [
        ("mixtral-8x7b", 12.9e9),  # Jiang et al. 2024 (arXiv 2401.04088), section 1: 13B
        ("mixtral-8x22b", 39.15e9),  # Mistral AI, April 2024: 39B
        ("deepseek-v3", 37.55e9),  # README_WEIGHTS.md: 36.6B, which leaves out the 0.93B of the embedding
        ("llama-3.1-405b", 405.85e9),
    ],
)
def test_active_parameters_count_only_the_experts_a_token_visits(name, active):
    assert CATALOGUE.model(name).active_parameters == pytest.approx(active, rel=2e-3)


def test_deepseek_has_dense_layers_first_and_latent_attention():
    v3, lite = CATALOGUE.model("deepseek-v3"), CATALOGUE.model("deepseek-v2-lite")
    assert v3.layer_kinds() == (("dense", 3), ("moe", 58))
    assert lite.layer_kinds() == (("dense", 1), ("moe", 26))
    assert (v3.head_dim, v3.value_dim, v3.q_rank, v3.kv_rank) == (192, 128, 1536, 512)
    assert lite.q_rank == 0
    assert (v3.router_bias, lite.router_bias) == (True, False)


def test_layer_kinds_hold_every_layer():
    for name in CATALOGUE.names("models"):
        config = CATALOGUE.model(name)
        assert sum(count for _, count in config.layer_kinds()) == config.layers
    assert CATALOGUE.model("llama-3-8b").layer_kinds() == (("dense", 32),)
    assert CATALOGUE.model("mixtral-8x7b").layer_kinds() == (("moe", 32),)


def test_positions_of_mpt_follow_the_sequences_it_is_trained_on():
    """NumParams of the 7B model at 65,536 tokens in the same table."""
    longer = replace(CATALOGUE.model("mpt-7b"), max_tokens=65536, positions=65536)
    assert longer.parameters == 6_918_905_856


MPT = """{
  "model_type": "mpt",
  "d_model": 4096,
  "n_heads": 32,
  "n_layers": 32,
  "max_seq_len": 2048,
  "vocab_size": 50432,
  "no_bias": true,
  "attn_config": {"alibi": true}
}"""

DEEPSEEK = """{
  "model_type": "deepseek_v2",
  "hidden_size": 2048,
  "intermediate_size": 10944,
  "num_hidden_layers": 27,
  "num_attention_heads": 16,
  "vocab_size": 102400,
  "max_position_embeddings": 4096,
  "kv_lora_rank": 512,
  "qk_nope_head_dim": 128,
  "qk_rope_head_dim": 64,
  "v_head_dim": 128,
  "n_routed_experts": 64,
  "num_experts_per_tok": 6,
  "moe_intermediate_size": 1408,
  "first_k_dense_replace": 1
}"""


def read(tmp_path, text, name="m"):
    file = tmp_path / f"{name}.json"
    file.write_text(text)
    return CATALOGUE.model(str(file))


def test_the_released_mpt_has_alibi_and_no_biases(tmp_path):
    config = read(tmp_path, MPT)
    layer = 12 * 4096**2 + 2 * 4096
    assert config.parameters == 50432 * 4096 + 32 * layer + 4096  # 6.65e9


@pytest.mark.parametrize(
    ("text", "old", "new", "key"),
    [
        (MPT, '"n_heads": 32', '"n_heads": 33', "n_heads"),
        (MPT, '{"alibi": true}', '{"attn_type": "grouped_query_attention"}', "attn_config"),
        (MPT, '{"alibi": true}', "7", "attn_config"),
        (DEEPSEEK, '"num_experts_per_tok": 6', '"num_experts_per_tok": 65', "num_experts_per_tok"),
        (DEEPSEEK, '"first_k_dense_replace": 1', '"first_k_dense_replace": 28', "first_k_dense_replace"),
        (DEEPSEEK, '"first_k_dense_replace": 1', '"moe_layer_freq": "x"', "moe_layer_freq"),
        (DEEPSEEK, '"kv_lora_rank": 512', '"kv_lora_rank": 0', "kv_lora_rank"),
        (DEEPSEEK, '"v_head_dim": 128,', "", "v_head_dim"),
    ],
)
def test_impossible_values_are_refused_by_key(tmp_path, text, old, new, key):
    assert read(tmp_path, text).layers in (27, 32)
    assert old in text
    with pytest.raises(InputError) as error:
        read(tmp_path, text.replace(old, new), "wrong")
    assert error.value.key == key
