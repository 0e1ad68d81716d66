"""Command lines of load tools and servers: each flag means what it means in its tool."""

import csv
import re
from pathlib import Path

import pytest

from simgpu import Catalogue, InputError, Traffic
from simgpu.model.published import precision_named
from simgpu.study.capacity.serving import serve_like
from simgpu.workload.server.like import LOADS, SERVERS, load_like, server_like

TABLE = Path(__file__).parents[3] / "shared" / "measurements" / "serving_loadtests.csv"


def job(text, **more):
    """The job of a command line."""
    meant = load_like(text)
    keys = {**meant.keys, **(meant.cases[0][1] if meant.cases else {}), **more}
    return Traffic(**{key.removeprefix("workload."): value for key, value in keys.items()})


# ---- load tools --------------------------------------------------------------------------------------


def test_vllm_bench_serve():
    made = job("vllm bench serve --random-input-len 1000 --random-output-len 99 --random-range-ratio 0.15 "
               "--request-rate 8 --burstiness 0.5 --max-concurrency 64 --num-prompts 500 --seed 3 "
               "--goodput ttft:200 tpot:50 e2el:9000")  # fmt: skip
    assert (made.process, made.rate, made.burstiness, made.requests, made.scaled) == ("gamma", 8.0, 0.5, 500, True)
    assert (made.lengths, made.prompt_range, made.output_range) == ("uniform", (850, 1150), (84, 114))
    assert (made.max_concurrency, made.seed) == (64, 3)
    assert (made.ttft_limit_s, made.tpot_limit_s, made.e2e_limit_s) == (0.2, 0.05, 9.0)
    plain = job("vllm bench serve")
    assert (plain.process, plain.prompt, plain.output, plain.requests) == ("burst", 1024, 128, 1000)
    equal = job("vllm bench serve --request-rate 4 --burstiness inf")
    assert (equal.process, equal.scaled) == ("constant", False)
    both = job('vllm bench serve --random-range-ratio \'{"input": 0.5, "output": 0}\'')
    assert (both.prompt_range, both.output_range) == ((512, 1536), (128, 128))
    ramp = job("vllm bench serve --ramp-up-strategy exponential --ramp-up-start-rps 1 --ramp-up-end-rps 9")
    assert (ramp.process, ramp.ramp, ramp.rate, ramp.end_rate, ramp.requests) == ("ramp", "factor", 1, 9, 1000)
    turns = job("vllm bench serve --dataset-name sharegpt --dataset-path ShareGPT_V3_unfiltered_cleaned_split.json")
    assert (turns.lengths, turns.prompt, turns.output_range) == ("sharegpt", 220, None)
    assert job("vllm bench serve --dataset-name sharegpt --sharegpt-output-len 64").output_range == (64, 64)
    shared = job("vllm bench serve --dataset-name prefix_repetition --prefix-repetition-num-prefixes 7")
    assert (shared.prefixes, shared.prefix_tokens, shared.prompt) == (7, 256, 256)


def test_sglang_bench_serving():
    made = job("python3 -m sglang.bench_serving --dataset-name random --random-input-len 1000 --random-output-len 100 "
               "--random-range-ratio 0.5 --request-rate 4 --num-prompts 80")  # fmt: skip
    assert (made.prompt_range, made.output_range, made.prompt) == ((500, 1000), (50, 100), 750)
    assert (made.process, made.rate, made.scaled, made.seed) == ("poisson", 4.0, False, 42)
    assert job("python -m sglang.bench_serving --dataset-name random").prompt_range == (1, 1024)
    shared = job("python -m sglang.bench_serving --dataset-name generated-shared-prefix --gsp-num-groups 8")
    assert (shared.requests, shared.prefixes, shared.prefix_tokens, shared.prompt) == (128, 8, 2048, 128)
    replay = job("python -m sglang.bench_serving --dataset-name mooncake --dataset-path t.jsonl "
                 "--mooncake-slowdown-factor 2 --num-prompts 50")  # fmt: skip
    assert (replay.process, replay.trace, replay.time_scale, replay.requests) == ("trace", "t.jsonl", 2.0, 50)


def test_inferencex():
    shell = job("run_benchmark_serving --model m --port 8888 --backend vllm --input-len 8192 --output-len 1024 "
                "--random-range-ratio 0.8 --num-prompts 640 --max-concurrency 64 --result-filename f --result-dir d "
                "--use-chat-template")  # fmt: skip
    assert (shell.process, shell.requests, shell.max_concurrency) == ("burst", 640, 64)
    assert (shell.prompt_range, shell.output_range) == ((6553, 8192), (819, 1024))
    assert job("run_benchmark_serving --input-len 10 --output-len 10 --max-concurrency 4").requests == 40
    python = load_like("python3 InferenceX/utils/bench_serving/benchmark_serving.py --dataset-name random")
    assert python.keys["workload.prompt"] == 1024 and "workload.lengths" not in python.keys
    assert "ignore-eos" in python.notes[0]


def test_genai_perf_and_aiperf():
    old = job("genai-perf profile -m llama --concurrency 8 --synthetic-input-tokens-mean 200 "
              "--synthetic-input-tokens-stddev 20 --output-tokens-mean 100 --extra-inputs ignore_eos:true "
              "--streaming -u localhost:8000 --goodput time_to_first_token:300 inter_token_latency:20")  # fmt: skip
    assert (old.process, old.clients, old.requests, old.distinct) == ("closed", 8, 16, 100)
    assert (old.lengths, old.prompt, old.spread, old.output_spread) == ("normal", 200, 0.1, 0.0)
    assert (old.ttft_limit_s, old.tpot_limit_s) == (0.3, 0.02)
    assert job("genai-perf profile -m m --request-rate 5 --osl 9").process == "constant"
    new = job("aiperf profile --model m --request-rate 5 --osl 9 --request-count 70 --num-prompts 30 --concurrency 4")
    assert (new.process, new.rate, new.requests, new.distinct, new.max_concurrency) == ("poisson", 5.0, 70, 30, 4)
    gamma = job("aiperf profile -m m --request-rate 5 --arrival-pattern gamma --arrival-smoothness 2.5 --osl 9")
    assert (gamma.process, gamma.burstiness) == ("gamma", 2.5)
    timed = job("aiperf profile -m m --concurrency 4 --benchmark-duration 60 --osl 9")
    assert (timed.clients, timed.duration_s, timed.requests) == (4, 60.0, None)
    talk = job("aiperf profile -m m --concurrency 4 --conversation-num 20 --conversation-turn-mean 5 "
               "--conversation-turn-delay-mean 1500 --isl 50 --osl 9")  # fmt: skip
    assert (talk.turns, talk.think_s, talk.requests, talk.distinct) == (5, 1.5, 20, None)
    trace = job("aiperf profile -m m --input-file t.jsonl --custom-dataset-type mooncake_trace --fixed-schedule "
                "--fixed-schedule-start-offset 2000 --fixed-schedule-end-offset 62000 --isl-block-size 64")  # fmt: skip
    assert (trace.trace, trace.trace_start_s, trace.duration_s, trace.trace_block) == ("t.jsonl", 2.0, 60.0, 64)
    several = load_like("aiperf profile -m m --concurrency 1,8,64 --osl 9")
    assert [(name, keys["workload.clients"], keys["workload.requests"]) for name, keys in several.cases] == [
        ("1 clients", 1, 10), ("8 clients", 8, 16), ("64 clients", 64, 128),
    ]  # fmt: skip


def test_guidellm():
    old = load_like("guidellm benchmark --target http://localhost:8000 --rate-type sweep --max-seconds 30 "
                    "--data prompt_tokens=256,output_tokens=128")  # fmt: skip
    assert (old.sweep.count, old.sweep.most, old.keys["workload.duration_s"]) == (10, 512, 30.0)
    rates = load_like("guidellm benchmark run --profile constant --rate 1,2,4 --max-requests 50 "
                      '--data \'{"prompt_tokens": 256, "output_tokens": 128, "prompt_tokens_stdev": 64}\'')  # fmt: skip
    assert [name for name, _ in rates.cases] == ["1/s", "2/s", "4/s"]
    assert rates.keys["workload.prompt_range"] == [1, 576] and rates.keys["workload.spread"] == 0.25
    new = job("guidellm run --backend kind=openai_http,target=http://h:8000,model=m "
              "--profile kind=concurrent,streams=16 --data kind=synthetic_text,prompt_tokens=100,"
              "prompt_tokens_min=50,prompt_tokens_max=150,output_tokens=9 "
              "--constraint kind=max_requests,count=200 --constraint kind=max_duration,seconds=60 "
              "--seed value=7")  # fmt: skip
    assert (new.process, new.clients, new.requests, new.duration_s, new.seed) == ("closed", 16, 200, 60.0, 7)
    assert (new.lengths, new.prompt_range, new.output_range) == ("uniform", (50, 150), None)
    data = "--data prompt_tokens=9,output_tokens=9"
    assert job(f"guidellm benchmark --rate-type synchronous {data}").clients == 1
    assert job(f"guidellm benchmark --rate-type throughput {data}").clients == 512
    assert job(f"guidellm benchmark --rate-type poisson --rate 3 {data}").requests == 1000


INFERENCE_PERF = """
api: {type: completion, streaming: true, headers: {x-slo-ttft-ms: "1000", x-slo-tpot-ms: "40"}}
data:
  type: random
  input_distribution: {min: 10, max: 2000, mean: 1000, std_dev: 250}
  output_distribution: {type: fixed, mean: 100}
load:
  type: constant
  stages: [{rate: 2, duration: 30}, {rate: 4.5, duration: 20}]
server: {type: vllm, model_name: "Qwen/Qwen3-8B", base_url: "http://0.0.0.0:8000"}
"""


def test_inference_perf(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(INFERENCE_PERF)
    meant = load_like(f"inference-perf --config_file {file}")
    assert meant.model == "Qwen/Qwen3-8B"
    assert [(name, keys["workload.requests"], keys["workload.scaled"]) for name, keys in meant.cases] == [
        ("2/s", 60, True), ("4.5/s", 90, True),
    ]  # fmt: skip
    made = job(f"inference-perf -c {file}")
    assert (made.lengths, made.prompt, made.spread, made.prompt_range) == ("normal", 1000, 0.25, (10, 2000))
    assert (made.output, made.output_spread, made.ttft_limit_s, made.tpot_limit_s) == (100, 0.0, 1.0, 0.04)
    flags = job(f"inference-perf -c {file} --load.type poisson --data.input_distribution.type uniform")
    assert (flags.process, flags.duration_s, flags.requests, flags.prompt) == ("poisson", 30.0, None, 1005)
    file.write_text(INFERENCE_PERF.replace("type: random", "type: shared_prefix").replace("constant", "concurrent")
                    .replace("{rate: 2, duration: 30}", "{concurrency_level: 3, num_requests: 40}")
                    .replace(", {rate: 4.5, duration: 20}", ""))  # fmt: skip
    shared = job(f"inference-perf -c {file}")
    assert (shared.clients, shared.requests, shared.prefixes, shared.prefix_tokens) == (3, 40, 10, 100)


# ---- servers -----------------------------------------------------------------------------------------


def test_servers():
    vllm = server_like("VLLM_USE_V1=1 vllm serve org/m --trust-remote-code -tp 4 --data_parallel_size 2 "
                       "--enable-expert-parallel --max-num-seqs=64 --no-enable-prefix-caching --kv-cache-dtype fp8 "
                       "--num-gpu-blocks-override 100 --async-scheduling --max-model-len 32768")  # fmt: skip
    assert (vllm.model, vllm.keys["plan.tp"], vllm.keys["plan.dp"], vllm.keys["plan.ep"]) == ("org/m", 4, 2, 8)
    assert (vllm.keys["workload.cache_tokens"], vllm.keys["workload.prefix_cache"]) == (1600, False)
    assert "works ahead" in vllm.notes[0] and vllm.keys["workload.max_model_len"] == 32768
    guess = server_like("""vllm serve m --speculative-config '{"method": "mtp", "num_speculative_tokens": 2}' """
                        "--cuda-graph-sizes 1 2 4 8 --max-model-len 32k").keys  # fmt: skip
    assert guess["workload.speculative"] == {"draft": "mtp", "tokens": 2}
    assert (guess["workload.graph_sizes"], guess["workload.max_model_len"]) == ([1, 2, 4, 8], 32000)
    sglang = server_like("python3 -m sglang.launch_server --model-path m --tp 8 --dp 8 --ep 8 --enable-dp-attention "
                         "--chunked-prefill-size -1 --page-size 64")  # fmt: skip
    assert (sglang.keys["plan.tp"], sglang.keys["plan.dp"], sglang.keys["plan.ep"]) == (1, 8, 8)
    assert sglang.keys["workload.block"] == 64 and "workload.chunk" not in sglang.keys


@pytest.mark.parametrize(
    ("line", "dispatcher"),
    [
        ("vllm serve m --data-parallel-size 8 --enable-expert-parallel --all2all-backend deepep_low_latency", "deepep"),
        ("vllm serve m --data-parallel-size 8 --enable-expert-parallel --all2all-backend pplx", None),
        ("vllm serve m --tensor-parallel-size 8 --all2all-backend deepep_low_latency", None),
        ("sglang serve --model-path m --tp 8 --dp 8 --enable-dp-attention --moe-a2a-backend deepep", "deepep"),
        ("sglang serve --model-path m --tp 8 --ep 8 --moe-a2a-backend deepep", None),
    ],
)
def test_a_server_is_read_with_what_brings_rows_to_experts(line, dispatcher):
    assert server_like(line).keys.get("plan.dispatcher") == dispatcher


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("Qwen/Qwen3-14B-FP8", "fp8"), ("Qwen/Qwen3-14B-AWQ", "int4"), ("nvidia/Qwen3-8B-NVFP4-v2", "fp4"),
        ("RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w8a8", "int8"), ("Qwen/Qwen3-14B", None),
    ],
)  # fmt: skip
def test_the_name_of_a_checkpoint_says_its_precision(name, precision):
    assert precision_named(name) == precision


@pytest.mark.slow
def test_a_quantised_checkpoint_is_served_as_such():
    load = "vllm bench serve --num-prompts 9 --random-input-len 99 --random-output-len 9"
    asked = [serve_like("", "h100-sxm", load, f"vllm serve {text}", (), Catalogue()) for text in
             ("Qwen/Qwen3-8B", "Qwen/Qwen3-8B-FP8", "Qwen/Qwen3-8B-FP8 --quantization awq")]  # fmt: skip
    assert [one.keys.get("workload.precision") for one in asked] == [None, "fp8", "int4"]
    slow, fast = (one.results[""].tpot_s for one in asked[:2])
    assert fast < 0.8 * slow


def test_options_of_tensorrt_llm_are_read(tmp_path):
    file = tmp_path / "options.yaml"
    file.write_text("max_batch_size: 256\nkv_cache_config: {free_gpu_memory_fraction: 0.8, enable_block_reuse: false, "
                    "dtype: fp8}\ncuda_graph_config: {enable_padding: true}\n")  # fmt: skip
    meant = server_like(f"trtllm-serve serve org/m --tp-size 4 --max_num_tokens=16384 --config {file}")
    assert meant.model == "org/m" and meant.ignored == ["cuda_graph_config"]
    assert meant.keys == {
        "workload.runtime": "trtllm", "plan.tp": 4, "workload.chunk": 16384, "workload.sequences": 256,
        "workload.memory_share": 0.8, "workload.prefix_cache": False, "workload.kv_cache": "fp8",
    }  # fmt: skip
    file.write_text("enable_attention_dp: true\n")
    with pytest.raises(InputError, match=r"options\.yaml:1: .*not modelled"):
        server_like(f"trtllm-serve org/m --extra_llm_api_options {file}")


# ---- what is not understood --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("python -m sglang.bench_serving", "'sharegpt' has lengths of its own"),
        ("aiperf profile -m m --isl 100", "--osl: is missing"),
        ("aiperf profile -m m --osl 9 --request-cancellation-rate 5", "cancelled requests are not modelled"),
        ("aiperf profile -m m --osl 9 --requestrate 5", "did you mean '--request-rate'"),
        ("genai-perf profile -m m --osl 9 --arrival-pattern poisson", "unknown flag '--arrival-pattern'"),
        ("guidellm benchmark --rate-type sweeping --data prompt_tokens=9,output_tokens=9", "did you mean 'sweep'"),
        ("guidellm benchmark --rate-type poisson --data prompt_tokens=9,output_tokens=9", "--rate: is missing"),
        ("guidellm run --profile kind=synchronous --data prompt_token=9,output_tokens=9", "lengths of its own"),
        ("guidellm run --profile kind=synchronous --data prompt_tokens=9,outputs=9", "'outputs' is not modelled"),
        ("guidellm benchmark --rate-type sweep --data wikitext", "'wikitext' has lengths of its own"),
        ("vllm bench serve --random-range-ratio 1.5", "expected 0 to less than 1"),
        ("vllm bench serve --ramp-up-strategy linear", "expected --ramp-up-start-rps"),
        ("vllm bench serve --goodput ttfb:3", "did you mean 'ttft'"),
        ("vllm bench serve --max-concurrency 0", "expected 1 or more"),
        ("vllm bench serve --request-rate nan", "expected 0 or more"),
        ("inference-perf", "expected the YAML file"),
        ("inference-perf -c /nowhere.yaml", "no such file"),
        ("wrk2 -t 4", "expected one of 'run_benchmark_serving"),
    ],
)
def test_loads_that_are_not_understood_are_one_line(text, says):
    with pytest.raises(InputError, match=re.escape(says)) as error:
        load_like(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("vllm serve m --max-num-seq 4", "did you mean '--max-num-seqs'"),
        ("vllm serve m --enforce-eager", "without CUDA graphs are not modelled"),
        ("vllm serve m --speculative-config '{}'", "method '' is not modelled; expected mtp or draft_model"),
        ('vllm serve m --speculative-config \'{"method": "mtp"}\'', "num_speculative_tokens '': expected 1"),
        ("vllm serve m --cuda-graph-sizes 1 x", "expected whole numbers"),
        ("sglang serve --model-path m --tp 4 --dp 3 --enable-dp-attention", "3 does not divide --tp-size 4"),
        ("trtllm-serve m --tp_sizes 4", "did you mean '--tp_size'"),
        ("ollama serve", "expected one of 'vllm serve"),
    ],
)
def test_servers_that_are_not_understood_are_one_line(text, says):
    with pytest.raises(InputError, match=re.escape(says)) as error:
        server_like(text)
    assert "\n" not in str(error.value)


def test_a_stage_that_is_wrong_is_named(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(INFERENCE_PERF.replace("rate: 4.5", "rate: 0"))
    with pytest.raises(InputError, match=r"run\.yaml:\d+: load\.stages: rate of stage 1 is 0") as error:
        load_like(f"inference-perf -c {file}")
    assert "\n" not in str(error.value)


def test_lengths_may_be_given_elsewhere():
    meant = load_like("python -m sglang.bench_serving --request-rate 4", told=True)
    assert meant.keys["workload.rate"] == 4 and "workload.prompt" not in meant.keys


def test_no_flag_is_two_things():
    for tool in (*LOADS, *SERVERS):
        lists = [list(tool.kinds), tool.nothing.split(), tool.switches.split(), list(tool.refused), list(tool.short)]
        names = [name for one in lists for name in one]
        assert len(names) == len(set(names)), (tool.name, sorted(name for name in names if names.count(name) > 1))
        assert set(tool.short.values()) <= set(names), tool.name


@pytest.mark.skipif(not TABLE.is_file(), reason="needs the measurements")
def test_command_lines_of_measured_runs_are_read_or_say_why():
    """Of the commands that were published with measured load tests, all but those of other kinds are understood."""
    with TABLE.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    read = {load_like: "bench", server_like: "serve"}
    for reader, column in read.items():
        texts = {row[column] for row in rows if row[column] and not row[column].startswith("mindie")}
        refused = {}
        for text in texts:
            try:
                reader(text)
            except InputError as error:
                refused[text] = str(error)
        says = "lengths of its own|not modelled|is no command line|images"
        assert all(re.search(says, why) for why in refused.values()), refused
        assert len(refused) < 0.4 * len(texts)
