"""Families of models: counts against transformers' own classes, their files, and what a wrong file says."""

import json
import pickle
from pathlib import Path

import pytest

from simgpu import Catalogue, InputError
from simgpu.documents import Document
from simgpu.model.families import parse_config

CATALOGUE = Catalogue()
DATA = Path(__file__).parents[1] / "data"
COUNTED = json.loads((DATA / "family_counts.json").read_text())
"""Defaults of the configurations of transformers 5.24.0, and what its own class of each counts on the meta device."""

USUAL = {
    "hidden_size": 64,
    "intermediate_size": 160,
    "max_position_embeddings": 512,
    "num_attention_heads": 4,
    "num_hidden_layers": 4,
    "vocab_size": 1000,
}


def read(data, name="m"):
    return parse_config(name, Document(name, data, {}))


@pytest.mark.parametrize("row", COUNTED, ids=[row["config"]["model_type"] for row in COUNTED])
def test_a_family_counts_as_the_class_of_transformers_does(row):
    assert read(row["config"]).parameters == pytest.approx(row["parameters"], rel=5e-3)


def test_most_families_count_to_a_thousandth():
    close = [abs(read(row["config"]).parameters / row["parameters"] - 1) < 1e-3 for row in COUNTED]
    assert sum(close) >= len(close) - 1


@pytest.mark.parametrize("name", CATALOGUE.families.names)
def test_every_family_says_what_it_is_and_where_it_was_read(name):
    family = CATALOGUE.families.of(name)
    assert family.title
    assert len(family.source) > 10
    assert family.model_types
    assert family.shape or family.text


# ---- keys of families that no class of transformers has ----------------------------------------------------


def test_chatglm_shares_keys_between_groups():
    """Keys as in THUDM/chatglm3-6b, configuration_chatglm.py."""
    config = read(
        {
            "model_type": "chatglm", "num_layers": 28, "hidden_size": 4096, "num_attention_heads": 32,
            "multi_query_attention": True, "multi_query_group_num": 2, "kv_channels": 128, "ffn_hidden_size": 13696,
            "padded_vocab_size": 65024, "seq_length": 8192, "add_qkv_bias": True, "add_bias_linear": False,
            "rmsnorm": True,
        }
    )  # fmt: skip
    assert (config.kv_heads, config.head_dim, config.qkv_bias, config.bias) == (2, 128, True, False)
    assert config.parameters == pytest.approx(6.24e9, rel=2e-3)  # 6B of its name


def test_layers_of_nemotron_nas_differ_one_by_one():
    """`ffn_mult` as in modeling_decilm.py: 2/3 of it times the width, rounded up to 256."""
    full = {"attention": {"no_op": False, "n_heads_in_group": 2}, "ffn": {"no_op": False, "ffn_mult": 1.5}}
    bare = {"attention": {"no_op": True, "n_heads_in_group": None}, "ffn": {"no_op": False, "ffn_mult": 5.0}}
    blind = {"attention": {"no_op": False, "n_heads_in_group": 4}, "ffn": {"no_op": True, "ffn_mult": None}}
    config = read({**USUAL, "model_type": "nemotron-nas", "block_configs": [full, bare, bare, blind]})
    kinds = dict(config.layer_kinds())
    assert list(kinds.values()) == [1, 2, 1]
    shapes = [config.of(kind) for kind in kinds]
    assert [shape.ffn for shape in shapes[:2]] == [256, 256]
    assert (shapes[0].kv_heads, shapes[2].kv_heads) == (2, 1)
    assert "without mixer" in list(kinds)[1]
    assert list(kinds)[2].startswith("none")


def test_the_text_model_of_one_that_sees_is_read_and_the_rest_is_said():
    text = {**USUAL, "model_type": "qwen3_vl_text", "head_dim": 16}
    seeing = read({"model_type": "qwen3_vl", "text_config": text, "vision_config": {"depth": 3}})
    assert seeing.left_out == "the vision tower"
    assert seeing.parameters == read({**text, "model_type": "qwen3"}).parameters


def test_old_keys_of_falcon_and_phi_are_read_too():
    old = read(
        {"model_type": "RefinedWebModel", "hidden_size": 64, "n_layer": 2, "n_head": 4, "vocab_size": 100,
         "multi_query": True, "parallel_attn": True, "alibi": False, "bias": False}
    )  # fmt: skip
    assert (old.kv_heads, old.parallel, old.single_norm) == (1, True, True)


# ---- files of one's own -----------------------------------------------------------------------------------


def own(tmp_path, text):
    folder = tmp_path / "families"
    folder.mkdir()
    (folder / "mine.yaml").write_text(text)
    model = tmp_path / "config.json"
    model.write_text(json.dumps({**USUAL, "model_type": "mine", "n_kv": 2}))
    return Catalogue(tmp_path).model(str(model))


MINE = """name: mine
title: Mine
source: "nowhere, it is made up"
model_types: [mine]
like: llama
shape:
  kv_heads: n_kv
"""


def test_adding_a_family_is_adding_a_file(tmp_path):
    assert own(tmp_path, MINE).kv_heads == 2


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("kv_heads: n_kv", "kv_head: n_kv", "mine.yaml:7: shape.kv_head: a model has no 'kv_head'"),
        ("kv_heads: n_kv", "kv_heads: '= n_kv +'", "shape.kv_heads: 'n_kv +' is no formula"),
        ("kv_heads: n_kv", "kv_heads: '= n_kv.__class__'", "n_kv: 2 is not a mapping"),
        ("kv_heads: n_kv", "kv_heads: [1]", "is no rule; expected a number, keys or"),
        ("kv_heads: n_kv", "kv_heads: '= kv_heads'", "kv_heads: "),
        ("kv_heads: n_kv", "kv_heads: n_kw", "n_kw: this key is missing"),
        ("like: llama", "like: llma", "like: 'llma': no such family; did you mean 'llama'?"),
        ("like: llama", "like: mine", "is like itself"),
        ("name: mine", "name: other", "'other' is not the name of the file, 'mine'"),
        ("shape:", "shapes:", "unknown key"),
        ("[mine]", "mine", "not a list on one line"),
        ("[mine]", "[llama]", "is read by family"),
    ],
)
def test_a_wrong_family_file_is_one_clear_line(tmp_path, old, new, says):
    assert old in MINE
    with pytest.raises(InputError) as error:
        own(tmp_path, MINE.replace(old, new))
    assert says in str(error.value), str(error.value)
    assert "\n" not in str(error.value)


# ---- architectures that are not known ----------------------------------------------------------------------


def written(tmp_path, **keys):
    file = tmp_path / "new.json"
    file.write_text(json.dumps({**USUAL, "model_type": "newarch", **keys}))
    return str(file)


def test_an_unknown_architecture_is_offered_as_its_nearest_family(tmp_path):
    file = written(tmp_path)
    with pytest.raises(InputError, match=r"its keys are those of family 'llama': 'FILE@as=llama' reads it so"):
        CATALOGUE.model(file)
    known = CATALOGUE.model(f"{file}@as=llama")
    assert known.parameters == CATALOGUE.model(f"{file}@as=llama,layers=8").parameters - 4 * (
        4 * 64 * 64 + 3 * 64 * 160 + 2 * 64
    )
    with pytest.raises(InputError, match="unknown family 'lama'; did you mean 'llama'"):
        CATALOGUE.model(f"{file}@as=lama")


def test_what_would_not_be_known_and_what_is_missing_are_said(tmp_path):
    with pytest.raises(InputError, match="but for ssm_state_size, which it would not know"):
        CATALOGUE.model(written(tmp_path, ssm_state_size=16))
    with pytest.raises(InputError, match="nearest is family 'llama', of whose keys it lacks hidden_size"):
        CATALOGUE.model(_without(tmp_path, "hidden_size"))


def _without(tmp_path, key):
    file = tmp_path / "less.json"
    file.write_text(json.dumps({k: v for k, v in {**USUAL, "model_type": "newarch"}.items() if k != key}))
    return str(file)


# ---- files that are no configuration ----------------------------------------------------------------------

HEADER = b'{"w": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}'


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        (
            "model.safetensors",
            len(HEADER).to_bytes(8, "little") + HEADER + bytes(4),
            "is a safetensors file of weights",
        ),
        ("large.safetensors", len(HEADER).to_bytes(8, "little") + HEADER + bytes(10**7), "is a safetensors file"),
        ("model.pkl", pickle.dumps({"w": [1.0]}), "is a pickle, such as PyTorch's weights"),
        ("pytorch_model.bin", b"PK\x03\x04" + bytes(60), "is an archive, such as PyTorch's weights"),
        ("model.gguf", b"GGUF\x03\0\0\0" + bytes(60), "is a GGUF file of weights"),
        ("config.json", len(HEADER).to_bytes(8, "little") + HEADER + bytes(4), "is a safetensors file of weights"),
    ],
)
def test_a_file_of_weights_says_what_it_is(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=says) as error:
        Catalogue().model(str(tmp_path / name))
    assert "config.json beside it" in str(error.value) and "\n" not in str(error.value)
