"""Laws of streams of video on a GPU: the slowest part sets the pace, engines and clocks multiply, what is refused."""

import pytest

from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.simulation.call import simulate
from simgpu.workload.video.engines import rates

CATALOGUE = Catalogue()
YOLO = CATALOGUE.network("yolov8s")
WITH_ENGINES = [name for name in CATALOGUE.names("gpus") if CATALOGUE.spec("gpus", name).video]


def run(gpu="l4", plan=None, every=1, fps=30, batch=16, **video):
    job = {"kind": "network", "batch": batch, "stack": "tensorrt", "video": {"every": every, "fps": fps, **video}}
    return simulate(CATALOGUE.cluster(gpu), job, YOLO, plan, dtype="fp16")


@pytest.mark.parametrize("gpu", WITH_ENGINES)
@pytest.mark.parametrize("encode", [None, {"codec": "hevc", "preset": "p1"}])
def test_no_part_keeps_up_with_fewer_streams_than_the_whole_does(gpu, encode):
    spec = CATALOGUE.spec("gpus", gpu).video
    if encode and not spec.nvenc.si:
        with pytest.raises(InputError, match="has no NVENC"):
            run(gpu, encode=encode)
        return
    done = run(gpu, encode=encode)
    parts = {"NVDEC": done.decode_streams, "network": done.detect_streams, "NVENC": done.encode_streams}
    if encode and spec.sessions:
        parts["encode sessions"] = spec.sessions.si
    known = {name: streams for name, streams in parts.items() if streams}
    assert done.streams == pytest.approx(min(known.values()))
    assert known[done.video_limit] == pytest.approx(done.streams)
    assert done.streams_p10 <= done.streams <= done.streams_p90
    assert done.idle_s >= done.video_wait_s and (done.video_wait_s == 0) == (done.video_limit == "network")
    assert done.power_w_per_stream == pytest.approx(done.power_w_per_gpu / done.streams)
    assert done.images_per_s == pytest.approx(done.streams * 30)


def test_streams_go_with_frames_a_second_and_looking_at_fewer_frames_helps_the_network_alone():
    one, slow, some = run(), run(fps=15), run(every=4)
    assert slow.streams == pytest.approx(2 * one.streams) and slow.decode_streams == pytest.approx(
        2 * one.decode_streams
    )
    assert some.detect_streams == pytest.approx(4 * one.detect_streams) and some.decode_streams == one.decode_streams
    kept = [run(every=every).streams for every in (1, 2, 4, 8, 64)]
    assert kept == sorted(kept) and kept[-1] == pytest.approx(one.decode_streams)


def test_gpus_multiply_streams_but_share_the_sessions_of_their_system():
    one = run("rtx-4090")
    eight = run("rtx-4090-8x-ethernet", {"dp": 8}, batch=128)
    assert eight.streams == pytest.approx(8 * one.streams)
    coded = run("rtx-4090-8x-ethernet", {"dp": 8}, batch=128, encode={})
    assert coded.streams == pytest.approx(8) == run("rtx-4090", encode={}).streams


def test_published_streams():
    """Up to 38 full-HD streams on a T4 (NVIDIA, as providers quote it); the rates are of other cards and clocks."""
    assert run("t4").decode_streams == pytest.approx(38, rel=0.08)


def test_better_presets_are_never_quicker_to_encode():
    """A slip in the file of rates would show; of P5 and P7 NVIDIA's own table has them the other way round at times."""
    for generation, codecs in rates()["encode"]["fps"].items():
        for codec, presets in codecs.items():
            assert presets["p1"] > presets["p3"] > presets["p7"], (generation, codec)


@pytest.mark.parametrize(
    ("gpu", "video", "key", "says"),
    [
        ("mi300x", {}, "workload.video.decode", "the video engines of 'mi300x' are not known"),
        ("h100-sxm", {"encode": {}}, "workload.video.encode", "'h100-sxm' has no NVENC"),
        ("t4", {"decode": "av1"}, "workload.video.decode", "expected one of h264, vp9"),
        ("t4", {"encode": {"codec": "av1"}}, "workload.video.encode.codec", "expected one of h264, hevc"),
        ("a100-sxm-40gb@1g.5gb", {}, "workload.video.decode", "are not known"),
    ],
)
def test_what_the_engines_cannot_do_is_refused(gpu, video, key, says):
    with pytest.raises(InputError, match=says) as error:
        run(gpu, **video)
    assert error.value.key == key


def test_frames_in_memory_need_no_engine_and_streams_are_for_inference_on_images():
    assert run("mi300x", decode=None).video_limit == "network"
    for model, mode in (("yolov8s", "training"), ("whisper-large-v3", "inference")):
        with pytest.raises(InputError, match="by inference on images") as error:
            simulate("l4", {"kind": "network", "mode": mode, "batch": 8, "video": {}}, model, dtype="fp16")
        assert error.value.key == "workload.video"
