"""Valid inputs that the drawn ones begin as: small, quick to answer, one for each kind of job and file."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]

_TRAINING: dict[str, Any] = {"kind": "training", "batch": 8, "tokens": 1024}
_SERVED: dict[str, Any] = {"kind": "serving", "concurrency": 8, "prompt": 256, "output": 32}
_ASKED: dict[str, Any] = {"kind": "inference", "batch": 2, "prompt": 256, "output": 32}


def _experiment(workload: dict[str, Any], model: str | None = "llama-3.2-1b", cluster: str = "dgx-h100",
                plan: dict[str, Any] | None = None, scenario: dict[str, Any] | None = None, **rest: Any) -> dict[str,
                Any]:  # fmt: skip
    asked = {"model": model, "cluster": cluster, "workload": workload, "plan": plan or {}, **(scenario or {})}
    return {"experiment": "drawn", "scenario": {key: value for key, value in asked.items() if value}, **rest}


OPERATORS = [
    {"op": "matmul", "name": "gemm", "m": 512, "n": 512, "k": 512, "split": "k"},
    {"op": "attention", "queries": 64, "keys": 128, "heads": 8, "kv_heads": 4, "head_dim": 64, "split": "heads"},
    {"op": "pointwise", "rows": 64, "width": 1024, "reads": 2, "writes": 1, "split": "rows"},
    {"op": "all_reduce", "name": "sum", "bytes": "1 MB"},
]
EXPERIMENTS: list[dict[str, Any]] = [
    _experiment(
        {"kind": "operators", "repeat": 2, "operators": OPERATORS}, None, plan={"tp": 2, "dp": 1},
        scenario={"dtype": "fp16", "hardware": {"gpu.power.tdp": "600 W"}},
        cases=[{"labels": {"case": "a", "group": "g"}}, {"labels": {"case": "b", "group": "g"}, "plan.tp": 4}],
        table=["case", "step_s", "efficiency"],
        plots=[{"kind": "bar", "name": "steps", "x": "case", "y": ["step_s"], "series": "group",
            "marks": {"step_s": "tp"}}],
        compare={"value": "step_s", "between": "case", "start": "a", "end": "b", "match": ["group"],
                 "steps": [{"what": "more GPUs", "keys": ["plan.tp"]}]},
    ),
    _experiment({"kind": "prefill", "batch": 2, "tokens": 512}, plan={"tp": 2, "sequence_parallel": True}),
    _experiment({"kind": "prefill", "batch": 1, "tokens": 256}, "mixtral-8x7b", "l40s-pcie-4x", {"tp": 4},
                {"dtype": "fp8", "algorithm": "ring", "protocol": "ll", "clocks": "burst"}),
    _experiment(_TRAINING | {"train_tokens": 1e12}, plan={"tp": 2, "pp": 2, "dp": 2, "micro_batch": 1, "zero": 1}),
    _experiment(_TRAINING | {"finetune": "lora", "rank": 8, "targets": ["qkv", "ffn_up"]}, plan={"dp": 4, "zero": 3},
                scenario={"framework": "pytorch-compiled"}),
    _experiment(_TRAINING | {"routing": "power_law_1.2", "clip": False}, "mixtral-8x7b", "dgx-h100-ib",
                {"ep": 8, "dp": 8, "micro_batch": 1, "recompute": "full"}, {"hardware": {"cluster.nodes": 2}}),
    _experiment(_TRAINING | {"optimizer": "sgd", "reduce": "bf16"}, cluster="rtx-4090-pcie-4x",
                plan={"pp": 4, "vp": 2, "schedule": "interleaved", "micro_batch": 1, "recompute": "selective"}),
    _experiment(_ASKED | {"runtime": "vllm", "precision": "fp8", "kv_cache": "fp8"}, plan={"tp": 2}),
    _experiment(_ASKED | {"runtime": "llama.cpp", "precision": "q4_k_m", "batch": 1}, "llama-3.1-8b", "rtx-4090"),
    _experiment(_ASKED | {"runtime": "eager", "prefix_hit": 0.5}, "gpt2", "l4"),
    _experiment({"kind": "mixed", "prefill": 128, "past": 0, "decodes": 4, "context": 512}, "deepseek-v2-lite",
        "a100-sxm-80gb"),
    _experiment(_SERVED | {"precision": "bf16"}, cluster="h100-sxm"),
    _experiment(_SERVED | {"runtime": "trtllm"}, plan={"tp": 2, "dp": 2}),
    _experiment({"kind": "prefill", "tokens": 256},
                vary={"plan.tp": [1, 2], "workload.batch": [1, 2, 3]},
                zip=[{"dtype": ["bf16", "fp8"], "clocks": ["burst", "sustained"]}],
                where=["tp <= gpus_per_node", "batch * tp < 7 or dtype == 'fp8'"]),
]  # fmt: skip
SEARCHES: list[dict[str, Any]] = [
    _experiment(_TRAINING, search={"objective": "step_s", "top": 3, "where": ["tp * pp <= 4"],
                                   "space": {"tp": [1, 2], "pp": [1, 2], "dp": "all", "micro_batch": [1, 2],
                                   "zero": "all"}}),
    _experiment(_SERVED, search={"objective": "output_tokens_per_s_per_gpu", "limits": {"ttft_s": "2 s",
    "tpot_s": "50 ms"},
                                 "space": {"tp": [1, 2], "pp": [1], "workload.concurrency": [8, 32]}}),
]  # fmt: skip
SETTINGS = (
    *("cluster", "model", "dtype", "accumulate", "algorithm", "protocol", "clocks", "framework", "require_fit"),
    *("plan.tp", "plan.dp", "plan.pp", "plan.vp", "plan.cp", "plan.ep", "plan.zero", "plan.micro_batch", "plan.order"),
    *("plan", "workload", "workload.kind", "workload.batch", "workload.tokens", "workload.prompt", "workload.output"),
    *("workload.concurrency", "workload.precision", "workload.runtime", "workload.kv_cache", "workload.operators.0.m"),
    *("hardware", "gpu", "gpu.memory.bandwidth", "gpu.memory.capacity", "gpu.memory.l2_cache", "gpu.compute.sm_count"),
    *("gpu.compute.boost_clock", "gpu.power.tdp", "gpu.peak.bf16", "gpu.peak.0.value", "gpu.nvlink.bandwidth"),
    *("gpu.nvlink.latency", "gpu.nvlink.links", "gpu.host_link.lanes", "gpu.host_link.peer_to_peer", "gpu.kernel"),
    *("gpu.kernel.launch_overhead", "gpu.name", "gpu.architecture", "node.gpu", "node.sockets", "node.nvlink.switches"),
    *(
        "cluster.nodes",
        "cluster.fabric.oversubscription",
        "cluster.fabric.link",
        "link.pcie-5.latency",
        "link.nvlink-4",
    ),
    *("link.infiniband-ndr.bandwidth", "link.pcie-5.payload_fraction", "vary", "vary.plan.tp", "where", "plots", "x.y"),
)
"""Keys of `--set`, those of other scenarios included."""
COLUMNS = (
    "step_s",
    "mfu",
    "tpot_s",
    "tokens_per_s",
    "memory_fits",
    "gpu",
    "efficiency",
    "nothing",
    "usd_per_step",
    "tp",
)
LOG = """# nThread 1 nGpus 8 minBytes 1048576 maxBytes 1073741824 step: 32(factor) warmup iters: 5 iters: 20
# Collective test starting: all_reduce_perf
#  Rank  0 Group  0 Pid  71 on       host device  0 [0x1b] NVIDIA H100 80GB HBM3
#  Rank  1 Group  0 Pid  71 on       host device  1 [0x43] NVIDIA H100 80GB HBM3
#                                                              out-of-place                       in-place
#       size         count      type   redop    root     time   algbw   busbw #wrong     time   algbw   busbw #wrong
#        (B)    (elements)                               (us)  (GB/s)  (GB/s)            (us)  (GB/s)  (GB/s)
     1048576        262144     float     sum      -1    20.00   52.43   52.43      0    21.00   49.93   49.93      0
    33554432       8388608     float     sum      -1    150.0  223.70  223.70      0    150.5  222.95  222.95    N/A
  1073741824     268435456     float     sum      -1   3200.0  335.54  335.54      0   3210.0  334.50  334.50      0
# Out of bounds values : 0 OK
# Avg bus bandwidth    : 203.2
"""
CALIBRATION: dict[str, list[list[str]]] = {
    "gemm": [["gpu", "dtype", "m", "n", "k", "latency_s"],
             *(["t4", "float16", str(m), "4096", "4096", f"{1e-5 + m * 1.1e-6:.3g}"] for m in (16, 128, 512, 1024,
             2048))],
    "stream": [["what", "gpu", "op", "bytes", "latency_s"],
               *(["stream", "t4", "copy", str(size), f"{2e-6 + size / 1.2e11:.3g}"] for size in (10**7, 10**8, 10**9))],
}  # fmt: skip
CELLS: dict[str, str] = {
    "gpu": "h100-sxm", "dtype": "bfloat16", "latency_s": "1e-5", "activation_recompute": "full",
    "throughput_items_per_s": "2000", "step_time_s": "2.0", "model": "llama-3.1-8b",
    "num_layers": "32", "hidden_size": "4096", "d_model": "4096", "num_heads": "32", "num_kv_heads": "8",
    "head_dim": "128",
    "v_head_dim": "128", "ffn_size": "14336", "vocab_size": "128256", "seq_len": "2048", "num_gpus": "8",
    "num_nodes": "1",
    "gpus_per_node": "8", "message_bytes": "1048576", "collective": "all_reduce", "op": "matmul", "tp_size": "1",
    "q_len": "512",
    "attn_dtype": "bfloat16", "kv_cache_dtype": "bfloat16", "kernel_source": "flash_attention", "framework": "vllm",
    "precision": "bf16", "quant": "Q4_K_M", "phase": "decode", "layer": "act_fn", "kind": "training",
    "past_kv_len": "0",
    "window_size": "0", "zero": "1", "torch_compile": "True", "activation_checkpointing": "full", "mode": "training",
    "global_batch_size": "64", "global_batch": "64", "source": "made up", "gated": "True", "distribution": "balanced",
    "cuda_graph": "True", "gated_mlp": "True", "io_bytes": "100000", "task": "bert_base_squad", "gradients": "fp32",
    "reduce": "bf16", "sharding_strategy": "FULL_SHARD", "fsdp_mixed_precision": "DEFAULT", "suspicious": "",
    "gradient_checkpointing": "False", "workload": "training", "ttft_s": "0.2", "tpot_s": "0.02", "concurrency": "8",
}  # fmt: skip
"""What a cell of a table of measurements may hold, by the name of its column; other columns hold a small number."""


@cache
def published() -> list[dict[str, Any]]:
    """Every experiment that comes with simgpu, cut down to one case and one value of each axis."""
    return [_cut(yaml.safe_load(file.read_text())) for file in sorted((ROOT / "experiments").glob("*.yaml"))]


def _cut(found: dict[str, Any]) -> dict[str, Any]:
    cut = {
        key: value
        for key, value in found.items()
        if key not in ("search", "vary", "zip", "where", "table", "plots", "compare")
    }
    vary = {key: axis for key, axis in found.get("vary", {}).items() if isinstance(axis, list)}
    return cut | {"cases": found.get("cases", [{}])[:1], "vary": {key: axis[:1] for key, axis in vary.items()}}


@cache
def hardware() -> list[tuple[str, str, str]]:
    """(kind, name, what runs on it) of every specification that comes with simgpu."""
    kinds = ("gpus", "nodes", "clusters", "links", "architectures")
    files = {kind: sorted((ROOT / "hardware" / kind).glob("*.yaml")) for kind in kinds}
    found = [(kind, file.stem, file.stem) for kind in ("gpus", "nodes", "clusters") for file in files[kind]]
    machines = [(file.stem, file.read_text()) for kind in ("clusters", "nodes", "gpus") for file in files[kind]]
    for kind, key in (("links", "link: "), ("architectures", "architecture: ")):
        for file in files[kind]:
            users = [name for name, text in machines if key + file.stem in text]
            found += [(kind, file.stem, users[0])] if users else []
    return found


@cache
def specification(kind: str, name: str) -> str:
    return (ROOT / "hardware" / kind / f"{name}.yaml").read_text()


@cache
def software() -> list[tuple[str, str, str]]:
    """(kind, name, text) of every framework and runtime that comes with simgpu."""
    kinds = ("frameworks", "runtimes")
    files = [(kind, file) for kind in kinds for file in sorted((ROOT / kind).glob("*.yaml"))]
    return [(kind, file.stem, file.read_text()) for kind, file in files]


@cache
def models() -> list[dict[str, Any]]:
    """Every `config.json` that comes with simgpu."""
    return [json.loads(file.read_text()) for file in sorted((ROOT / "models").glob("*.json"))]


@cache
def tables() -> list[tuple[str, str, list[list[str]]]]:
    """(target, name, rows) of a small table of every kind that is read; published ones hold true rows."""
    from simgpu.lab.validation.sources import known

    found = []
    for name, source in known().items():
        adapter = source.adapters[0]
        file = ROOT / "simgpu/lab/validation/published" / f"{name}.csv"
        if file.is_file():
            rows = [line.split(",") for line in file.read_text().splitlines() if '"' not in line][:4]
        else:
            header = [*adapter.columns.required, *adapter.columns.optional, *adapter.columns.renamed]
            header = list(dict.fromkeys(header))
            cells = CELLS | ({"latency_s": "0.5"} if adapter.target == "training" else {})
            rows = [header, *([cells.get(column, "2") for column in header] for _ in range(2))]
        found.append((adapter.target, name, rows))
    return found
