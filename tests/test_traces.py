"""Traces that others recorded: what ran, how it compares with predictions, and files that are no good."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from traces_by_hand import BF16, H100, Trace, step

from simgpu.cli import main
from simgpu.lab.traces.comparing import grouped
from simgpu.lab.traces.kineto import read_kineto
from simgpu.lab.traces.operations import operators_of
from simgpu.lab.traces.records import Record

FILE = Path("t.json")


def run(*arguments: object) -> Any:
    return CliRunner().invoke(main, list(map(str, arguments)))


def rows(*arguments: object) -> dict[str, dict[str, Any]]:
    """Rows of a comparison by operator."""
    done = run("trace", *arguments, "--format", "json")
    assert done.exit_code == 0, done.output
    return {row["operator"]: row for row in json.loads(done.stdout)["rows"]}


# ---- what is read ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
def test_kernels_count_for_the_operators_that_launched_them(tmp_path: Path, packed: bool) -> None:
    file = step().write(tmp_path / "step.json")
    if packed:
        content = gzip.compress(file.read_bytes())
        file = tmp_path / "step.pt.trace.json.gz"
        file.write_bytes(content)
    found = rows("list", file)
    assert found["aten::mm"]["count"] == 3 and found["aten::mm"]["measured_s"] == pytest.approx(870e-6)
    assert found["aten::mm"]["shape"] == "4096x4096 4096x16384"
    assert found["aten::scaled_dot_product_attention"]["measured_s"] == pytest.approx(900e-6)
    assert found["all_reduce"]["shape"] == "33,554,432 B over 8"
    assert found["Memcpy HtoD"]["class"] == "copy" and found["lonely"]["class"] == "kernel"
    whole = sum(event["dur"] for event in step().events if event["cat"] in ("kernel", "gpu_memcpy")) * 1e-6
    assert sum(row["total_s"] for row in found.values()) == pytest.approx(whole)  # each kernel counts once


def test_a_trace_is_compared_on_the_gpu_that_it_names(tmp_path: Path) -> None:
    file = step().write(tmp_path / "step.json")
    done = run("trace", "compare", file, "-o", tmp_path / "out", "--plot-format", "svg")
    assert done.exit_code == 0, done.output
    assert "NVIDIA H100 80GB HBM3, predicted on h100-sxm" in done.stdout
    assert "aten::magic (1, 5 us: not known)" in done.stdout and "all_reduce" in done.stdout
    assert {one.name for one in (tmp_path / "out").iterdir()} == {"compare.csv", "compare.json", "compare.svg"}
    found = rows("compare", file, "--no-plots", "-o", tmp_path / "out")
    assert 0.5 < found["aten::mm"]["ratio"] < 2
    assert (
        found["aten::mm"]["predicted_s_p10"] < found["aten::mm"]["predicted_s"] < found["aten::mm"]["predicted_s_p90"]
    )
    assert found["all_reduce"]["why"] == "give its machine with --cluster"
    found = rows("compare", file, "--cluster", "dgx-h100", "--no-plots", "-o", tmp_path / "out")
    assert found["all_reduce"]["predicted_s"] > 0
    slower = rows("compare", file, "--gpu", "a100-sxm-80gb", "--no-plots", "-o", tmp_path / "out")
    assert slower["aten::mm"]["predicted_s"] > found["aten::mm"]["predicted_s"]


def test_published_events_are_read(tmp_path: Path) -> None:
    """One product of fp32 in TF32 on an A100 (HolisticTraceAnalysis, tests/data/call_stack/backward_thread.json), and
    one attention on an MI300X (AMD-AGI/TraceLens, evals, sdpa_01_long_seq_low_eff.json)."""
    kernel = "void cutlass::Kernel<cutlass_80_tensorop_s1688gemm_128x128_32x3_nn_align4>"
    place = {"ph": "X", "pid": 3914, "tid": 24922}
    shapes = {"Input Dims": [[2048, 2048], [2048, 256]], "Input type": ["float", "float"]}
    launch = {"cbid": 211, "External id": 2131433, "correlation": 2131433}
    events: list[dict[str, Any]] = [
        {**place, "cat": "cpu_op", "name": "AddmmBackward0", "ts": 1666149715364324, "dur": 102,
         "args": {"External id": 67243, "Input Dims": [[2048, 2048]], "Input type": ["float"]}},
        {**place, "cat": "cpu_op", "name": "aten::mm", "ts": 1666149715364330, "dur": 58, "args": shapes},
        {**place, "cat": "cuda_runtime", "name": "cudaLaunchKernel", "ts": 1666149715364374, "dur": 10, "args": launch},
        {"ph": "X", "cat": "kernel", "name": kernel, "pid": 0, "tid": 7, "ts": 1666149715428509, "dur": 45,
         "args": {"External id": 2131433, "device": 0, "stream": 7, "correlation": 2131433}},
    ]  # fmt: skip
    file = tmp_path / "a100.json"
    file.write_text(json.dumps({"traceEvents": events, "distributedInfo": {"rank": 0}}))
    found = rows("compare", file, "--gpu", "a100-sxm-40gb", "--no-plots", "-o", tmp_path)
    assert found["aten::mm"]["dtype"] == "tf32" and found["aten::mm"]["ratio"] == pytest.approx(1, abs=0.4)
    assert "does not say on which GPU" in run("trace", "compare", file).stderr

    dims, inner = [[1, 32, 32768, 128]] * 3, [[1, 32768, 32, 128]] * 3
    cpu = {"ph": "X", "cat": "cpu_op", "pid": 51105, "tid": 51105}
    said = {"Input type": [BF16] * 3, "Concrete Inputs": ["", "", "", "", "0.", "False", "", "False"]}
    events = [
        {**cpu, "name": "aten::scaled_dot_product_attention", "ts": 5888649824171.422, "dur": 360.488,
         "args": {"External id": 1, "Input Dims": [*dims, [], [], [], [], []], **said}},
        {**cpu, "name": "aten::_flash_attention_forward", "ts": 5888649824300.084, "dur": 220.099,
         "args": {"External id": 9, "Input Dims": inner, "Input type": [BF16] * 3}},
        {"ph": "X", "cat": "kernel", "name": "attn_fwd.kd", "pid": 0, "tid": 1, "ts": 5888649824453.633,
         "dur": 85232.206, "args": {"External id": 9, "device": 0, "stream": 1, "correlation": 5}},
    ]  # fmt: skip
    device = {"id": 0, "name": "AMD Instinct MI300X", "totalGlobalMem": 206141652992, "numSms": 304}
    file.write_text(json.dumps({"deviceProperties": [device], "traceEvents": events}))
    found = rows("compare", file, "--no-plots", "-o", tmp_path)
    assert found["aten::scaled_dot_product_attention"]["measured_s"] == pytest.approx(0.085232206)
    assert found["aten::scaled_dot_product_attention"]["class"] == "attention"


def test_an_arrow_leads_to_the_operator_where_kernels_have_no_correlation(tmp_path: Path) -> None:
    """As ROCm's profiler wrote it (AMD-AGI/TraceLens, evals, gemm_01_compute_few_tiles.json): 256 x 131072 x 512."""
    kernel: dict[str, Any] = {"ph": "X", "cat": "kernel", "pid": 2, "tid": 0}
    args = {"External id": 521, "Input Dims": [[256, 131072], [131072, 512]], "Input type": [BF16, BF16]}
    events = [
        {"ph": "X", "cat": "cpu_op", "name": "aten::mm", "pid": 1979, "tid": 1979, "ts": 100, "dur": 9, "args": args},
        {"ph": "s", "id": 31, "pid": 1979, "tid": 1979, "ts": 103, "cat": "ac2g", "name": "ac2g"},
        {"ph": "s", "id": 32, "pid": 1979, "tid": 1979, "ts": 105, "cat": "ac2g", "name": "ac2g"},
        {**kernel, "name": "Cijk_Ailk_Bljk_BBS_BH_MT256x128x64", "ts": 200, "dur": 1083, "args": {"External id": 31}},
        {**kernel, "name": "Cijk_B_PostGSU2", "ts": 1283, "dur": 5, "args": {"External id": 32}},
    ]
    file = tmp_path / "rocm.json"
    file.write_text(json.dumps({"traceEvents": events}))
    found = rows("compare", file, "--gpu", "mi300x", "--no-plots", "-o", tmp_path)
    assert found["aten::mm"]["measured_s"] == pytest.approx(1088e-6) and found["aten::mm"]["count"] == 1
    assert found["aten::mm"]["predicted_s"] > 0


def test_a_trace_that_pytorch_wrote_on_a_processor_is_read(tmp_path: Path) -> None:
    """Embedding and one layer of a transformer, 256 wide, 2 x 128 tokens: 116 calls are 11 operators."""
    real = Path(__file__).parent / "data/cpu.pt.trace.json.gz"
    done = run("trace", "compare", real, "--gpu", "h100-sxm", "--no-plots", "-o", tmp_path, "--format", "json")
    assert done.exit_code == 0, done.output
    found = [(row["operator"].removeprefix("aten::"), row["shape"], row["count"])
             for row in json.loads(done.stdout)["rows"] if row["predicted_s"]]  # fmt: skip
    assert sorted(found) == [
        ("add", "2x128x256 2x128x256", 2),
        ("addmm", "1024 256x256 256x1024", 1),
        ("addmm", "256 256x1024 1024x256", 1),
        ("embedding", "1000x256 2x128", 1),
        ("gelu", "2x128x1024", 1),
        ("layer_norm", "2x128x256 256 256", 2),
        ("mm", "256x256 256x256", 1),
        ("mm", "256x256 256x768", 1),
        ("scaled_dot_product_attention", "2x4x128x64 2x4x128x64 2x4x128x64", 1),
    ]
    refused = run("replay", real, "--gpu", "h100-sxm")
    assert refused.exit_code == 2 and "has no times of kernels" in refused.stderr


FP32 = "float"


@pytest.mark.parametrize(
    ("name", "dims", "values", "flops", "kinds"),
    [
        ("aten::addmm", [[1000], [1, 2048], [2048, 1000], [], [], [1, 1000]], ["", "", "", "1", "1", ""],
         2 * 2048 * 1000, ["matmul"]),
        ("aten::bmm", [[8, 16, 32], [8, 32, 4]], [], 2 * 8 * 16 * 32 * 4, ["matmul"]),
        ("aten::linear", [[2, 7, 32], [64, 32], [64]], [], 2 * 14 * 32 * 64, ["matmul"]),
        ("aten::convolution", [[1, 3, 224, 224], [64, 3, 7, 7], [], [], [], [], [], [], []],
         ["", "", "", "[2, 2]", "[3, 3]", "[1, 1]", "False", "[0, 0]", "1"], 2 * 112 * 112 * 64 * 147, ["convolution"]),
        ("aten::convolution_backward", [[1, 64, 112, 112], [1, 3, 224, 224], [64, 3, 7, 7]] + [[]] * 8,
         ["", "", "", "[0]", "[2, 2]", "[3, 3]", "[1, 1]", "False", "[0, 0]", "1", "[True, True, False]"],
         2 * 2 * 112 * 112 * 64 * 147, ["convolution", "convolution"]),
        ("aten::layer_norm", [[8, 128], [], [128], [128], [], []], ["", "[128]", "", "", "1e-05", "True"], None,
         ["normalization"]),
        ("aten::embedding", [[1000, 64], [4, 16], [], [], []], ["", "", "-1", "False", "False"], None, None),
        ("aten::cat", [[[4, 8], [4, 8]], []], ["", "1"], None, ["elementwise"]),
        ("aten::sum", [[64, 128], [], [], []], ["", "[1]", "False", ""], None, ["elementwise"]),
        ("triton_poi_fused_add_0", [[64, 128], [64, 128], []], [], None, ["elementwise"]),
        ("aten::view", [[64, 128], []], [], None, []),
        ("mine::op", [[64, 128]], [], None, []),
    ],
)  # fmt: skip
def test_operators_of_a_trace(
    name: str, dims: list[Any], values: list[str], flops: float | None, kinds: list[str] | None
) -> None:
    types = [FP32 if shape else "Scalar" for shape in dims]
    found = operators_of(Record(name, "operator", 1e-6, dims, types, values))
    if kinds is not None:
        assert [op.kind for op in found] == kinds
    assert found or kinds == []
    if flops is not None:
        assert sum(op.flops for op in found) == flops


@pytest.mark.parametrize("name", ["aten::_flash_attention", "flash_attn::_flash_attn"])
def test_flash_attention_that_is_called_itself(name: str) -> None:
    """Its heads stand third, those of the operator around it second; gradients take 2.5 times the FLOPs."""
    inner, outer = [[2, 4096, 32, 128], *[[2, 4096, 8, 128]] * 2], [[2, 32, 4096, 128], *[[2, 8, 4096, 128]] * 2]
    values = ["", "", "", "0.", "0.088", "True"]
    more: tuple[Any, Any] = ([[]] * 3, ["Scalar"] * 3)

    def one(name: str, dims: list[Any]) -> Any:
        tensors = [BF16] * len(dims)
        (op,) = operators_of(Record(name, "operator", 1e-6, dims + more[0], tensors + more[1], values))
        return op

    around = one("aten::scaled_dot_product_attention", outer)
    forward = one(f"{name}_forward", inner)
    assert (forward.flops, forward.bytes) == (around.flops, around.bytes) and forward.kind == "attention"
    backward = one(f"{name}_backward", [inner[0], *inner])
    assert backward.flops == pytest.approx(2.5 * forward.flops)
    assert operators_of(Record(f"{name}_forward", "operator", 1e-6, [[8192, 32, 128]] * 3, [BF16] * 3)) == []


def test_copies_read_once_and_write_once() -> None:
    (op,) = operators_of(Record("aten::copy_", "operator", 1e-6, [[64, 64], [64, 64], []], [FP32, FP32, "Scalar"]))
    assert op.bytes == 2 * 4 * 64 * 64
    (op,) = operators_of(Record("aten::add_", "operator", 1e-6, [[64, 64], [64], []], [FP32, FP32, "Scalar"]))
    assert op.bytes == pytest.approx(4 * (2 * 64 * 64 + 64))


# ---- Chakra ----------------------------------------------------------------------------------------------


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def message(number: int, content: bytes | int | str) -> bytes:
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    content = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(content)) + content


def chakra(file: Path) -> Path:
    inputs = message(1, "[]") + message(2, "[[64, 32], [32, 16]]") + message(3, "['Tensor(float)', 'Tensor(float)']")
    product = message(1, 1) + message(2, "aten::mm") + message(3, 4) + message(7, 12) + message(8, inputs)
    kind = message(1, "comm_type") + message(9, 2)
    size = message(1, "comm_size") + message(9, 1 << 20)
    extra = message(1, "extra") + varint(3 << 3 | 1) + struct.pack("<d", 1.5)
    gather = message(2, "ncclKernel") + message(3, 7) + message(7, 40)
    gather += b"".join(message(10, one) for one in (kind, size, extra))
    whole = [message(1, "0.0.4"), product, gather]
    file.write_bytes(b"".join(varint(len(one)) + one for one in whole))
    return file


def test_chakra_traces_are_read_in_both_forms(tmp_path: Path) -> None:
    found = rows("list", chakra(tmp_path / "rank.0.et"))
    assert found["aten::mm"]["measured_s"] == pytest.approx(12e-6) and found["aten::mm"]["shape"] == "64x32 32x16"
    assert found["all_gather"]["shape"] == "1,048,576 B" and found["all_gather"]["measured_s"] == pytest.approx(40e-6)
    found = rows("compare", tmp_path / "rank.0.et", "--gpu", "h100-sxm", "--no-plots", "-o", tmp_path)
    assert found["aten::mm"]["predicted_s"] > 0
    nodes = [
        {"id": 1, "name": "[pytorch|profiler|execution_trace|process]", "ctrl_deps": 1},
        {"id": 2, "name": "aten::linear", "ctrl_deps": 1, "inputs": {"shapes": [], "types": [], "values": []}},
        {"id": 3, "name": "aten::addmm", "ctrl_deps": 2, "inputs": {"values": [[1, 2, 0, 8, 4, "cpu"]] * 3,
         "shapes": [[3], [2, 4], [4, 3]], "types": ["Tensor(float)"] * 3}},
    ]  # fmt: skip
    file = tmp_path / "host.json"
    file.write_text(json.dumps({"schema": "1.1.1-chakra.0.0.4", "nodes": nodes}))
    found = rows("list", file)
    assert list(found) == ["aten::addmm"] and found["aten::addmm"]["shape"] == "3 2x4 4x3"
    nodes[0]["ctrl_deps"] = 3
    file.write_text(json.dumps({"schema": "1.1.1-chakra.0.0.4", "nodes": nodes}))
    assert "its parents make a circle" in run("trace", "list", file).stderr


# ---- what is refused -------------------------------------------------------------------------------------


def test_files_that_are_no_good_are_one_line(tmp_path: Path) -> None:
    file = tmp_path / "t.json"
    packed = gzip.compress(json.dumps(step().data()).encode())
    for content, words in (
        (b"", "is empty"),
        (b'{"traceEvents": [', "is not valid JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": 1}', "no list of traceEvents"),
        (b'{"traceEvents": []}', "no events"),
        (b'{"traceEvents": [1, null, {"ph": "X", "cat": "cpu_op", "name": "aten::mm"}]}', "none of them a kernel"),
        (packed[: len(packed) // 2], "is cut off"),
        (packed[:20] + bytes(200), "cannot be unpacked"),
        (b"\x80\x04pickle", "is no Chakra execution trace"),
        (b'{"nodes": 3, "schema": "chakra"}', "no list of nodes"),
        (b'{"nodes": [], "schema": "chakra"}', "holds no operators"),
    ):
        file.write_bytes(content)
        for command in ("list", "compare"):
            done = run("trace", command, file)
            assert done.exit_code == 2 and words in done.stderr, (words, done.stderr, done.output)
            assert len(done.stderr.splitlines()) == 1
    whole = chakra(tmp_path / "a.et").read_bytes()
    (tmp_path / "b.et").write_bytes(whole[:-5])
    assert "is cut off" in run("trace", "list", tmp_path / "b.et").stderr
    assert "no such file" in run("trace", "list", tmp_path / "none.json").stderr
    good = step().write(file)
    assert "unknown GPU 'h100-sxn'" in run("trace", "compare", good, "--gpu", "h100-sxn").stderr
    assert "contradict" in run("trace", "compare", good, "--gpu", "h100-sxm", "--cluster", "dgx-h100").stderr


@pytest.mark.parametrize(
    "args",
    [
        {"Input Dims": "text", "Input type": 3},
        {"Input Dims": [[-1, 4], [4, 4]], "Input type": [BF16, BF16]},
        {"Input Dims": [[3, 4], [5, 6]], "Input type": [BF16, BF16]},
        {"Input Dims": [[], []], "Input type": ["Scalar"]},
        {"Input Dims": [[1e30], None, {}], "Input type": [BF16]},
        {
            "Input Dims": [[1, 8, 32, 32], [1, 8, 32, 32], [8, 8, 8, 8], *[[]] * 8],
            "Input type": [BF16] * 11,
            "Concrete Inputs": [
                "",
                "",
                "",
                "[0]",
                "[0, 0]",
                "[1, 1]",
                "[1, 1]",
                "False",
                "[0, 0]",
                "1",
                "[True, True]",
            ],
        },
    ],
)
def test_odd_arguments_take_nothing_else_away(tmp_path: Path, args: dict[str, Any]) -> None:
    trace = step()
    for name in (
        "aten::mm",
        "aten::convolution",
        "aten::convolution_backward",
        "aten::linear",
        "aten::sum",
        "aten::cat",
        "aten::layer_norm",
    ):
        trace.operator(name, [[1, 1]], [BF16], ("kernel", 3.0))
        cpu = next(event for event in reversed(trace.events) if event["cat"] == "cpu_op")
        cpu["args"] = args
    found = rows("compare", trace.write(tmp_path / "t.json"), "--no-plots", "-o", tmp_path)
    assert found["aten::scaled_dot_product_attention"]["predicted_s"] > 0


def test_without_shapes_it_says_how_to_record_them(tmp_path: Path) -> None:
    trace = Trace(H100)
    trace.operator("aten::mm", [], [], ("gemm", 10.0))
    done = run("trace", "compare", trace.write(tmp_path / "t.json"), "--no-plots", "-o", tmp_path)
    assert done.exit_code == 0 and "record_shapes=True" in done.stdout
    (group,) = grouped(read_kineto(trace.data(), FILE).records)
    assert group.record.name == "aten::mm" and group.count == 1


def test_an_experiment_is_written_as_before(tmp_path: Path) -> None:
    done = run("trace", "tp2_scaling", "-o", tmp_path / "trace.json")
    assert done.exit_code == 0 and json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert "FILE | list TRACE | compare TRACE" in run("trace", "--help").output
