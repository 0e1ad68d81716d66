"""Bad models, and splits that a model does not allow: file, line and field are named."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from bad_input import (
    PREFILL,
    _elsewhere,  # noqa: F401 - fixtures
    check,
    config_of,
    edited,
    refused,
    wrote,
)

# ---- models --------------------------------------------------------------------------------------------


def _line(text: str, key: str) -> int:
    return next(n for n, line in enumerate(text.splitlines(), 1) if f'"{key}"' in line)


CONFIGS: dict[str, tuple[str | bytes, str, tuple[str, ...]]] = {
    # id: (text, key that the message names, what else it says)
    "broken": ('{"hidden_size": 1,\n "x": }', "", ("e.json:2: ", "not valid JSON")),
    "cut off": ('{"hidden_size": 1', "", ("e.json:1: ", "not valid JSON")),
    "empty": ("", "", ("e.json:1: ", "not valid JSON")),
    "list": ("[1, 2]", "", ("e.json:1: ", "expected a JSON object")),
    "deep": ("[" * 20_000, "", ("not valid JSON",)),
    "deep objects": ('{"a": ' * 20_000, "", ("not valid JSON",)),
    "binary": (b"\xff\xfe\x00", "", ("e.json:1: ", "not text")),
    "huge": (b" " * 10_000_001, "", ("larger than",)),
    "weights by mistake": (b"\x08\x00\x00\x00\x00\x00\x00\x00{}      ", "", ("not text",)),
    "many values": (config_of()[:-2] + ', "a": [' + "1," * 1_000_001 + "1]}", "", ("more than 1,000,000 values",)),
    "long number": ('{"hidden_size": ' + "9" * 5000 + "}", "", ("not valid JSON",)),
    "given twice": (config_of()[:-2] + ',\n  "hidden_size": 2048\n}', "hidden_size", ("twice",)),
    "no type": (
        config_of(model_type=...),
        "model_type",
        ("is missing", "its keys are those of family 'llama': 'FILE@as=llama' reads it so"),
    ),
    "unknown type": (
        config_of(model_type="t5x"),
        "model_type",
        ("'t5x'", "no architecture that is known", "@as=llama"),
    ),
    "misspelt type": (config_of(model_type="lama"), "model_type", ("'lama'", "did you mean 'llama'")),
    "type number": (config_of(model_type=5), "model_type", ("5",)),
    "type list": (config_of(model_type=["llama"]), "model_type", ("['llama']",)),
    "no hidden size": (config_of(hidden_size=...), "hidden_size", ("is missing",)),
    "no layers": (config_of(num_hidden_layers=...), "num_hidden_layers", ("is missing",)),
    "no positions": (config_of(max_position_embeddings=...), "max_position_embeddings", ("is missing",)),
    "hidden null": (config_of(hidden_size=None), "hidden_size", ("is missing",)),
    "hidden zero": (config_of(hidden_size=0), "hidden_size", ("0", "positive whole number")),
    "hidden negative": (config_of(hidden_size=-1), "hidden_size", ("-1", "positive whole number")),
    "hidden fraction": (config_of(hidden_size=4096.5), "hidden_size", ("4096.5", "positive whole number")),
    "hidden text": (config_of(hidden_size="4096"), "hidden_size", ("'4096'", "positive whole number")),
    "hidden true": (config_of(hidden_size=True), "hidden_size", ("True", "positive whole number")),
    "hidden nan": (config_of(hidden_size=float("nan")), "hidden_size", ("nan", "positive whole number")),
    "hidden enormous": (config_of(hidden_size=10**9), "hidden_size", ("1000000000",)),
    "heads do not divide hidden": (
        config_of(num_attention_heads=30, num_key_value_heads=...),
        "num_attention_heads",
        ("30", "hidden_size", "4096"),
    ),
    "kv heads do not divide heads": (config_of(num_key_value_heads=5), "num_key_value_heads", ("5", "32")),
    "tied as text": (config_of(tie_word_embeddings="false"), "tie_word_embeddings", ("'false'",)),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_bad_model_names_file_line_and_field(name: str) -> None:
    text, key, words = CONFIGS[name]
    wrote("e.json", text)
    wrote("e.yaml", PREFILL.replace("llama-2-7b", "e.json"))
    message = refused("run", "e.yaml")
    check(message, "e.json", words)
    if key:
        present = isinstance(text, str) and f'"{key}"' in text
        expected = (
            rf"e\.json:{_line(text, key)}: {key}: " if present and name != "given twice" else rf"e\.json.*: {key}: "
        )
        assert re.match(expected, message), message
    assert "e.json" in refused("show", "e.json")


SPLITS: dict[str, tuple[dict[str, Any], str, str, str, tuple[str, ...]]] = {
    # id: (fields of the model, text, its replacement, key, what else the message says)
    "tp does not divide the heads": ({}, "tp: 2", "tp: 3", "plan.tp", ("3", "32", "expected one of 1, 2, 4, 8")),
    "tp and kv heads": (
        {"num_attention_heads": 24, "num_key_value_heads": 3, "head_dim": 128},
        *("tp: 2", "tp: 2 ", "plan.tp", ("2", "3")),
    ),
    "tp and ffn": ({"intermediate_size": 11009}, "tp: 2", "tp: 2 ", "plan.tp", ("2", "11009")),
    "batch not divisible": ({}, "dp: 1", "dp: 3", "plan.dp", ("3", "4")),
    "batch zero": ({}, "batch: 4", "batch: 0", "workload.batch", ("0", "greater than 0")),
    "tokens zero": ({}, "tokens: 128", "tokens: 0", "workload.tokens", ("0", "greater than 0")),
    "rank too large": ({}, "batch: 4", "batch: 4\n    rank: 9999", "workload.rank", ("9999", "from 1 to 4096")),
    "zero unknown": ({}, "dp: 1", "dp: 1\n    zero: 4", "plan.zero", ("4 is not a whole number from 0 to 3",)),
    "zero text": ({}, "dp: 1", "dp: 1\n    zero: x", "plan.zero", ("'x' is not a whole number from 0 to 3",)),
    "no such split": ({}, "dp: 1", "dp: 1\n    tensor: 4", "plan.tensor", ("unknown key; expected one of tp, dp, ",)),
    "dtype of nothing trained": (
        {},
        "dtype: bf16",
        "dtype: int8",
        "dtype",
        ("'int8' is not supported for training", "bf16, fp16"),
    ),
    "tokens text": ({}, "tokens: 128", "tokens: 4k", "workload.tokens", ("'4k'", "integer")),
    "sequence parallel": (
        {},
        "dp: 1",
        "dp: 1\n    sequence_parallel: perhaps",
        "plan.sequence_parallel",
        ("'perhaps'",),
    ),
    "fp8 on an A100": (
        {},
        *(
            "cluster: dgx-h100\n  dtype: bf16",
            "cluster: dgx-a100\n  dtype: fp8",
            "dtype",
            ("a100-sxm-80gb", "fp8", "bf16"),
        ),
    ),
    "no model": ({}, "  model: e.json\n", "", "model", ("is missing", "training")),
}


@pytest.mark.parametrize("name", SPLITS)
def test_a_split_the_model_does_not_allow(name: str) -> None:
    fields, old, new, key, words = SPLITS[name]
    wrote("e.json", config_of(**fields))
    text, line = edited(PREFILL.replace("llama-2-7b", "e.json"), old, new)
    line += new.count("\n")
    wrote("e.yaml", text)
    place = f"e.yaml:{line}: {key}: " if new else "e.yaml:"
    check(refused("run", "e.yaml"), place, (key, *words))


def test_tokens_that_sequence_parallelism_does_not_divide() -> None:
    wrote("e.yaml", PREFILL.replace("dp: 1", "sequence_parallel: true").replace("tokens: 128", "tokens: 127"))
    check(refused("run", "e.yaml"), "e.yaml:11: workload.tokens: ", ("127", "2 ranks"))


def test_an_unknown_model_in_a_file_has_a_line_and_a_suggestion() -> None:
    wrote("e.yaml", PREFILL.replace("llama-2-7b", "llama-2-7"))
    check(refused("run", "e.yaml"), "e.yaml:2: model: ", ("'llama-2-7'", "did you mean 'llama-2-7b'?"))


@pytest.mark.parametrize("model", ["no/such.json", "folder"])
def test_a_path_of_a_model_that_is_not_there(model: str) -> None:
    Path("folder").mkdir()
    wrote("e.yaml", PREFILL.replace("llama-2-7b", model))
    message = refused("run", "e.yaml")
    assert model in message and ("no such file" in message or "config.json" in message)
    assert "e.yaml:2" in message, f"does not say where the name was written: {message}"
