"""Runtimes by version: names, files, what changed between versions of llama.cpp, and wider intervals."""

from math import hypot, log

import numpy as np
import pytest
from click.testing import CliRunner

import simgpu
from simgpu.catalog import Catalogue
from simgpu.cli import main
from simgpu.errors import InputError
from simgpu.plan.parallelism import Plan
from simgpu.timing.distance import SOFTWARE, component
from simgpu.timing.timer import GPUTimer
from simgpu.workload.framework_files import built_in
from simgpu.workload.inference.deploying import deploy
from simgpu.workload.options import RunOptions
from simgpu.workload.runtime_files import BYTES, Runtimes, runtime, shipped

CATALOGUE = Catalogue()
OLD = "llama.cpp@2024-05"


def row_of(gpu, model, **job):
    return simgpu.simulate(gpu, simgpu.Inference(batch=1, **job), model).row


# ---- names -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "since"),
    [
        ("vllm", "0.14"), ("vllm@0.13", "0.12"), ("vllm@0.15.1", "0.14"), ("vllm@0.8.5", "0.8"), ("vllm@0.100", "0.33"),
        ("vllm@0.6.3.post1", "0.6"), ("trtllm@1.3.0rc20", "1.1"), ("trtllm@1.0.0rc3", "1.0"), ("llama.cpp", "b6327"),
        ("llama.cpp@b2800", "b2800"),
        ("llama.cpp@b3621", "b2800"), ("llama.cpp@b6326", "b6097"), ("llama.cpp@2024-05", "b2800"),
        ("llama.cpp@2025-08-29", "b6097"), ("llama.cpp@2025-08", "b6327"), ("llama.cpp@2030-01", "b6327"),
    ],
)  # fmt: skip
def test_a_version_falls_to_the_nearest_known_one_that_is_not_newer(name, since):
    assert runtime(name).since == since
    assert runtime(name) is runtime(f"{runtime(name).engine}@{since}")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("lama.cpp", "unknown runtime 'lama.cpp'; did you mean 'llama.cpp'?"),
        ("foo@1", "unknown runtime 'foo@1'; expected one of compiled, eager, llama.cpp, sglang, trtllm, vllm"),
        ("vllm@", "'' is not a version of vllm; expected one such as 0.2, 0.3, 0.4, 0.6, 0.8, 0.9, 0.10, 0.11, 0.12"),
        ("vllm@b3000", "'b3000' is not a version of vllm; expected one such as 0.2"),
        ("vllm@2025-01", "'2025-01' is not a version of vllm"),
        ("llama.cpp@0.3", "'0.3' is not a version of llama.cpp; expected one such as b2800, b3622, b6097, b6327 (or"),
        ("llama.cpp@2023-12", "'2023-12' is older than all known versions of llama.cpp: b2800"),
        ("sglang@0.3", "'0.3' is older than all known versions of sglang: 0.4, 0.5"),
    ],
)  # fmt: skip
def test_what_is_no_version_is_refused_with_those_that_are(name, problem):
    with pytest.raises(InputError) as refused:
        runtime(name)
    assert refused.value.problem.startswith(problem) and refused.value.key == "runtime"


def test_every_engine_has_one_default_and_versions_in_order():
    for engine in shipped().engines:
        known = shipped().versions(engine)
        assert sum(one.default for one in known) == 1 and any(one.measured for one in known)
        assert [shipped().resolved(engine, one.since) for one in known] == list(known)
    names = [one.name for one in shipped().every()]
    assert len(set(names)) == len(names)


# ---- files -------------------------------------------------------------------------------------------


def test_every_figure_has_a_source():
    for one in shipped().every():
        differing = [key for key in vars(one) if key in one.sources]
        assert differing and all(len(one.sources[key]) > 20 for key in differing)
        assert {key for key in vars(one) if key.endswith("_s") and getattr(one, key)} <= set(one.sources)
        assert {key for key in BYTES if getattr(one, key)} <= set(one.sources)


def test_figures_are_what_their_literals_say_to_the_last_digit():
    made, old = runtime("vllm"), runtime(OLD)
    assert (made.step_s, made.sequence_s, made.layer_s, made.first_s) == (0.6e-3, 40e-6, 5e-6, 7e-3)
    assert made.chunks == ((0.0, 2048), (70.0, 8192)) and (made.reserve, made.graph_bytes) == (0.2 * 2**30, 0.0)
    assert (old.gap_s, old.hop_s, old.queue, old.reserve, old.score_bytes) == (10e-6, 187e-6, 850, 0.7e9, 4.0)
    assert runtime("trtllm").custom_limits == ((2, 2.0**23), (4, 2.0**20), (8, 2.0**19))


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("step_s: {value: 1, unit: ms, source: here}", ""),
        ("step_s: {value: 1, source: here}", "step_s: 1 has no unit"),
        ("step_s: {value: 1, unit: GB, source: here}", "step_s: unit 'GB' does not fit"),
        ("step_s: {value: 1, unit: ms, source: there}", "step_s: source 'there' is not among"),
        ("step_s: 1 ms", "step_s: '1 ms': expected value, unit and source"),
        ("stepp_s: {value: 1, unit: ms, source: here}", "stepp_s: unknown key; did you mean 'step_s'?"),
        ("mixes: {value: maybe, source: here}", "mixes: 'maybe' is not true or false"),
    ],
)
def test_adding_a_version_is_adding_a_file_and_faults_are_named(tmp_path, line, problem):
    file = tmp_path / "mine@1.0.yaml"
    file.write_text(f"name: mine@1.0\ntitle: Mine\nversion: '1.0'\nsources:\n  here: this test\n{line}\n")
    files = Runtimes({"mine@1.0": file}, built_in())
    if not problem:
        made = files.of("mine")
        assert made.step_s == 1e-3 and made.name == "mine@1.0" and not made.measured
        return
    with pytest.raises(InputError) as refused:
        files.of("mine")
    assert str(refused.value).startswith(f"{file}:6: {problem}")


# ---- llama.cpp ---------------------------------------------------------------------------------------

MEASURED = [  # ggml-org/llama.cpp, pull requests 15802, 16834, 17505: tokens/s
    ("rtx-3090", "llama-3.1-8b", "q4_0", 0, 512, 155.02),
    ("rtx-4090", "llama-3.1-8b", "q4_0", 32_768, 512, 98.14),
    ("rtx-4090", "gpt-oss-20b", "mxfp4", 0, 128, 186.10),
    ("rtx-4090", "qwen3-30b-a3b", "q4_0", 0, 128, 161.55),
]


@pytest.mark.parametrize(("gpu", "model", "precision", "depth", "tokens", "measured"), MEASURED)
def test_decode_of_2025_lies_in_its_interval(gpu, model, precision, depth, tokens, measured):
    row = row_of(gpu, model, prompt=depth + 1, output=tokens, precision=precision, runtime="llama.cpp")
    assert row["tpot_s_p10"] < 1 / measured < row["tpot_s_p90"]


def test_a_prompt_behind_a_long_cache_needs_fused_attention():
    """512 tokens behind 32,768 on an RTX 3090: 1,471 tokens/s with it (pull request 17505)."""
    asked = {"prompt": 33_280, "prefix_hit": 0.98461538, "output": 1, "precision": "q4_0"}
    fused, old = (row_of("rtx-3090", "llama-3.1-8b", runtime=name, **asked) for name in ("llama.cpp", OLD))
    seconds = 512 / 1470.93
    assert fused["ttft_s_p10"] < seconds < fused["ttft_s_p90"] < old["ttft_s"]
    assert old["activations_memory_bytes"] > 32 * 512 * 33_280 * 4 > 10 * fused["activations_memory_bytes"]
    assert fused["logits_memory_bytes"] > 512 * 128_256 * 4  # of all tokens of a ubatch


def test_mxfp4_is_a_type_of_files_from_august_2025_on():
    held = row_of("rtx-4090", "gpt-oss-20b", prompt=1, output=2, precision="mxfp4", runtime="llama.cpp")
    assert held["weights_bytes_per_gpu"] == pytest.approx(12.1e9, rel=0.01)  # ggml-org/gpt-oss-20b-GGUF
    plain = row_of("h100-sxm", "gpt-oss-20b", prompt=1, output=2, precision="mxfp4", runtime="vllm")
    assert plain["weights_bytes_per_gpu"] > 1.1 * held["weights_bytes_per_gpu"]  # all but the experts in 16 bits
    with pytest.raises(InputError, match=r"'mxfp4' is not in llama.cpp@b3622 \(b3622 to b6096 .*llama.cpp@b6097 or"):
        row_of("rtx-4090", "gpt-oss-20b", prompt=1, output=2, precision="mxfp4", runtime="llama.cpp@b6000")
    with pytest.raises(InputError, match=r"'fp8' is no GGUF type; llama\.cpp runs fp16 and mxfp4, q8_0"):
        row_of("rtx-4090", "gpt-oss-20b", prompt=1, output=2, precision="fp8", runtime="llama.cpp")


@pytest.mark.parametrize("gpu", ["rtx-3090", "h100-sxm", "v100-sxm-16gb", "mi300x", "apple-m2-ultra-76c"])
def test_a_newer_build_decodes_no_slower_and_a_sequence_more_costs_time(gpu):
    for model in ("llama-3.2-1b", "qwen3-30b-a3b"):
        seconds = {}
        for one in shipped().versions("llama.cpp"):
            job = simgpu.Inference(prompt=1, output=2, precision="q4_0", runtime=one.name)
            made = deploy(CATALOGUE.cluster(gpu), job, CATALOGUE.model(model), Plan(), one, RunOptions("fp16"))
            times = [made.decode(batch, 1024).seconds for batch in (1, 2, 3)]
            assert times == sorted(times)
            seconds[one.since] = times[0]
        assert seconds["b3622"] <= seconds["b2800"]
        assert model != "llama-3.2-1b" or seconds["b6097"] <= seconds["b3622"]


def test_products_in_integers_grow_with_rows_and_pass_neither_peak_nor_bandwidth():
    for gpu in ("rtx-4090", "b300-sxm", "t4"):
        cluster = CATALOGUE.cluster(gpu)
        timer = GPUTimer(cluster.gpu, cluster.kernel)
        rows = np.asarray([9, 16, 64, 512, 4096])
        found = timer.matrix.mmq(rows, 14_336, 4096, "q4_0")
        assert (np.diff(found.seconds) > 0).all()
        assert (2 * rows * 14_336 * 4096 / found.seconds < timer.peak("int8")).all()
        assert (14_336 * 4096 * 0.5625 / found.seconds < cluster.gpu.memory.bandwidth.si).all()
        assert found.seconds[0] > timer.matrix.gemv(8, 14_336, 4096, weights="q4_0").memory


# ---- intervals ---------------------------------------------------------------------------------------


def test_an_interval_outside_the_measured_version_is_wider_by_what_lies_between_versions():
    asked = {"prompt": 512, "output": 64}
    known, other = (row_of("h100-sxm", "llama-3.1-8b", runtime=name, **asked) for name in ("vllm", "vllm@0.20"))
    assert known["tpot_s"] == other["tpot_s"]  # they differ in memory alone
    for end in ("tpot_s_p10", "tpot_s_p90"):
        near = abs(log(known[end] / known["tpot_s"]))
        assert abs(log(other[end] / other["tpot_s"])) == pytest.approx(hypot(near, component("rate", SOFTWARE).reach))
    assert "software version never measured" in other["distance"] and "software" not in known["distance"]


def test_vllm_by_version_differs_in_its_host_and_its_share_of_memory():
    rows = {one.since: row_of("h100-sxm", "llama-3.1-8b", prompt=512, output=64, runtime=f"vllm@{one.since}")
            for one in shipped().versions("vllm")}  # fmt: skip
    tpot = {since: row["tpot_s"] for since, row in rows.items()}
    assert (
        tpot["0.2"]
        > tpot["0.3"]
        == tpot["0.4"]
        > tpot["0.6"]
        > tpot["0.8"]
        == tpot["0.9"]
        == tpot["0.12"]
        > tpot["0.14"]
        == tpot["0.20"]
    )
    assert tpot["0.6"] - tpot["0.8"] == pytest.approx(1.4e-3)
    assert tpot["0.12"] - tpot["0.14"] == pytest.approx(0.6e-3 + 40e-6 - 0.1e-3)  # the GPU hides the host of one
    assert rows["0.20"]["cache_tokens"] > rows["0.12"]["cache_tokens"]
    assert rows["0.4"]["runtime"] == "vllm@0.4" and rows["0.14"]["runtime"] == "vllm"


# ---- what is printed ---------------------------------------------------------------------------------


def cli(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def test_lists_and_tables_say_which_version(tmp_path):
    listed = cli("list", "runtimes").stdout
    assert "llama.cpp@b6327" in listed and "the default of llama.cpp, interval widened" in listed
    shown = cli("show", "vllm@0.6.3").stdout
    assert "0.6 to 0.7" in shown and "step_s" in shown and "2 ms" in shown and "of another version, widened" in shown
    file = tmp_path / "one.yaml"
    job = "{kind: inference, prompt: 8, output: 2, runtime: RUNTIME}"
    notes = {}
    for name in ("vllm", "vllm@0.13", "vllm@0.7"):
        asked = job.replace("RUNTIME", name)
        file.write_text(f"scenario:\n  model: llama-3.2-1b\n  cluster: l4\n  workload: {asked}\n")
        notes[name] = [line for line in cli("run", file, "-q", "--no-plots").stdout.splitlines() if "vLLM, V" in line]
    assert notes["vllm"] == []
    assert notes["vllm@0.13"] == [
        "vllm@0.13: vLLM, V1 engine with CUDA graphs, the host between two steps; 0.12 and 0.13"
    ]
    assert notes["vllm@0.7"][0].endswith(
        "its interval is that of 0.12, 0.14, widened because versions of an engine differ"
    )
    explained = cli("explain", file).stdout
    assert "widened because versions of an engine differ" in " ".join(explained.split())
    found = cli("resolve", file).stdout
    assert '"runtime.since"' in found and "runtimes/vllm@0.6.yaml" in found and "speed benchmark" in found
