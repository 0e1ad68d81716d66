"""Times of scans over a state against tables of kernels, where they are at hand."""

import csv
import gzip
import os
from math import log
from pathlib import Path
from statistics import median

import pytest

from simgpu import load_timer
from simgpu.model.operators import Dim, Scan
from simgpu.timing.scan_timer import scan_library

FOLDER = Path(os.environ.get("SIMGPU_MEASUREMENTS", Path(__file__).parents[3] / "shared/measurements"))
TABLE = FOLDER / "kernels2026/gdn.csv.gz"


def test_kinds_of_recurrences_have_kernels_of_their_own():
    assert scan_library("flashinfer", "gated_delta") == "flashinfer"
    assert scan_library("flashinfer", "kda") == "flashkda"
    assert scan_library("default", "kda") == "kda"
    assert scan_library("flashinfer", "mamba2") == "default"


@pytest.mark.skipif(not TABLE.is_file(), reason=f"no measurements in {FOLDER}")
@pytest.mark.parametrize(
    ("gpu", "kernel", "library", "most"),
    [
        ("h100-sxm", "chunk_gated_delta_rule", "default", 0.18),
        ("h100-sxm", "chunk_gated_delta_rule_flashinfer", "flashinfer", 0.10),
        ("b200-sxm", "chunk_gated_delta_rule", "default", 0.18),
        ("b200-sxm", "chunk_gated_delta_rule_flashinfer", "flashinfer", 0.12),
        ("l40s", "chunk_gated_delta_rule", "default", 0.22),
        ("h100-sxm", "fused_recurrent_gated_delta_rule_packed_decode", "default", 0.10),
        ("b200-sxm", "fused_recurrent_gated_delta_rule_packed_decode", "default", 0.12),
    ],
)
def test_gated_delta_nets_take_what_was_measured(gpu, kernel, library, most):
    timer, errors = load_timer(gpu), []
    with gzip.open(TABLE, "rt") as stream:
        for row in csv.DictReader(stream):
            if row["gpu"] != gpu or row["kernel"] != kernel or row["suspicious"] or row["engine"] == "trtllm":
                continue
            batch, heads, keys = (int(float(row[name])) for name in ("batch_size", "num_v_heads", "num_k_heads"))
            decode = row["phase"] == "generation"
            tokens = 1 if decode else int(float(row["seq_len"]))
            op = Scan(
                "s", "gated_delta", Dim(batch), tokens, Dim(heads), Dim(keys), 128, 128, "bf16", decode,
                chunked=not decode,
            )  # fmt: skip
            errors.append(abs(log(float(timer.scans.scan(op, library).seconds) / float(row["latency_s"]))))
    assert len(errors) > 20
    assert median(errors) < most
