"""Vision towers: parameters as published, tokens of images by each family's rule, and images in prompts."""

import json

import pytest

import simgpu
from simgpu import Catalogue, InputError, simulate
from simgpu.model.networks.vision import tower_graph, tower_parameters

CATALOGUE = Catalogue()

TEXT = {"model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
        "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064, "max_position_embeddings": 32768,
        "tie_word_embeddings": False}  # fmt: skip

QWEN25 = {**TEXT, "model_type": "qwen2_5_vl", "vision_config": {
    "depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 3584,
    "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": 112,
    "fullatt_block_indexes": [7, 15, 23, 31]}}  # fmt: skip
QWEN2 = {**TEXT, "model_type": "qwen2_vl", "vision_config": {
    "depth": 32, "embed_dim": 1280, "hidden_size": 3584, "num_heads": 16, "patch_size": 14}}  # fmt: skip
CLIP = {"model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
        "num_attention_heads": 16, "image_size": 336, "patch_size": 14}  # fmt: skip
LLAVA = {"model_type": "llava", "text_config": TEXT, "vision_config": CLIP, "vision_feature_layer": -2}
INTERN = {"model_type": "internvl_chat", "llm_config": TEXT, "force_image_size": 448, "max_dynamic_patch": 12,
          "vision_config": {**CLIP, "model_type": "intern_vit_6b", "image_size": 448}}  # fmt: skip


def tower(config, folder):
    (folder / "config.json").write_text(json.dumps(config))
    return Catalogue().model(str(folder)).vision


def test_parameters_as_published(tmp_path):
    """Totals of the checkpoints less those of their text models."""
    text = CATALOGUE.model("qwen3-8b").parameters
    assert tower_parameters(CATALOGUE.model("qwen3-vl-8b").vision) == 8_767_123_696 - text  # Hub, safetensors.total
    assert tower_parameters(tower(QWEN25, tmp_path)) == 676_550_144  # counted from transformers' class in training code
    assert tower_parameters(tower(QWEN2, tmp_path)) == 8_291_375_616 - 7_615_616_512  # of Qwen2-VL 7B, Qwen2.5 7B
    gemma = CATALOGUE.model("gemma-3-27b")
    files = 54_864_980_440  # bytes of google/gemma-3-27b-it @005ad340, bf16
    assert 2 * (gemma.parameters + tower_parameters(gemma.vision)) == pytest.approx(files, rel=1e-4)


@pytest.mark.parametrize(
    ("height", "width", "tokens"),
    [(300, 400, 9 * 12), (1024, 1024, 1024), (32, 32, 8 * 8), (8192, 8192, 128 * 128)],
)
def test_an_image_keeps_its_shape_within_limits(height, width, tokens):
    """Of Qwen3-VL: whole tokens of 32 x 32 pixels, an area from 256^2 to 4096^2."""
    assert CATALOGUE.model("qwen3-vl-8b").vision.tokens(height, width) == tokens


@pytest.mark.parametrize("width", [1, 90, 1000, 60_000])
def test_images_of_any_shape_have_an_area_within_limits(width):
    _, rows, columns = CATALOGUE.model("qwen3-vl-8b").vision.pictures(100, width)
    assert 65536 <= rows * columns * 16**2 <= 16777216


def test_an_image_is_one_square_or_several(tmp_path):
    assert CATALOGUE.model("gemma-3-4b").vision.tokens(3000, 200) == 256  # mm_tokens_per_image
    assert tower(LLAVA, tmp_path).tokens(1024, 768) == 576
    tiles = tower(INTERN, tmp_path)
    assert [tiles.tokens(*size) // 256 for size in ((448, 448), (448, 896), (1024, 1024), (400, 4000))] == [
        1,
        3,
        10,
        11,
    ]
    assert tower(QWEN25, tmp_path).tokens(1024, 1024) == 37 * 37


def test_windows_leave_work_out(tmp_path):
    """Attention in windows of 64 patches multiplies less, and everything else is the same."""
    sees = tower(QWEN25, tmp_path)
    graph = tower_graph(sees, 1, 64, 64, "bf16")
    pairs = {s.name: [op.pairs * op.batch.size for op in s.operators if op.kind == "attention"] for s in graph.segments}
    assert pairs["layers"] == [4096.0**2]
    assert pairs["windowed layers"] == [4096.0 * 64]


IMAGES = {"count": 2, "height": 1024, "width": 1024}
BATCH = {"kind": "inference", "batch": 2, "prompt": 256, "output": 4, "runtime": "vllm"}


def test_a_tower_comes_before_the_prefill():
    seen = simulate("dgx-h100", {**BATCH, "images": IMAGES}, "qwen3-vl-8b")
    text = simulate("dgx-h100", {**BATCH, "prompt": 256 + 2048}, "qwen3-vl-8b")
    assert (seen.image_tokens, seen.prompt) == (2048, 256 + 2048)
    assert seen.ttft_s == pytest.approx(text.ttft_s + seen.vision_s)
    assert seen.tpot_s == pytest.approx(text.tpot_s)
    held = 2 * tower_parameters(CATALOGUE.model("qwen3-vl-8b").vision)
    assert seen.row["weights_bytes_per_gpu"] - text.row["weights_bytes_per_gpu"] == pytest.approx(held)
    peak = 989.4e12 * 1.01
    assert seen.vision_s > (seen.row["flop"] - text.row["flop"]) / peak


@pytest.mark.parametrize("plan", [{"tp": 2}, {"pp": 2}])
def test_plans_share_the_images_or_run_them_in_the_first_stage(plan):
    alone = simulate("dgx-h100", {**BATCH, "images": IMAGES}, "qwen3-vl-8b")
    split = simulate("dgx-h100", {**BATCH, "images": IMAGES}, "qwen3-vl-8b", plan)
    ways = plan.get("tp", 1)
    assert alone.vision_s / ways <= split.vision_s <= 1.2 * alone.vision_s / ways


def test_a_server_pays_for_images_of_others_too():
    job = {"kind": "serving", "concurrency": 4, "prompt": 256, "output": 32}
    seen = simulate("dgx-h100", {**job, "images": IMAGES}, "qwen3-vl-8b")
    text = simulate("dgx-h100", {**job, "prompt": 256 + 2048}, "qwen3-vl-8b")
    assert seen.ttft_s >= text.ttft_s + seen.vision_s
    assert seen.tpot_s > text.tpot_s


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("qwen3-8b", "workload.images: 'qwen3-8b' is a text model"),
        ("kimi-k3", "no rule for images of 'kimi-k3'"),
    ],
)
def test_models_without_a_tower_refuse_images(model, says):
    with pytest.raises(InputError, match=says):
        simulate("dgx-h100", {**BATCH, "images": IMAGES}, model)


def test_a_broken_tower_is_one_line(tmp_path):
    broken = {**QWEN25, "vision_config": {**QWEN25["vision_config"], "num_heads": 7}}
    with pytest.raises(InputError, match=r"vision_config.num_heads: 7 heads do not divide 1280"):
        tower(broken, tmp_path)
    for section in ({"patch_size": 14}, "a path", [1]):  # the text model is read all the same
        assert tower({**QWEN25, "vision_config": section}, tmp_path) is None


# ---- servers, request by request -----------------------------------------------------------------------------


def traffic(**more):
    job = simgpu.Traffic(rate=2.0, requests=40, prompt=300, output=20, seed=1, **more)
    return simgpu.simulate("h100-sxm", job, "qwen3-vl-8b")


def test_traffic_sees_the_images_of_each_prompt():
    plain, seeing = traffic(), traffic(images={"count": 2, "height": 1024, "width": 1024})
    assert (seeing.image_tokens, plain.image_tokens) == (2048, None)
    assert seeing.prompt == plain.prompt + 2048
    assert seeing.ttft_s > plain.ttft_s + seeing.vision_s > plain.ttft_s
    words = traffic(images={"count": 2, "height": 32, "width": 32})  # two tokens
    assert words.ttft_s < seeing.ttft_s - 0.9 * (seeing.vision_s - words.vision_s)


def test_requests_far_apart_take_a_prompt_and_a_tower():
    """Request by request as in one batch of one."""
    images = {"count": 1, "height": 1024, "width": 1024}
    job = simgpu.Traffic(arrivals="constant", rate=0.1, requests=5, prompt=300, output=20, images=images, front_s=0.0)
    alone = simgpu.simulate("h100-sxm", job, "qwen3-vl-8b")
    batch = simgpu.simulate("h100-sxm", simgpu.Inference(prompt=300, output=20, images=images), "qwen3-vl-8b")
    assert alone.vision_s == pytest.approx(batch.vision_s)
    assert alone.ttft_s == pytest.approx(batch.ttft_s, rel=0.05)


def test_traffic_of_a_model_that_does_not_see_refuses_images():
    job = simgpu.Traffic(rate=2.0, requests=4, prompt=300, output=20, images={"height": 64, "width": 64})
    with pytest.raises(simgpu.InputError, match=r"workload\.images: 'qwen3-8b' is a text model"):
        simgpu.simulate("h100-sxm", job, "qwen3-8b")


SIZES = [(1024, 1024), (336, 336), (480, 640), (1080, 1920), (3000, 4000), (100, 900), (20, 20)]


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("llama-4-scout", [2448, 144, 720, 2304, 1872, 576, 144]),  # get_best_fit of image_processing_llama4.py
        ("gemma-4-26b-a4b", [256, 256, 266, 264, 266, 250, 256]),  # get_aspect_ratio_preserving_size, Gemma 4
        ("kimi-k2.5", [1369, 144, 414, 2691, 4200, 132, 1]),  # navit_resize of image_processing_kimi_k25.py
    ],
)
def test_tokens_are_those_of_the_functions_of_transformers(name, tokens):
    """What those functions of transformers 5.24.0 say for images of these heights and widths."""
    tower = CATALOGUE.model(name).vision
    assert [tower.tokens(*size) for size in SIZES] == tokens


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("llama-4-scout", 871_932_416),  # Llama4VisionModel and its projector
        ("gemma-4-26b-a4b", 569_548_080 + 1152 * 2816),  # Gemma4VisionModel and its projector
        ("kimi-k2.5", 471_143_920),  # Kimi_K25VisionModel, and mm_projector with a norm
    ],
)
def test_towers_count_as_the_classes_of_transformers_on_the_meta_device(name, parameters):
    assert tower_parameters(CATALOGUE.model(name).vision) == pytest.approx(parameters, rel=1e-4)


def test_a_step_that_begins_a_prompt_sees_its_images():
    images = {"count": 1, "height": 1024, "width": 1024}
    seeing = simulate("h100-sxm", simgpu.MixedStep(prefill=100, decodes=8, images=images), "qwen3-vl-8b")
    plain = simulate("h100-sxm", simgpu.MixedStep(prefill=100 + 1024, decodes=8), "qwen3-vl-8b")
    assert (seeing.image_tokens, seeing.prefill) == (1024, 1124)
    assert seeing.step_s == pytest.approx(plain.step_s + seeing.vision_s)
