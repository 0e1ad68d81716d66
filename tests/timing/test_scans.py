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


@pytest.mark.parametrize(
    ("gpu", "tokens", "seconds"), [("h100-sxm", 2, 1713e-6), ("h100-sxm", 8, 5311e-6), ("l40s", 4, 12827e-6)]
)
def test_verification_of_delta_nets_with_factors_by_row_writes_a_state_for_each_token(gpu, tokens, seconds):
    """Of 256 sequences with 96 heads, as measured (aiconfigurator-core 0.12.0)."""
    op = Scan("s", "kda", Dim(256), tokens, Dim(96), Dim(96), 128, 128, "bf16", True)
    timer = load_timer(gpu).scans
    assert float(timer.scan(op, "kda").seconds) == pytest.approx(seconds, rel=0.12)
    one = Scan("s", "kda", Dim(256), 1, Dim(96), Dim(96), 128, 128, "bf16", True)
    assert float(timer.scan(op, "kda").seconds) == pytest.approx(
        (1 + tokens) / 2 * float(timer.scan(one, "kda").seconds), rel=0.1
    )


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
