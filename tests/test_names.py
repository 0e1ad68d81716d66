"""Names go where objects go in every public call, and a slip in one says the nearest name in one line."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import simgpu
from simgpu.workload.options import RunOptions

MODEL = "llama-3.2-1b"
PREFILL = simgpu.Prefill(tokens=8)
TRAINING = {"kind": "training", "batch": 4, "tokens": 8}
BATCH = {"kind": "inference", "batch": 1, "prompt": 8, "output": 2}
DRAFTED = {**BATCH, "speculative": {"draft": MODEL, "acceptance": 0.5}}
STUDY: dict[str, Any] = {
    "scenario": {"model": MODEL, "cluster": "dgx-h100", "workload": {"kind": "prefill", "tokens": 8}},
    "vary": {"plan.tp": [1, 2]},
}
NO_NAMES = {
    *(
        "catalogue",
        "nodes",
        "sizes",
        "gpus",
        "sustained",
        "as_built",
        "context",
        "users",
        *("rate", "think_s", "in_flight", "headroom", "availability"),
        "change",
        "price",
        "min_quality",
        "jobs",
        "limit",
        "top",
    ),
    *("retry_failed", "scheduler", "dask_workers", "store", "files", "data", "file", "title", "window", "ranks"),
    *("where", "folded", "require_fit", "top"),
    *("epoch", "tokens", "serve", "row", "out", "tornado", "markdown", "slide", "pdf"),
    *("logs", "of", "cases", "free", "tries", "percentile", "page", "trace"),
    *("fused", "dims"),  # slips in dimensions: tests/model/test_onnx_import.py
}
"""Parameters that are numbers, flags, addresses, paths, words for people, or conditions."""
TOPO = str(Path(__file__).parent / "data" / "machines" / "topo-dgx-h100.txt")
NCCL = "nccl.log"
LOG = """# nThread 1 nGpus 8 minBytes 1073741824 maxBytes 1073741824
#       size         count      type   redop    root     time   algbw   busbw #wrong
  1073741824     268435456     float     sum      -1  4000.00 268.44 469.76 0 4000.00 268.44 469.76 0
"""
OBJECTS = {("figures", "answer"), ("save_trace", "result"), ("plot_timeline", "result")}
OBJECTS |= {("capture", "module"), ("capture", "inputs")}
OBJECTS |= {(call, "case") for call in ("compare", "replay", "what_breaks", "place")}
"""What a call made, or PyTorch, which has no name; numbers of rows."""


def ask(**changed: Any) -> Any:
    given = {"cluster": "dgx-h100", "workload": PREFILL, "model": MODEL, **changed}
    return simgpu.simulate(**given)


def collective(**changed: Any) -> Any:
    return simgpu.time_collective(**{"cluster": "dgx-h100", "kind": "all_reduce", "sizes": 8, **changed})


def each(name: str, good: str, slip: str, *more: str) -> dict[tuple[str, str], tuple[Callable[[], Any], str]]:
    """Of a call that takes an experiment and settings."""
    call = getattr(simgpu, name)
    return {
        (name, "experiment"): (lambda: call(slip, *more), good),
        (name, "settings"): (lambda: call(STUDY, *more, "dtyp=fp8"), "dtype"),
    }


SLIPS: dict[tuple[str, str], tuple[Callable[[], Any], str]] = {
    ("simulate", "cluster"): (lambda: ask(cluster="dgx-h10"), "dgx-h100"),
    ("simulate", "workload"): (lambda: ask(workload={"kind": "prefil", "tokens": 8}), "prefill"),
    ("simulate", "model"): (lambda: ask(model=f"{MODEL}b"), MODEL),
    ("simulate", "plan"): (lambda: ask(plan={"sequence_paralel": True}), "sequence_parallel"),
    ("simulate", "options"): (lambda: ask(options={"dtyp": "fp8"}), "dtype"),
    ("simulate", "settings"): (lambda: ask(dtyp="fp8"), "dtype"),
    ("simulate", "draft"): (lambda: ask(workload=DRAFTED, model="llama-3.1-8b", draft=f"{MODEL}b"), MODEL),
    ("simulate", "dtype"): (lambda: ask(dtype="bf61"), "bf16"),
    ("simulate", "accumulate"): (lambda: ask(accumulate="fp23"), "fp32"),
    ("simulate", "algorithm"): (lambda: ask(algorithm="rings"), "ring"),
    ("simulate", "protocol"): (lambda: ask(protocol="simpel"), "simple"),
    ("simulate", "clocks"): (lambda: ask(clocks="brust"), "burst"),
    ("simulate", "framework"): (lambda: ask(workload=TRAINING, framework="megatorn"), "megatron"),
    ("simulate", "workload.runtime"): (lambda: ask(workload={**BATCH, "runtime": "vlm"}), "vllm"),
    ("simulate", "workload.key"): (lambda: ask(workload={"kind": "prefill", "token": 8}), "tokens"),
    ("topology_of", "cluster"): (lambda: simgpu.topology_of("dgx-h10"), "dgx-h100"),
    ("time_collective", "cluster"): (lambda: collective(cluster="dgx-h10"), "dgx-h100"),
    ("time_collective", "kind"): (lambda: collective(kind="all_reduec"), "all_reduce"),
    ("time_collective", "how"): (lambda: collective(dtyp="bf16"), "dtype"),
    ("time_collective", "library"): (lambda: collective(library="ncl"), "nccl"),
    ("load_model", "name"): (lambda: simgpu.load_model(f"{MODEL}b"), MODEL),
    ("load_cluster", "name"): (lambda: simgpu.load_cluster("dgx-h10"), "dgx-h100"),
    ("load_cluster", "parameters"): (
        lambda: simgpu.load_cluster("dgx-h100", gpu__memory__bandwith="3 TB/s"),
        "bandwidth",
    ),
    ("load_gpu", "name"): (lambda: simgpu.load_gpu("h100-sxmm"), "h100-sxm"),
    ("load_timer", "name"): (lambda: simgpu.load_timer("h100-sxmm"), "h100-sxm"),
    ("fit", "models"): (lambda: simgpu.fit(f"{MODEL}b"), MODEL),
    ("fit", "gpu"): (lambda: simgpu.fit(MODEL, gpu="h100-sxmm"), "h100-sxm"),
    ("fit", "precision"): (lambda: simgpu.fit(MODEL, gpu="l4", precision="fp88"), "fp8"),
    ("fit", "runtime"): (lambda: simgpu.fit(MODEL, gpu="l4", runtime="vlm"), "vllm"),  # type: ignore[arg-type]
    ("fit", "kv_cache"): (lambda: simgpu.fit(MODEL, gpu="l4", kv_cache="fp88"), "fp8"),
    **each("run_experiment", "tp2_scaling", "tp2_scalin"),
    **each("recommend", "a100_or_4090", "a100_or_409"),
    ("plan_capacity", "experiment"): (lambda: simgpu.plan_capacity("capacity_pla", rate=1), "capacity_plan"),
    ("plan_capacity", "settings"): (lambda: simgpu.plan_capacity("capacity_plan", "plan.tpp=2", rate=1), "tp"),
    **each("explain", "tp2_scaling", "tp2_scalin"),
    **each("sweep", "tp2_scaling", "tp2_scalin"),
    **each("search", "gpt3_search", "gpt3_serch"),
    **each("sensitivity", "what_matters", "what_maters"),
    ("sensitivity", "value"): (lambda: simgpu.sensitivity(STUDY, value="stepp_s", case="1"), "step_s"),
    ("sensitivity", "case"): (lambda: simgpu.sensitivity(STUDY, case="TP 3"), "TP 2"),
    ("diff", "a"): (lambda: simgpu.diff("tp2_scalin", STUDY), "tp2_scaling"),
    ("diff", "b"): (lambda: simgpu.diff((STUDY, 1), "tp2_scalin"), "tp2_scaling"),
    ("diff", "settings"): (lambda: simgpu.diff((STUDY, 1), (STUDY, 2), "HBM bandwidht=2x"), "HBM bandwidth"),
    ("diff", "settings_a"): (
        lambda: simgpu.diff((STUDY, 1), (STUDY, 2), settings_a=["HBM bandwidht=2x"]),
        "HBM bandwidth",
    ),
    ("diff", "settings_b"): (
        lambda: simgpu.diff((STUDY, 1), (STUDY, 2), settings_b=["HBM bandwidht=2x"]),
        "HBM bandwidth",
    ),
    ("diff", "value"): (lambda: simgpu.diff((STUDY, 1), (STUDY, 2), value="stepp_s"), "step_s"),
    ("results", "status"): (lambda: simgpu.results("s.sqlite", status="okk"), "ok"),
    ("results", "experiment"): (lambda: simgpu.results("s.sqlite", experiment="smal"), "small"),
    ("results", "sort"): (lambda: simgpu.results("s.sqlite", sort="stepp_s"), "step_s"),
    ("validate", "target"): (lambda: simgpu.validate("kernel"), "kernels"),
    ("validate", "regime"): (lambda: simgpu.validate("kernels", regime="ful"), "full"),
    ("import_machine", "gpu"): (lambda: simgpu.import_machine(TOPO, gpu="h100-sxmm"), "h100-sxm"),
    ("import_machine", "network"): (
        lambda: simgpu.import_machine(TOPO, gpu="h100-sxm", network="infinband-ndr"),
        "infiniband-ndr",
    ),
    ("import_config", "cluster"): (lambda: simgpu.import_config("vllm serve Qwen/Qwen3-32B", "dgx-h10"), "dgx-h100"),
    ("import_config", "model"): (
        lambda: simgpu.import_config("vllm serve a/b", "dgx-h100", model=f"{MODEL}b"),
        MODEL,
    ),
    ("import_config", "settings"): (
        lambda: simgpu.import_config("vllm serve Qwen/Qwen3-32B", "dgx-h100", "dtyp=fp16"),
        "dtype",
    ),
    **each("launch", "tp2_scaling", "tp2_scalin", "vllm"),
    ("launch", "target"): (lambda: simgpu.launch("launch_llama70b", "vlm", row=1), "vllm"),
    ("largest", "machine"): (lambda: simgpu.largest("rtx-409", finetune="lora"), "rtx-4090"),
    ("largest", "finetune"): (lambda: simgpu.largest("rtx-4090", finetune="qlor"), "qlora"),
    ("largest", "family"): (lambda: simgpu.largest("rtx-4090", finetune="qlora", family=f"{MODEL}b"), MODEL),
    ("largest", "settings"): (lambda: simgpu.largest("rtx-4090", "dtyp=fp8", finetune="lora"), "dtype"),
    ("report", "given"): (lambda: simgpu.report("tp2_scalin"), "tp2_scaling"),
    ("report", "settings"): (lambda: simgpu.report(STUDY, settings=["dtyp=fp8"]), "dtype"),
    ("report", "value"): (lambda: simgpu.report(STUDY, value="stepp_s"), "step_s"),
    **each("what_breaks", "lost_nic", "lost_nik"),
    **each("share", "two_jobs", "two_jbs"),
    **each("place", "placement", "placemen"),
    ("compare", "experiment"): (lambda: simgpu.compare("tp2_scalin", logs="train.log"), "tp2_scaling"),
    ("compare", "settings"): (lambda: simgpu.compare("tp2_scaling", "dtyp=fp8", logs="train.log"), "dtype"),
    ("accept", "cluster"): (lambda: simgpu.accept("dgx-h10", logs=NCCL), "dgx-h100"),
    ("accept", "settings"): (lambda: simgpu.accept("dgx-h100", "gpu.memory.bandwith=1 TB/s", logs=NCCL), "bandwidth"),
    ("accept", "collective"): (lambda: simgpu.accept("dgx-h100", logs=NCCL, collective="all_reduc"), "all_reduce"),
    ("replay", "settings"): (lambda: simgpu.replay("step.json", "dtyp=fp8"), "dtype"),
    ("capacity", "settings"): (lambda: simgpu.capacity("capacity_plan", "dtyp=fp8"), "dtype"),
    ("import_onnx", "unknown"): (lambda: simgpu.import_onnx("m.onnx", unknown="memry"), "memory"),
    ("capture", "unknown"): (lambda: simgpu.capture(None, unknown="memry"), "memory"),
    ("import_onnx", "stack"): (lambda: simgpu.import_onnx("m.onnx", stack="pytorh"), "pytorch"),
    ("capture", "stack"): (lambda: simgpu.capture(None, stack="pytorh"), "pytorch"),
    ("calibrate", "gpu"): (lambda: simgpu.calibrate("rows.csv", gpu="h100-sxmm"), "h100-sxm"),
    ("calibrate", "what"): (lambda: simgpu.calibrate("rows.csv", what="gem"), "gemm"),
    ("calibrate", "regime"): (lambda: simgpu.calibrate("rows.csv", regime="ful"), "full"),
}


def test_every_parameter_of_every_public_call_is_tried() -> None:
    """A new call, or a new parameter of one, says here what a slip in its names is answered with."""
    expected = set()
    for name in simgpu.__all__:
        target = getattr(simgpu, name)
        if inspect.isfunction(target):
            expected |= {(name, one) for one in inspect.signature(target).parameters}
    expected |= {("simulate", one) for one in RunOptions.__dataclass_fields__}
    tried = {key for key in SLIPS if "." not in key[1]} - {("time_collective", "library")}
    assert tried | OBJECTS == {key for key in expected if key[1] not in NO_NAMES}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder with a store of one small sweep and a table of measured rows."""
    folder = tmp_path_factory.mktemp("names")
    simgpu.sweep({**STUDY, "experiment": "small"}, store=folder / "s.sqlite", jobs=1)
    (folder / NCCL).write_text(LOG)
    simgpu.save_trace(simgpu.run_experiment({"scenario": STUDY["scenario"]}).results[0], folder / "step.json")
    (folder / "rows.csv").write_text("m,n,k,dtype,latency_s\n4096,4096,4096,bf16,0.0002\n")
    return folder


@pytest.mark.parametrize(("call", "parameter"), SLIPS)
def test_a_slip_is_one_line_with_the_nearest_name(
    call: str, parameter: str, place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    ask_for, meant = SLIPS[call, parameter]
    with pytest.raises(simgpu.InputError) as caught:
        ask_for()
    assert meant in str(caught.value) and "\n" not in str(caught.value)
