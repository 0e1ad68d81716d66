"""Labels of Kubernetes nodes: `kubectl get nodes -o json` (or yaml), or `--show-labels`.

Labels: NVIDIA GPU feature discovery (nvidia.com/gpu.product, .count), Kubernetes' well-known
node.kubernetes.io/instance-type, and those of a node's leaf switch: NVIDIA/topograph
(network.topology.nvidia.com/leaf), Amazon EKS (topology.k8s.aws/network-node-layer-3).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from simgpu.documents import read_yaml
from simgpu.errors import InputError
from simgpu.lab.importing.parts import Fabric, Found

KIND = "Kubernetes node labels"
PRODUCT, COUNT = "nvidia.com/gpu.product", "nvidia.com/gpu.count"
AMD = ("amd.com/gpu.product-name", "beta.amd.com/gpu.product-name")
TYPES = ("node.kubernetes.io/instance-type", "beta.kubernetes.io/instance-type")
LEAVES = ("network.topology.nvidia.com/leaf", "topology.k8s.aws/network-node-layer-3")
_LABELS = re.compile(r"[\w./-]+=[^,\s]*(?:,[\w./-]+=[^,\s]*)+")


def is_nodes(text: str) -> bool:
    """True for a list of nodes in any of its forms."""
    start = text[:2_000_000]
    return "kubernetes.io/" in start and ('"labels"' in start or "labels:" in start or "LABELS" in start[:2000])


def read(file: Path, text: str) -> Found:
    """Nodes with GPUs: which, how many, the cloud's name of the machine, how many share a leaf switch."""
    nodes = [one for one in _labels(file, text) if one.get(PRODUCT) or any(one.get(key) for key in (COUNT, *AMD))
             or any(one.get(key) for key in TYPES)]  # fmt: skip
    with_gpus = [one for one in nodes if _product(one) or one.get(COUNT, "0") not in ("", "0")]
    kept = with_gpus or nodes
    if not kept:
        raise InputError(f"no node has a label {PRODUCT} or {TYPES[0]}", file=file)
    kinds = Counter((_product(one), one.get(COUNT, ""), _type(one)) for one in kept)
    (product, count, instance), nodes_of = kinds.most_common(1)[0]
    mine = [one for one in kept if (_product(one), one.get(COUNT, ""), _type(one)) == (product, count, instance)]
    notes = []
    if len(kinds) > 1:
        others = ", ".join(f"{n} of {kind[0] or kind[2]}" for kind, n in kinds.most_common()[1:4])
        notes.append(f"{nodes_of} nodes are of {product or instance}; others left out: {others}")
    leaf = next((key for key in LEAVES if all(one.get(key) for one in mine)), None)
    per_leaf = max(Counter(one[leaf] for one in mine).values()) if leaf else 0
    if not count.isdigit() and product:
        notes.append(f"how many GPUs a node has is not told ({COUNT})")
    fabric = Fabric(nodes_of, per_leaf) if nodes_of > 1 else None
    return Found(str(file), KIND, fabric=fabric, instance=instance, model=product,
                 gpus=int(count) if count.isdigit() else 0, notes=tuple(notes))  # fmt: skip


def _product(labels: Mapping[str, str]) -> str:
    return labels.get(PRODUCT, "") or next((labels[key] for key in AMD if labels.get(key)), "")


def _type(labels: Mapping[str, str]) -> str:
    return next((labels[key] for key in TYPES if labels.get(key)), "")


def _labels(file: Path, text: str) -> Sequence[Mapping[str, str]]:
    """The labels of each node."""
    if text.lstrip().startswith(("{", "[")):
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"is no JSON ({error}); is it cut?", file=file) from None
    elif "LABELS" in text[:2000]:
        found = (_LABELS.search(line) for line in text.splitlines())
        return [dict(pair.split("=", 1) for pair in one[0].split(",") if "=" in pair) for one in found if one]
    else:
        data = read_yaml(file).data
    items = data.get("items", [data]) if isinstance(data, dict) else data
    return [labels for item in items if (labels := _of(item))] if isinstance(items, list) else []


def _of(item: Any) -> dict[str, str]:
    """The labels of an entry, with what its capacity says of GPUs."""
    metadata = item.get("metadata") if isinstance(item, dict) else None
    labels = metadata.get("labels") if isinstance(metadata, dict) else None
    if not isinstance(labels, dict):
        return {}
    found = {str(key): str(value) for key, value in labels.items()}
    status = item.get("status")
    capacity = status.get("capacity") if isinstance(status, dict) else None
    if isinstance(capacity, dict):
        for key in ("nvidia.com/gpu", "amd.com/gpu"):
            if key in capacity and COUNT not in found:
                found[COUNT] = str(capacity[key])
    return found
