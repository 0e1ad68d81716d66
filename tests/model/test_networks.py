"""Networks of stages: parameters and FLOPs as published, and what is said of files that cannot be used."""

import json
import shutil
from pathlib import Path

import pytest

from simgpu.catalog import Catalogue
from simgpu.documents import read_json
from simgpu.errors import InputError
from simgpu.model.networks.build import Inputs
from simgpu.model.networks.components import BUILDERS, built
from simgpu.model.networks.config import Config
from simgpu.model.networks.parameters import parameters_of
from simgpu.simulation.call import simulate

CATALOGUE = Catalogue()
FOLDER = Path(__file__).parents[2] / "models/components"
WHOLE = {"sd-vae": {"height": 64, "width": 64}, "sdxl-vae": {"height": 64, "width": 64}}


def graph(name, part="whole", dtype="fp16", **inputs):
    found, _ = built(Config(read_json(FOLDER / f"{name}.json"), name), part, Inputs(**inputs), dtype)
    return found


def parameters(name):
    if name.startswith(("whisper", "t5-large", "bart")):
        return sum(graph(name, part, tokens=64).weights for part in ("encoder", "decoder"))
    images = name.startswith(("resnet", "convnext", "vit", "efficientnet"))
    side = 224 if images else 64
    return graph(name, height=side, width=side, tokens=64).weights


@pytest.mark.parametrize("name", CATALOGUE.names("components"))
def test_components_say_where_they_were_read_and_agree_with_what_was_published(name):
    source = CATALOGUE.component_source(name)
    assert len(source.source) > 20 and source.title
    if source.published_parameters and name != "hunyuan-dit-v12-transformer":  # to two digits
        assert parameters(name) == pytest.approx(source.published_parameters, rel=1e-4)


# Multiply-adds twice. ResNet-50 4.1115 G (ptflops), ConvNeXt tiny 4.5 G, ViT base 17.56 G (torchvision), the U-Net of
# SD 1.5 401.6 G with attention (its authors of efficient variants: 402), FLUX.1 74.4 T (12 h^2 2 x 4,608 x 57 and
# attention), DiT blocks of PixArt 6.6 T.
FLOPS = [
    ("resnet-50", {"height": 224, "width": 224}, 2 * 4.1115e9),
    ("convnext-tiny", {"height": 224, "width": 224}, 2 * 4.46e9),
    ("vit-base-patch16-224", {}, 2 * 17.56e9),
    ("efficientnet-b0", {"height": 224, "width": 224}, 2 * 0.39e9),  # Tan and Le 2019, table 2
    ("resnet-152", {"height": 224, "width": 224}, 2 * 11.514e9),  # torchvision, _ops
    ("vit-large-patch16-224", {}, 2 * 61.555e9),  # torchvision, _ops
    ("yolov8n", {"height": 640, "width": 640}, 8.9e9),  # ultralytics, yolov8.yaml
    ("yolov8s", {"height": 640, "width": 640}, 28.8e9),
    ("yolov8m", {"height": 640, "width": 640}, 79.3e9),
    ("yolov8x", {"height": 640, "width": 640}, 258.5e9),
    ("flux-dev-transformer", {"height": 128, "width": 128, "tokens": 512}, 74.4e12),
]


@pytest.mark.parametrize("name, inputs, published", FLOPS)
def test_a_forward_has_the_flops_that_were_published(name, inputs, published):
    assert graph(name, **inputs).flops == pytest.approx(published, rel=0.02)


def test_flops_grow_with_what_there_is_more_of():
    one = graph("sd15-unet", height=64, width=64, tokens=77).flops
    assert graph("sd15-unet", batch=3, height=64, width=64, tokens=77).flops == pytest.approx(3 * one)
    wide = graph("sd15-unet", height=64, width=128, tokens=77).flops
    assert 2 * one < wide < 4 * one  # convolutions grow with pixels, attention with their square


def test_a_controlnet_is_half_a_unet_and_what_it_adds_to_it():
    """Its encoder, the embedding of its hint, a convolution on each of 12 skips and the middle."""
    own, whole = (graph(name, height=64, width=64, tokens=77) for name in ("sd15-controlnet-canny", "sd15-unet"))
    assert 0.25 * whole.flops < own.flops < 0.5 * whole.flops
    zeros = [op for s in own.segments for op in s.operators if op.name == "zero"]
    assert len(zeros) == 13 and all(op.kernel == (1, 1) and op.channels == op.filters for op in zeros)


def test_an_image_that_the_strides_of_a_detector_do_not_divide_is_refused():
    with pytest.raises(InputError, match="600 is not divisible by 32"):
        simulate("h100-sxm", {"kind": "network", "height": 600, "width": 640}, "yolov8n", dtype="fp16")


@pytest.mark.parametrize("name", ["t5-large", "bart-large-cnn"])
def test_an_encoder_decoder_multiplies_by_its_weights(name):
    """Two FLOPs for each weight and token; attention and tables aside, the cross keys and values with the encoder."""
    for part, tokens in (("encoder", 32), ("decoder", 1)):
        found = graph(name, part, tokens=32)
        products = [(s.repeat, op) for s in found.segments for op in s.operators if op.kind == "matmul" and not op.over]
        held = sum(repeat * op.n_size * op.k.size for repeat, op in products)
        done = sum(repeat * op.flops for repeat, op in products)
        assert done == 2 * tokens * held


def test_an_encoder_decoder_runs_its_decoder_for_each_token():
    one, two = (
        simulate("h100-sxm", {"kind": "network", "tokens": 128, "output": n}, "t5-large", dtype="fp16") for n in (8, 16)
    )
    assert two.encoder_s == pytest.approx(one.encoder_s)
    assert 2 * one.decoder_s <= two.decoder_s <= 2.1 * one.decoder_s


def test_more_tokens_than_positions_are_refused():
    with pytest.raises(InputError, match="1200 tokens are more than the 1024 positions"):
        simulate("h100-sxm", {"kind": "network", "tokens": 1200}, "bart-large-cnn", dtype="fp16")


@pytest.mark.parametrize("name", CATALOGUE.names("networks"))
def test_every_network_counts_its_parameters_by_stage(name):
    pipeline = CATALOGUE.network(name)
    assert pipeline.name == name and all(parameters_of(pipeline).values())


# ---- files that cannot be used -----------------------------------------------------------------------


def refused(tmp_path, network="sdxl", component="", **changed):
    """What is said of a copy of a network, of whose first component some keys are changed."""
    folder = tmp_path / "models"
    shutil.copytree(FOLDER.parent, folder, ignore=shutil.ignore_patterns("templates"))
    file = folder / "components" / f"{component}.json"
    if component:
        file.write_text(json.dumps({**json.loads(file.read_text()), **changed}, indent=2))
    with pytest.raises(InputError) as error:
        simulate("h100-sxm", {"kind": "network"}, network, catalogue=Catalogue(tmp_path))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_an_unknown_block_is_named_with_the_nearest(tmp_path):
    said = refused(
        tmp_path, component="sdxl-unet", down_block_types=["DownBlock2D", "CrossAtnDownBlock2D", "DownBlock2D"]
    )
    assert "sdxl-unet.json" in said and "down_block_types.1" in said and "did you mean 'CrossAttnDownBlock2D'?" in said


def test_an_unknown_class_is_named_with_the_nearest(tmp_path):
    said = refused(tmp_path, component="sdxl-unet", _class_name="UNet2DConditionModell")
    assert "_class_name" in said and "did you mean 'UNet2DConditionModel'?" in said


@pytest.mark.parametrize("key, value", [("norm_num_groups", 33), ("block_out_channels", []), ("layers_per_block", "2"),
                                        ("cross_attention_dim", -1), ("attention_head_dim", [5, 10]),
                                        ("addition_embed_type", "image")])  # fmt: skip
def test_a_key_that_cannot_be_is_named(tmp_path, key, value):
    assert key in refused(tmp_path, component="sdxl-unet", **{key: value})


def test_a_missing_component_and_a_file_of_weights_are_one_line(tmp_path):
    text = (FOLDER.parent / "sdxl.yaml").read_text()
    (tmp_path / "models").mkdir()
    file = tmp_path / "models/mine.yaml"
    file.write_text(text.replace("name: sdxl", "name: mine").replace("config: sdxl-unet", "config: sdxl-unett"))
    with pytest.raises(InputError, match=r"mine.yaml:\d+: stages.2.config: no such component 'sdxl-unett'; did you"):
        Catalogue(tmp_path).network("mine")
    (tmp_path / "models/unet.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    file.write_text(file.read_text().replace("sdxl-unett", "unet.safetensors"))
    with pytest.raises(InputError, match=r"unet.safetensors: holds weights; expected the configuration beside it"):
        Catalogue(tmp_path).network("mine")
    with pytest.raises(InputError, match="holds weights"):
        CATALOGUE.network(str(tmp_path / "models/unet.safetensors"))


def test_every_part_of_every_class_has_a_configuration():
    """What has a builder is in the catalogue, so that the tests above reach it."""
    seen = {
        (str(stage.config.get("_class_name", stage.config.get("model_type"))), stage.fields.part)
        for name in CATALOGUE.names("networks")
        for stage in CATALOGUE.network(name).stages
    }
    assert {name for name, _ in seen} == set(BUILDERS)
