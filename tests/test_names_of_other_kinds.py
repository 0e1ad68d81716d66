"""A name where another kind of name belongs: the message says what it is. Words of options: the one that is meant."""

import pytest
from click.testing import CliRunner

from simgpu.cli import main

SWAPPED = [
    (["fit", "h100-sxm", "--gpu", "l4"], "unknown model 'h100-sxm'; it is a GPU"),
    (["fit", "llama-3.1-8b", "--gpu", "dgx-h100"], "--gpu: unknown GPU 'dgx-h100'; it is a node"),
    (["fit", "llama-3.1-8b", "--gpu", "llama-3.1-8b"], "--gpu: unknown GPU 'llama-3.1-8b'; it is a model"),
    (["nccl-tests", "h100-sxm"], "unknown cluster or node 'h100-sxm'; it is a GPU"),
    (["serve", "dgx-h100", "--cluster", "l4", "--like", "vllm bench serve"], "model 'dgx-h100'; it is a node"),
    (["run", "tp2_scaling", "--set", "cluster=llama-3.1-8b"], "GPU 'llama-3.1-8b'; it is a model"),
    (["run", "llama70b_tp", "--set", "model=dgx-h100"], "model 'dgx-h100'; it is a node"),
]


@pytest.mark.parametrize(
    ("words", "said"), SWAPPED, ids=lambda given: " ".join(given) if isinstance(given, list) else ""
)
def test_a_name_of_another_kind_is_told_what_it_is(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2 and said in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["list", "gpu"], "'gpus'"),
        (["list", "gpus", "--format", "jsn"], "'json'"),
        (["new", "trainin"], "'training'"),
        (["run", "tp2_scaling", "--plot-format", "PNG"], "'png'"),
    ],
)
def test_a_slip_in_a_word_of_an_option_is_told_the_word(words, meant):
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2 and f"is not known; did you mean {meant}?" in done.stderr
