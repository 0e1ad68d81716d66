"""Any file that a machine wrote of itself, told by what it holds; or the name under which a cloud rents it."""

from __future__ import annotations

import os
from pathlib import Path

from simgpu.catalog import Catalogue
from simgpu.errors import InputError, nearest
from simgpu.lab.importing import infiniband, kubernetes, lstopo, matrix, nccl_xml, simulators, slurm, smi
from simgpu.lab.importing.parts import Found
from simgpu.lab.importing.text import text_of, xml_of

KNOWN = (
    "the output of nvidia-smi topo -m, -q, -L or --query-gpu; XML of NCCL (NCCL_TOPO_DUMP_FILE) or lstopo;"
    " ibnetdiscover; Slurm's topology.conf; kubectl get nodes -o json; a topology of ASTRA-sim or SimAI"
)
ROOTS = {"system": nccl_xml.read_topology, "graphs": nccl_xml.read_graph, "topology": lstopo.read}
"""Readers of XML by the name of the root."""


def read(name: str, catalogue: Catalogue) -> Found:
    """What a file says, or what a cloud's name stands for. Raises `InputError`."""
    if not os.path.exists(name):
        if name in catalogue.instances:
            return Found(name, "a machine of a cloud", instance=name)
        known = nearest(name, catalogue.instances)
        hint = known if "did you mean" in known else "; nor is it a machine that a cloud rents, such as p5.48xlarge"
        raise InputError(f"no such file{hint}", file=name)
    file = Path(name)
    text = text_of(file)
    if text.lstrip().startswith("<") and not text.lstrip().startswith("<html"):
        root = xml_of(file, text)
        if root.tag not in ROOTS:
            raise InputError(f"is XML of <{root.tag}>; expected {', '.join(f'<{one}>' for one in ROOTS)}", file=file)
        return ROOTS[root.tag](file, root)
    return _of_text(file, text)


def _of_text(file: Path, text: str) -> Found:
    """The first reader that knows a text reads it."""
    if kubernetes.is_nodes(text):
        return kubernetes.read(file, text)
    if matrix.is_matrix(text):
        return matrix.read(file, text)
    if smi.is_long(text):
        return smi.read_long(file, text)
    if smi.is_list(text):
        return smi.read_list(file, text)
    if simulators.is_simai(text):
        return simulators.read_simai(file, text)
    if simulators.is_astra(text):
        return simulators.read_astra(file)
    if infiniband.is_fabric(text):
        return infiniband.read(file, text)
    if slurm.is_topology(text):
        return slurm.read(file, text)
    if smi.is_query(text):
        return smi.read_query(file, text)
    raise InputError(f"holds nothing that is known; expected {KNOWN}", file=file)
