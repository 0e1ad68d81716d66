"""From the words of a claim to scenarios: what is said, and the corners of what is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from simgpu.catalog import Catalogue
from simgpu.claims.entry import Record
from simgpu.claims.facts import is_gguf

Corner = Mapping[str, Any]

OPEN: Mapping[str, Mapping[str, Sequence[Any]]] = {
    "decode": {"prompt": (128, 2048), "output": (256,), "runtime": ("vllm", "eager"), "precision": ("fp16", "int4")},
    "serving": {
        "prompt": (64, 1024), "output": (128, 512), "users": (16, 256), "runtime": ("vllm",),
        "precision": ("fp16", "int4"),
    },
    "training": {
        "batch": (1, 4), "seq": (512, 2048), "framework": ("pytorch-eager",), "method": ("full",),
        "states": ("fp32", "bf16"),
    },
    "image": {"batch": (1,), "precision": ("fp16",)},
    "kernel": {"precision": ("fp16",)},
    "collective": {},
    "memory": {"seq": (2048, 8192), "precision": ("fp16",)},
}  # fmt: skip
"""What is tried where the words of a claim leave it open, by kind of run: from light to heavy use."""
HARMLESS = ("framework", "states")
"""What hardly moves the answer, and so is not reported as missing."""
FAMILY = {
    "decode": "decode", "serving": "serving", "cost": "serving", "capacity_planning": "serving", "training": "training",
    "finetune_capacity": "training", "image": "image", "kernel": "kernel", "tp_scaling": "kernel",
    "collective": "collective", "memory": "memory", "mig": "decode", "derived_spec": "kernel", "spec": "kernel",
    "power": "kernel", "reliability": "kernel", "decision": "serving",
}  # fmt: skip
"""The kind of run that stands behind a kind of claim."""


@dataclass(frozen=True)
class Corners:
    """Every choice that the words leave, and the names of what they do not say."""

    choices: Sequence[Corner]
    missing: Sequence[str]


IMAGES = ("images_per_s", "image_time", "batch_time")


def family_of(record: Record, kind: str, name: str = "") -> str:
    """The kind of run behind a quantity of a record: one batch is a decode, many users are a server."""
    if name in IMAGES:
        return "image"
    family = "training" if record.words.get("method") else FAMILY[kind]
    if family == "serving" and record.known("users") is None:
        batch = record.known("batch")
        return "decode" if batch is not None else family
    return family


PER_GPU = ("achieved", "mfu", "tokens_per_s_per_gpu")
"""Quantities of one GPU of however many."""
TRAINED_ON = (1, 8, 64)
"""Numbers of GPUs that a figure of one of them may be from, where the words do not say."""


def corners(record: Record, family: str, name: str = "") -> Corners:
    """The corners of a record for a kind of run, behind a quantity of it."""
    said: dict[str, Sequence[Any]] = dict(record.words)
    for key, figures in record.inputs.items():
        said[key] = [one.value for one in figures]
    for key, cell in {**record.shared, **record.cells}.items():
        if cell.quantity.role == "input":
            said[key] = [cell.figure.value]
    axes = dict(OPEN[family])
    if family == "decode" and any(is_gguf(one) for one in said.get("precision", ())):
        axes["runtime"] = ("llama.cpp",)
    if family == "decode":
        axes["batch"] = (1,)
        if not set(said.get("precision", ("fp16",))) & {"fp16", "bf16", "fp32"}:
            axes["runtime"] = (
                ("llama.cpp",) if axes["runtime"] == ("llama.cpp",) else ("vllm",)
            )  # eager has 16 bits alone
    missing = [key for key in axes if key not in said and key not in (*HARMLESS, "batch") and len(axes[key]) > 1]
    if family == "training" and set(said.get("method", ())) <= {"lora", "qlora"} and said.get("method"):
        axes["states"] = ("fp32",)  # those of adapters are small
    if family == "training" and name in PER_GPU and "cluster" not in said:
        axes["gpus"] = TRAINED_ON
    axes |= {key: tuple(options) for key, options in said.items()}
    names = list(axes)
    choices = [dict(zip(names, chosen, strict=True)) for chosen in product(*axes.values())]
    return Corners(choices[:64], missing)


def place(catalogue: Catalogue, corner: Corner) -> str | None:
    """The cluster, node or GPU that a corner runs on; of several GPUs a node of the catalogue that has them."""
    if "cluster" in corner:
        return str(corner["cluster"])
    gpu, count = corner.get("gpu"), int(corner.get("gpus", 1))
    if gpu is None or count == 1:
        return None if gpu is None else str(gpu)
    pcie = corner.get("interconnect") == "pcie"
    kinds = ("nodes", "clusters")
    nodes = [(catalogue.cluster(name), name) for kind in kinds for name in catalogue.names(kind)]
    fits = [(one, name) for one, name in nodes if one.gpu.name == gpu and one.gpu_count >= count]
    fits = [(one, name) for one, name in fits if not pcie or one.node.nvlink is None] or fits
    linked = [(one, name) for one, name in fits if pcie or one.node.nvlink is not None] or fits
    return min(linked, key=lambda pair: (pair[0].gpu_count, pair[1]))[1] if linked else None


def _format(corner: Corner) -> tuple[str, dict[str, Any]]:
    """The type of activations, and the key of the precision where it is another."""
    precision = str(corner.get("precision", "fp16"))
    if precision in ("fp32", "tf32", "fp16", "bf16"):
        return precision, {}
    return ("fp16" if is_gguf(precision) else "bf16"), {"precision": precision}


def inference(corner: Corner, where: str, plan: Mapping[str, Any]) -> dict[str, Any]:
    """A batch that decodes."""
    dtype, precision = _format(corner)
    job = {"kind": "inference", "batch": int(corner.get("batch", 1)), "prompt": int(corner["prompt"]),
           "output": int(corner.get("output", 256)), "runtime": corner["runtime"], **precision}  # fmt: skip
    return {"model": corner["model"], "cluster": where, "dtype": dtype, "plan": dict(plan), "workload": job}


def serving(corner: Corner, where: str, plan: Mapping[str, Any]) -> dict[str, Any]:
    """A server at a steady load."""
    dtype, precision = _format(corner)
    job = {"kind": "serving", "concurrency": int(corner["users"]), "prompt": int(corner["prompt"]),
           "output": max(2, int(corner.get("output", 256))), "runtime": corner["runtime"], **precision}  # fmt: skip
    return {"model": corner["model"], "cluster": where, "dtype": dtype, "plan": dict(plan), "workload": job}


def training(corner: Corner, where: str, count: int) -> dict[str, Any]:
    """A step of training, full or of adapters, over data-parallel GPUs that shard what does not fit."""
    method = str(corner["method"])
    tune = "full" if method == "pretraining" else method
    job: dict[str, Any] = {"kind": "training", "batch": int(corner["batch"]) * count, "tokens": int(corner["seq"])}
    if tune != "full":
        job |= {"finetune": tune, "rank": int(corner.get("rank", 16))}
    if corner.get("states") == "bf16":  # pure 16 bits: the least that full training takes here
        job |= {"states": "bf16", "master_weights": False}
    plan: dict[str, Any] = {"micro_batch": int(corner["batch"]), "recompute": "full"}
    if count > 1:
        plan |= {"dp": count, "zero": 3}
    dtype = "fp8" if corner.get("precision") == "fp8" else "bf16"
    return {"model": corner["model"], "cluster": where, "dtype": dtype, "framework": corner["framework"], "plan": plan,
            "workload": job}  # fmt: skip


def network(record: Record, corner: Corner) -> dict[str, Any]:
    """A batch of images."""
    words = {**{key: options[0] for key, options in record.words.items()}, **corner}
    job: dict[str, Any] = {"kind": "network", "batch": int(words.get("batch", 1))}
    if "steps" in words:
        job["steps"] = int(words["steps"])
    elif (steps := record.known("steps")) is not None:
        job["steps"] = int(steps.value)
    if words.get("method") == "pretraining":
        job["mode"] = "training"
    return {"model": words["model"], "cluster": words["gpu"], "dtype": words.get("precision", "fp16"), "workload": job}


def kernel(corner: Corner, where: str, parts: int = 1, sustained: bool = False) -> dict[str, Any]:
    """One product, or one of the `parts` that it is split into along its inner width."""
    op = {
        "op": "matmul",
        "name": "gemm",
        "m": int(corner["m"]),
        "n": int(corner["n"]),
        "k": max(1, int(corner["k"]) // parts),
    }
    scenario: dict[str, Any] = {
        "cluster": where,
        "dtype": corner["precision"],
        "workload": {"kind": "operators", "operators": [op]},
    }
    return scenario | ({"clocks": "sustained"} if sustained else {})


def collective(corner: Corner, where: str, gpus: int) -> dict[str, Any]:
    """One all-reduce."""
    op = {"op": "all_reduce", "name": "sum", "bytes": int(corner["payload"])}
    return {
        "cluster": where,
        "dtype": "fp16",
        "plan": {"tp": gpus},
        "workload": {"kind": "operators", "operators": [op]},
    }


def layers_or_tensors(corner: Corner, count: int) -> dict[str, Any]:
    """How serving splits a model over GPUs: llama.cpp by layers, the others by tensors."""
    return {} if count == 1 else {"pp": count} if corner.get("runtime") == "llama.cpp" else {"tp": count}


def split_product(corner: Corner, where: str, gpus: int) -> dict[str, Any]:
    """A product split over GPUs, and the all-reduce of its output."""
    gemm = {
        "op": "matmul",
        "name": "gemm",
        "m": int(corner["m"]),
        "n": int(corner["n"]),
        "k": int(corner["k"]),
        "split": "k",
    }
    total = {"op": "all_reduce", "name": "sum", "bytes": int(corner["payload"])}
    return {"cluster": where, "dtype": corner["precision"], "plan": {"tp": gpus},
            "workload": {"kind": "operators", "operators": [gemm, total]}}  # fmt: skip
