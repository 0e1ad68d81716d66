"""How far the first, simple timing is from what others measured. Skipped where the measurements are not there.

The folder is `../shared/measurements` beside the checkout, or `SIMGPU_MEASUREMENTS`; its MANIFEST.md has sources.
"""

import csv
import gzip
import os
import statistics
from pathlib import Path

import pytest

from simgpu import Catalogue, OperatorList, Plan, simulate
from simgpu.model.operators import Dim, Matmul
from simgpu.timing.kernels import KernelModel

FOLDER = Path(os.environ.get("SIMGPU_MEASUREMENTS", Path(__file__).parents[2] / "shared/measurements"))
NODES = {"h100-sxm": "dgx-h100", "a100-sxm-80gb": "dgx-a100", "l40s": "l40s-pcie-2x"}

pytestmark = pytest.mark.skipif(not (FOLDER / "aic_gemm.csv.gz").is_file(), reason=f"no measurements in {FOLDER}")


@pytest.mark.parametrize("gpu", NODES)
def test_matrix_multiplications_of_useful_size(gpu):
    """Mean error with n, k >= 1024: 8 % on the H100, 13 % on the A100, 14 % on the L40S when this was written."""
    kernels = KernelModel(Catalogue().cluster(NODES[gpu]))
    errors = []
    with gzip.open(FOLDER / "aic_gemm.csv.gz", "rt") as rows:
        for row in csv.DictReader(rows):
            m, n, k = (int(row[key]) for key in "mnk")
            if (row["gpu"], row["dtype"]) == (gpu, "bfloat16") and min(n, k) >= 1024:
                predicted = kernels.time(Matmul("gemm", Dim(m), (Dim(n),), Dim(k), "bf16")).seconds
                errors.append(abs(predicted / float(row["latency_s"]) - 1))
    assert len(errors) > 500
    assert statistics.mean(errors) < 0.17


@pytest.mark.parametrize("gpu", NODES)
def test_large_all_reduces(gpu):
    """Mean error 3 to 6 % when this was written."""
    cluster = Catalogue().cluster(NODES[gpu])
    ratios = []
    with (FOLDER / "aic_nccl.csv").open() as rows:
        for row in csv.DictReader(rows):
            size, gpus = int(row["message_bytes"]), int(row["num_gpus"])
            wanted = (row["gpu"], row["collective"], row["suspicious"]) == (gpu, "all_reduce", "")
            if wanted and size >= 2**23 and gpus <= cluster.gpu_count:
                job = OperatorList(operators=[{"op": "all_reduce", "bytes": size}])
                ratios.append(simulate(cluster, job, plan=Plan(tp=gpus)).step_s / float(row["latency_s"]))
    assert len(ratios) >= 5
    assert statistics.mean(abs(ratio - 1) for ratio in ratios) < 0.10
