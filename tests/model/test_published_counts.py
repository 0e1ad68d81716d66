"""FLOPs of models against published counts, and bytes of quantised checkpoints against their indices."""

import pytest

from simgpu import Catalogue
from simgpu.model.networks.vision import tower_parameters
from simgpu.model.patterns import one_more
from simgpu.model.quantised import FURTHER
from simgpu.model.transformer import prefill_graph, training_graph
from simgpu.plan.parallelism import Plan
from simgpu.plan.precision import as_published, precision_of
from simgpu.plan.serving_memory import stage_weights

CATALOGUE = Catalogue()


@pytest.mark.parametrize(("name", "published"), [("deepseek-v3", 250e9), ("llama-3.1-405b", 2448e9)])
def test_flops_of_a_trained_token(name, published):
    """Zhao et al. 2025, Insights into DeepSeek-V3 (arXiv 2505.09343), table 2: sequences of 4096 tokens, causal.

    Its 394 GFLOPs of Qwen 72B are left out: six times the weights alone are 436.
    """
    assert training_graph(CATALOGUE.model(name), 1, 4096, "bf16", "fp32").flops / 4096 == pytest.approx(
        published, rel=0.02
    )


@pytest.mark.parametrize("name", ["deepseek-v3", "qwen3-235b-a22b", "glm-4.5", "kimi-k2", "gpt-oss-120b"])
def test_a_forward_is_two_flops_for_each_active_parameter(name):
    """Kaplan et al. 2020 (arXiv 2001.08361), table 1, of mixtures of experts: short sequences add little attention.

    Of the active parameters the table of tokens is read, not multiplied by, and of the head one row of logits is made.
    """
    config = CATALOGUE.model(name)
    multiplied = config.active_parameters - 2 * config.vocab * config.hidden
    assert prefill_graph(config, 1, 256, "bf16", "fp32").flops / 256 == pytest.approx(2 * multiplied, rel=0.02)


@pytest.mark.parametrize("name", ["megatron-22b", "gpt3-175b", "megatron-530b", "megatron-1t"])
def test_flops_of_a_step_of_megatron(name):
    """Korthikanti et al. 2022 (arXiv 2205.05198), equation 7: 72 B L s h^2 (1 + s / 6h + v / 12hL), all pairs seen.

    Causal attention here multiplies half of the pairs, and the diagonal.
    """
    c, batch, s = CATALOGUE.model(name), 4, 2048
    published = (
        72 * batch * c.layers * s * c.hidden**2 * (1 + s / (6 * c.hidden) + c.vocab / (12 * c.hidden * c.layers))
    )
    hidden_half = 3 * 4 * batch * c.layers * c.hidden * s * (s - 1) / 2
    assert training_graph(c, batch, s, "fp16", "fp32").flops + hidden_half == pytest.approx(published, rel=0.001)


def stored(name, precision=""):
    config = CATALOGUE.model(name)
    found = as_published(precision_of(precision or config.published), config)
    of_module = precision_of("bf16") if FURTHER in config.published_wide else found
    further = stage_weights(one_more(config), Plan(), of_module, "bf16") if config.mtp_layers and not precision else 0.0
    joined = 2 * 2 * config.hidden**2 * config.mtp_layers if further else 0.0  # of the token and of the state before it
    seen = 2 * tower_parameters(config.vision) if config.vision else 0
    return stage_weights(config, Plan(), found, "bf16") + further + joined + seen


@pytest.mark.parametrize(
    ("name", "precision", "published"),
    [
        ("gpt-oss-20b", "", 13_761_264_768),  # openai/gpt-oss-20b model.safetensors.index.json, metadata.total_size
        ("gpt-oss-120b", "", 65_248_815_744),  # openai/gpt-oss-120b, the same
        # deepseek-ai/DeepSeek-V3 @afb92e1f, sum of the files; R1 @56d4cbbb has as many: with the module that predicts a
        # further token, which holds an embedding and a head of its own
        ("deepseek-v3-fp8", "", 688_586_727_753),
        ("deepseek-r1-fp8", "", 688_586_727_753),
        # model.safetensors.index.json of a DeepSeek-V3 in AWQ, 4 bits in groups of 64 (kvcache-ai/sglang_awq @1e697f11)
        ("deepseek-v3", "int4-g64", 364_589_799_936),
        ("kimi-k3", "", 1_560_936_091_448),  # moonshotai/Kimi-K3, sum of its 96 files; with a tower that is not counted
        (
            "kimi-k2.5",
            "",
            554.33 * 2**30,
        ),  # moonshotai/Kimi-K2.6, the same shape: files in a table of GPUs that hold it
        ("deepseek-v4-pro", "", 864.74e9),  # deepseek-ai/DeepSeek-V4-Pro, experts in MXFP4, the rest in blocks of fp8
        ("glm-5.2-fp8", "", 755.7e9),  # zai-org/GLM-5.2-FP8, 150 files
        ("glm-5.2-nvfp4", "", 432.95 * 2**30),  # nvidia/GLM-5.2-NVFP4; its further layer is in 16 bits
        ("nemotron-super-49b", "bf16", 99.75e9),  # nvidia/Llama-3_3-Nemotron-Super-49B-v1
        ("qwen2.5-72b", "bf16", 145_412_518_888),  # Qwen/Qwen2.5-72B @efba10c8, sum of the files
    ],
)
def test_bytes_of_checkpoints(name, precision, published):
    assert stored(name, precision) == pytest.approx(published, rel=0.01)
