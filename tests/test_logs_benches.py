"""Tools that time products or links alone, in the forms that they print: read in SI units, fitted where they can be."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from simgpu.cli import main
from simgpu.errors import InputError
from simgpu.lab.logs.reading import read
from simgpu.lab.products import products

MAMF = """Benchmark started on 2026-05-03 06:17:43

** Command line:
/usr/bin/python ./mamf-finder.py --m_range 0 20480 256 --n 4096 --k 4096

** Dtype: torch.bfloat16

** Critical software versions:
- torch=2.6.0

Warming up the accelerator for 30 secs ... accelerator warmup finished
     1 |  656.1(mean)  658.2(median)  662.3(max) @ 4096x4096x4096 | best:  656.1(mean)  658.2(median)  662.3(max) TFLOPS
     2 |  756.1(mean)  700.0(median)  762.3(max) @ 8192x4096x4096 | best:  756.1(mean)  700.0(median)  762.3(max) TFLOPS

Tried 2 shapes => the best outcomes were:
mean:   756.1 TFLOPS @ 8192x4096x4096 (MxNxK)
median: 700.0 TFLOPS @ 8192x4096x4096 (MxNxK)
max:    762.3 TFLOPS @ 8192x4096x4096 (MxNxK)

Across 2 shapes in range: m=[0, 20480, 256] | n=[4096] | k=[4096] in this run:
arithmetic mean: 650.2 TFLOPS
Legend: TFLOPS = 10**12 FLOPS
"""
NEWER = """** Dtype: torch.bfloat16
     #  MxNxK                mean median    max   best     W   MHz
    18  3072x2816x20480     828.4  828.6  831.6  828.4   506  1980  <- best mean
Tried 24 shapes => the best outcomes were:
MAMF (max achievable,  boost burst): 842 TFLOPS @ 3072x2816x20480 (MxNxK)  172W 1980MHz
MSMF (max sustainable, saturated):   722 TFLOPS @ 3072x2816x8192 (MxNxK)  681W 1612MHz
"""
HEADER = (
    "Problem,Provider,OperationKind,Operation,Disposition,Status,gemm_kind,m,n,k,A,B,C,alpha,beta,split_k_slices,"
    "batch_count,op_class,accum,cta_m,cta_n,cta_k,stages,Bytes,Flops,Flops/Byte,Runtime,GB/s,GFLOPs"
)
CUTLASS = f"""CSV Results:

{HEADER}
1,CUTLASS,gemm,cutlass_tensorop_f16_s16816gemm_f16_128x128_32x3,passed,success,universal,8192,8192,8192,f16:column,\
f16:row,f32:column,1,0,1,1,tensorop,f32,128,128,32,3,536870912,1099645845504,2048,2.0,250,549822
1,cuBLAS,gemm,,not_verified,success,universal,8192,8192,8192,f16:column,f16:row,f32:column,1,0,1,1,tensorop,f32,0,0,0,\
0,536870912,1099645845504,2048,1.6,312,687278
1,CUTLASS,gemm,cutlass_tensorop_f16_s16816gemm_f16_64x64,failed,success,universal,8192,8192,8192,f16:column,f16:row,\
f32:column,1,0,1,1,tensorop,f32,64,64,32,3,536870912,1099645845504,2048,0.1,250,549822
1,CUTLASS,spgemm,cutlass_tensorop_s16832spgemm,passed,success,spgemm,8192,8192,8192,f16:column,f16:row,f32:row,1,0,1,1,\
tensorop,f32,128,128,32,3,536870912,1099645845504,2048,0.9,250,549822
"""
BURN = (
    "Initialized device 0 with 81085 MB of memory (80661 MB available, using 72595 MB of it), using FLOATS\n"
    "10.0%  proc'd: 270 (30000 Gflop/s) - 0 (0 Gflop/s)   errors: 0 - 0   temps: 44 C - 40 C \r"
    "50.0%  proc'd: 540 (40000 Gflop/s) - 540 (44000 Gflop/s)   errors: 0 - 0   temps: 64 C - 60 C \r"
    "90.0%  proc'd: 810 (40000 Gflop/s) - 810 (44000 Gflop/s)   errors: 0  (WARNING!)- 0   temps: 70 C - 66 C \n"
    "Killing processes.. done\n\nTested 2 GPUs:\n\tGPU 0: OK\n\tGPU 1: OK\n"
)
CUBLAS = """^^^^ gpu time statistics: runs 1000, mean 0.381498 ms
^^^^ CUDA : elapsed = 0.381498 sec,  Gflops = 6844957.711
"""
OSU = """[host:22411] Rank 0 bound to package[0][core:0]

# OSU MPI-CUDA Bandwidth Test v7.5
# Datatype: MPI_CHAR.
# Size      Bandwidth (MB/s)        Validation
1                       0.90              Pass
4194304              3121.42              Pass
268435456          279577.30              Pass
"""
ALLREDUCE = """# OSU MPI-CUDA Allreduce Latency Test v7.0
# Size       Avg Latency(us)   Min Latency(us)   Max Latency(us)  Iterations
16777216             8630.58           8619.50           8642.46         10
"""
OLD = "# OSU MPI Latency Test (Version 2.0)\n# Size          Latency (us)\n0                       1.26\n8 1.5\n"


def written(folder: Path, text: str, name: str = "a.txt") -> Path:
    file = folder / name
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    ("text", "tool", "column", "value", "count"),
    [
        (MAMF, "mamf-finder", "flop_per_s_per_gpu", 700e12, 2),
        (NEWER, "mamf-finder", "flop_per_s_per_gpu", 842e12, 2),
        (CUTLASS, "cutlass_profiler", "flop_per_s_per_gpu", 2 * 8192**3 / 1.6e-3, 1),
        (CUTLASS.partition("\n\n")[2], "cutlass_profiler", "flop_per_s_per_gpu", 2 * 8192**3 / 1.6e-3, 1),
        (BURN, "gpu_burn", "flop_per_s_per_gpu", 42e12, 2),
        (CUBLAS, "cublasMatmulBench", "flop_per_s_per_gpu", 6844957.711e9, 1),
        (OSU, "OSU Bandwidth", "algbw", 279577.30e6, 1),
        (ALLREDUCE, "OSU Allreduce Latency", "time_s", 8630.58e-6, 1),
        (OLD, "OSU Latency", "time_s", 1.5e-6, 1),
    ],
)
def test_each_tool_is_known_by_what_it_prints(
    tmp_path: Path, text: str, tool: str, column: str, value: float, count: int
) -> None:
    (found,) = read(written(tmp_path, text))
    one = found.measurements[0]
    assert (found.tool, one.column, one.count) == (tool, column, count)
    assert one.value == pytest.approx(value)


def test_several_tests_of_a_log_are_several(tmp_path: Path) -> None:
    assert [one.tool for one in read(written(tmp_path, OSU + ALLREDUCE))] == ["OSU Bandwidth", "OSU Allreduce Latency"]


def test_products_keep_their_shape_type_and_regime(tmp_path: Path) -> None:
    burst, sustained = products(written(tmp_path, NEWER))[1]
    assert (burst.m, burst.n, burst.k, burst.dtype, burst.regime) == (3072, 2816, 20480, "bfloat16", "burst")
    assert (sustained.k, sustained.regime) == (8192, "sustained")
    (cublas,) = products(written(tmp_path, CUTLASS))[1]
    assert (cublas.dtype, cublas.seconds) == ("float16", pytest.approx(1.6e-3))


@pytest.mark.parametrize(("text", "name"), [(MAMF, "mamf.txt"), (CUTLASS.partition("\n\n")[2], "report.gemm.csv")])
def test_calibrate_learns_from_them(tmp_path: Path, text: str, name: str) -> None:
    file = str(written(tmp_path, text, name))
    done = CliRunner().invoke(main, ["calibrate", file, "--gpu", "h100-sxm", "-o", str(tmp_path / "own.yaml"), "-q"])
    assert done.exit_code == 0, done.output
    assert "gemm" in done.stdout
    done = CliRunner().invoke(main, ["calibrate", file, "-q"])
    assert done.exit_code == 2 and "--gpu NAME" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEADER + "\n", "holds no product that was timed"),
        (OSU.partition("1      ")[0], "holds no row of a size and a value"),
        ("10.0%  proc'd: -1 (0 Gflop/s) (DIED!)  errors: 0   temps: --\n", "holds no product that was timed"),
        (MAMF.replace("0.0 TFLOPS @", "nan TFLOPS @").replace("(median)", ""), "holds nothing|no product"),
    ],
)
def test_what_timed_nothing_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read(written(tmp_path, text))
