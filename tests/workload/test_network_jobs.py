"""Laws of networks of stages: what takes longer, what adds up, what is refused."""

import pytest

from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.simulation.call import simulate
from simgpu.workload.networks.stacks import stacks

CATALOGUE = Catalogue()
SD15, SDXL, FLUX, RESNET = (CATALOGUE.network(name) for name in ("sd15", "sdxl", "flux-dev", "resnet50"))
H100, NODE = CATALOGUE.cluster("h100-sxm"), CATALOGUE.cluster("dgx-h100")


def run(pipeline=SD15, cluster=H100, plan=None, dtype="fp16", **job):
    return simulate(cluster, {"kind": "network", **job}, pipeline, plan or {}, dtype=dtype)


def test_time_grows_with_pixels_steps_and_batch():
    for key, values in (("height", (256, 512, 1024)), ("steps", (10, 20, 50)), ("batch", (1, 3, 8, 16))):
        times = [run(**{"steps": 10, key: value}).step_s for value in values]
        assert times == sorted(times) and times[0] < times[-1]


def test_time_is_linear_in_steps_and_rates_times_seconds_are_the_batch():
    ten, thirty = run(steps=10, batch=4), run(steps=30, batch=4)
    assert thirty.denoiser_s == pytest.approx(3 * ten.denoiser_s)
    assert thirty.decoder_s == pytest.approx(ten.decoder_s)
    assert ten.images_per_s * ten.step_s == pytest.approx(4) == pytest.approx(ten.items_per_s * ten.step_s)
    assert ten.iterations_per_s * ten.denoiser_s == pytest.approx(40)
    assert ten.item_s * 4 == pytest.approx(ten.step_s)


@pytest.mark.parametrize("cluster", ["h100-sxm", "l4"])
def test_the_parts_of_a_run_add_up_to_it(cluster):
    done = run(SDXL, CATALOGUE.cluster(cluster), steps=5)
    parts = ("convolution_s", "gemm_s", "attention_s", "memory_bound_s", "exposed_cp_s", "exposed_data_s", "host_s")
    assert sum(done.row[name] for name in parts) == pytest.approx(done.step_s)
    assert sum(done.row[f"{role}_s"] for role in ("encoder", "denoiser", "decoder")) == pytest.approx(done.step_s)
    assert 0 < done.mfu < 1 and 0 < done.mfu_p90 <= 1


def test_guidance_doubles_the_batch_of_the_denoiser_and_not_its_launches():
    one, two = run(steps=10, guidance=1), run(steps=10, guidance=2)
    assert two.denoiser_s < 1.5 * one.denoiser_s  # one image leaves an H100 waiting for its host
    assert two.host_s > 0
    many = [run(steps=10, batch=32, guidance=guidance).denoiser_s for guidance in (1, 2)]
    assert many[1] == pytest.approx(2 * many[0], rel=0.1)


def test_one_image_on_a_fast_gpu_waits_for_the_host_and_graphs_take_that_away():
    eager, graphs = run(SDXL, steps=10), run(SDXL, steps=10, stack="compiled")
    assert eager.host_s > 0.2 * eager.step_s and graphs.host_s == 0 and graphs.step_s < 0.8 * eager.step_s


def test_flops_are_conserved_when_replicas_and_ranks_share_the_work():
    alone = run(FLUX, NODE, dtype="bf16", batch=4, steps=2)
    for plan in ({"dp": 4}, {"cp": 4}, {"cp": 4, "context": "all_to_all"}, {"dp": 2, "cp": 2}):
        shared = run(FLUX, NODE, plan, dtype="bf16", batch=4, steps=2)
        assert shared.flop == pytest.approx(alone.flop) and shared.gpus == 4
        assert alone.step_s / 4 < shared.step_s < alone.step_s


def test_training_has_three_times_the_flops_and_replicas_reduce_their_gradients():
    forward = run(RESNET, batch=64, stack="pytorch-channels-last")
    one = run(RESNET, NODE, mode="training", batch=64)
    assert one.flop == pytest.approx(3 * forward.flop, rel=0.01)
    eight = run(RESNET, NODE, {"dp": 8}, mode="training", batch=512)
    assert eight.flop == pytest.approx(8 * one.flop)
    assert one.images_per_s < eight.images_per_s < 8 * one.images_per_s
    assert eight.gradients_memory_bytes == pytest.approx(4 * one.parameters)


def test_fp32_of_the_decoder_runs_its_convolutions_in_tf32_where_the_gpu_has_it():
    volta = run(SDXL, CATALOGUE.cluster("v100-sxm-16gb"), steps=1)
    assert volta.convolution_s > 2 * run(SDXL, CATALOGUE.cluster("a100-sxm-80gb"), steps=1).convolution_s


@pytest.mark.parametrize("pipeline, job, plan, said", [
    (SDXL, {"height": 1001}, {}, r"workload.height: 1001 is not divisible by 8.*such as 1000"),
    (FLUX, {"width": 1000}, {}, r"workload.width: 1000 is not divisible by 16.*such as 992"),
    (SDXL, {"tokens": 7}, {}, "workload.tokens: 'sdxl' takes none"),
    (RESNET, {"steps": 3}, {}, "workload.steps: 'resnet50' takes none"),
    (FLUX, {"guidance": 2}, {}, "workload.guidance: 'flux-dev' takes none"),
    (SDXL, {"stack": "difusers"}, {}, "unknown stack 'difusers'; did you mean 'diffusers'?"),
    (SDXL, {"batch": 3}, {"dp": 2}, "plan.dp: 2 replicas do not divide the batch of 3"),
    (SDXL, {}, {"tp": 2}, "plan.tp: 2 is not supported for networks of stages"),
    (RESNET, {}, {"cp": 2}, "plan.cp: 'resnet50' has no denoiser"),
    (CATALOGUE.network("whisper-large-v3"), {"mode": "training"}, {}, "workload.mode: 'training' is not supported"),
])  # fmt: skip
def test_what_cannot_be_is_one_line(pipeline, job, plan, said):
    with pytest.raises(InputError, match=said) as error:
        run(pipeline, NODE, plan, **job)
    assert "\n" not in str(error.value)


def test_language_models_and_networks_are_not_taken_for_each_other():
    with pytest.raises(InputError, match=r"'llama-3\.1-8b' is a language model"):
        simulate("h100-sxm", {"kind": "network"}, "llama-3.1-8b")
    with pytest.raises(InputError, match="'sdxl' is a network of stages; expected a workload of kind network"):
        simulate("h100-sxm", {"kind": "prefill", "tokens": 8}, SDXL)
    with pytest.raises(InputError, match="this key is missing; a workload of kind 'network' needs"):
        simulate("h100-sxm", {"kind": "network"})


def test_stacks_say_where_their_figures_are_from():
    for stack in stacks().values():
        assert all(len(source) >= 10 for source in stack.sources.values()) and stack.title
        assert stack.ends[0] < 1 < stack.ends[1]


def test_adapters_beside_frozen_weights_have_the_parameters_that_were_published():
    """LoRA of rank 4 on to_q, to_k, to_v and to_out.0 of the U-Net of SD 1.5: 797,184, as diffusers' script makes."""
    full, lora = (run(mode="training", batch=4, finetune=how, optimizer="adam") for how in ("full", "lora"))
    assert lora.parameters - full.parameters == 797_184
    assert lora.gradients_memory_bytes == 4 * 797_184 and lora.optimizer_memory_bytes == 8 * 797_184
    assert lora.step_s < full.step_s and lora.memory_bytes_per_gpu < full.memory_bytes_per_gpu
    assert 0.6 * full.flop < lora.flop < 0.75 * full.flop  # two of three products of every frozen layer


def test_the_step_of_adapters_grows_with_their_rank():
    times = [run(mode="training", batch=4, finetune="lora", rank=rank).step_s for rank in (4, 64, 512)]
    assert times == sorted(times) and times[0] < times[-1]


def test_a_network_without_attention_of_a_unet_has_no_adapters():
    with pytest.raises(InputError, match="expected full"):
        run(RESNET, mode="training", finetune="lora")
