"""What tests of commands share: hardware that does not exist, the installed command, and a folder without anything."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

ENTRY = shutil.which("simgpu", path=str(Path(sys.executable).parent)) or "simgpu"

GPU = """\
name: tiny
title: A GPU of the tests
vendor: nobody
architecture: generic
sources:
  sheet: a made-up datasheet
compute:
  sm_count: {value: 100, source: sheet}
  boost_clock: {value: 1000, unit: MHz, source: sheet}
peak:
  - {dtype: fp16, accumulate: fp32, engine: tensor, value: 100, unit: TFLOPS, source: sheet}
  - {dtype: bf16, accumulate: fp32, engine: tensor, value: 100, unit: TFLOPS, source: sheet}
  - {dtype: fp32, accumulate: fp32, engine: vector, value: 10, unit: TFLOPS, source: sheet}
memory:
  type: HBM
  capacity: {value: 16, unit: GiB, source: sheet}
  bandwidth: {value: 1, unit: TB/s, source: sheet}
  l2_cache: {value: 32, unit: MiB, source: sheet}
  ecc: {value: true, source: sheet}
host_link:
  link: pcie-4
  lanes: {value: 16, source: sheet}
  peer_to_peer: {value: true, source: sheet}
power:
  tdp: {value: 100, unit: W, source: sheet}
mig_profiles:
  - {name: half, compute_slices: 1, memory_slices: 1, memory: {value: 8, unit: GB}, instances: 2, source: sheet}
"""

NODE = """\
name: tiny-box
title: Two of them
gpu: tiny
sources:
  guide: a made-up guide
sockets:
  - cpu: none
    count: 1
    memory_bandwidth: {value: 100, unit: GB/s, source: guide}
    devices: [gpu, gpu]
peer_to_peer_scope: {value: root, source: guide}
"""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test works in an empty folder, without a catalogue of the user's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SIMGPU_CATALOG", raising=False)
