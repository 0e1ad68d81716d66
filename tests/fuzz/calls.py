"""Calls of the Python API, as they would be written, with one argument that does not belong there."""

from __future__ import annotations

import random

VALUES = (
    *(
        "None",
        "True",
        "0",
        "1",
        "2",
        "-1",
        "3.5",
        "nan",
        "inf",
        "-inf",
        "10**400",
        "10**9",
        "1e308",
        "''",
        "'x'",
        "b'x'",
    ),
    *(
        "()",
        "[]",
        "{}",
        "[1]",
        "{'a': 1}",
        "object()",
        "np.int64(2)",
        "np.float32(2)",
        "np.array([1, 2])",
        "np.nan",
        "1j",
    ),
    *(
        "'dgx-h100'",
        "'h100-sxm'",
        "'llama-3.2-1b'",
        "simgpu.Plan(tp=2)",
        "simgpu.Prefill(tokens=64)",
        "'\\x1b[31m'",
        "len",
    ),
    *(
        "Path('nowhere')",
        "range(3)",
        "{1, 2}",
        "'9' * 5000",
        "['x', 1]",
        "simgpu.Catalogue()",
        "2**63",
        "'²'",
        "Decimal(1)",
    ),
)
PLAUSIBLE = (
    *("1", "2", "3", "4", "7", "8", "16", "64", "0.5", "0.9", "1000", "10**5", "np.int64(4)", "True", "False", "None"),
    *("'fp8'", "'fp16'", "'int4'", "'full'", "'sgd'", "'ring'", "'simple'", "'gpipe'", "'zb-h1'", "'zb-v'"),
    *("'sglang'", "'all_gather'", "'optimizer'"),
)
"""Values that some argument takes: calls with them come deeper than those with `VALUES`."""
MODEL = "simgpu.load_model('llama-3.2-1b')"
CLUSTER = "simgpu.load_cluster('dgx-h100')"
EXPERIMENT = (
    "{'scenario': {'cluster': 'l4', 'model': 'llama-3.2-1b', 'workload': {'kind': 'prefill', 'tokens': 64}}, "
    "'vary': {'workload.batch': [1, 2]}}"
)
JOBS = (
    ("simgpu.Prefill", {"batch": "1", "tokens": "64"}),
    ("simgpu.Training", {"batch": "8", "tokens": "128", "optimizer": "'adam'", "clip": "True", "reduce": "None",
                         "finetune": "'full'", "rank": "16", "targets": "None", "routing": "'balanced'",
                         "train_tokens": "1e9"}),
    ("simgpu.Inference", {"batch": "2", "prompt": "64", "output": "8", "runtime": "'vllm'", "precision": "'fp8'",
                          "kv_cache": "None", "chunk": "None", "prefix_hit": "0.5", "offload": "0.0",
                          "speculative": "None"}),
    ("simgpu.MixedStep", {"prefill": "64", "past": "0", "decodes": "2", "context": "128"}),
    ("simgpu.Serving", {"concurrency": "4", "prompt": "64", "output": "8"}),
    ("simgpu.OperatorList", {"operators": "[{'op': 'matmul', 'm': 8, 'n': 8, 'k': 8, 'split': 'k'}]", "repeat": "2"}),
)  # fmt: skip
PLAN = {
    "tp": "2", "dp": "1", "pp": "1", "vp": "1", "cp": "1", "ep": "1", "zero": "0", "micro_batch": "None",
    "schedule": "None",
    "sequence_parallel": "False", "recompute": "'none'", "recompute_layers": "None", "async_tp": "False",
    "order": "('tp', 'cp', 'ep', 'dp', 'pp')", "offload": "'none'", "offload_to": "'host'", "context": "'ring'",
    "shard": "None", "recompute_modules": "None",
}  # fmt: skip
HOW = {
    "dtype": "'bf16'", "accumulate": "None", "algorithm": "'auto'", "protocol": "'auto'", "clocks": "None",
    "framework": "'megatron'", "folded": "True", "require_fit": "False",
}  # fmt: skip
OTHERS: tuple[tuple[str, dict[str, str]], ...] = (
    ("simgpu.load_model", {"name": "'llama-3.2-1b'"}),
    ("simgpu.load_gpu", {"name": "'l4'"}),
    ("simgpu.load_cluster", {"name": "'dgx-h100'", "gpu__memory__bandwidth": "'3 TB/s'"}),
    ("simgpu.load_cluster", {"name": "'dgx-h100-ib'", "cluster__nodes": "2"}),
    ("simgpu.load_timer('l4').gemm", {"m": "64", "n": "64", "k": "64", "batch": "1", "dtype": "'fp16'"}),
    ("simgpu.load_timer('l4').vector.memory_copy", {"nbytes": "1e6"}),
    ("simgpu.time_collective", {"cluster": CLUSTER, "kind": "'all_reduce'", "sizes": "[1024, 2**20]", "gpus": "8",
                                "dtype": "'bf16'", "algorithm": "'auto'", "protocol": "'auto'"}),
    ("simgpu.run_experiment", {"experiment": EXPERIMENT}),
    ("simgpu.explain", {"experiment": EXPERIMENT}),
    ("simgpu.sensitivity", {"experiment": EXPERIMENT, "value": "'step_s'", "case": "1", "change": "0.1",
    "price": "None"}),
    ("simgpu.diff", {"a": f"({EXPERIMENT}, 1)", "b": f"({EXPERIMENT}, 2)", "value": "None", "settings_b": "()"}),
    ("simgpu.fit", {"gpu": "('l4',)", "precision": "('fp8',)", "context": "512", "users": "1", "kv_cache": "None"}),
    ("simgpu.results", {"store": "'s.sqlite'", "where": "'mfu > 0.1'", "sort": "'step_s'", "limit": "3",
    "status": "'ok'"}),
    ("simgpu.sweep", {"experiment": EXPERIMENT, "store": "'s.sqlite'", "jobs": "1", "limit": "1"}),
    ("simgpu.search", {"experiment": EXPERIMENT, "jobs": "1", "top": "3"}),
    ("simgpu.Speculative", {"draft": "'gpt2'", "tokens": "4", "acceptance": "0.8"}),
    ("simgpu.Catalogue", {"folders": "'x'"}),
    ("simgpu.figures", {"found": f"simgpu.run_experiment({EXPERIMENT})"}),
)  # fmt: skip


def _written(name: str, arguments: dict[str, str]) -> str:
    if name == "simgpu.fit":
        return f"{name}('llama-3.2-1b', {', '.join(f'{key}={value}' for key, value in arguments.items())})"
    if name == "simgpu.Catalogue":
        return f"{name}({arguments['folders']})"
    positional = ("found", "experiment", "cluster", "kind", "sizes", "name", "m", "n", "k", "nbytes", "a", "b")
    return f"{name}({', '.join(value if key in positional else f'{key}={value}' for key, value in arguments.items())})"


def _damaged(draw: random.Random, arguments: dict[str, str], times: int = 1) -> dict[str, str]:
    found = dict(arguments)
    for _ in range(times):
        found[draw.choice(list(found))] = draw.choice(VALUES if draw.random() < 0.5 else PLAUSIBLE)
    return found


def draw(source: random.Random) -> str:
    """One call. A few arguments are left at what they are by default, one or two are odd."""
    if source.random() < 0.45:
        name, arguments = source.choice(OTHERS)
        return _written(name, _damaged(source, arguments))
    name, known = source.choice(JOBS)
    needed = {"batch", "tokens", "prompt", "output", "prefill", "decodes", "context", "concurrency", "operators"}
    job = {key: value for key, value in known.items() if key in needed or source.random() < 0.3}
    plan = {key: value for key, value in PLAN.items() if source.random() < 0.25}
    how = {key: value for key, value in HOW.items() if source.random() < 0.25}
    parts = {"cluster": CLUSTER, "model": "None" if "Operator" in name else MODEL}
    odd = source.choice(["job", "job", "plan", "plan", "how", "parts"])
    job = _damaged(source, job) if odd == "job" else job
    plan = _damaged(source, plan or {"tp": "2"}) if odd == "plan" else plan
    how = _damaged(source, how or {"dtype": "'bf16'"}) if odd == "how" else how
    parts = _damaged(source, parts) if odd == "parts" else parts
    settings = "".join(f", {key}={value}" for key, value in how.items())
    return (
        f"simgpu.simulate({parts['cluster']}, {_written(name, job)}, {parts['model']}, "
        f"{_written('simgpu.Plan', plan)}{settings})"
    )
